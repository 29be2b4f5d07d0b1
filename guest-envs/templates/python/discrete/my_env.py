"""A corridor: walk to its right end, over a floor that is slippery here and there."""

from typing import Annotated

import gymnasium as gym
from gymnasium import spaces


class MyEnv(gym.Env):
    """Walk to the right end of a slippery corridor."""

    metadata = {"render_modes": ["ansi"], "render_fps": 10}

    def __init__(self, size: Annotated[int, range(3, 101)] = 9, slip: float = 0.1, render_mode: str | None = None):
        """Make a corridor.

        Args:
            size: Number of cells.
            slip (float in [0, 1]): Probability that a step goes the other way.
        """
        self.size, self.slip, self.render_mode = size, slip, render_mode
        self.observation_space = spaces.Discrete(size)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = int(self.np_random.integers(0, self.size // 2))
        return self.at, {}

    def step(self, action):
        forward = (action == 1) != (self.np_random.random() < self.slip)
        self.at = min(max(self.at + (1 if forward else -1), 0), self.size - 1)
        done = self.at == self.size - 1
        return self.at, 1.0 if done else -0.01, done, False, {}

    def render(self):
        return "".join("x" if cell == self.at else "." for cell in range(self.size))
