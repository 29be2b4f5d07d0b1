"""What Stable-Baselines3 brings, over `rollcage.sb3`: its wrappers, callbacks and algorithms. Its own tests run in
`test_sb3_suite.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import twin

import rollcage

sb3 = pytest.importorskip("stable_baselines3")

from stable_baselines3.common import env_util  # noqa: E402
from stable_baselines3.common.callbacks import EvalCallback  # noqa: E402
from stable_baselines3.common.evaluation import evaluate_policy  # noqa: E402
from stable_baselines3.common.monitor import Monitor  # noqa: E402
from stable_baselines3.common.vec_env import (  # noqa: E402
    DummyVecEnv,
    SubprocVecEnv,
    VecCheckNan,
    VecFrameStack,
    VecNormalize,
    VecVideoRecorder,
)

from rollcage.sb3 import VecEnv, make_vec_env  # noqa: E402


def test_a_rollout_is_that_of_dummy_vec_env() -> None:
    """Observations, rewards, dones and every key of the infos, over hundreds of episodes; times apart."""
    theirs = env_util.make_vec_env("CartPole-v1", 4, seed=7)
    ours = make_vec_env("cartpole", 4, seed=7)
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    assert ours.render_mode == theirs.render_mode == "rgb_array"
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    generator, episodes = np.random.default_rng(1), 0
    for _ in range(1500):
        actions = generator.integers(0, 2, 4)
        one, other = ours.step(actions), theirs.step(actions)
        for left, right in zip(one[:3], other[:3], strict=True):
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)
        for left, right in zip(one[3], other[3], strict=True):
            assert set(left) == set(right) and left["TimeLimit.truncated"] is right["TimeLimit.truncated"]
            if "episode" in right:
                episodes += 1
                assert [left["episode"][key] for key in "rl"] == [right["episode"][key] for key in "rl"]
                assert set(left["episode"]) == {"r", "l", "t"}
                np.testing.assert_array_equal(left["terminal_observation"], right["terminal_observation"])
    assert episodes > 100
    ours.close()
    theirs.close()


def test_a_time_limit_is_a_truncation() -> None:
    envs = make_vec_env("cartpole", 1, seed=7, max_episode_steps=3)
    envs.reset()
    infos = [envs.step([step % 2])[3][0] for step in range(3)]
    assert [info["TimeLimit.truncated"] for info in infos] == [False, False, True]
    assert infos[2]["episode"]["l"] == 3 and infos[2]["terminal_observation"].shape == (4,)
    envs.close()


def test_methods_of_subproc_vec_env() -> None:
    """Whatever it has is here, with the same parameters."""
    import inspect

    for name, member in inspect.getmembers(SubprocVecEnv, inspect.isfunction):
        if name.startswith("_"):
            continue
        ours = getattr(VecEnv, name)
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(member).parameters), name
    envs = VecEnv(twin("rich"), 3, seed=3, config={"length": 5})
    assert envs.env_is_wrapped(Monitor) == [True, True, True] and envs.env_is_wrapped(Monitor, [1]) == [True]
    assert envs.env_is_wrapped(__import__("gymnasium").wrappers.TimeLimit) == [False] * 3
    assert envs.env_method("add", a=1, b=2) == [3, 3, 3] and envs.env_method("add", a=1, b=2, indices=[0, -1]) == [3, 3]
    envs.set_attr("level", 5, indices=1)
    assert envs.get_attr("level") == [1, 5, 1] and envs.get_attr("level", 1) == [5]
    assert envs.has_attr("level") and not envs.has_attr("no_such_thing") and not envs.has_attr("action_masks")
    assert envs.seed(10) == [10, 11, 12]
    first = envs.reset()
    assert all("count" in info for info in envs.reset_infos)
    envs.seed(10)
    np.testing.assert_array_equal(envs.reset()["place"], first["place"])
    envs.set_options({"start": 100})
    assert envs.reset()["count"].tolist() == [100, 100, 100]
    assert envs.reset()["count"].tolist() == [0, 0, 0]
    envs.set_options([{"start": 1}, {}, {"start": 3}])
    assert envs.reset()["count"].tolist() == [1, 0, 3]
    assert envs.render_mode is None
    with pytest.warns(UserWarning, match="render"):
        envs.render()
    envs.close()
    envs.close()
    envs = make_vec_env("cartpole", 3)
    envs.reset()
    assert [image.shape for image in envs.get_images()] == [(400, 600, 3)] * 3
    assert envs.render().shape == (800, 1200, 3)
    envs.close()


def test_functions_that_make_python_envs_are_refused_with_a_hint() -> None:
    with pytest.raises(TypeError, match=r"use rollcage\.sb3\.make_vec_env"):
        env_util.make_vec_env("CartPole-v1", 2, vec_env_cls=VecEnv)
    with pytest.raises(TypeError, match=r"use rollcage\.sb3\.make_vec_env"):
        make_vec_env(lambda: None, 2)
    with pytest.raises(rollcage.UsageError, match="did you mean"):
        make_vec_env("CartPole", 2)


def test_wrappers(tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    envs: Any = VecFrameStack(VecNormalize(make_vec_env("cartpole", 2, seed=1)), 4)
    envs = VecVideoRecorder(envs, str(tmp_path), record_video_trigger=lambda step: step == 0, video_length=10)
    assert envs.reset().shape == (2, 16)
    for _ in range(15):
        observations, *_ = envs.step([0, 1])
        assert observations.shape == (2, 16)
    envs.close()
    assert len(list(tmp_path.glob("*.mp4"))) == 1

    strange = VecCheckNan(VecEnv(twin("nan_and_inf"), 1), raise_exception=True)
    strange.reset()
    strange.step(np.array([[0.0]]))
    for action in (float("nan"), float("inf"), -1.0, 1.0):
        with pytest.raises(ValueError, match="nan|inf"):
            strange.step(np.array([[action]]))
    strange.close()


def test_training_beside_an_evaluation(tmp_path: Path) -> None:
    """Two of them in one program, an `EvalCallback`, `ep_rew_mean` in the log, a model that is saved and loaded."""
    train, evaluation = make_vec_env("cartpole", 4, seed=1), make_vec_env("cartpole", 2, seed=2)
    callback = EvalCallback(evaluation, eval_freq=128, n_eval_episodes=4, log_path=str(tmp_path), verbose=0)
    model = sb3.PPO("MlpPolicy", train, n_steps=64, seed=1, device="cpu")
    model.learn(1024, callback=callback)
    assert len(callback.evaluations_timesteps) >= 2
    assert len(model.ep_info_buffer) > 5 and {"r", "l", "t"} == set(model.ep_info_buffer[0])
    model.save(tmp_path / "model")
    loaded = sb3.PPO.load(tmp_path / "model", env=train)
    assert evaluate_policy(loaded, evaluation, n_eval_episodes=3)[0] > 5
    train.close()
    evaluation.close()


def test_masks_for_maskable_ppo() -> None:
    contrib = pytest.importorskip("sb3_contrib")
    from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported

    envs = make_vec_env("taxi", 3, seed=7)
    assert is_masking_supported(envs) and not is_masking_supported(make_vec_env("cartpole", 1))
    envs.reset()
    masks = get_action_masks(envs)
    assert masks.shape == (3, 6) and masks.sum() < masks.size
    assert [info["action_mask"].tolist() for info in envs.reset_infos] == masks.tolist()
    model = contrib.MaskablePPO("MlpPolicy", envs, n_steps=64, seed=7, device="cpu")
    model.learn(600)
    observation = envs.reset()
    for _ in range(50):
        masks = get_action_masks(envs)
        actions, _ = model.predict(observation, action_masks=masks)
        assert all(mask[action] for mask, action in zip(masks, actions, strict=True))
        observation, *_ = envs.step(actions)
    envs.close()


def test_one_env_of_ours_in_their_dummy_vec_env() -> None:
    envs = DummyVecEnv([lambda: rollcage.Env("cartpole", seed=3)] * 2)
    envs.reset()
    envs.step(np.array([0, 1]))
    envs.close()
