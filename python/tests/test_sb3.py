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
    with pytest.raises(rollcage.UsageError, match="a lambda cannot be bundled"):
        make_vec_env(lambda: None, 2)
    with pytest.raises(rollcage.UsageError, match="a lambda cannot be bundled"):
        VecEnv([lambda: None, lambda: None])
    with pytest.raises(rollcage.UsageError, match="an empty list"):
        VecEnv([])
    with pytest.raises(rollcage.UsageError, match="did you mean"):
        make_vec_env("CartPole", 2)


def test_options_with_arrays_per_env_reach_their_envs() -> None:
    """Arrays cannot be compared by `==`; each env gets what was meant for it, and nobody what another had."""
    envs = VecEnv(twin("custom_box"), 3, seed=1)
    each = [{"goal": np.array([1.0, 2.0])}, {"goal": np.array([3.0, 4.0])}, {}]
    envs.set_options(each)
    each[0]["goal"][:] = 9.0  # the caller's own again
    envs.reset()
    assert envs.get_attr("current_options") == [{"goal": [1.0, 2.0]}, {"goal": [3.0, 4.0]}, None]
    envs.set_options({"goal": np.arange(3), "level": np.int64(2)})
    envs.reset()
    assert envs.get_attr("current_options") == [{"goal": [0, 1, 2], "level": 2}] * 3
    envs.reset()
    assert envs.get_attr("current_options") == [None] * 3
    envs.set_options(({"a": 1}, None, {"a": 1}))
    envs.reset()
    assert envs.get_attr("current_options") == [{"a": 1}, None, {"a": 1}]
    with pytest.raises(rollcage.UsageError, match="2 options for 3 envs"):
        envs.set_options([{}, {}])
    with pytest.raises(TypeError, match="a dict for each env"):
        envs.set_options([{}, {}, np.zeros(2)])
    envs.close()


#: What Stable-Baselines3's `make_vec_env` takes, and what the answer says.
THEIRS: dict[str, tuple[Any, str]] = {
    "env_id": ("CartPole-v1", "write plugin"),
    "start_index": (4, "leave it out"),
    "monitor_dir": ("logs", "VecMonitor"),
    "wrapper_class": (Monitor, "DummyVecEnv"),
    "vec_env_cls": (SubprocVecEnv, r"the result is a rollcage\.sb3\.VecEnv"),
    "vec_env_kwargs": ({"start_method": "spawn"}, "start= chooses"),
    "monitor_kwargs": ({"info_keywords": ("is_success",)}, "without Monitor"),
    "wrapper_kwargs": ({"a": 1}, "as wrapper_class"),
}


@pytest.mark.parametrize("name", THEIRS)
def test_arguments_of_their_make_vec_env_are_answered(name: str) -> None:
    given, words = THEIRS[name]
    with pytest.raises(TypeError, match=f"{name}.*{words}"):
        make_vec_env(**{"plugin": "cartpole", name: given} if name != "env_id" else {name: given})


def test_every_argument_of_theirs_is_taken_or_answered() -> None:
    """What is said by default says nothing: callers that pass everything on need not leave it out."""
    import inspect

    theirs = inspect.signature(env_util.make_vec_env).parameters
    assert set(theirs) == THEIRS.keys() | {"n_envs", "seed", "env_kwargs"}
    said_nothing = {name: one.default for name, one in theirs.items() if name not in ("env_id", "n_envs", "seed")}
    envs = make_vec_env("cartpole", 2, seed=1, **said_nothing)
    assert envs.num_envs == 2
    envs.close()


def test_their_names_in_the_wrong_place_are_answered() -> None:
    answers: list[tuple[Any, tuple[Any, ...], dict[str, Any], str]] = [
        (make_vec_env, ("cartpole",), {"num_envs": 2}, "num_envs: write n_envs"),
        (VecEnv, ("cartpole",), {"num_envs": 2}, "num_envs: write n_envs"),
        (VecEnv, (), {"env_fns": [lambda: None]}, "plugin"),
        (VecEnv, ("cartpole", 2), {"start_method": "fork"}, "write start"),
        (VecEnv, ("cartpole", 2), {"autoreset_mode": "disabled"}, "leave it out"),
        (make_vec_env, ("cartpole", 2), {"episode_statistics": True}, "leave it out"),
        (make_vec_env, ("cartpole", 2), {"max_episode_step": 2}, "did you mean max_episode_steps"),
        (make_vec_env, ("cartpole", 2, 1, 0, None), {}, "only plugin, n_envs, seed may be positional"),
    ]
    for function, args, kwargs, words in answers:
        with pytest.raises(TypeError, match=words):
            function(*args, **kwargs)


def test_what_the_answer_says_to_write_works(tmp_path: Path) -> None:
    """`VecMonitor` for `monitor_dir`, `DummyVecEnv` of single envs for `wrapper_class`."""
    from gymnasium.wrappers import ClipReward
    from stable_baselines3.common.vec_env import VecMonitor

    with pytest.warns(UserWarning, match="already wrapped"):
        envs = VecMonitor(make_vec_env("cartpole", n_envs=2), filename=str(tmp_path / "monitor.csv"))
    envs.reset()
    for _ in range(100):
        envs.step([0, 1])
    envs.close()
    assert len((tmp_path / "monitor.csv").read_text().splitlines()) > 4
    single = DummyVecEnv([lambda: ClipReward(rollcage.Env("cartpole"), 0.0, 0.5)])
    single.reset()
    assert single.step([0])[1].tolist() == [0.5]
    single.close()


def test_hindsight_replay_asks_the_env_for_the_rewards_of_other_goals() -> None:
    """`HerReplayBuffer`: the component's `compute_reward`, an array for many goals; more of them than fit into one call."""
    envs = VecEnv(twin("bit_flipping"), 2, seed=1, config={"n_bits": 4})
    goals = np.array([[0, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]], np.int8)
    (rewards,) = envs.env_method("compute_reward", goals, np.ones_like(goals), [{}] * 3, indices=[0])
    assert rewards.dtype == np.float32 and rewards.tolist() == [-1.0, -1.0, 0.0]
    many = np.random.default_rng(1).integers(0, 2, (20_000, 4), np.int8)
    (rewards,) = envs.env_method("compute_reward", many, np.ones_like(many), [{}] * len(many), indices=[0])
    np.testing.assert_array_equal(rewards, many.all(1) - 1.0)
    model = sb3.DQN(
        "MultiInputPolicy", envs, replay_buffer_class=sb3.HerReplayBuffer, learning_starts=40, seed=1, device="cpu"
    )
    model.learn(120)
    envs.close()


def test_hindsight_replay_without_the_method_is_refused_in_words() -> None:
    """A Dict of goals, and no `compute_reward`: which env lacks what, and what to do."""
    envs = VecEnv(twin("custom_dict"), 1)
    goals = np.zeros((2, 3), np.float32)
    with pytest.raises(rollcage.UnsupportedError, match="(?s)HerReplayBuffer.*custom-dict has no method.*hint: .*args"):
        envs.env_method("compute_reward", goals, goals, [{}, {}], indices=[0])
    envs.close()


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
