"""Actions at the edge of what is one: out of bounds by rounding or by more, clipped on request, masked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import hostile

import rollcage

#: The bounds of the guest `bounds`, whose observation is the action as it came.
LOW, HIGH = np.array([-0.4, 0.1], np.float32), np.array([0.3, 0.7], np.float32)


@pytest.mark.parametrize("algorithm", ["TD3", "DDPG"])
def test_td3_and_ddpg_learn_on_uneven_bounds(algorithm: str) -> None:
    """Their unscaling gives 0.30000004 for a bound of 0.3: the third step ended in an error."""
    sb3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.noise import NormalActionNoise

    from rollcage.sb3 import make_vec_env

    envs = make_vec_env(hostile("bounds"), 2, seed=3)
    # Noise far beyond the bounds, so that every corner of them is met.
    noise = NormalActionNoise(np.zeros(2), np.full(2, 0.5))
    model = getattr(sb3, algorithm)(
        "MlpPolicy",
        envs,
        learning_starts=64,
        action_noise=noise,
        learning_rate=3e-3,
        gamma=0.0,
        batch_size=64,
        policy_kwargs={"net_arch": [32, 32]},
        seed=3,
        device="cpu",
    )
    corner = np.ones((2, 2), np.float32)
    assert (model.policy.unscale_action(corner) != HIGH).any(), "no rounding here that could be refused"
    envs.reset()
    seen = envs.step(model.policy.unscale_action(corner))[0]
    np.testing.assert_array_equal(seen, np.broadcast_to(HIGH, (2, 2)))
    model.learn(1500)
    chosen = model.predict(np.zeros((1, 2), np.float32), deterministic=True)[0][0]
    # A random action is 0.33 away on average.
    assert np.hypot(*(chosen - [0.2, 0.3])) < 0.15, chosen
    envs.close()


def test_skrls_ppo_with_its_defaults_steps_pendulum(tmp_path: Path) -> None:
    """Its Gaussian policy clips nothing: about one action in twenty is beyond the bounds, as -2.0317824 was."""
    pytest.importorskip("skrl")
    import torch
    from skrl.agents.torch.ppo import PPO, PPO_CFG
    from skrl.envs.wrappers.torch import wrap_env
    from skrl.memories.torch import RandomMemory
    from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
    from skrl.trainers.torch import SequentialTrainer
    from skrl.utils import set_seed
    from torch import nn

    set_seed(7)

    class Policy(GaussianMixin, Model):  # type: ignore[misc]
        def __init__(self, observation_space: Any, action_space: Any) -> None:
            Model.__init__(self, observation_space=observation_space, action_space=action_space, device="cpu")
            GaussianMixin.__init__(self)
            self.net = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))
            self.log_std = nn.Parameter(torch.zeros(1))

        def compute(self, inputs: Any, role: str = "") -> Any:
            return self.net(inputs["observations"]), {"log_std": self.log_std}

    class Value(DeterministicMixin, Model):  # type: ignore[misc]
        def __init__(self, observation_space: Any, action_space: Any) -> None:
            Model.__init__(self, observation_space=observation_space, action_space=action_space, device="cpu")
            DeterministicMixin.__init__(self)
            self.net = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))

        def compute(self, inputs: Any, role: str = "") -> Any:
            return self.net(inputs["observations"]), {}

    envs = rollcage.make_vec("pendulum", 4, seed=7)
    beyond = 0
    write = envs._actions.write

    def watched(actions: Any, envs: int | None = None) -> Any:
        nonlocal beyond
        beyond += int((np.abs(np.asarray(actions)) > 2).sum())
        return write(actions, envs)

    envs._actions.write = watched  # type: ignore[method-assign]
    wrapped = wrap_env(envs, wrapper="gymnasium")
    cfg = PPO_CFG()
    cfg.experiment.directory = str(tmp_path)
    cfg.experiment.write_interval = 0
    cfg.experiment.checkpoint_interval = 0
    agent = PPO(
        models={
            "policy": Policy(wrapped.observation_space, wrapped.action_space),
            "value": Value(wrapped.observation_space, wrapped.action_space),
        },
        memory=RandomMemory(memory_size=16, num_envs=4, device="cpu"),
        observation_space=wrapped.observation_space,
        action_space=wrapped.action_space,
        device="cpu",
        cfg=cfg,
    )
    trainer = SequentialTrainer(
        env=wrapped,
        agents=agent,
        cfg={"timesteps": 200, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False},
    )
    trainer.train()
    assert beyond > 10, "no action was out of bounds: nothing was tried"
    assert not envs.faults
    envs.close()


@pytest.mark.parametrize("name", ["Pendulum-v1", "MountainCarContinuous-v0"])
def test_envs_that_clip_by_themselves_do_so_here(name: str) -> None:
    """Beside Gymnasium's own; to the bit where no sine is in it."""
    ours, theirs = gymnasium.make(f"rollcage/{name}"), gymnasium.make(name)
    assert ours.unwrapped.envs.actions_out_of_bounds == "pass"  # type: ignore[attr-defined]
    exact = name.startswith("Mountain")
    np.testing.assert_allclose(ours.reset(seed=3)[0], theirs.reset(seed=3)[0], atol=1e-6)
    generator = np.random.default_rng(3)
    for _ in range(150):
        action = (generator.normal(size=1) * 4).astype(np.float32)
        one, two = ours.step(action), theirs.step(action)
        np.testing.assert_allclose(one[0], two[0], atol=1e-6)
        away = abs(float(one[1]) - float(two[1]))
        assert away == 0 if exact else away < 1e-6, action
        assert one[2:4] == two[2:4]
    for wrong in (np.nan, np.inf, -np.inf):
        with pytest.raises(rollcage.UsageError, match="action"):
            ours.step(np.array([wrong], np.float32))
    ours.close()
    theirs.close()


def test_clip_actions_clips_in_every_call() -> None:
    far = np.array([[9.0, -9.0], [0.0, 0.5]], np.float32)
    clipped = np.clip(far, LOW, HIGH)
    envs = rollcage.make_vec(hostile("bounds"), 2, seed=3)
    envs.reset()
    with pytest.raises(
        rollcage.UsageError, match=r"env 0: action element \[0\] is 9.0, allowed is -0.4 to 0.3"
    ) as error:
        envs.step(far)
    assert "ClipAction" in str(error.value.hints) and "clip_actions=True" in str(error.value.hints)
    # What the hint says works.
    wrapped = gymnasium.wrappers.vector.ClipAction(envs)
    np.testing.assert_array_equal(wrapped.step(far)[0], clipped)
    envs.close()

    envs = rollcage.make_vec(hostile("bounds"), 2, seed=3, clip_actions=True)
    envs.reset()
    np.testing.assert_array_equal(envs.step(far)[0], clipped)
    np.testing.assert_array_equal(envs.step(far.tolist())[0], clipped)
    envs.step_async(far)
    np.testing.assert_array_equal(envs.step_wait()[0], clipped)
    envs.send(far[:1], [1])
    np.testing.assert_array_equal(envs.recv()[0], clipped[:1])
    np.testing.assert_array_equal(envs.step_many(0, far)[0], clipped)
    branches = envs.branch(0, 2)
    np.testing.assert_array_equal(branches.step(far)[0], clipped)
    branches.close()
    for wrong in (np.nan, np.inf):
        with pytest.raises(rollcage.UsageError, match=r"element \[1\] is (nan|inf)"):
            envs.step(np.full((2, 2), [0.0, wrong], np.float32))
    np.testing.assert_array_equal(envs.action_space.low[0], LOW)  # type: ignore[attr-defined]
    envs.close()

    one = rollcage.Env(hostile("bounds"), clip_actions=True)
    one.reset(seed=3)
    np.testing.assert_array_equal(one.step(far[0])[0], clipped[0])
    one.close()

    # Within a Dict too.
    envs = rollcage.make_vec(hostile("spaces"), 1, seed=3, clip_actions=True)
    _, infos = envs.reset()
    envs.action_space.seed(3)
    action = envs.action_space.sample()
    action["push"] = np.full_like(action["push"], 40)
    written = envs._actions.node.members["push"]  # type: ignore[attr-defined]
    rows = np.zeros((1, envs._actions.stride), np.uint8)
    written.write(action["push"], rows, "push")
    np.testing.assert_array_equal(written.read(rows)[0], [1.0, 40.0])  # the second has no bounds
    envs.close()


def test_clip_actions_with_stable_baselines3() -> None:
    pytest.importorskip("stable_baselines3")
    from rollcage.sb3 import make_vec_env

    far = np.array([[9.0, -9.0], [0.0, 0.5]], np.float32)
    envs = make_vec_env(hostile("bounds"), 2, seed=3, clip_actions=True)
    envs.reset()
    np.testing.assert_array_equal(envs.step(far)[0], np.clip(far, LOW, HIGH))
    envs.close()


def test_a_masked_action_is_named_and_the_others_have_stepped() -> None:
    envs = rollcage.make_vec(hostile("masked"), 3, seed=3)
    envs.reset()
    envs.step([0, 1, 0])
    with pytest.raises(rollcage.UsageError, match="env 1, step 1: action 3, which is masked") as error:
        envs.step([1, 3, 2])
    assert "MaskablePPO" in str(error.value.hints)
    assert envs.last()[1].tolist() == [1.0, 0.0, 1.0]
    assert not envs.faults
    envs.send([2], [1])
    assert envs.recv()[1].tolist() == [1.0]
    envs.close()


def test_an_env_that_refuses_a_right_step_is_at_fault() -> None:
    configs = [{"at": -1}, {"at": 0, "error": "unsupported"}]
    envs = rollcage.make_vec(hostile("refuses"), 2, seed=3, config=configs)
    envs.reset()
    _, rewards, _, truncations, infos = envs.step([1, 1])
    assert rewards.tolist() == [1.0, 0.0] and truncations.tolist() == [False, True]
    assert infos["fault"].tolist() == [None, "bad_answer"]
    assert envs.step([1, 1])[1].tolist() == [1.0, 0.0]
    envs.close()
