"""RLlib's PPO on CartPole, to a mean return of 450. It needs ``pip install 'ray[rllib]==2.60.0' torch``.

Each env runner has one `rollcage.VectorEnv` in its process, and one sandboxed worker process for each env.
"""

from __future__ import annotations

import argparse
import time

import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig


def config(runners: int, envs: int) -> PPOConfig:
    return (
        PPOConfig()
        # The module before the colon is imported in each env runner, and registers the id there.
        .environment("rollcage:rollcage/CartPole-v1")
        .env_runners(
            num_env_runners=runners,
            num_envs_per_env_runner=envs,
            # One VectorEnv for all envs of a runner. Without it Gymnasium makes one VectorEnv for each env.
            gym_env_vectorize_mode="vector_entry_point",
        )
        .training(lr=0.0003, num_epochs=6, vf_loss_coeff=0.01)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[32], fcnet_activation="linear", vf_share_layers=True))
        .debugging(seed=7)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runners", type=int, default=1, help="env runners; 0 samples in this process")
    parser.add_argument("--envs", type=int, default=8, help="envs of each env runner")
    parser.add_argument("--target", type=float, default=450.0, help="the mean return at which it ends")
    parser.add_argument("--iterations", type=int, default=200, help="the most iterations, of 4,000 steps each")
    given = parser.parse_args()

    ray.init(include_dashboard=False, configure_logging=False, log_to_driver=False)
    begun = time.monotonic()
    algorithm = config(given.runners, given.envs).build_algo()
    mean = 0.0
    for iteration in range(1, given.iterations + 1):
        sampled = algorithm.train()["env_runners"]
        mean, steps = sampled["episode_return_mean"], int(sampled["num_env_steps_sampled_lifetime"])
        print(
            f"{iteration:4d}  {steps:8,} steps  mean return {mean:6.1f}  {time.monotonic() - begun:5.0f} s", flush=True
        )
        if mean >= given.target:
            break
    algorithm.stop()
    ray.shutdown()
    if mean < given.target:
        raise SystemExit(f"the mean return is {mean:.1f}, not {given.target}")


if __name__ == "__main__":
    main()
