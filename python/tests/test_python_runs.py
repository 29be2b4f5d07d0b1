"""Runs of an env in Python: recordings, branches, snapshots, and digests that are the same however its envs are started.

The env does what could tell one start from another: it draws from every generator, at import too, looks at clocks, at the
order of a set of texts and at addresses of objects, imports a module late, and allocates.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from on_base import base, needs_base, project

import rollcage
from rollcage import _program

ENV = '''
import random
import time
import uuid

import gymnasium
import numpy as np

AT_IMPORT = (random.random(), time.time(), id(object()) % 997, uuid.uuid4().int % 997)


class Curious(gymnasium.Env):
    """Shows what may differ between two starts."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (8,), np.float64)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, length: int = 12):
        self.length = length
        self.own = np.random.default_rng()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        import statistics

        self.t, self.total, self.seen = 0, statistics.mean([1, 2]), {}
        return self.look(), {}

    def step(self, action):
        self.t += 1
        self.total += int(action) * self.np_random.random()
        self.seen[str(self.t)] = np.full(100, self.total)
        order = ",".join({str(number) for number in range(self.t)})
        info = {"order": order, "time": time.time(), "id": id(self.seen)}
        return self.look(), self.total, self.t >= self.length, False, info

    def look(self):
        draws = [self.np_random.normal(), random.random(), np.random.random(), self.own.random()]
        return np.array([*AT_IMPORT, *draws]) + self.total
'''


@pytest.fixture
def curious(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("ROLLCAGE_PYTHON_BASE", str(base()))
    yield str(project(tmp_path / "curious", "curious", "Curious", ENV))


def played(envs: rollcage.VectorEnv, steps: int = 30, seed: int = 0) -> list[str]:
    """The digest of each env after a reset and some steps, with actions that depend on the step alone."""
    envs.reset()
    return went_on(envs, steps, seed)


def went_on(envs: rollcage.VectorEnv, steps: int, seed: int) -> list[str]:
    """The same without a reset."""
    for action in np.random.default_rng(seed).integers(3, size=steps):
        envs.step(np.full(envs.num_envs, action))
    assert not envs.faults
    return envs.digests


@needs_base
def test_an_envs_digest_depends_on_seed_and_actions_alone(curious: str) -> None:
    """However it is started, however many run beside it, in every run."""
    seen: dict[int, set[str]] = {env: set() for env in range(8)}
    starts: list[str | None] = []
    for start, many in [(None, 8), ("fork", 3), ("spawn", 3), ("fork-after-import", 1), (None, 3), ("spawn", 1)]:
        with rollcage.make_vec(curious, many, seed=5, start=start) as envs:
            for env, digest in enumerate(played(envs)):
                seen[env].add(digest)
            starts.append(envs.started_by)
    assert starts == ["fork-after-import", "fork", "spawn", "fork-after-import", "fork-after-import", "spawn"]
    assert [len(digests) for digests in seen.values()] == [1] * 8
    assert len(set.union(*seen.values())) == 8, "eight seeds are eight streams"


@needs_base
def test_a_branch_goes_on_as_its_parent_would(curious: str) -> None:
    with rollcage.make_vec(curious, 2, seed=5) as envs:
        played(envs, 20)
        with envs.branch(1, 3) as branches, envs.branch(1, 3, reseed=9) as others:
            went_on(branches, 15, 2)
            went_on(others, 15, 2)
            went_on(envs, 15, 2)
            assert set(branches.digests) == {envs.digests[1]}
            np.testing.assert_array_equal(branches.last()[0], np.repeat(envs.last()[0][1:], 3, axis=0))
            # New streams reach `np_random`, `random` and `numpy.random`, and not the generator that is the env's own.
            draws = others.last()[0]
            assert all(len(set(draws[:, column])) == 3 for column in (4, 5, 6))


@needs_base
def test_an_env_is_copied_over_another(curious: str) -> None:
    with rollcage.make_vec(curious, 2, seed=5) as envs:
        played(envs, 8)
        observations = envs.write_back(0, 1)
        np.testing.assert_array_equal(observations[0], observations[1])
        for action in (1, 2, 0):
            observations = envs.step([action, action])[0]
            np.testing.assert_array_equal(observations[0], observations[1])


def snapshots(curious: str, backend: str) -> None:
    with rollcage.make_vec(curious, 2, seed=5) as envs:
        digest = played(envs, 20)[1]
        snapshot, stood = envs.snapshot(1), envs.last()[0][1].copy()
        further = [envs.step([action] * 2)[0][1].copy() for action in (2, 1, 0)]
    with rollcage.make_vec(curious, 1, seed=77, backend=backend, limits={"call_timeout": 300}) as others:
        others.reset()
        np.testing.assert_array_equal(others.restore(0, snapshot)[0], stood)
        with others.branch(0, 1) as branch:
            assert branch.digests == [digest]
        for action, wanted in zip((2, 1, 0), further, strict=True):
            np.testing.assert_array_equal(others.step([action])[0][0], wanted)


@needs_base
def test_a_snapshot_brings_an_env_back(curious: str) -> None:
    snapshots(curious, "native")


def recorded(curious: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """A recording of three envs, its receipt, and what its manifest says."""
    with rollcage.make_vec(curious, 3, seed=5, record=folder, embed_plugin=True) as envs:
        played(envs, 30)
        receipt = envs.finish_recording()
    assert receipt is not None
    manifest: dict[str, Any] = json.loads((folder / "rollout.json").read_text())
    assert manifest["complete"]
    return receipt, manifest


def program(*arguments: object) -> str:
    command = [str(_program.path()), *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@needs_base
def test_a_recording_is_verified_and_replayed(curious: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receipt, manifest = recorded(curious, tmp_path / "first")
    assert recorded(curious, tmp_path / "second")[1]["digest"] == manifest["digest"], "two runs"
    assert program("verify", tmp_path / "first").rstrip().endswith(receipt)
    # The plugin is in the recording: who replays it has neither the folder nor the base.
    monkeypatch.delenv("ROLLCAGE_PYTHON_BASE")
    os.rename(curious, tmp_path / "gone")
    said = program("replay", tmp_path / "first")
    assert said == f"identical: {manifest['totals']['steps']} steps, digest {manifest['digest']}\n"
    # A recording that was changed is found out.
    part = next((tmp_path / "second").glob("trajectory-*.parquet"))
    changed = bytearray(part.read_bytes())
    changed[len(changed) // 2] ^= 1
    part.write_bytes(bytes(changed))
    ran = subprocess.run([_program.path(), "verify", tmp_path / "second"], capture_output=True, text=True, check=False)
    assert ran.returncode != 0 and ran.stderr.startswith("error: ")


@needs_base
@pytest.mark.long
def test_interpreted_it_is_the_same(curious: str, tmp_path: Path) -> None:
    """The recording replayed, and a snapshot restored, by Pulley, which compiles nothing to machine code."""
    _, manifest = recorded(curious, tmp_path / "run")
    said = program("replay", tmp_path / "run", "--backend", "pulley")
    assert said == f"identical: {manifest['totals']['steps']} steps, digest {manifest['digest']}\n"
    snapshots(curious, "pulley")
