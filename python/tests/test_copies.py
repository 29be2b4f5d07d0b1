"""Branches, write-back and snapshots from Python; and the search that lives by them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import hostile, workers

import rollcage

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def played(envs: rollcage.VectorEnv, steps: int, seed: int) -> rollcage.VectorEnv:
    """The same actions for every env."""
    generator = np.random.default_rng(seed)
    for _ in range(steps):
        envs.step(np.repeat(generator.integers(2), envs.num_envs))
    return envs


def made(**more: Any) -> rollcage.VectorEnv:
    envs = rollcage.make_vec("cartpole", seed=3, **more)
    envs.reset()
    return envs


def test_a_branch_goes_on_as_its_parent_would() -> None:
    with played(made(), 50, 1) as envs:
        stood, digest = envs.last()[0].copy(), envs.digest
        with envs.branch(0, 3) as branches:
            assert branches.num_envs == 3 and branches.observation_space.shape == (3, 4)
            np.testing.assert_array_equal(branches.last()[0], np.repeat(stood, 3, axis=0))
            played(branches, 40, 2)
            assert envs.digest == digest and len(set(branches.digests)) == 1
            played(envs, 40, 2)
            assert envs.digests[0] == branches.digests[0]
            np.testing.assert_array_equal(envs.last()[0][0], branches.last()[0][2])
            with branches.branch(1, 2) as further:
                played(further, 5, 4)
        assert envs.started_by == "fork"
    assert not workers()


@pytest.mark.parametrize("copy", [True, False])
def test_branches_have_their_own_observations(copy: bool) -> None:
    with made(copy=copy) as envs, envs.branch(0, 2) as branches:
        mine = envs.last()[0].copy()
        theirs, *_ = branches.step([0, 1])
        assert theirs.shape == (2, 4) and not np.array_equal(theirs[0], theirs[1])
        np.testing.assert_array_equal(envs.last()[0], mine)


def test_branches_are_reseeded() -> None:
    with rollcage.make_vec("frozenlake", seed=1) as envs:
        envs.reset()

        def futures(branches: rollcage.VectorEnv) -> set[tuple[int, ...]]:
            with branches:
                seen = [branches.step(np.full(branches.num_envs, 1))[0].tolist() for _ in range(20)]
            return {tuple(row) for row in zip(*seen, strict=True)}

        assert len(futures(envs.branch(0, 4))) == 1
        assert len(futures(envs.branch(0, 12, reseed=100))) > 3
        assert futures(envs.branch(0, 2, reseed=[5, 5])) == futures(envs.branch(0, 1, reseed=5))


def test_write_back() -> None:
    with played(made(num_envs=3), 5, 1) as envs:
        observations = envs.write_back(2, 0)
        np.testing.assert_array_equal(observations[0], observations[2])
        assert envs.instances == [1, 0, 0]
        with envs.branch(1, 2) as branches:
            branches.step([0, 1])
            wanted = branches.last()[0][1].copy()
            observations = envs.write_back(1, [0, 2], source=branches)
        np.testing.assert_array_equal(observations[[0, 2]], [wanted, wanted])
        played(envs, 10, 3)


def test_snapshots() -> None:
    with played(made(num_envs=2), 60, 1) as envs:
        snapshot = envs.snapshot(1)
        assert isinstance(snapshot, bytes)
        stood, digest = envs.last()[0][1].copy(), envs.digests[1]
    for backend in ("native", "pulley"):
        with made(num_envs=2, backend=backend) as others:
            observations = others.restore(0, snapshot)
            np.testing.assert_array_equal(observations[0], stood)
            # As the original's, but for the instance number.
            assert others.snapshot(0) != snapshot and others.digests[0] != digest
            with others.branch(0, 1) as branch:
                assert branch.digests[0] == digest
            changed = bytearray(snapshot)
            changed[len(changed) // 2] ^= 1
            with pytest.raises(rollcage.UsageError, match="snapshot"):
                others.restore(1, bytes(changed))


def test_step_many() -> None:
    with made() as envs, made() as others:
        actions = np.random.default_rng(2).integers(2, size=200)
        observations, rewards, terminated, truncated = envs.step_many(0, actions)
        assert terminated and not truncated and observations.shape == (len(rewards), 4)
        for step, action in enumerate(actions[: len(rewards)]):
            one, reward, *_ = others.step([action])
            np.testing.assert_array_equal(one[0], observations[step])
            assert reward[0] == rewards[step]
        assert envs.digest == others.digest


def test_what_cannot_be_copied_says_why(tmp_path: Path) -> None:
    with made(branching=False) as envs, pytest.raises(rollcage.UsageError, match="cannot be copied"):
        envs.branch(0, 1)
    with made(num_envs=2, record=tmp_path / "run") as envs:
        snapshot = envs.snapshot(0)
        with pytest.raises(rollcage.UsageError, match="recorded"):
            envs.write_back(0, 1)
        with pytest.raises(rollcage.UsageError, match="recorded"):
            envs.restore(0, snapshot)
    with rollcage.make_vec(hostile("talker"), grants=["tcp-connect=127.0.0.1:9"]) as envs:
        envs.reset()
        with pytest.raises(rollcage.UsageError, match="connections"):
            envs.branch(0, 1)
    with pytest.raises(rollcage.UsageError, match="sideways"):
        rollcage.make_vec("cartpole", start="sideways")


@pytest.mark.parametrize("start", ["fork", "fork-after-create", "spawn"])
def test_starts(start: str) -> None:
    with made(num_envs=4, start=start) as envs:
        played(envs, 100, 1)
        assert envs.started_by == start
        digest = envs.digest
    with played(made(num_envs=4), 100, 1) as envs:
        assert envs.digest == digest


def test_tree_search_does_what_a_random_policy_does_not() -> None:
    ran = subprocess.run(
        [sys.executable, EXAMPLES / "tree_search.py"], capture_output=True, text=True, check=False, timeout=200
    )
    assert ran.returncode == 0, ran.stderr
    assert "tree search: 1 of 1" in ran.stdout, ran.stdout
    assert len((EXAMPLES / "tree_search.py").read_text().splitlines()) < 100
