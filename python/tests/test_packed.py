"""Envs that share a worker (`envs_per_worker`): the same answers, fewer processes, and the fault `sibling`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import hostile
from stable_baselines3 import PPO

import rollcage
from rollcage.sb3 import VecEnv


def played(envs_per_worker: int | str, **more: Any) -> tuple[str, list[bytes], set[int | None]]:
    envs = rollcage.make_vec("cartpole", 6, seed=3, envs_per_worker=envs_per_worker, **more)
    try:
        assert isinstance(envs_per_worker, str) or envs.envs_per_worker == min(envs_per_worker, 6)
        seen = [envs.reset()[0].tobytes()]
        for step in range(120):
            observations, rewards, *_ = envs.step([(step + env) % 2 for env in range(6)])
            seen += [observations.tobytes(), rewards.tobytes()]
        return envs.digest, seen, set(envs.pids)
    finally:
        envs.close()


@pytest.mark.parametrize("copy", [True, False])
def test_the_answers_are_those_of_envs_alone(copy: bool) -> None:
    digest, seen, pids = played(1, copy=copy)
    assert len(pids) == 6
    for each, workers in [(2, 3), (6, 1), (64, 1)]:
        assert played(each, copy=copy)[:2] == (digest, seen)
        assert len(played(each, copy=copy)[2]) == workers
    assert played("auto")[:2] == (digest, seen)


def test_an_env_that_ends_the_worker_ends_its_siblings() -> None:
    config = [{"hang_at": -1}, {"hang_at": 2}, {"hang_at": -1}]
    limits = {"step_timeout": 0.8, "reset_timeout": 0.8}
    with rollcage.make_vec(hostile("echo"), 3, config=config, limits=limits, envs_per_worker=3) as envs:
        envs.reset()
        kinds: list[tuple[int, str]] = []
        for _ in range(5):
            _, _, _, truncations, infos = envs.step([1, 2, 3])
            kinds += [(env, fault) for env, fault in enumerate(infos.get("fault", [])) if fault]
            assert all(truncations[env] for env, fault in enumerate(infos.get("fault", [])) if fault)
        assert (1, "step_timeout") in kinds and {(0, "sibling"), (2, "sibling")} <= set(kinds)
    with rollcage.make_vec(
        hostile("echo"), 3, config=config, limits=limits, envs_per_worker=3, on_fault="raise"
    ) as envs:
        envs.reset()
        envs.step([1, 2, 3])
        envs.step([1, 2, 3])
        with pytest.raises(rollcage.FaultTimeoutError) as caught:
            envs.step([1, 2, 3])
        assert (caught.value.fault.env, caught.value.fault.kind) == (1, "step_timeout")
        # Env 0 had answered, and learns of it now.
        with pytest.raises(rollcage.WorkerError) as learnt:
            envs.step([1, 2, 3])
        assert (learnt.value.fault.env, learnt.value.fault.kind) == (0, "sibling")


def test_what_needs_a_process_of_its_own_is_refused() -> None:
    with pytest.raises(rollcage.UsageError, match="cannot have the real clock"):
        rollcage.make_vec("cartpole", 4, grants=["clock=real"], envs_per_worker=2)
    for wrong in (0, -1, "many"):
        with pytest.raises(rollcage.UsageError, match="envs_per_worker"):
            rollcage.make_vec("cartpole", 2, envs_per_worker=wrong)
    with pytest.raises(TypeError, match="envs_per_worker"):
        rollcage.make_vec("cartpole", 2, envs_per_worker=1.5)  # type: ignore[arg-type]
    with (
        rollcage.make_vec("cartpole", 2, envs_per_worker=2) as envs,
        pytest.raises(rollcage.UsageError, match="shares its worker"),
    ):
        envs.reset()
        envs.branch(0, 2)


def test_a_policy_learns_over_it() -> None:
    envs = VecEnv("cartpole", 8, seed=1, envs_per_worker="auto")
    model = PPO("MlpPolicy", envs, n_steps=32, batch_size=64, n_epochs=1, seed=1, device="cpu")
    model.learn(512)
    assert envs.vector_env.faults == []
    action, _ = model.predict(np.zeros((8, 4), np.float32))
    assert action.shape == (8,)
    envs.close()
