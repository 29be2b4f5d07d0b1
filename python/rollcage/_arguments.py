"""Arguments of callers, checked and completed: configs and grants in every form, limits, seeds, folders."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import operator
import os
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, Union

import numpy as np
from gymnasium.vector import AutoresetMode

from rollcage import _program
from rollcage.errors import UsageError

if TYPE_CHECKING:
    from rollcage._sources import PluginLike

#: One config: a mapping, a dataclass's instance or a pydantic model.
Config = Any
#: One config for all envs, one for each, or a function of the env's index.
Configs = Union[Config, Sequence[Config], Callable[[int], Config], None]
#: Grants as ``rollcage run --grant`` takes them, or the path of a grants file.
GrantsLike = Union[Sequence[str], str, "os.PathLike[str]", None]

#: Seeds and the numbers after them must fit into an unsigned 64-bit integer.
SEED_MAX = 2**64 - 1
#: The most bytes that a call's arguments may have (`docs/interface.md`).
CALL_MAX = 61_440


#: The limits that are seconds.
_TIMES = (
    "start_timeout",
    "reset_timeout",
    "step_timeout",
    "call_timeout",
    "close_timeout",
    "compile_timeout",
    "restarts_window",
)

#: ``max_episode_steps`` where episodes have no time limit, as Gymnasium writes it.
NO_LIMIT = -1


@dataclass(frozen=True)
class Limits:
    """Limits of the envs, and times that the host waits for them. None means the host's default.

    Attributes
    ----------
    start_timeout, reset_timeout, step_timeout, call_timeout : float
        Seconds until a worker must be ready (30), have reset, stepped, rendered or answered a call (10 each).
    close_timeout : float
        Seconds for all envs together to say goodbye (2).
    compile_timeout : float
        Seconds of processor time for compiling the plugin (120).
    memory_bytes : int
        Bytes of linear memory of one env (256 MiB).
    fuel_per_step : int
        Fuel of one step, counted only if given: a deterministic bound, the same on every machine.
    sockets : int
        Sockets that one env has open at once, of those that it was granted (8).
    restarts_in_window, restarts_window, restarts_in_all : int, float, int
        Restarts of one env after faults: the most in a window of seconds (10 in 60), and the most in all (100).
    snapshot_bytes : int
        Bytes of actions and calls of one instance that are kept for snapshots (1 MiB); 0 keeps none.

    """

    start_timeout: float | None = None
    reset_timeout: float | None = None
    step_timeout: float | None = None
    call_timeout: float | None = None
    close_timeout: float | None = None
    compile_timeout: float | None = None
    memory_bytes: int | None = None
    fuel_per_step: int | None = None
    sockets: int | None = None
    restarts_in_window: int | None = None
    restarts_window: float | None = None
    restarts_in_all: int | None = None
    snapshot_bytes: int | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            given = getattr(self, field.name)
            if given is not None:
                checked = _seconds if field.name in _TIMES else _whole
                object.__setattr__(self, field.name, checked(field.name, given))


def _seconds(name: str, given: Any) -> float:
    """A limit that is a time."""
    if isinstance(given, (int, float, np.integer, np.floating)) and not isinstance(given, bool):
        return float(given)
    raise UsageError(f"limits: {name}: {given!r}; a number of seconds is expected", [f"for half a minute: {name}=30.0"])


def _whole(name: str, given: Any) -> int:
    """A limit that is a count. The host checks its bounds; this checks that it fits the host's numbers."""
    of, most = ("of bytes ", 2**63 - 1) if name.endswith("_bytes") else ("", 2**32 - 1)
    most = 2**63 - 1 if name == "fuel_per_step" else most
    number = None if isinstance(given, bool) else _index(given)
    if number is None:
        raise UsageError(f"limits: {name}: {given!r}; a whole number {of}is expected", _in_bytes(name, given))
    # Memory comes in pages of wasm.
    least = 1 << 16 if name == "memory_bytes" else 0
    if not least <= number <= most:
        raise UsageError(f"limits: {name}: {number}; from {least} to {most} is possible")
    return number


def _index(given: Any) -> int | None:
    try:
        return operator.index(given)
    except TypeError:
        return None


def _in_bytes(name: str, given: Any) -> list[str]:
    """The hint for a size that is written as on the command line."""
    written = re.fullmatch(r"\s*(\d+)\s*([kmgt])i?b?\s*", given, re.IGNORECASE) if isinstance(given, str) else None
    if written is None:
        return []
    return [f"write {name}={written[1]} << {10 * (1 + 'kmgt'.index(written[2].lower()))}"]


def limits(given: Limits | Mapping[str, Any] | None) -> Limits:
    """Limits from an instance or a mapping.

    Raises
    ------
    UsageError
        An unknown name, or a value of the wrong type.

    """
    if given is None:
        return Limits()
    if isinstance(given, Limits):
        return given
    if not isinstance(given, Mapping):
        raise TypeError(f"limits: a rollcage.Limits or a dict is expected, got {given!r}")
    names = [field.name for field in dataclasses.fields(Limits)]
    for name in given:
        if name not in names:
            raise UsageError(f"limits: no limit is called {name!r}", [f"there are {', '.join(names)}"])
    return Limits(**given)


def count(what: str, given: Any, least: int = 0, most: int = 2**32 - 1) -> int:
    """A whole number within bounds.

    Raises
    ------
    TypeError
        Not a whole number.
    UsageError
        Out of bounds.

    """
    try:
        number = operator.index(given)
    except TypeError:
        raise TypeError(f"{what}: a whole number is expected, got {given!r}") from None
    if not least <= number <= most:
        raise UsageError(f"{what}: {number}; from {least} to {most} is possible")
    return number


def word(what: str, given: Any) -> str:
    """A word that selects an option. The host knows which words there are."""
    if not isinstance(given, str):
        raise TypeError(f"{what}: a text is expected, got {given!r}")
    return given


def seed(given: int | None) -> int:
    """A seed, or one that is drawn."""
    return secrets.randbits(32) if given is None else count("seed", given, 0, SEED_MAX)


def seeds(given: int | Sequence[int | None] | None, envs: int) -> list[int | None] | None:
    """Seeds of a reset, as Gymnasium has them: an int is that of env 0, and each next env has one more."""
    if given is None:
        return None
    if isinstance(given, (Sequence, np.ndarray)):
        if len(given) != envs:
            raise UsageError(f"seed: {len(given)} seeds for {envs} envs")
        return [None if seed is None else count("seed", seed, 0, SEED_MAX) for seed in given]
    first = count("seed", given, 0, SEED_MAX - envs + 1)
    return list(range(first, first + envs))


def to_json(value: Any) -> str:
    """JSON of a config, of options or of arguments.

    Raises
    ------
    UsageError
        A value that JSON does not have.

    """
    try:
        return json.dumps(value, default=_jsonable, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"not JSON: {error}") from None


def _jsonable(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):  # pydantic, which is not imported for this
        return value.model_dump(mode="json")
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"JSON has no {type(value).__name__}")


def configs(given: Configs, envs: int) -> list[str]:
    """Configs as JSON objects: one for all envs, or one for each."""
    if given is None:
        return ["{}"]
    if isinstance(given, (list, tuple)):
        if len(given) != envs:
            raise UsageError(f"config: a list of {len(given)} for {envs} envs")
        return [_config(one, f"config of env {env}") for env, one in enumerate(given)]
    if _is_function(given):
        return [_config(given(env), f"config of env {env}") for env in range(envs)]
    return [_config(given, "config")]


def _config(given: Config, what: str) -> str:
    try:
        text = to_json({} if given is None else given)
    except UsageError as error:
        raise UsageError(f"{what}: {error}") from None
    if not text.startswith("{"):
        raise TypeError(f"{what}: a dict, a dataclass or a pydantic model is expected, got {given!r}")
    return text


def split(keywords: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits keywords into arguments of `rollcage.VectorEnv` and keys of a config."""
    from rollcage.vector import VectorEnv  # which imports this

    names = inspect.signature(VectorEnv.__init__).parameters
    given = {name: value for name, value in keywords.items() if name in names}
    return given, {name: value for name, value in keywords.items() if name not in names}


def over(keys: Mapping[str, Any], config: Configs) -> Configs:
    """Adds keys to a config, in every form that a config has. The config wins where both have a key."""
    if not keys or config is None:
        return dict(keys) or config
    if isinstance(config, (list, tuple)):
        return [over(keys, one) for one in config]
    if _is_function(config):
        return lambda env: over(keys, config(env))
    return {**keys, **json.loads(_config(config, "config"))}


def _is_function(config: Configs) -> TypeGuard[Callable[[int], Config]]:
    """Whether `config` is a function that makes configs."""
    return callable(config) and not isinstance(config, Mapping) and not hasattr(config, "model_dump")


def _time_limit(steps: Any) -> int:
    if steps == NO_LIMIT:
        return NO_LIMIT
    try:
        return count("max_episode_steps", steps, 1)
    except UsageError as error:
        raise UsageError(str(error), ["-1 means no limit"]) from None


def no_render_mode(plugin: str, given: str, modes: Sequence[str]) -> UsageError:
    """The error for a render mode that an env does not have."""
    hints = []
    if given == "human" and "rgb_array" in modes:
        hints = ["no env opens a window: take 'rgb_array', and gymnasium.wrappers.HumanRendering around it opens one"]
    return UsageError(f"render_mode: {plugin} does not have {given!r}; it has {', '.join(modes) or 'none'}", hints)


def not_copied(what: str, envs: str) -> TypeError:
    """The error of `copy`, `deepcopy` and `pickle`; `envs` is the expression before the methods that work instead."""
    return TypeError(
        f"{what} cannot be pickled or copied: its envs are running processes. {envs}branch(env, count) makes live copies of an env "
        f"in the middle of its episode, and {envs}snapshot(env) makes data that restore brings back; or make new envs from the "
        "same plugin, config and seed"
    )


def cache_folder() -> Path | None:
    """The folder of compiled plugins, the same as the command line's: ``ROLLCAGE_CACHE``, else in the user's own cache."""
    named = os.environ.get("ROLLCAGE_CACHE")
    if named:
        return Path(named)
    folder = os.environ.get("XDG_CACHE_HOME")
    if folder and os.path.isabs(folder):
        return Path(folder) / "rollcage"
    home = os.path.expanduser("~")
    return Path(home) / ".cache" / "rollcage" if os.path.isabs(home) else None


def autoreset(given: AutoresetMode | str) -> AutoresetMode:
    """A mode of Gymnasium's: ``next-step``, ``same-step`` or ``disabled``, in any of its spellings."""
    if isinstance(given, AutoresetMode):
        return given
    for mode in AutoresetMode:
        if word("autoreset_mode", given).lower().replace("_", "-") in (mode.value.lower(), _hyphened(mode)):
            return mode
    raise UsageError(f"autoreset_mode: {given!r}; next-step, same-step and disabled are possible")


def _hyphened(mode: AutoresetMode) -> str:
    """The name of a mode, as the host writes it."""
    return mode.name.lower().replace("_", "-")


def _texts(grants: Sequence[str] | None) -> list[str]:
    given = [] if grants is None else list(grants) if isinstance(grants, Iterable) else [grants]
    for grant in given:
        if not isinstance(grant, str):
            example = "grants=['dir=./levels:/levels']"
            raise TypeError(
                f"grants: a list of texts or the path of a grants file is expected ({example}), got {grant!r}"
            )
    return given


def _envs_per_worker(given: int | str) -> str:
    if isinstance(given, str) and given != "auto":
        raise UsageError(f"envs_per_worker: {given!r}; a number from 1 on or 'auto' is possible")
    return "auto" if given == "auto" else str(count("envs_per_worker", given, 1, 4096))


def _sandbox(given: bool | str) -> str | None:
    if isinstance(given, str):
        return given
    return "strict" if given else None


def policy_config_text(given: Mapping[str, Any] | None) -> str:
    """The config of a policy, as JSON."""
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"policy_config: a dict is expected, got {given!r}")
    return json.dumps({} if given is None else dict(given))


def of_machine() -> dict[str, Any]:
    """Those arguments of the extension that belong to this machine and its user."""
    from rollcage import _sources as sources  # which imports this

    home = os.path.expanduser("~")
    cache = cache_folder()
    return {
        "bundling": sources.options(),
        "home": home if os.path.isabs(home) else None,
        "worker": str(_program.path()),
        "cache": None if cache is None else str(cache),
        "cache_max": os.environ.get("ROLLCAGE_CACHE_MAX") or None,
    }


def native(
    plugin: PluginLike,
    num_envs: int,
    *,
    config: Configs,
    seed: int,
    grants: GrantsLike,
    limits: Limits,
    autoreset_mode: AutoresetMode,
    max_episode_steps: int | None,
    on_fault: str,
    backend: str,
    require_sandbox: bool | str,
    debug: bool,
    recycle_after: int | None,
    envs_per_worker: int | str,
    policy: str | os.PathLike[str] | None,
    policy_config: Mapping[str, Any] | None,
    policy_worker: str,
    record: str | os.PathLike[str] | None,
    embed_plugin: bool,
    start: str | None,
    branching: bool,
    most: int = 4096,
) -> dict[str, Any]:
    """The arguments from which the extension makes envs, at most so many."""
    from rollcage import _sources as sources  # which imports this

    many = count("num_envs", num_envs, 1, most)
    texts, file = ([], os.fspath(grants)) if isinstance(grants, (str, os.PathLike)) else (_texts(grants), None)
    return {
        **of_machine(),
        "plugin": sources.opened(plugin),
        "num_envs": many,
        "configs": configs(config, many),
        "seed": count("seed", seed, 0, SEED_MAX - many + 1),
        "first_env": 0,
        "first_instance": 0,
        "grants": texts,
        "grants_file": file,
        "limits": limits,
        "autoreset_mode": _hyphened(autoreset_mode),
        "max_episode_steps": None if max_episode_steps is None else _time_limit(max_episode_steps),
        "on_fault": word("on_fault", on_fault),
        "backend": word("backend", backend),
        "require_sandbox": _sandbox(require_sandbox),
        "debug": bool(debug),
        "recycle_after": None if recycle_after is None else count("recycle_after", recycle_after, 1, SEED_MAX),
        "envs_per_worker": _envs_per_worker(envs_per_worker),
        "policy": None if policy is None else os.fspath(policy),
        "policy_config": policy_config_text(policy_config),
        "policy_worker": word("policy_worker", policy_worker),
        "record": None if record is None else os.fspath(record),
        "embed_plugin": bool(embed_plugin),
        "start": None if start is None else word("start", start),
        "branching": bool(branching),
    }
