"""Arguments by their names in Stable-Baselines3 and Gymnasium: the error for each of them says what to write here."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

_PLUGIN = (
    "write plugin: an env's class, an id of Gymnasium's registry, the name of a shipped plugin (`rollcage.shipped()`), or the path "
    "of a .wasm file or of an env's folder"
)
_PROCESSES = "leave it out: each env always has a sandboxed process of its own"
_ENTRIES = "leave it out, and pass its entries as arguments; start= chooses how envs are started"
_FUNCTIONS = (
    "an env is not an object of this process that a function makes; write plugin, " + _PLUGIN.partition(": ")[2]
)

#: Arguments of Stable-Baselines3's `make_vec_env`, `DummyVecEnv` and `SubprocVecEnv`.
STABLE_BASELINES3: dict[str, str] = {
    "env_id": _PLUGIN,
    "num_envs": "write n_envs, as in Stable-Baselines3",
    "start_index": "leave it out: there are no files of Monitor to number, and env i gets seed + i",
    "monitor_dir": "leave it out: info['episode'] is there without Monitor; for its file write "
    "`VecMonitor(make_vec_env(...), filename='monitor.csv')`",
    "monitor_kwargs": "leave it out: info['episode'] and the env's own infos are there without Monitor",
    "wrapper_class": "leave it out: a wrapper of one env is Python around Python; wrap all of them "
    "(`VecFrameStack(make_vec_env(...), 4)`), or each in this process: "
    "`DummyVecEnv([lambda: Wrapper(rollcage.Env(plugin))])`",
    "wrapper_kwargs": "leave it out, as wrapper_class",
    "vec_env_cls": "leave it out: the result is a rollcage.sb3.VecEnv, each env in a process of its own",
    "vec_env_kwargs": _ENTRIES,
    "start_method": "write start: 'fork' (of a template process, never of this one), 'fork-after-create' or 'spawn'",
    "env_fns": _FUNCTIONS,
    "autoreset_mode": "leave it out: in Stable-Baselines3 an ended env is always reset in the same step",
    "episode_statistics": "leave it out: info['episode'] is always there",
    "copy": "leave it out: Stable-Baselines3 keeps observations, so each call gives new ones",
}

#: Arguments of Gymnasium's `make`, `make_vec`, `SyncVectorEnv` and `AsyncVectorEnv`.
GYMNASIUM: dict[str, str] = {
    "id": _PLUGIN,
    "n_envs": "write num_envs, as in Gymnasium",
    "vectorization_mode": _PROCESSES,
    "vector_kwargs": _ENTRIES,
    "wrappers": "leave it out: wrap the result, by `gymnasium.wrappers.vector`",
    "env_fns": _FUNCTIONS,
    "shared_memory": "leave it out: values are always in shared memory",
    "context": "leave it out: start= chooses how envs are started ('fork', 'fork-after-create', 'spawn'), without multiprocessing",
    "daemon": "leave it out: no worker outlives this process",
    "worker": "leave it out: the rollcage program runs each env",
    "observation_mode": "leave it out: all envs of one call have one space",
    "env_kwargs": "write config",
    "disable_env_checker": "leave it out: the host checks every answer of an env",
}

#: Names that one env, for `gymnasium.make`, does not take.
ONE_ENV: dict[str, str] = {
    **GYMNASIUM,
    **dict.fromkeys(
        ("num_envs", "n_envs", "autoreset_mode", "episode_statistics", "copy"),
        "it is for many envs: see rollcage.make_vec",
    ),
}

#: Values that change nothing and may be passed, for callers that pass every argument on.
_DEFAULTS: dict[str, Any] = {"start_index": 0, "shared_memory": True, "daemon": True, "disable_env_checker": False}


def answered(others: Mapping[str, str], passed_to: Callable[..., Any] | None = None) -> Callable[[Function], Function]:
    """Decorates a function: for a name that it does not take, the error says what to write.

    Parameters
    ----------
    others : mapping
        Names of other libraries, and what to write in their place.
    passed_to : function, optional
        The function that ``**kwargs`` are passed on to. Its names are taken too, except for `others`.

    """

    def decorate(function: Function) -> Function:
        own = set(_named(function))
        if passed_to is not None:
            own |= set(_named(passed_to)) - set(others)
        # A function that takes any keyword reports wrong ones itself.
        takes_anything = _takes_anything(passed_to or function)
        by_place = [name for name, one in _named(function).items() if one.kind is one.POSITIONAL_OR_KEYWORD]
        called = function.__qualname__.removesuffix(".__init__")

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if len(args) > len(by_place):
                names = ", ".join(name for name in by_place if name != "self")
                raise TypeError(f"{called}: only {names} may be positional; write the others with their names")
            for name in [name for name in kwargs if name not in own]:
                if name in others:
                    if not _says_nothing(name, kwargs.pop(name)):
                        raise TypeError(f"{called}: {name}: {others[name]}")
                elif not takes_anything:
                    near = difflib.get_close_matches(name, own, 1)
                    instead = f"did you mean {near[0]}?" if near else f"a key of the config is config={{{name!r}: ...}}"
                    raise TypeError(f"{called}: no argument is called {name}; {instead}")
            return function(*args, **kwargs)

        return cast("Function", call)

    return decorate


def _named(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return {
        name: one for name, one in inspect.signature(function).parameters.items() if one.kind is not one.VAR_KEYWORD
    }


def _takes_anything(function: Callable[..., Any]) -> bool:
    return any(one.kind is one.VAR_KEYWORD for one in inspect.signature(function).parameters.values())


def _says_nothing(name: str, value: Any) -> bool:
    """Whether a value is a default, which changes nothing."""
    return value is None or (name in _DEFAULTS and value == _DEFAULTS[name])
