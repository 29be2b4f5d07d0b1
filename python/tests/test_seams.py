"""Where our envs meet what Gymnasium's users expect: time limits, keywords of `make`, seeds, render modes, copies, actions."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import pickle
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas
import pytest
from conftest import hostile
from stable_baselines3.common.env_util import make_vec_env
from test_rollouts import parts, program

import rollcage
import rollcage.sb3
from rollcage import _program
from rollcage.registration import IDS

PENDULUM = "rollcage/Pendulum-v1"


# ── A time limit can be longer, shorter, and none ───────────────────────────────────────────────────────────────────


def by_make(**limit: int) -> int | None:
    return first_end(gymnasium.make(PENDULUM, **limit))


def by_make_vec(**limit: int) -> int | None:
    return first_end(gymnasium.make_vec(PENDULUM, num_envs=2, **limit))


def by_make_vec_sync(**limit: int) -> int | None:
    return first_end(gymnasium.make_vec(PENDULUM, num_envs=2, vectorization_mode="sync", **limit))


def by_rollcage(**limit: int) -> int | None:
    return first_end(rollcage.make_vec("pendulum", num_envs=2, **limit))


def by_sb3(**limit: int) -> int | None:
    return first_done(make_vec_env(PENDULUM, n_envs=2, env_kwargs=dict(limit)))


def by_rollcage_sb3(**limit: int) -> int | None:
    return first_done(rollcage.sb3.make_vec_env("pendulum", n_envs=2, env_kwargs=dict(limit)))


WAYS = [by_make, by_make_vec, by_make_vec_sync, by_rollcage, by_sb3, by_rollcage_sb3]

#: Pendulum never terminates, and its own limit is 200 steps.
STEPS = 230


def first_end(envs: Any) -> int | None:
    """After how many steps the first episode is truncated; None: not in `STEPS`."""
    action = np.zeros(envs.action_space.shape, np.float32)
    envs.reset(seed=1)
    try:
        for step in range(1, STEPS + 1):
            _, _, terminated, truncated, _ = envs.step(action)
            assert not np.any(terminated)
            if np.any(truncated):
                assert np.all(truncated)
                return step
        return None
    finally:
        envs.close()


def first_done(envs: Any) -> int | None:
    action = np.zeros((2, 1), np.float32)
    envs.reset()
    try:
        for step in range(1, STEPS + 1):
            _, _, dones, infos = envs.step(action)
            if dones.any():
                assert dones.all() and all(info["TimeLimit.truncated"] for info in infos)
                return step
        return None
    finally:
        envs.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_time_limit_can_be_lengthened_shortened_and_taken_away(way: Callable[..., int | None]) -> None:
    assert way() == 200
    assert way(max_episode_steps=220) == 220
    assert way(max_episode_steps=20) == 20
    assert way(max_episode_steps=-1) is None


def test_a_limit_that_is_no_limit_is_said_to_be_wrong() -> None:
    for wrong in (0, -2, 2**32):
        with pytest.raises(rollcage.UsageError, match="max_episode_steps.*\n.*-1 means no limit"):
            rollcage.make_vec("pendulum", max_episode_steps=wrong)
    with pytest.raises(TypeError, match="max_episode_steps: a whole number"):
        rollcage.make_vec("pendulum", max_episode_steps=2.5)


def test_ids_are_registered_with_limit_and_threshold() -> None:
    for one in IDS:
        spec = gymnasium.spec(f"rollcage/{one.name}")
        assert (spec.max_episode_steps, spec.reward_threshold) == (one.max_episode_steps, one.reward_threshold)
        if one.name in gymnasium.registry:
            theirs = gymnasium.spec(one.name)
            assert (spec.max_episode_steps, spec.reward_threshold) == (
                theirs.max_episode_steps,
                theirs.reward_threshold,
            )
        if one.plugin in ("go", "short-kick"):
            continue
        with rollcage.make_vec(one.plugin, config=one.config) as envs:
            assert (envs.max_episode_steps, envs.reward_threshold) == (one.max_episode_steps, one.reward_threshold)
        env = gymnasium.make(f"rollcage/{one.name}")
        made: Any = env.spec
        assert (made.max_episode_steps, made.reward_threshold) == (one.max_episode_steps, one.reward_threshold)
        unwrapped: Any = env.unwrapped
        assert unwrapped.envs.max_episode_steps is None
        env.close()


def test_a_limit_of_the_name_that_is_not_that_of_the_config_is_told_once() -> None:
    with pytest.warns(UserWarning, match=r"the time limit is 100 steps.* the env's own is 200"):
        env = gymnasium.make("rollcage/FrozenLake-v1", map_name="8x8")
        env.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env.reset()
    env.close()
    with pytest.warns(UserWarning, match=r"the time limit is 100 steps.* the env's own is 200"):
        gymnasium.make_vec("rollcage/FrozenLake-v1", 2, map_name="8x8").reset()


@pytest.mark.parametrize("steps", [5, 250])
def test_an_episode_that_the_wrapper_cut_is_recorded_as_truncated(steps: int, tmp_path: Path) -> None:
    folder = str(tmp_path / "recorded")
    env: Any = gymnasium.make(PENDULUM, max_episode_steps=steps, record=folder)
    for _ in range(3):
        env.reset(seed=4)
        truncated = False
        while not truncated:
            _, _, _, truncated, _ = env.step(np.zeros(1, np.float32))
            env.unwrapped.envs.reseed(0, 3)
    # One that nobody cut.
    env.reset()
    env.step(np.zeros(1, np.float32))
    digest = env.unwrapped.envs.digest
    env.close()
    rows = pandas.concat([pandas.read_parquet(part) for part in parts(folder)])
    taken = rows[rows.reward.notna()]
    assert len(taken) == 3 * steps + 1
    assert taken[taken.truncated.astype(bool)][["episode", "step"]].to_numpy().tolist() == [
        [episode, steps - 1] for episode in range(3)
    ]
    manifest = json.loads(Path(folder, "rollout.json").read_text())
    totals = manifest["totals"]
    assert (totals["episodes"], totals["steps"], totals["length"]["max"]) == (3, 3 * steps + 1, steps)
    assert (manifest["max_episode_steps"], manifest["digest"]) == ("none", digest)
    assert program("replay", folder) == f"identical: {3 * steps + 1} steps, digest {digest}\n"


def test_a_reset_that_nothing_followed_cuts_too(tmp_path: Path) -> None:
    folder = str(tmp_path / "recorded")
    with rollcage.make_vec("pendulum", num_envs=2, seed=1, record=folder) as envs:
        envs.reset()
        envs.step(np.zeros((2, 1), np.float32))
        envs.reset()
    rows = pandas.read_parquet(parts(folder)[0])
    assert rows[rows.reward.notna()].truncated.tolist() == [True, True]
    assert program("replay", folder).startswith("identical: 2 steps")


# ── Keywords of `make` ──────────────────────────────────────────────────────────────────────────────────────────────


def config_of(env: Any) -> dict[str, Any]:
    envs = env.unwrapped.envs if isinstance(env, gymnasium.Env) else env
    env.close()
    config: dict[str, Any] = envs.configs[-1]
    return config


@pytest.mark.parametrize("make", [gymnasium.make, gymnasium.make_vec])
def test_what_an_id_stands_for_stays(make: Callable[..., Any]) -> None:
    slippery = {"is_slippery": False}
    for keywords in ({"config": slippery}, slippery):
        env = make("rollcage/FrozenLake8x8-v1", **keywords)
        assert env.observation_space in (gymnasium.spaces.Discrete(64), gymnasium.spaces.MultiDiscrete([64]))
        config = config_of(env)
        assert (config["map_name"], config["is_slippery"]) == ("8x8", False)
    # What is said stands over what the id stands for, as in Gymnasium.
    assert config_of(make("rollcage/FrozenLake8x8-v1", map_name="4x4"))["map_name"] == "4x4"
    assert config_of(make("rollcage/FrozenLake8x8-v1", config={"map_name": "4x4"}))["map_name"] == "4x4"


def test_gymnasiums_own_keywords_are_taken() -> None:
    for keywords in ({"sutton_barto_reward": True}, {"sutton_barto_reward": False}):
        ours, theirs = (gymnasium.make(name, **keywords) for name in ("rollcage/CartPole-v1", "CartPole-v1"))
        assert ours.reset(seed=2)[0].tolist() == theirs.reset(seed=2)[0].tolist()
        assert ours.step(1)[1] == theirs.step(1)[1]
        ours.close()
    taxi = gymnasium.make("rollcage/Taxi-v4", is_rainy=True, fickle_passenger=True)
    assert config_of(taxi).items() >= {"is_rainy": True, "fickle_passenger": True}.items()


def test_configs_of_each_env_are_laid_over_the_keywords() -> None:
    one: dict[str, Any] = {"is_slippery": False}
    for config in ([{}, one], lambda env: one if env else {}):
        envs: Any = gymnasium.make_vec("rollcage/FrozenLake8x8-v1", num_envs=2, config=config, success_rate=0.5)
        envs.close()
        slippery = [(config["map_name"], config["is_slippery"], config["success_rate"]) for config in envs.configs]
        assert slippery == [("8x8", True, 0.5), ("8x8", False, 0.5)]


def test_a_keyword_that_is_neither_names_what_there_is() -> None:
    for make in (gymnasium.make, gymnasium.make_vec):
        with pytest.raises(rollcage.UsageError, match=r"is_slipery.*\n*.*is_slippery"):
            make("rollcage/FrozenLake-v1", is_slipery=False)


def test_a_config_key_that_is_an_arguments_name_is_the_argument() -> None:
    # `short-kick` has a key of this name: it wants a simulator, so that it is not started here.
    envs = rollcage.sb3.make_vec_env("frozenlake", env_kwargs={"map_name": "8x8", "max_episode_steps": 3, "seed": 5})
    assert envs.vector_env.max_episode_steps == 3 and envs.vector_env.initial_seed == 5
    assert envs.vector_env.configs[0]["map_name"] == "8x8"
    envs.close()
    with pytest.raises(rollcage.UsageError, match="config `max_episode_steps`"):
        gymnasium.make("rollcage/ShortKick-v0", max_episode_steps=5, config={"max_episode_steps": 0})


# ── Seeds, render modes, copies, actions ────────────────────────────────────────────────────────────────────────────


def test_np_random_seed_is_the_seed_of_the_last_reset() -> None:
    env = gymnasium.make("rollcage/CartPole-v1")
    drawn = env.unwrapped.np_random_seed
    first = env.reset()[0]
    again = gymnasium.make("rollcage/CartPole-v1")
    assert again.reset(seed=drawn)[0].tolist() == first.tolist() and again.unwrapped.np_random_seed == drawn
    env.reset(seed=42)
    env.reset()
    assert env.unwrapped.np_random_seed == 42
    env.close()
    again.close()

    ours: Any = gymnasium.make_vec("rollcage/CartPole-v1", num_envs=3)
    theirs: Any = gymnasium.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync")
    for seed in (42, [7, 8, 9]):
        ours.reset(seed=seed)
        theirs.reset(seed=seed)
        assert ours.np_random_seed == theirs.np_random_seed == ours.get_attr("np_random_seed")
    mask = np.array([False, True, False])
    ours.reset(seed=[1, 2, 3], options={"reset_mask": mask})
    assert ours.np_random_seed == (7, 2, 9)
    ours.close()

    learner = rollcage.sb3.make_vec_env("cartpole", n_envs=2, seed=3)
    learner.seed(42)
    learner.reset()
    assert learner.get_attr("np_random_seed") == [42, 43]
    learner.close()


def test_rgb_array_list_keeps_a_picture_of_each_step() -> None:
    ours: Any = gymnasium.make("rollcage/CartPole-v1", render_mode="rgb_array_list")
    direct = rollcage.Env("cartpole", render_mode="rgb_array_list")
    for env in (ours, direct):
        env.reset(seed=1)
        env.reset(seed=2)
        for action in (0, 1, 1):
            env.step(action)
        assert env.render_mode == "rgb_array_list"
        frames = env.render()
        assert [frame.shape for frame in frames] == [(400, 600, 3)] * 4 and env.render() == []
        env.close()
    with rollcage.make_vec("cartpole", 2, render_mode="rgb_array_list") as envs:
        envs.reset(seed=1)
        envs.step([0, 1])
        envs.send([1], [1])
        envs.recv()
        frames = envs.render()
        assert [len(of_env) for of_env in frames] == [2, 3]
        assert not np.array_equal(frames[1][0], frames[1][2])
        assert envs.render() == ([], [])


def test_a_window_is_refused_in_words_that_name_rgb_array() -> None:
    def by_env(name: str, **kwargs: Any) -> Any:
        return rollcage.Env(name, **kwargs)

    for make in (rollcage.make_vec, rollcage.sb3.make_vec_env, by_env):
        with pytest.raises(
            rollcage.UsageError, match=r"'human'; it has rgb_array\nhint: .*'rgb_array'.*HumanRendering"
        ):
            make("cartpole", render_mode="human")
    with pytest.raises(rollcage.UsageError, match="one picture at a time, as by 'rgb_array'"):
        rollcage.sb3.make_vec_env("cartpole", render_mode="rgb_array_list")


def test_copying_and_pickling_point_to_branch() -> None:
    env = gymnasium.make("rollcage/CartPole-v1")
    envs = rollcage.make_vec("cartpole", 2)
    learner = rollcage.sb3.make_vec_env("cartpole", 2)
    for what in (env, env.unwrapped, envs, learner):
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            if what is env and copied is copy.copy:
                continue  # a second wrapper around the same env
            with pytest.raises(TypeError, match=r"running processes.*branch\(env, count\).*snapshot"):
                copied(what)
    # What the message says is there.
    unwrapped: Any = env.unwrapped
    env.reset(seed=1)
    for source in (unwrapped.envs, envs, learner.vector_env):
        source.reset()
        with source.branch(0, 2) as twins:
            assert twins.num_envs == 2 and twins.np_random_seed == (source.np_random_seed[0],) * 2
        assert source.snapshot(0)
        source.close()


@pytest.mark.parametrize("action", [2, -1, "x", 1.5, None, [0, 1], np.float32(1), {}, np.nan])
def test_a_wrong_action_is_asserted_on_as_gymnasium_does(action: Any) -> None:
    for name in ("rollcage/CartPole-v1", "CartPole-v1"):
        env = gymnasium.make(name)
        env.reset(seed=1)
        with pytest.raises(AssertionError, match=r"\(<class '.*'>\) invalid"):
            env.step(action)
        # Nothing has happened.
        assert env.step(1)[1] == 1.0
        env.close()
    closed = gymnasium.make("rollcage/CartPole-v1")
    closed.reset()
    closed.close()
    with pytest.raises(rollcage.ClosedError):
        closed.unwrapped.step(1)


def test_one_number_for_many_envs_is_a_type_error() -> None:
    for name in ("CartPole-v1", "Pendulum-v1"):
        for many in (1, 3):
            for ours in (True, False):
                envs: Any = gymnasium.make_vec(
                    f"rollcage/{name}" if ours else name, num_envs=many, vectorization_mode=None if ours else "sync"
                )
                envs.reset(seed=1)
                for action in (1, 0.5, None, np.int64(1), np.array(0.5)):
                    with pytest.raises(TypeError):
                        envs.step(action)
                envs.close()


# ── Minari ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def exported(folder: str, datasets: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(datasets))
    name = program("export", folder, "--format", "minari").split(":")[0]
    assert name in minari.list_local_datasets()
    return minari.load_dataset(name)


def test_an_export_to_minari_recovers_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tmp_path / "recorded")
    limits = {"memory_bytes": 128 << 20, "fuel_per_step": 10**9}
    config = {"map_name": "8x8", "is_slippery": False}
    with rollcage.make_vec("frozenlake", config=config, max_episode_steps=30, limits=limits, record=folder) as envs:
        envs.reset(seed=5)
        for _ in range(80):
            envs.step([1])
    dataset = exported(folder, tmp_path / "datasets", monkeypatch)
    env = dataset.recover_environment()
    assert env.spec.max_episode_steps == 30 and env.observation_space == dataset.observation_space
    given = env.unwrapped.envs
    assert given.configs[0].items() >= config.items() and env.spec.kwargs["limits"] == limits
    for episode in dataset.iterate_episodes():
        if "seed" not in json.loads((tmp_path / f"datasets/{dataset.id}/data/{episode.id}/metadata.json").read_text()):
            continue
        observation = env.reset(seed=5)[0]
        assert observation == episode.observations[0]
        for number, action in enumerate(episode.actions):
            observation, reward, _, _, _ = env.step(action)
            assert (observation, reward) == (episode.observations[number + 1], episode.rewards[number])
    env.close()


def test_a_plugin_that_does_not_ship_goes_with_its_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tmp_path / "recorded")
    with rollcage.make_vec(hostile("spaces"), record=folder, embed_plugin=True) as envs:
        envs.reset(seed=5)
        sampled = envs.action_space
        sampled.seed(1)
        for _ in range(10):
            envs.step(sampled.sample())
        expected = envs.single_observation_space
    dataset = exported(folder, tmp_path / "datasets", monkeypatch)
    env = dataset.recover_environment()
    assert env.observation_space == expected
    assert Path(env.spec.kwargs["plugin"]) == tmp_path / "datasets" / dataset.id / "data" / "plugin.wasm"
    env.reset(seed=1)
    env.close()


def test_texts_of_any_characters_are_in_the_space_of_an_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tmp_path / "recorded")
    with rollcage.make_vec(hostile("spaces"), record=folder) as envs:
        envs.reset(seed=5)
        envs.action_space.seed(1)
        for _ in range(10):
            envs.step(envs.action_space.sample())
    lines = [json.loads(line) for line in program("export", folder, "--format", "jsonl").splitlines()]
    words = {line["observation"]["word"] for line in lines}
    assert any(not letter.isascii() for word in words for letter in word)
    dataset = exported(folder, tmp_path / "datasets", monkeypatch)
    assert all(dataset.observation_space["word"].contains(word) for word in words)
    # One that has a set of its own keeps it.
    assert dataset.observation_space["mixed"][0].characters == "abc"


def test_an_export_says_what_reading_it_takes(tmp_path: Path) -> None:
    folder = str(tmp_path / "recorded")
    with rollcage.make_vec("cartpole", record=folder) as envs:
        envs.reset()
        envs.step([1])
    command = [str(_program.path()), "export", folder, "--format", "minari", "--output", str(tmp_path / "datasets")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    hints = [line.removeprefix("hint: ") for line in ran.stderr.splitlines()]
    assert hints == [
        f"`export MINARI_DATASETS_PATH={tmp_path / 'datasets'}` lets Minari find it",
        '`minari.load_dataset("rollcage/cartpole-v0")` reads it, after `pip install "minari[arrow]" pillow`',
    ]
    # What Minari needs and does not ask for is in the second.
    metadata = importlib.metadata.metadata("minari")
    assert not any(wanted.startswith("pillow") for wanted in metadata.get_all("Requires-Dist") or [])
