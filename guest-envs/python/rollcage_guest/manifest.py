"""The plugin's manifest: `rollcage.json` of the assets, which `rollcage build` writes."""

import json
from dataclasses import dataclass, field
from typing import Any

from rollcage_guest import assets

#: Path of the manifest in the assets.
PATH = "rollcage.json"

#: The format of the manifest that this package reads.
FORMAT = 1


@dataclass(frozen=True)
class Wrapper:
    """A wrapper around the env, as an `EnvSpec` lists them."""

    name: str
    entry_point: str
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Want:
    """A thing of the outside that the env would use."""

    kind: str
    example: str
    reason: str
    required: bool


@dataclass(frozen=True)
class Manifest:
    """What a plugin runs, and under which name.

    Exactly one of `env` (``module:qualname`` of a class or callable) and `id` (registered with Gymnasium) is set.
    """

    name: str
    version: str
    summary: str
    env: str | None
    id: str | None
    #: Modules to import before `id` is looked up; ``module:function`` names a function to call after that.
    imports: tuple[str, ...] = ()
    #: Arguments beneath the config.
    kwargs: dict[str, Any] = field(default_factory=dict)
    #: None: not said. The registered spec's wrappers are used then.
    wrappers: tuple[Wrapper, ...] | None = None
    max_episode_steps: int | None = None
    reward_threshold: float | None = None
    wants: tuple[Want, ...] = ()
    #: Top-level names of modules that were declared and not bundled.
    stubs: tuple[str, ...] = ()
    #: The longest text of a `Text` leaf, by its dotted path or its last key.
    text_length: dict[str, int] = field(default_factory=dict)


def parse(text: str | bytes) -> Manifest:
    """Reads a manifest.

    Raises
    ------
    ValueError
        It is not JSON, has another format, or lacks a key.

    """
    given = json.loads(text)
    if not isinstance(given, dict):
        raise ValueError(f"{PATH}: an object is expected")
    if given.get("format") != FORMAT:
        raise ValueError(
            f"{PATH}: format {given.get('format')!r}, and this base reads {FORMAT}: `rollcage build --rebase` writes it anew"
        )
    env, registered = given.get("env"), given.get("id")
    if (env is None) == (registered is None):
        raise ValueError(f"{PATH}: one of `env` and `id` is expected")
    wrappers = given.get("wrappers")
    try:
        return Manifest(
            name=given["name"],
            version=given["version"],
            summary=given.get("summary") or "",
            env=env,
            id=registered,
            imports=tuple(given.get("imports") or ()),
            kwargs=dict(given.get("kwargs") or {}),
            wrappers=None if wrappers is None else tuple(_wrapper(wrapper) for wrapper in wrappers),
            max_episode_steps=given.get("max_episode_steps"),
            reward_threshold=given.get("reward_threshold"),
            wants=tuple(_want(want) for want in given.get("wants") or ()),
            stubs=tuple(given.get("stubs") or ()),
            text_length=dict(given.get("text_length") or {}),
        )
    except KeyError as missing:
        raise ValueError(f"{PATH}: {missing} is missing") from None


def _wrapper(given: dict[str, Any]) -> Wrapper:
    entry_point = given["entry_point"]
    return Wrapper(given.get("name") or entry_point, entry_point, dict(given.get("kwargs") or {}))


def _want(given: dict[str, Any]) -> Want:
    return Want(
        given["kind"], given.get("example") or "", given.get("reason") or "", bool(given.get("required", False))
    )


def load() -> Manifest:
    """The manifest of this plugin.

    Raises
    ------
    FileNotFoundError, ValueError
        The plugin has none, or one that cannot be read.

    """
    return parse(assets.read(PATH))
