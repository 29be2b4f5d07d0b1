"""Stable-Baselines3's own tests, over rollcage: pytest in a folder of theirs, with this file as their `conftest.py`.

Where a test makes a `DummyVecEnv` or `SubprocVecEnv` of Python envs, it gets `rollcage.sb3.VecEnv` over the same envs as
components (`python/tests/guests`): `TWINS` says which. What is skipped is in `SKIPPED`, each with its reason; a row that skips
nothing is an error.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
from stable_baselines3.common import base_class, callbacks, env_checker, env_util, evaluation, vec_env

import rollcage.sb3

GUESTS = Path(os.environ["ROLLCAGE_GUESTS"])

#: Tests that are not run, and why. A name may have stars in it.
SKIPPED = {
    "test_vec_envs.py::test_vecenv_func_checker": "looks whether functions return one env twice; rollcage takes no functions",
    "test_vec_envs.py::test_vecenv_custom_calls*-Twins?": "looks into DummyVecEnv.envs, a list of Python objects; the run for "
    "SubprocVecEnv is the same without that",
    "test_vec_envs.py::test_subproc_start_method": "about multiprocessing's start methods, of which rollcage uses none",
    "test_vec_envs.py::test_vec_env_is_wrapped": "one env with Monitor and one without; rollcage's have what Monitor adds always",
    "test_vec_envs.py::test_render*": "opens windows: Stable-Baselines3 skips it without an X server, too",
    "test_vec_check_nan.py::test_check_nan": "hands two rows of actions to one env, and lists without an array's shape; rollcage "
    "refuses actions of another shape (test_sb3.py has VecCheckNan over the same env)",
    "test_vec_monitor.py::test_vec_monitor_ppo": "expects no warning of VecMonitor around an env without Monitor's infos; "
    "rollcage's always have them",
    "test_envs.py::test_custom_envs*": "the env checker on Stable-Baselines3's own Python envs: no vector env in it",
    "test_envs.py::test_bit_flipping*": "the same",
    "test_envs.py::test_high_dimension_action_space": "the same",
    "test_envs.py::test_non_default_*": "the same",
    "test_envs.py::test_common_failures_*": "the same",
    "test_predict.py::test_subclassed_space_env*": "about a class of Python that is derived from Box; a component says what its "
    "space is",
    "test_her.py::test_her[[]True-*": "goals that are pictures: as far as HerReplayBuffer goes the same as those of bits",
    "test_her.py::test_multiprocessing[[]True-*": "the same",
}

#: What a custom env's space is called.
SPACES = {
    "Box(0.0, 1.0, (2,), float32)": "box",
    "Discrete(2)": "discrete",
    "MultiDiscrete([2 3])": "multidiscrete",
    "MultiBinary(3)": "multibinary",
    "Box(0, 255, (12, 8, 3), uint8)": "image",
    "Box(0, 255, (3, 8, 12), uint8)": "transposed",
}


def custom(env: Any) -> tuple[str, dict[str, Any]]:
    space = env.observation_space
    if isinstance(space, gymnasium.spaces.Dict):
        kind = "dict"
    elif isinstance(space, gymnasium.spaces.Tuple):
        kind = "tuple"
    else:
        kind = SPACES[str(space)]
    return guest(f"custom_{kind}"), {}


def guest(name: str) -> str:
    return str(GUESTS / f"{name}.wasm")


def continuous(env: Any) -> str:
    """What the name of a component with continuous actions has at its end."""
    return "_continuous" if isinstance(env.action_space, gymnasium.spaces.Box) else ""


def limit(env: Any) -> int | None:
    """The time limit that an env's wrappers make."""
    limits = []
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.TimeLimit):
            limits.append(env._max_episode_steps)
        env = env.env
    return min(limits, default=None)


#: The component and config for a Python env, by its class.
TWINS: dict[str, Callable[[Any], tuple[str, dict[str, Any]]]] = {
    "CustomGymEnv": custom,
    "StepEnv": lambda env: (guest("step_env"), {"max_steps": env.max_steps}),
    "NanAndInfEnv": lambda env: (guest("nan_and_inf"), {}),
    "DummyRewardEnv": lambda env: (guest("dummy_reward"), {"return_reward_idx": env.return_reward_idx}),
    "DummyDictEnv": lambda env: (guest("dummy_dict"), {}),
    "DummyMixedDictEnv": lambda env: (guest("dummy_mixed"), {}),
    "FakeImageEnv": lambda env: (
        guest(f"fake_image{continuous(env)}"),
        dict(zip(("screen_height", "screen_width", "n_channels"), env.observation_shape, strict=True)),
    ),
    "BitFlippingEnv": lambda env: (
        guest(f"bit_flipping{continuous(env)}"),
        {"n_bits": len(env.desired_goal), "max_steps": env.max_steps},
    ),
    "IdentityEnv": lambda env: (guest("identity"), {"dim": int(env.action_space.n), "ep_length": env.ep_length}),
    "IdentityEnvBox": lambda env: (
        guest("identity_box"),
        {
            "low": float(env.action_space.low[0]),
            "high": float(env.action_space.high[0]),
            "eps": env.eps,
            "ep_length": env.ep_length,
        },
    ),
    "CartPoleEnv": lambda env: ("cartpole", {}),
    "PendulumEnv": lambda env: ("pendulum", {}),
    "CliffWalkingEnv": lambda env: ("cliffwalking", {}),
}

MADE: list[str] = []


class Twins(rollcage.sb3.VecEnv):
    """Takes what Stable-Baselines3's classes take, looks at the envs that it makes, and runs their twins."""

    def __init__(
        self, env_fns: Sequence[Callable[[], gymnasium.Env[Any, Any]]], start_method: str | None = None
    ) -> None:
        envs = [fn() for fn in env_fns]
        twins = [TWINS[type(env.unwrapped).__name__](env.unwrapped) for env in envs]
        (plugin,) = {plugin for plugin, _ in twins}
        mode = None if envs[0].render_mode == "human" else envs[0].render_mode
        super().__init__(
            plugin,
            len(envs),
            config=[config for _, config in twins],
            render_mode=mode,
            max_episode_steps=limit(envs[0]),
        )
        MADE.append(plugin)
        # Some of these tests step without a reset, which a Python env does not mind.
        super().reset()


class SubprocTwins(Twins):
    """Another class, so that each test that is run for both is."""


# Wherever tests, algorithms, callbacks and evaluations make one; only the checker of single Python envs keeps its own.
assert env_checker.DummyVecEnv.__module__.startswith("stable_baselines3")
for module in (vec_env, env_util, base_class, callbacks, evaluation):
    module.DummyVecEnv = Twins
vec_env.SubprocVecEnv = SubprocTwins

_make = gymnasium.make


def make(id: Any, **kwargs: Any) -> Any:
    """The two envs that `test_envs.py` checks are ours; elsewhere they are looked at, and their twins are run."""
    if "PYTEST_CURRENT_TEST" in os.environ and "test_envs.py" in os.environ["PYTEST_CURRENT_TEST"]:
        MADE.append(f"rollcage/{id}")
        return _make(f"rollcage/{id}", **kwargs)
    return _make(id, **kwargs)


gymnasium.make = make


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    unused = set(SKIPPED)
    for item in items:
        name = f"{item.path.name}::{item.name}"
        for pattern, reason in SKIPPED.items():
            if fnmatch.fnmatchcase(name, pattern):
                unused.discard(pattern)
                item.add_marker(pytest.mark.skip(reason=reason))
    here = {item.path.name for item in items}
    unused = {pattern for pattern in unused if pattern.split("::")[0] in here}
    assert not unused or len(items) < 40, f"rows that skip nothing: {unused}"


@pytest.fixture(autouse=True)
def seeded() -> None:
    np.random.seed(0)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(
        f"rollcage was run in place of Python envs {len(MADE)} times: {sorted(set(map(os.path.basename, MADE)))}"
    )
    terminalreporter.write_line(f"with stable-baselines3 {stable_baselines3.__version__}")
