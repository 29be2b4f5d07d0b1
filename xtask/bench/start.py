"""Seconds until every CartPole-v1 of a vector env has answered its first reset, as one JSON object.

The clock runs from making the vector env, when everything is imported, to the answer of the first reset.
"""

import argparse
import json
import time

import gymnasium
from gymnasium.vector import AsyncVectorEnv
from stable_baselines3.common.vec_env import SubprocVecEnv


def make():
    return gymnasium.make("CartPole-v1")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=["subproc-fork", "subproc-spawn", "async"], required=True)
    parser.add_argument("--envs", type=int, required=True)
    arguments = parser.parse_args()
    begun = time.perf_counter()
    if arguments.kind == "async":
        envs = AsyncVectorEnv([make] * arguments.envs)
        envs.reset(seed=7)
    else:
        envs = SubprocVecEnv([make] * arguments.envs, start_method=arguments.kind.removeprefix("subproc-"))
        envs.seed(7)
        envs.reset()
    seconds = time.perf_counter() - begun
    envs.close()
    print(json.dumps({"envs": arguments.envs, "start_seconds": seconds}))


if __name__ == "__main__":
    main()
