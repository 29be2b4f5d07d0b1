"""One created env: its spaces, its generators, and where it is in an episode.

On the path of a step: plugin → **session** → the author's `step`, and back. Knows values and bytes; knows nothing of the
component.

Every error leaves this module as `Err`, with the traceback of an author's exception printed to stderr.
"""

import difflib
import inspect
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import gymnasium
import numpy as np
from componentize_py_types import Err
from gymnasium import spaces
from wit_world.imports import types as t

from rollcage_guest import faults, jsonable, render
from rollcage_guest.codec import Codec, Mismatch
from rollcage_guest.faults import Refused, Wrong
from rollcage_guest.info import MASK, InfoCodec
from rollcage_guest.masks import MaskCodec
from rollcage_guest.seeding import Streams, seed_globals_from_host
from rollcage_guest.signatures import signature
from rollcage_guest.spaces import UnusableSpace, plain, tree
from rollcage_guest.stubs import NotInCage
from rollcage_guest.target import MODES, Target

#: Methods that the host calls by functions of their own.
_OWN_CALLS = {"step", "reset", "render", "close"}

#: Methods of Gymnasium-Robotics' goal envs, whose first two arguments are goals.
_GOAL_CALLS = {"compute_reward", "compute_terminated", "compute_truncated"}


class Session:
    """A created env."""

    def __init__(self, target: Target, config: str) -> None:
        """Makes the env.

        Raises
        ------
        Err
            `create-error`: its `__init__` refused the config, or failed.

        """
        seed_globals_from_host()
        self._target = target
        self.env = _made(target, json.loads(config))
        try:
            self._spaces()
        except (UnusableSpace, Mismatch) as error:
            raise Err(t.CreateError_Failed(str(error))) from None
        except BaseException as error:
            faults.report(error)
            raise Err(t.CreateError_Failed(faults.message(error))) from None
        self._streams = Streams(self.env)
        self._began = False
        self._running = False
        # The answer of every step: the runtime has read it before the next one is made.
        self._view = t.View(b"", b"", b"", "")
        self._transition = t.Transition(self._view, 0.0, False, False)

    def _spaces(self) -> None:
        env, lengths = self.env, self._target.manifest.text_length
        for name in ("observation_space", "action_space"):
            if getattr(env, name, None) is None:
                raise UnusableSpace(f"{self._target.name} has no `{name}`: set it in __init__")
        self._observation_space = plain(env.observation_space, "observation", lengths)
        self._action_space = plain(env.action_space, "action", lengths)
        observations = Codec(self._observation_space, "observation")
        self._encode = observations.encode
        actions = Codec(self._action_space, "action")
        self._decode, self._action_size = actions.decode, actions.size
        declared = _attribute(env, "info_space", None)
        own = _attribute(env, "action_masks", None)
        self._mask_of = own if callable(own) else None
        keys = declared.spaces if isinstance(declared, spaces.Dict) else declared or {}
        is_in_info = self._mask_of is None and MASK in keys
        self._mask = MaskCodec(self._action_space) if is_in_info or self._mask_of is not None else None
        self._info = InfoCodec(declared, lengths, masked=is_in_info)
        self._is_plain = self._mask is None and self._info.is_plain
        self._step: Callable[[Any], Any] = env.step

    @property
    def spec(self) -> "t.Spec":
        """The spec of this env. Actions out of bounds pass, as to Gymnasium's envs."""
        target = self._target
        return t.Spec(
            tree(self._observation_space),
            tree(self._action_space),
            self._mask is not None,
            t.OutOfBounds.PASS,
            self._info.fields,
            target.max_episode_steps,
            target.reward_threshold,
        )

    # Episodes.

    def reset(self, seed: int | None, options: str | None) -> "t.View":
        """Begins an episode.

        Raises
        ------
        Err
            `invalid-options` if the env refused options by a `ValueError`, `TypeError` or `KeyError`: it then takes no
            step until it is reset. `failed` otherwise.

        """
        given = None if options is None else json.loads(options)
        self._running = False
        try:
            if seed is not None:
                self._streams.seed(seed)
            result = self.env.reset(seed=seed, options=given)
            if not isinstance(result, (tuple, list)) or len(result) != 2:
                raise Wrong(f"reset returned {_shape_of(result)}, wanted (observation, info)")
            observation, info = result
            view = t.View(b"", b"", b"", "")
            self._fill(view, "reset", observation, info)
        except (ValueError, TypeError, KeyError) as error:
            if given:
                faults.report(error)
                raise Err(t.EnvError_InvalidOptions(faults.message(error))) from None
            self._fail("reset", error)
        except BaseException as error:
            self._fail("reset", error)
        self._began = self._running = True
        return view

    def step(self, action: bytes) -> "t.Transition":
        """Takes one step. The answer is the same object every time, filled anew.

        Raises
        ------
        Err
            `needs-reset` outside an episode, `invalid-action` for bytes of another length, else `failed`.

        """
        if not self._running:
            raise Err(t.EnvError_NeedsReset())
        if len(action) != self._action_size:
            raise Err(t.EnvError_InvalidAction(f"{len(action)} bytes where the space has {self._action_size}"))
        transition = self._transition
        try:
            result = self._step(self._decode(action))
            try:
                observation, reward, terminated, truncated, info = result
            except (TypeError, ValueError):
                raise Wrong(
                    f"step returned {_shape_of(result)}, wanted (observation, reward, terminated, truncated, info)"
                ) from None
            if self._is_plain and not info and type(info) is dict:
                view = self._view
                try:
                    view.observation = self._encode(observation)
                except Mismatch as error:
                    raise Wrong(f"step returned a wrong {error}") from None
                view.info_extra = ""
            else:
                self._fill(self._view, "step", observation, info)
            transition.reward = reward if type(reward) is float and reward == reward else _reward(reward)
            transition.terminated = terminated = bool(terminated)
            transition.truncated = truncated = bool(truncated)
            if terminated or truncated:
                self._running = False
        except BaseException as error:
            self._running = False
            self._fail("step", error)
        return transition

    def step_many(self, actions: bytes, count: int) -> "t.Transitions":
        """Takes steps until the episode ends or one fails."""
        taken = t.Transitions(0, b"", b"", b"", [], [], False, False, None)
        size = self._action_size
        if len(actions) != count * size:
            taken.error = t.EnvError_InvalidAction(f"{len(actions)} bytes for {count} actions of {size} bytes")
            return taken
        observations, masks, infos = [], [], []
        for at in range(0, len(actions), size):
            try:
                step = self.step(actions[at : at + size])
            except Err as error:
                taken.error = error.value
                break
            taken.taken += 1
            observations.append(step.view.observation)
            masks.append(step.view.action_mask)
            infos.append(step.view.info)
            taken.infos_extra.append(step.view.info_extra)
            taken.rewards.append(step.reward)
            taken.terminated, taken.truncated = step.terminated, step.truncated
            if not self._running:
                break
        taken.observations, taken.action_masks, taken.infos = map(b"".join, (observations, masks, infos))
        if not any(taken.infos_extra):
            taken.infos_extra.clear()
        return taken

    def _fail(self, call: str, error: BaseException) -> NoReturn:
        """Ends a call by the error `failed`. A wrong answer has no traceback: the place is that of the method which gave it."""
        if isinstance(error, Wrong):
            place = faults.where_defined(getattr(layer, call, None) for layer in _layers(self.env))
            raise Err(t.EnvError_Failed(f"{error} ({place})" if place else str(error))) from None
        _fail(error)

    def _fill(self, view: "t.View", call: str, observation: Any, info: Any) -> None:
        if not isinstance(info, dict):
            raise Wrong(f"{call} returned an info that is {faults.a(info)}, wanted a dict")
        try:
            view.observation = self._encode(observation)
            if self._mask is not None:
                view.action_mask = self._mask.encode(self._mask_of() if self._mask_of else _mask_in(info))
            view.info = self._info.declared(info)
        except Mismatch as error:
            raise Wrong(f"{call} returned a wrong {error}") from None
        view.info_extra = self._info.extra(info) if info else ""

    def reseed(self, seed: int) -> None:
        """Begins new streams for the rest of the episode."""
        try:
            self._streams.reseed(seed)
        except BaseException as error:
            _fail(error)

    # What is asked beside the episode.

    def render(self, mode: "t.RenderMode") -> Any:
        """Draws the present state. The generators are put back afterwards.

        Raises
        ------
        Err
            `needs-reset` before the first reset; `unsupported` if there is no such mode, or if drawing failed, since
            that leaves the episode as it was.

        """
        name = next(one for one, value in MODES.items() if value == mode)
        if name not in self._target.render_modes:
            raise Err(t.EnvError_Unsupported(f"{self._target.name} has no render mode `{name}`"))
        if not self._began:
            raise Err(t.EnvError_NeedsReset())
        try:
            with self._streams.kept(), _render_mode(self.env, name):
                return render.frame(self.env.render(), name)
        except Exception as error:
            if not isinstance(error, (Wrong, NotInCage, Refused)):
                faults.report(error)
            raise Err(t.EnvError_Unsupported(faults.message(error))) from None
        except BaseException as error:
            _fail(error)

    def call(self, method: str, arguments: str) -> str:
        """Calls a method, of the outermost wrapper that has it or of the env itself.

        Raises
        ------
        Err
            `unsupported` if there is no such method, or the arguments are not its own; `failed` if it raised.

        """
        given = json.loads(arguments)
        keywords = dict(given) if isinstance(given, dict) else {}
        positional = (
            keywords.pop("args", []) if isinstance(given, dict) else given if isinstance(given, list) else [given]
        )
        if method in _OWN_CALLS:
            raise Err(t.EnvError_Unsupported(f"`{method}` is called by its own function, not by `call`"))
        function = self._found(method, "method")
        if not callable(function):
            raise Err(
                t.EnvError_Unsupported(f"`{method}` of {self._target.name} is no method; read it as an attribute")
            )
        if method in _GOAL_CALLS:
            positional = self._goals(positional)
        try:
            signature(function).bind(*positional, **keywords)
        except TypeError as error:
            raise Err(t.EnvError_Unsupported(f"`{method}`: {error}")) from None
        except ValueError:
            pass  # a function of C has no signature
        try:
            result = function(*positional, **keywords)
        except BaseException as error:
            _fail(error)
        return _json(f"the result of `{method}`", result)

    def _goals(self, given: list[Any]) -> list[Any]:
        """Arguments of `compute_reward` and its kin: goals are arrays there, and lists in JSON."""
        space = self._observation_space
        inner = space.spaces.get("achieved_goal") if isinstance(space, spaces.Dict) else None
        dtype = inner.dtype if isinstance(inner, spaces.Box) else None
        return [np.asarray(goal, dtype) for goal in given[:2]] + given[2:]

    def get_attribute(self, name: str) -> str:
        """An attribute as JSON. The generators are put back afterwards.

        Raises
        ------
        Err
            `unsupported` if there is none of this name, it has no JSON form, or reading it failed.

        """
        with self._streams.kept():
            value = self._found(name, "attribute")
        return _json(f"the attribute `{name}`", value)

    def set_attribute(self, name: str, value: str) -> None:
        """Sets an attribute that exists, where it was found; an array stays an array, a tuple a tuple.

        Raises
        ------
        Err
            `unsupported` if there is none of this name, or it cannot be set.

        """
        before = self._found(name, "attribute")
        owner = next(layer for layer in _layers(self.env) if _has(layer, name))
        try:
            setattr(owner, name, _like(before, json.loads(value)))
        except Exception as error:
            raise Err(t.EnvError_Unsupported(f"the attribute `{name}`: {faults.head(error)}")) from None

    def close(self) -> None:
        try:
            self.env.close()
        except BaseException as error:
            # The env ends in any case, and the call has no way to say more.
            faults.report(error)

    def _found(self, name: str, what: str) -> Any:
        try:
            for layer in _layers(self.env):
                if _has(layer, name):
                    return getattr(layer, name)
        except Exception as error:
            raise Err(t.EnvError_Unsupported(f"the {what} `{name}`: {faults.message(error)}")) from None
        known = {one for layer in _layers(self.env) for one in dir(layer) if not one.startswith("_")}
        near = difflib.get_close_matches(name, sorted(known), 1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        raise Err(t.EnvError_Unsupported(f"{self._target.name} has no {what} `{name}`{hint}"))


def _fail(error: BaseException) -> NoReturn:
    """Ends a call by the error `failed`, with the traceback in the log."""
    if not isinstance(error, Wrong):
        faults.report(error)
    raise Err(t.EnvError_Failed(faults.message(error))) from None


def _made(target: Target, config: dict[str, Any]) -> Any:
    """Makes the env of a config.

    A `TypeError`, `ValueError`, `KeyError` or `AssertionError` is the config's mistake if a value that is no default was
    given and the author's own code raised it, or if it is about the arguments themselves.
    """
    given = target.config.given(config)
    try:
        env = target.make(target.config.arguments(config))
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        faults.report(error)
        if given and (faults.raised_by_author(error) or _is_about_arguments(error, target)):
            raise Err(t.CreateError_Config([_config_error(error, given)])) from None
        raise Err(t.CreateError_Failed(faults.message(error))) from None
    except BaseException as error:
        faults.report(error)
        raise Err(t.CreateError_Failed(faults.message(error))) from None
    for method in ("reset", "step"):
        if not callable(getattr(env, method, None)):
            raise Err(t.CreateError_Failed(f"{target.name} made {faults.a(env)}, which has no `{method}`"))
    return env


def _is_about_arguments(error: BaseException, target: Target) -> bool:
    """Whether Python itself refused the arguments: a key that the class gives already, a value of a wrong enum."""
    text = str(error)
    return isinstance(error, TypeError) and "argument" in text and "__init__()" in text


def _config_error(error: BaseException, given: dict[str, Any]) -> "t.ConfigError":
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = " ".join(text.split()) or type(error).__name__
    named = [key for key in given if key in text.replace("'", " ").replace("`", " ").replace('"', " ").split()]
    path = named[0] if len(named) == 1 else next(iter(given)) if len(given) == 1 else ""
    if text[:2] != text[:2].upper():
        text = text[:1].lower() + text[1:]
    return t.ConfigError(path, text.removesuffix(".")[: faults.TEXT_MAX])


def _reward(reward: Any) -> float:
    if isinstance(reward, np.ndarray) and reward.size == 1:
        reward = reward.item()
    if isinstance(reward, np.ndarray):
        raise Wrong(
            f"step returned a reward with shape {reward.shape}, wanted one number: wrap the env so that it adds them up"
        )
    try:
        number = float(reward)
    except (TypeError, ValueError):
        raise Wrong(f"step returned a reward that is {faults.a(reward)}, wanted a number") from None
    if math.isnan(number):
        raise Wrong("step returned a reward that is NaN")
    return number


def _mask_in(info: dict[str, Any]) -> Any:
    mask = info.get(MASK)
    if mask is None:
        raise Mismatch(f"info: `{MASK}` is missing, and `info_space` declares it")
    return mask


def _shape_of(result: Any) -> str:
    if isinstance(result, tuple):
        return f"a tuple of {len(result)}"
    return "None" if result is None else faults.a(result)


def _json(what: str, value: Any) -> str:
    try:
        return jsonable.text(value)
    except jsonable.NotJson as error:
        raise Err(t.EnvError_Unsupported(f"{what} has no JSON form ({error})")) from None


def _like(before: Any, value: Any) -> Any:
    """A JSON value as the type that an attribute had."""
    if isinstance(before, np.ndarray):
        return np.asarray(value, before.dtype)
    if isinstance(before, (tuple, set, frozenset)) and isinstance(value, list):
        return type(before)(value)
    if isinstance(before, np.generic) and isinstance(value, (bool, int, float)):
        return type(before)(value)
    if isinstance(before, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _layers(env: Any) -> Iterator[Any]:
    """The wrappers from the outermost on, and the env itself."""
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env
    yield env


def _has(layer: Any, name: str) -> bool:
    """Whether a layer itself has an attribute, without what an older wrapper passes on."""
    try:
        inspect.getattr_static(layer, name)
    except AttributeError:
        return not isinstance(layer, gymnasium.Wrapper) and hasattr(layer, name)
    return True


def _attribute(env: Any, name: str, otherwise: Any) -> Any:
    """An attribute of the outermost layer that has it."""
    for layer in _layers(env):
        if _has(layer, name):
            return getattr(layer, name)
    return otherwise


@contextmanager
def _render_mode(env: Any, mode: str) -> Iterator[None]:
    """Lets the env draw in another mode than it was made with."""
    unwrapped = getattr(env, "unwrapped", env)
    before = getattr(unwrapped, "render_mode", None)
    if before == mode:
        yield
        return
    try:
        unwrapped.render_mode = mode
        yield
    finally:
        unwrapped.render_mode = before
