"""Agents that learn over our envs: Stable-Baselines3's PPO, skrl's PPO through Gymnasium's interface, many at once by Optuna."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rollcage

ROOT = Path(__file__).resolve().parents[2]


def snippet(page: Path) -> str:
    """The first Python example of a page."""
    found = re.search(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_readme_example_trains_cartpole() -> None:
    """Ten lines; a mean return of 475 over 20 episodes after 100,000 steps."""
    pytest.importorskip("stable_baselines3")
    text = snippet(ROOT / "python/README.md")
    assert len(text.splitlines()) == 10
    assert text in (ROOT / "README.md").read_text(), "the README of the repository shows the same"
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", text], capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    found = re.fullmatch(r"mean return of 20 episodes: ([\d.]+)\n", run.stdout)
    assert found is not None and float(found.group(1)) >= 475, run.stdout


@pytest.mark.long
def test_skrl_learns_cartpole(tmp_path: Path) -> None:
    """Skrl's PPO, unchanged, over Gymnasium's interface."""
    pytest.importorskip("skrl")
    import torch
    from skrl.agents.torch.ppo import PPO, PPO_CFG
    from skrl.envs.wrappers.torch import wrap_env
    from skrl.memories.torch import RandomMemory
    from skrl.models.torch import CategoricalMixin, DeterministicMixin, Model
    from skrl.trainers.torch import SequentialTrainer
    from skrl.utils import set_seed
    from torch import nn

    set_seed(7)

    class Policy(CategoricalMixin, Model):  # type: ignore[misc]
        def __init__(self, observation_space: Any, action_space: Any) -> None:
            Model.__init__(self, observation_space=observation_space, action_space=action_space, device="cpu")
            CategoricalMixin.__init__(self)
            self.net = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))

        def compute(self, inputs: Any, role: str = "") -> Any:
            return self.net(inputs["observations"]), {}

    class Value(DeterministicMixin, Model):  # type: ignore[misc]
        def __init__(self, observation_space: Any, action_space: Any) -> None:
            Model.__init__(self, observation_space=observation_space, action_space=action_space, device="cpu")
            DeterministicMixin.__init__(self)
            self.net = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))

        def compute(self, inputs: Any, role: str = "") -> Any:
            return self.net(inputs["observations"]), {}

    envs = gymnasium_envs = rollcage.make_vec("cartpole", 8, seed=7, episode_statistics=True)
    wrapped = wrap_env(envs, wrapper="gymnasium")
    models = {
        "policy": Policy(wrapped.observation_space, wrapped.action_space),
        "value": Value(wrapped.observation_space, wrapped.action_space),
    }
    cfg = PPO_CFG(
        rollouts=64, learning_epochs=10, mini_batches=4, discount_factor=0.98, gae_lambda=0.9, learning_rate=1e-3
    )
    cfg.experiment.directory = str(tmp_path)
    cfg.experiment.write_interval = 0
    cfg.experiment.checkpoint_interval = 0
    agent = PPO(
        models=models,
        memory=RandomMemory(memory_size=64, num_envs=8, device="cpu"),
        observation_space=wrapped.observation_space,
        action_space=wrapped.action_space,
        device="cpu",
        cfg=cfg,
    )
    trainer = SequentialTrainer(
        env=wrapped,
        agents=agent,
        cfg={"timesteps": 10_000, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False},
    )
    trainer.train()
    gymnasium_envs.close()

    evaluation = rollcage.make_vec("cartpole", 10, seed=1000, episode_statistics=True)
    observations, _ = evaluation.reset()
    returns: list[float] = []
    while len(returns) < 20:
        with torch.no_grad():
            scores = models["policy"].net(torch.from_numpy(observations))
        observations, _, _, _, infos = evaluation.step(scores.argmax(1).numpy())
        if "episode" in infos:
            returns += infos["episode"]["r"][infos["_episode"]].tolist()
    evaluation.close()
    # A random policy's is 22.
    assert np.mean(returns) > 200, returns


@pytest.mark.long
def test_optuna_with_four_jobs_one_of_which_is_killed() -> None:
    """Four threads, each with train and eval envs; the workers of one trial are killed, and the others finish."""
    optuna = pytest.importorskip("optuna")
    sb3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.evaluation import evaluate_policy

    from rollcage.sb3 import make_vec_env

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    met = threading.Event()

    def objective(trial: Any) -> float:
        train = make_vec_env("cartpole", 4, seed=trial.number, on_fault="raise")
        evaluation = make_vec_env("cartpole", 2, seed=1000 + trial.number)
        try:
            rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
            model = sb3.PPO("MlpPolicy", train, n_steps=64, learning_rate=rate, seed=trial.number, device="cpu")
            if trial.number == 2:
                for pid in train.vector_env.pids:
                    os.kill(pid, 9)
                met.set()
            model.learn(2048)
            return float(evaluate_policy(model, evaluation, n_eval_episodes=4)[0])
        finally:
            train.close()
            evaluation.close()

    study = optuna.create_study(direction="maximize")
    study.optimize(objective, n_trials=8, n_jobs=4, catch=(rollcage.FaultError,), timeout=300)
    assert met.is_set()
    states = [trial.state.name for trial in study.trials]
    assert states[2] == "FAIL" and states.count("COMPLETE") == 7
    assert all(trial.value > 5 for trial in study.trials if trial.state.name == "COMPLETE")
