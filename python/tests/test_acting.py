"""Rollouts in the workers from Python: `rollout`, `evaluate`, and policies of Stable-Baselines3 there."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import hostile
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy

import rollcage
from rollcage import _program


def policy(name: str) -> Path:
    return hostile(f"policy_{name}")


@pytest.fixture(scope="module")
def model() -> Any:
    """A policy of little sense, which is all that is needed to compare numbers."""
    return PPO("MlpPolicy", "CartPole-v1", n_steps=256, seed=1, device="cpu").learn(1024)


def test_columns_have_the_shapes_and_values_of_steps() -> None:
    with rollcage.make_vec("cartpole", 3, seed=4, policy=policy("balance")) as envs:
        rollout = envs.rollout(steps=120)
        assert rollout.observations.shape == (120, 3, 4) and rollout.observations.dtype == np.float32
        assert rollout.actions.shape == (120, 3) and rollout.rewards.shape == (120, 3)
        assert rollout.terminations.dtype == bool and rollout.action_masks is None
        pushed = rollout.observations[..., 2] + np.float32(0.5) * rollout.observations[..., 3] > 0
        assert (rollout.actions == pushed).all()
        assert (rollout.extras["value"] == rollout.observations[..., 2]).all()
        assert rollout.steps == 360 and rollout.last_observations.shape == (3, 4)
        digest = envs.digest
    # The same, step by step.
    with rollcage.make_vec("cartpole", 3, seed=4) as envs:
        observations, _ = envs.reset()
        for step in range(120):
            assert (observations == rollout.observations[step]).all()
            observations, rewards, terminations, truncations, _ = envs.step(rollout.actions[step])
            assert (rewards == rollout.rewards[step]).all() and not (terminations | truncations).any()
        assert envs.digest == digest


def test_who_acts() -> None:
    with rollcage.make_vec("cartpole", 2, seed=4) as envs:
        with pytest.raises(rollcage.UsageError, match="no policy beside them"):
            envs.rollout(steps=1)
        random = envs.rollout("random", 50)
        assert set(np.unique(random.actions)) == {0, 1}
        given = envs.rollout(np.array([[0, 1]] * 30))
        assert given.actions.tolist() == [[0, 1]] * 30
        steady = envs.rollout(policy("steady"), 5, policy_config={"action": 1})
        assert (steady.actions == 1).all()
        assert (envs.rollout(steps=4).actions == 1).all(), "it stays beside them"
        several = envs.rollout(policy("drawn"), episodes=5)
        assert len(several.returns) == 5 and [len(env.returns) for env in several.envs] == [3, 2]
        assert (several.lengths == several.returns).all()
        with pytest.raises(rollcage.UsageError, match="different numbers of steps"):
            several.observations  # noqa: B018
        kept = envs.rollout(episodes=4, returns_only=True)
        assert len(kept.returns) == 4
        with pytest.raises(rollcage.UsageError, match="kept returns alone"):
            kept.rewards  # noqa: B018
        for wrong in ({"steps": 1, "episodes": 1}, {"steps": -1}, {"policy_config": {}}):
            with pytest.raises((rollcage.UsageError, ValueError)):
                envs.rollout(**wrong)  # type: ignore[arg-type]
        with pytest.raises(rollcage.UsageError, match="shape"):
            envs.rollout(np.zeros((3, 5), int))


def test_the_random_rollout_is_that_of_single_steps() -> None:
    with rollcage.make_vec("frozenlake", 2, seed=9) as envs:
        rollout = envs.rollout("random", 400)
        digest = envs.digest
    with rollcage.make_vec("frozenlake", 2, seed=9) as envs:
        again = envs.rollout(rollout.actions)
        assert envs.digest == digest and (again.rewards == rollout.rewards).all()


def test_dict_observations_and_masks() -> None:
    with rollcage.make_vec("taxi", 2, seed=3, policy=policy("drawn")) as envs:
        rollout = envs.rollout(steps=100)
        assert rollout.action_masks is not None and rollout.action_masks.shape == (100, 2, 6)
        assert np.take_along_axis(rollout.action_masks, rollout.actions[..., None], axis=2).all()


def test_a_fault_of_a_policy() -> None:
    with rollcage.make_vec("cartpole", 2, policy=policy("rogue"), policy_config={"how": "panic", "after": 3}) as envs:
        with pytest.raises(rollcage.FaultError) as caught:
            envs.rollout(steps=10)
        assert caught.value.fault.kind == "policy" and "guilty" in str(caught.value)
        envs.reset()
        envs.step([0, 1])
        assert not envs.faults


def test_a_model_acts_as_in_pytorch(model: Any) -> None:
    import torch

    with rollcage.make_vec("cartpole", 2, seed=4) as envs:
        rollout = envs.rollout(model, 500)
        seen = torch.as_tensor(rollout.observations.reshape(-1, 4))
        with torch.no_grad():
            logits = model.policy.get_distribution(seen).distribution.logits.numpy()
            values = model.policy.predict_values(seen).numpy()[:, 0]
    actions = rollout.actions.reshape(-1)
    margin = np.abs(logits[:, 0] - logits[:, 1]) > 1e-4
    assert (logits.argmax(axis=1)[margin] == actions[margin]).all() and margin.mean() > 0.9
    assert np.abs(values - rollout.extras["value"].reshape(-1)).max() < 1e-5
    chosen = logits[np.arange(len(actions)), actions]
    assert np.abs(chosen - rollout.extras["log_prob"].reshape(-1)).max() < 1e-5


def test_evaluation_beside_stable_baselines(model: Any, tmp_path: Path) -> None:
    theirs = evaluate_policy(model, gymnasium.make("CartPole-v1"), 100, return_episode_rewards=True, warn=False)[0]
    ours = rollcage.evaluate(model, "cartpole", 100, seed=5, record=tmp_path / "eval")
    assert len(ours.returns) == 100 and ours.record is not None
    # The same policy and the same env: as distributions, three standard errors and a little apart at most.
    error = np.hypot(np.std(theirs), ours.std) / 10
    assert abs(np.mean(theirs) - ours.mean) < 3 * error + 5
    table = str(ours)
    assert "100 episodes" in table and "median" in table
    again = rollcage.evaluate(model, "cartpole", 100, seed=5)
    assert again.digest == ours.digest and (again.returns == ours.returns).all()
    for more in (
        {"envs_per_worker": "auto"},
        {"backend": "pulley"},
        {"start": "spawn"},
        {"policy_worker": "own"},
        # Without AVX, FMA and BMI.
        {"backend": "baseline"},
    ):
        assert rollcage.evaluate(model, "cartpole", 20, seed=5, num_envs=4, **more).digest == (
            rollcage.evaluate(model, "cartpole", 20, seed=5, num_envs=4).digest
        )
    sampled = rollcage.evaluate(model, "cartpole", 20, seed=5, deterministic=False)
    assert sampled.digest != rollcage.evaluate(model, "cartpole", 20, seed=5).digest
    exported = rollcage.export_policy(model, tmp_path / "ppo.onnx")
    assert rollcage.evaluate(exported, "cartpole", 100, seed=5).digest == ours.digest
    verified = subprocess.run(
        [_program.path(), "verify", ours.record, "--with-policy", exported], capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0 and "every action is what policy" in verified.stdout, verified
    with rollcage.make_vec("cartpole", 2) as envs:
        assert len(rollcage.evaluate("random", envs, 6).returns) == 6


def test_control_c_ends_a_rollout() -> None:
    with rollcage.make_vec("cartpole", 2, policy=policy("drawn")) as envs:
        envs.rollout(steps=10)
        threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT)).start()
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            envs.rollout(steps=10**12, returns_only=True)
        assert time.monotonic() - begun < 10
        assert envs.rollout(steps=5).steps == 10
