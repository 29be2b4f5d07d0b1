"""A network's policy in the workers, beside Stable-Baselines3's `evaluate_policy` over its `DummyVecEnv`: PPO's 64x64 policy of
CartPole, trained a little, the same episodes' count. The two take turns. `cargo xtask bench rollouts` runs this.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import gymnasium
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import rollcage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--envs", type=int, nargs="*", default=[1, 8])
    arguments = parser.parse_args()
    model = PPO("MlpPolicy", gymnasium.make("CartPole-v1"), n_steps=1024, seed=1, device="cpu").learn(30_000)
    print("| envs | `evaluate_policy`, steps/s | rollcage.rollout, steps/s | ratio |\n|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        file = rollcage.export_policy(model, Path(folder) / "ppo.onnx")
        for count in arguments.envs:
            theirs = make_vec_env("CartPole-v1", n_envs=count, seed=7)
            with rollcage.make_vec("cartpole", count, seed=7, policy=file) as ours:
                ours.rollout(steps=1000, returns_only=True)
                speeds: list[tuple[float, float]] = []
                for _ in range(arguments.rounds):
                    begun = time.perf_counter()
                    _, lengths = evaluate_policy(
                        model, theirs, n_eval_episodes=arguments.episodes, return_episode_rewards=True, warn=False
                    )
                    sb3 = sum(lengths) / (time.perf_counter() - begun)
                    begun = time.perf_counter()
                    rollout = ours.rollout(episodes=20 * arguments.episodes, returns_only=True)
                    speeds.append((sb3, rollout.steps / (time.perf_counter() - begun)))
            theirs.close()
            sb3, own = (statistics.median(column) for column in zip(*speeds, strict=True))
            ratio = statistics.median(one / other for other, one in speeds)
            print(f"| {count} | {sb3:,.0f} | {own:,.0f} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main()
