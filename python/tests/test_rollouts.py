"""Recordings as the field's tools read them: pandas, polars, Hugging Face `datasets`, Minari; and Gymnasium driven by them."""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pandas
import polars
import pytest
from conftest import hostile

import rollcage
from rollcage import _program


def program(*arguments: object, **environment: str) -> str:
    command = [str(_program.path()), *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random CartPole: 3 envs, 1,500 steps."""
    folder = str(tmp_path_factory.mktemp("recorded") / "cartpole")
    envs = rollcage.make_vec("cartpole", num_envs=3, seed=11, record=folder, embed_plugin=True)
    generator = np.random.default_rng(0)
    envs.reset()
    for _ in range(500):
        envs.step(generator.integers(0, 2, size=3))
    receipt = envs.finish_recording()
    envs.close()
    assert receipt is not None and program("verify", folder).rstrip().endswith(receipt)
    return folder


def parts(folder: str) -> list[str]:
    return sorted(glob.glob(f"{folder}/trajectory-*.parquet"))


def test_a_recording_is_replayed(recorded: str) -> None:
    with open(f"{recorded}/rollout.json") as file:
        manifest = json.load(file)
    assert manifest["complete"] and manifest["seed"] == 11
    expected = f"identical: {manifest['totals']['steps']} steps, digest {manifest['digest']}\n"
    assert program("replay", recorded) == expected
    assert program("replay", recorded, "--backend", "pulley") == expected


def test_closing_closes_the_recording(tmp_path: object) -> None:
    folder = f"{tmp_path}/closed"
    with rollcage.make_vec("frozenlake", seed=3, record=folder) as envs:
        envs.reset()
        envs.step([1])
        digest = envs.digest
    assert program("replay", folder) == f"identical: 1 steps, digest {digest}\n"
    with pytest.raises(rollcage.UsageError, match="not empty"):
        rollcage.make_vec("frozenlake", record=folder)


def test_a_recording_is_where_it_was_meant_after_a_chdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "program").symlink_to(_program.path())
    (here / "trap.wasm").symlink_to(hostile("trap"))
    monkeypatch.chdir(here)
    monkeypatch.setenv("ROLLCAGE_PROGRAM", "program")
    monkeypatch.setenv("ROLLCAGE_CACHE", "cache")
    envs = rollcage.make_vec("trap.wasm", num_envs=2, seed=3, record="out/run")
    # What notebooks and Hydra do. The guest traps, and is started anew from the program that was named.
    monkeypatch.chdir(there)
    envs.reset()
    for _ in range(12):
        envs.step([0, 0])
    assert envs.faults
    digest = envs.digest
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs.close()
    assert list(there.iterdir()) == []
    monkeypatch.delenv("ROLLCAGE_PROGRAM")
    said = program("replay", here / "out/run", ROLLCAGE_CACHE=str(here / "cache"))
    assert said.startswith("identical: ") and said.endswith(f"digest {digest}\n")


def test_closing_warns_of_a_recording_that_could_not_be_finished(tmp_path: Path) -> None:
    envs = rollcage.make_vec("cartpole", record=tmp_path / "gone")
    envs.reset()
    shutil.rmtree(tmp_path / "gone")
    with pytest.warns(RuntimeWarning, match="gone` is not complete, `close` could not finish it") as warned:
        envs.close()
    assert len(warned) == 1
    envs.close()
    # Who asked before was told by an exception, and by nothing more.
    envs = rollcage.make_vec("cartpole", record=tmp_path / "gone")
    envs.reset()
    shutil.rmtree(tmp_path / "gone")
    with pytest.raises(rollcage.HostError, match="writing a recording"):
        envs.finish_recording()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs.close()


def test_columns_are_what_pandas_and_polars_make_of_them(recorded: str) -> None:
    table = pandas.concat(pandas.read_parquet(part) for part in parts(recorded))
    frame = polars.read_parquet(parts(recorded))
    assert len(table) == len(frame)
    assert list(table.columns) == frame.columns
    assert frame.schema["observation"] == polars.Array(polars.Float32, 4)
    assert frame.schema["action"] == polars.Int64 and frame.schema["env"] == polars.UInt32
    assert np.array_equal(np.stack(table["observation"].to_numpy()), frame["observation"].to_numpy())
    last = frame["action"].is_null()
    assert (frame["reward"].is_null() == last).all() and (frame["digest"].is_null() == last).all()
    assert not frame["fault"].is_not_null().any()


@pytest.mark.parametrize("reader", ["pandas", "polars"])
def test_gymnasium_driven_by_a_recording_gives_the_same_rewards(recorded: str, reader: str) -> None:
    frame = polars.read_parquet(parts(recorded))
    if reader == "pandas":
        rows = pandas.concat(pandas.read_parquet(part) for part in parts(recorded)).to_dict("records")
    else:
        rows = frame.to_dicts()
    steps = 0
    for number in range(3):
        env = gymnasium.make("CartPole-v1")
        for row in (row for row in rows if row["env"] == number):
            observed = np.asarray(row["observation"], dtype=np.float32)
            if row["step"] == 0:
                seed = row["seed"]
                observation, _ = env.reset(seed=None if seed is None or np.isnan(seed) else int(seed))
            assert np.array_equal(observation, observed)
            if row["action"] is None or np.isnan(row["action"]):
                continue
            observation, reward, terminated, truncated, _ = env.step(int(row["action"]))
            assert (reward, terminated, truncated) == (row["reward"], row["terminated"], row["truncated"])
            steps += 1
        env.close()
    assert steps == frame["action"].is_not_null().sum()


def test_datasets_loads_the_parts(recorded: str, tmp_path: object) -> None:
    code = """
import sys
from datasets import load_dataset
data = load_dataset("parquet", data_files=sys.argv[1] + "/trajectory-*.parquet", cache_dir=sys.argv[2])["train"]
print(len(data), len(data[0]["observation"]), data[0]["step"])
"""
    # In a process of its own: it keeps threads, and asks the network unless it is told not to.
    command = [sys.executable, "-c", code, recorded, str(tmp_path)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == [str(len(polars.read_parquet(parts(recorded)))), "4", "0"]


PLUGINS = ["cartpole", "blackjack", "taxi", "pendulum", "pixels", "mirror"]


@pytest.mark.parametrize("plugin", PLUGINS)
def test_minari_loads_an_export(plugin: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, datasets = f"{tmp_path}/recorded", f"{tmp_path}/datasets"
    program("run", plugin, "--envs", 2, "--steps", 300, "--seed", 5, "--record", folder)
    printed = program("export", folder, "--format", "minari", MINARI_DATASETS_PATH=datasets)
    assert printed.startswith(f"rollcage/{plugin}-v0: ")
    check_minari(f"rollcage/{plugin}-v0", folder, datasets, monkeypatch)


def check_minari(name: str, folder: str, datasets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", datasets)
    import minari

    dataset = minari.load_dataset(name)
    assert name in minari.list_local_datasets()
    lines = [json.loads(line) for line in program("export", folder, "--format", "jsonl").splitlines()]
    assert dataset.total_steps == sum(line["action"] is not None for line in lines)
    total = 0
    for episode in dataset.iterate_episodes():
        assert len(episode.rewards) == len(episode.terminations) == len(episode.truncations)
        # The last step ends it, and none before.
        ends = episode.terminations | episode.truncations
        assert ends[-1] and not ends[:-1].any()
        total += len(episode)
        actions = episode.actions
        if isinstance(actions, np.ndarray):
            assert len(actions) == len(episode)
            assert all(dataset.action_space.contains(action) for action in actions)
        observations = episode.observations
        if isinstance(observations, np.ndarray):
            assert len(observations) == len(episode) + 1
            space = dataset.observation_space
            assert observations[0].shape == space.shape and observations.dtype == space.dtype
            assert all(space.contains(observation) for observation in observations)
    assert total == dataset.total_steps
    # Its samplers and filters work on it as on one of its own.
    assert list(dataset.sample_episodes(1)) and dataset.filter_episodes(lambda episode: len(episode) > 0)


def test_episodes_are_those_that_minari_would_keep(
    recorded: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row by row, beside the columns of the recording."""
    datasets = f"{tmp_path}/datasets"
    program("export", recorded, "--format", "minari", "--output", datasets, "--dataset-id", "mine/random-v3")
    check_minari("mine/random-v3", recorded, datasets, monkeypatch)
    import minari

    frame = polars.read_parquet(parts(recorded))
    for episode in minari.load_dataset("mine/random-v3").iterate_episodes():
        with open(f"{datasets}/mine/random-v3/data/{episode.id}/metadata.json") as file:
            kept = json.load(file)
        rows = frame.filter(
            (polars.col("env") == kept["rollcage_env"]) & (polars.col("episode") == kept["rollcage_episode"])
        )
        assert np.array_equal(episode.observations, rows["observation"].to_numpy())
        assert episode.actions.tolist() == rows["action"].to_list()[:-1]
        assert episode.rewards.tolist() == rows["reward"].to_list()[:-1]
