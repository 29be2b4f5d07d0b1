"""Nanoseconds per step that the SDK adds to an env, natively: python benches/step.py

Beside it the env's own step, and each of the SDK's parts.
"""

import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

import numpy as np  # noqa: E402
from conftest import Plugin  # noqa: E402

EMPTY = """
import gymnasium, numpy as np
from gymnasium import spaces

class MyEnv(gymnasium.Env):
    def __init__(self, kind: str = "box"):
        self.observation_space = {
            "box": spaces.Box(-1, 1, (4,), np.float32),
            "discrete": spaces.Discrete(9),
            "pixels": spaces.Box(0, 255, (4, 84, 84), np.uint8),
            "dict": spaces.Dict(image=spaces.Box(0, 255, (7, 7, 3), np.uint8), direction=spaces.Discrete(4),
                                mission=spaces.Text(64, charset="abc ")),
        }[kind]
        self.action_space = spaces.Discrete(2)
        self.observation_space.seed(0)
        self.observation = self.observation_space.sample()

    def reset(self, seed=None, options=None):
        return self.observation, {}

    def step(self, action):
        return self.observation, 1.0, False, False, {}
"""


def nanoseconds(function: Callable[[], Any], count: int = 50_000) -> float:
    """The best of five runs, per call."""
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter_ns()
        for _ in range(count):
            function()
        best = min(best, (time.perf_counter_ns() - begin) / count)
    return best


def main() -> None:
    plugin = Plugin({"my_env.py": EMPTY}, {"env": "my_env:MyEnv"})
    action = struct.pack("<q", 1)
    print(f"{'observation':<12}{'env.step':>10}{'SDK':>10}{'encode':>10}{'decode':>10}   ns")
    for kind in ("box", "discrete", "pixels", "dict"):
        plugin.create(kind=kind)
        plugin.reset(0)
        session: Any = plugin.environment._session
        number, observation = np.int64(1), plugin.env.observation
        own = nanoseconds(lambda number=number: plugin.env.step(number))
        whole = nanoseconds(lambda: plugin.environment.step(action))
        encode = nanoseconds(lambda value=observation, session=session: session._encode(value))
        decode = nanoseconds(lambda session=session: session._decode(action))
        print(f"{kind:<12}{own:>10.0f}{whole - own:>10.0f}{encode:>10.0f}{decode:>10.0f}")


if __name__ == "__main__":
    main()
