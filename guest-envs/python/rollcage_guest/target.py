"""What the plugin runs: the class, function or registered id of its manifest; imported, described, and made.

A registered id is made by `gymnasium.make` without the wrappers whose work the host does: the time limit (reported in
the spec instead), the order of calls, and the checker. Wrappers of the spec are applied.
"""

import copy
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, WrapperSpec, load_env_creator
from wit_world.imports import types as t

from rollcage_guest import docstrings
from rollcage_guest.faults import InWords
from rollcage_guest.manifest import Manifest
from rollcage_guest.schema import RENDER_MODE, Fields, of_callable
from rollcage_guest.signatures import hints_of, signature

#: Characters of a summary.
SUMMARY_MAX = 200

#: Gymnasium's names of the render modes that the host asks for, the preferred one first.
MODES = {"rgb_array": t.RenderMode.RGB_ARRAY, "ansi": t.RenderMode.ANSI}


class Unloadable(InWords):
    """The manifest names something that is not there or makes no env. The text says what."""


class Target:
    """The imported class or function, and how to make envs of it."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.spec: EnvSpec | None = None
        for given in manifest.imports:
            _import(given)
        if manifest.id is not None:
            self.spec = _registered(manifest.id)
            self.creator = _entry_point(self.spec)
        else:
            self.creator = _named(manifest.env or "")
        #: Arguments under the config.
        self.beneath: dict[str, Any] = {**(self.spec.kwargs if self.spec else {}), **manifest.kwargs}
        self.config: Fields = of_callable(self.creator, self.beneath)

    @property
    def name(self) -> str:
        """Name of the class, for messages."""
        return getattr(self.creator, "__name__", None) or type(self.creator).__name__

    @property
    def summary(self) -> str:
        """The manifest's summary, or the first paragraph of the docstring, on one line."""
        text = self.manifest.summary or docstrings.summary(_own_doc(self.creator))
        text = "".join(one if one.isprintable() else " " for one in text)
        return text if len(text) <= SUMMARY_MAX else text[: SUMMARY_MAX - 1].rstrip() + "…"

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The class's `metadata`; of a function, that of the class which its hint says it returns."""
        for owner in (self.creator, _returned(self.creator)):
            found = inspect.getattr_static(owner, "metadata", None)
            if isinstance(found, Mapping):
                return found
        return {}

    @property
    def render_modes(self) -> list[str]:
        """Gymnasium's names of the modes that the host may ask for, the preferred one first."""
        offered = self.metadata.get("render_modes") or self.metadata.get("render.modes") or ()
        return [mode for mode in MODES if mode in offered]

    @property
    def render_fps(self) -> int:
        rate = self.metadata.get("render_fps") or 0
        return max(0, min(1_000, round(rate))) if isinstance(rate, (int, float)) else 0

    @property
    def max_episode_steps(self) -> int | None:
        if self.manifest.max_episode_steps is not None:
            return self.manifest.max_episode_steps
        limit = self.spec.max_episode_steps if self.spec else None
        return None if limit is None else int(limit)

    @property
    def reward_threshold(self) -> float | None:
        if self.manifest.reward_threshold is not None:
            return float(self.manifest.reward_threshold)
        threshold = self.spec.reward_threshold if self.spec else None
        return None if threshold is None else float(threshold)

    def make(self, arguments: Mapping[str, Any]) -> Any:
        """Makes an env with these arguments over those beneath, and the render mode that the host will ask for."""
        given = dict(arguments)
        modes = self.render_modes
        if modes and RENDER_MODE not in self.beneath and _takes(self.creator, RENDER_MODE):
            given[RENDER_MODE] = modes[0]
        if self.spec is not None:
            return self._make_registered(given)
        env = self.creator(**{**self.beneath, **given})
        for wrapper in self.manifest.wrappers or ():
            env = load_env_creator(wrapper.entry_point)(env=env, **wrapper.kwargs)
        return env

    def _make_registered(self, given: dict[str, Any]) -> Any:
        spec = copy.copy(self.spec)
        assert spec is not None
        spec.order_enforce = False
        spec.kwargs = {**self.beneath}
        if self.manifest.wrappers is not None:
            spec.additional_wrappers = tuple(
                WrapperSpec(one.name, one.entry_point, one.kwargs) for one in self.manifest.wrappers
            )
        return gymnasium.make(spec, max_episode_steps=-1, disable_env_checker=True, **given)


def _import(given: str) -> None:
    """Imports a module, and calls its function that registers envs, if one is named: ``minatar.gym:register_envs``."""
    name, _, function = given.partition(":")
    module = importlib.import_module(name)
    if function:
        register = getattr(module, function, None)
        if not callable(register):
            raise Unloadable(f"`imports` in [tool.rollcage]: {_nearest(module, function, name)}")
        register()


def _named(path: str) -> Callable[..., Any]:
    """The class or callable of ``module:qualname``."""
    module_name, _, qualname = path.partition(":")
    if not qualname:
        raise Unloadable(f"`env = {path!r}` in [tool.rollcage]: MODULE:CLASS is expected")
    module = importlib.import_module(module_name)
    found: Any = module
    for part in qualname.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Unloadable(f"`env = {path!r}` in [tool.rollcage]: {_nearest(found, part, module_name)}") from None
    if not callable(found):
        raise Unloadable(f"`env = {path!r}` in [tool.rollcage]: it is a {type(found).__name__}, not a class")
    return found


def _nearest(owner: Any, name: str, module: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, [one for one in dir(owner) if not one.startswith("_")], 1)
    return f"{module} has no `{name}`" + (f"; did you mean `{near[0]}`?" if near else "")


def _registered(name: str) -> EnvSpec:
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error as error:
        raise Unloadable(
            f"`id = {name!r}` in [tool.rollcage]: {' '.join(str(error).split())}; `imports` names the modules that register it"
        ) from None


def _entry_point(spec: EnvSpec) -> Callable[..., Any]:
    if spec.entry_point is None:
        raise Unloadable(f"`id = {spec.id!r}` in [tool.rollcage]: it is registered without an entry point")
    return load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point


def _own_doc(creator: Any) -> str | None:
    """The docstring, unless it is inherited from Gymnasium's classes."""
    doc = getattr(creator, "__doc__", None)
    return None if doc in (gymnasium.Env.__doc__, gymnasium.Wrapper.__doc__) else doc


def _returned(creator: Any) -> Any:
    return None if isinstance(creator, type) else hints_of(creator).get("return")


def _takes(creator: Any, name: str) -> bool:
    """Whether a class or function takes a keyword."""
    try:
        parameters = signature(creator).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())
