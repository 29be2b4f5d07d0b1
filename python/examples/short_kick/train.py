"""PPO of Stable-Baselines3 over eight robots, each with a simulator of its own.

    python python/examples/short_kick/train.py [STEPS]

Needs stable-baselines3 and PyYAML.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import yaml
from short_kick import ShortKick
from stable_baselines3 import PPO

from rollcage.sb3 import VecEnv

HERE = Path(__file__).parent


def main(steps: int) -> None:
    """Trains, and prints what was learned."""
    # A network of this size is not faster on more.
    torch.set_num_threads(1)
    config = yaml.safe_load((HERE / "param.yaml").read_text())
    envs = VecEnv([ShortKick] * 8, config=config, grants=HERE / "grants.toml", seed=1)
    print("ports", *sorted(config["server_port"] for config in envs.vector_env.configs))
    model = PPO("MlpPolicy", envs, n_steps=64, batch_size=128, seed=1, device="cpu")
    model.learn(steps)
    episodes = [episode["r"] for episode in model.ep_info_buffer or ()]
    print(
        f"{model.num_timesteps} steps; mean return of the last {len(episodes)} episodes: {sum(episodes) / len(episodes):.2f}"
    )
    print("faults", len(envs.vector_env.faults))
    envs.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30_000)
