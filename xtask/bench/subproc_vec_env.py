"""Steps a second of Stable-Baselines3's SubprocVecEnv on CartPole-v1, as one JSON object.

Workers are started by fork, the fastest of its three ways; actions are drawn before the clock runs; the clock is looked
at every few milliseconds.
"""

import argparse
import json
import time

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv


def make():
    return gymnasium.make("CartPole-v1")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--envs", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()

    actions = np.random.default_rng(7).integers(0, 2, (512, arguments.envs))
    envs = SubprocVecEnv([make] * arguments.envs, start_method="fork")
    envs.seed(7)
    envs.reset()

    def play(seconds):
        start, calls = time.perf_counter(), 0
        while True:
            for _ in range(10):
                envs.step(actions[calls % 512])
                calls += 1
            elapsed = time.perf_counter() - start
            if elapsed >= seconds:
                return calls * arguments.envs / elapsed

    play(0.3)
    result = {"envs": arguments.envs, "steps_per_second": play(arguments.seconds)}
    envs.close()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
