"""A plugin in this process: its assets are a dict, and the SDK serves it as in the guest."""

import json
import os
import random
import struct
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import wit

ASSETS = wit.install()

from componentize_py_types import Err
from rollcage_guest import faults, files, importer, plugin, stubs
from wit_world.imports import types as t


class Plugin:
    """A plugin and its one env, as the host sees them."""

    def __init__(self, sources: dict[str, str | bytes], manifest: dict[str, Any]) -> None:
        ASSETS.files.clear()
        given = {"format": 1, "name": "my-env", "version": "0.1.0", **manifest}
        ASSETS.files["rollcage.json"] = json.dumps(given).encode()
        for path, text in sources.items():
            ASSETS.files[f"site/{path}"] = textwrap.dedent(text).encode() if isinstance(text, str) else text
        plugin.Environment._one = None
        self.environment = plugin.Environment()

    def describe(self) -> Any:
        return self.environment.describe()

    @property
    def schema(self) -> dict[str, Any]:
        return json.loads(self.describe().config_schema)

    def create(self, **config: Any) -> Any:
        """Creates with a config: defaults filled in, numbers as canonical JSON writes them."""
        schema = self.schema
        filled = fill(schema, config)
        return self.environment.create(json.dumps(canonical(filled)))

    def reset(self, seed: int | None = 0, options: Any = None) -> Any:
        return self.environment.reset(seed, None if options is None else json.dumps(options))

    def step(self, action: int | bytes = 0) -> Any:
        return self.environment.step(struct.pack("<q", action) if isinstance(action, int) else action)

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        given = {"args": list(args), **kwargs} if args else kwargs
        return json.loads(self.environment.call(method, json.dumps(given)))

    def get(self, name: str) -> Any:
        return json.loads(self.environment.get_attribute(name))

    @property
    def env(self) -> Any:
        return self.environment._session.env


def fill(schema: dict[str, Any], config: Any) -> Any:
    """Absent keys with their defaults, as the host fills them in."""
    if not isinstance(config, dict):
        return config
    filled = dict(config)
    for key, one in schema.get("properties", {}).items():
        if key not in filled and "default" in one:
            filled[key] = one["default"]
        if key in filled:
            filled[key] = fill(one, filled[key])
    return filled


def canonical(value: Any) -> Any:
    """Numbers without a fraction as integers (RFC 8785)."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: canonical(one) for key, one in value.items()}
    return [canonical(one) for one in value] if isinstance(value, list) else value


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Plugin]]:
    """Makes a plugin of sources; everything that it replaced in this process is put back afterwards."""
    sites: list[files.Site] = []
    install = files.Site.install
    monkeypatch.setattr(files.Site, "install", lambda site: (sites.append(site), install(site)))
    import builtins

    for owner, name in ((sys, "breakpointhook"), (sys, "stdin"), (builtins, "input"), (os, "_exit"), (os, "abort")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    for name in ("seed", "RandomState"):
        monkeypatch.setattr(np.random, name, getattr(np.random, name))
    before = random.getstate(), np.random.get_state()

    def made(source: str | dict[str, str | bytes], **manifest: Any) -> Plugin:
        _remove(sites)
        if isinstance(source, str):
            source = {"my_env.py": source}
        if not {"env", "id"} & manifest.keys():
            manifest["env"] = "my_env:MyEnv"
        return Plugin(source, manifest)

    yield made
    _remove(sites)
    random.setstate(before[0])
    np.random.set_state(before[1])


def _remove(sites: list[files.Site]) -> None:
    for site in sites:
        site.uninstall()
    sites.clear()
    importer.uninstall()
    stubs.uninstall()
    faults.author_package = None


@pytest.fixture
def refused() -> Callable[..., str]:
    """Runs a call that must end in an error of one kind, and returns its text."""

    def run(kind: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
        with pytest.raises(Err) as caught:
            call(*args, **kwargs)
        value = caught.value.value
        assert type(value).__name__ == kind, value
        return getattr(value, "value", "")

    return run


#: An env with one Discrete and one Box: `{body}` is put into its step.
MINIMAL = '''
import gymnasium as gym
import numpy as np
from gymnasium import spaces


class MyEnv(gym.Env):
    """Counts its steps."""

    metadata = {{"render_modes": []}}

    def __init__(self{parameters}):
        {init}
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        {reset}
        return np.zeros(2, np.float32), {{}}

    def step(self, action):
        {step}
        return np.zeros(2, np.float32), 1.0, False, False, {{}}
'''


def minimal(parameters: str = "", init: str = "pass", reset: str = "pass", step: str = "pass") -> str:
    """The source of an env with these lines in it."""
    return MINIMAL.format(
        parameters=f", {parameters}" if parameters else "",
        **{
            name: textwrap.dedent(body).replace("\n", "\n        ")
            for name, body in (("init", init), ("reset", reset), ("step", step))
        },
    )


__all__ = ["ASSETS", "Err", "Plugin", "minimal", "t"]
