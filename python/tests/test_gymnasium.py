"""What Gymnasium brings, over our envs: its checkers, its wrappers, `make` and `make_vec`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import rollcage
from rollcage.registration import IDS

#: They want a simulator or a socket beside them, and say so (`test_an_env_that_wants_more_says_so`).
WANTING = {"go", "short-kick"}


@pytest.mark.parametrize("name", [one.name for one in IDS if one.plugin not in WANTING])
def test_check_env(name: str) -> None:
    env = gymnasium.make(f"rollcage/{name}")
    with warnings.catch_warnings():
        # What it says of the envs themselves it says of Gymnasium's own, too: unbounded boxes, for one.
        warnings.simplefilter("ignore")
        check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_every_shipped_plugin_has_a_name() -> None:
    assert {one.plugin for one in IDS} == set(rollcage.shipped())


def test_an_env_that_wants_more_says_so() -> None:
    for name in WANTING:
        with pytest.raises(rollcage.UsageError, match="grant"):
            rollcage.make_vec(name)


def test_make_and_make_vec() -> None:
    env = gymnasium.make("rollcage/CartPole-v1", render_mode="rgb_array", max_episode_steps=20)
    assert isinstance(env.unwrapped, rollcage.Env)
    assert env.spec is not None and env.spec.id == "rollcage/CartPole-v1"
    observation, info = env.reset(seed=3)
    reference = gymnasium.make("CartPole-v1", max_episode_steps=20)
    np.testing.assert_array_equal(observation, reference.reset(seed=3)[0])
    frame = env.render()
    assert frame.shape == (400, 600, 3) and frame.dtype == np.uint8
    for step in range(20):
        ours, theirs = env.step(step % 2), reference.step(step % 2)
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1:] == theirs[1:] and [type(one) for one in ours[1:]] == [type(one) for one in theirs[1:]]
    env.close()

    envs = gymnasium.make_vec("rollcage/FrozenLake8x8-v1", num_envs=3, seed=7)
    assert isinstance(envs, rollcage.VectorEnv) and envs.num_envs == 3
    assert envs.spec is not None and envs.spec.id == "rollcage/FrozenLake8x8-v1"
    assert envs.single_observation_space == gymnasium.spaces.Discrete(64)
    envs.reset()
    envs.close()
    # Without the import of rollcage, in Gymnasium's way of naming a module.
    envs = gymnasium.make_vec("rollcage:rollcage/CartPole-v1", num_envs=2)
    envs.close()
    envs = gymnasium.make_vec("rollcage/CartPole-v1", num_envs=2, vectorization_mode="sync")
    assert isinstance(envs, gymnasium.vector.SyncVectorEnv)
    envs.reset()
    envs.close()


def test_vector_wrappers() -> None:
    wrappers = gymnasium.wrappers.vector
    envs: Any = rollcage.make_vec("cartpole", 3, seed=7, render_mode="rgb_array")
    for wrap in (
        wrappers.RecordEpisodeStatistics,
        lambda envs: wrappers.ClipReward(envs, 0.0, 0.5),
        wrappers.NormalizeObservation,
        wrappers.FlattenObservation,
        lambda envs: wrappers.TransformObservation(envs, lambda one: one * 2),
        lambda envs: wrappers.RescaleObservation(envs, -1.0, 1.0) if False else envs,
        wrappers.NormalizeReward,
        lambda envs: wrappers.DtypeObservation(envs, np.float64),
        wrappers.DictInfoToList,
    ):
        envs = wrap(envs)
    observations, infos = envs.reset()
    assert observations.shape == (3, 4) and observations.dtype == np.float64 and isinstance(infos, list)
    for _ in range(60):
        observations, _, _, _, infos = envs.step(envs.action_space.sample())
        assert np.isfinite(observations).all()
    assert len(envs.render()) == 3
    envs.close()

    envs = wrappers.VectorizeTransformObservation(
        rollcage.make_vec("frozenlake", 2, seed=7),
        gymnasium.wrappers.TransformObservation,
        func=lambda one: np.float32(one),
        observation_space=gymnasium.spaces.Box(0, 16, (), np.float32),
    )
    assert envs.reset()[0].dtype == np.float32
    envs.close()


def test_record_video(tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    env = gymnasium.make("rollcage/CartPole-v1", render_mode="rgb_array")
    env = gymnasium.wrappers.RecordVideo(env, str(tmp_path / "one"), episode_trigger=lambda episode: True)
    env.reset(seed=1)
    while not any(env.step(0)[2:4]):
        pass
    env.close()
    assert [path.suffix for path in (tmp_path / "one").glob("*.mp4")] == [".mp4"]

    envs = gymnasium.wrappers.vector.RecordVideo(
        rollcage.make_vec("cartpole", 2, seed=1, render_mode="rgb_array"),
        str(tmp_path / "many"),
        video_length=10,
    )
    envs.reset()
    for _ in range(12):
        envs.step([0, 1])
    envs.close()
    assert list((tmp_path / "many").glob("*.mp4"))
