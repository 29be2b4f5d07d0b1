"""A ball falls, and a bat catches it: what the agent sees is the picture."""

from typing import Annotated

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class MyEnv(gym.Env):
    """Catch falling balls with a bat, seen as grey pixels."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    #: Pixels of a side.
    SIDE = 84

    def __init__(self, balls: Annotated[int, range(1, 101)] = 10, bat: Annotated[int, range(4, 41)] = 12, render_mode: str | None = None):
        """Make a game.

        Args:
            balls: Balls of an episode.
            bat: Width of the bat in pixels.
        """
        self.balls, self.bat, self.render_mode = balls, bat, render_mode
        self.observation_space = spaces.Box(0, 255, (self.SIDE, self.SIDE, 1), np.uint8)
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left, self.place = self.balls, (self.SIDE - self.bat) // 2
        self._drop()
        return self._observe(), {}

    def step(self, action):
        self.place = int(np.clip(self.place + 3 * (int(action) - 1), 0, self.SIDE - self.bat))
        self.x = int(np.clip(self.x + self.drift, 0, self.SIDE - 2))
        self.y += 4
        reward = 0.0
        if self.y >= self.SIDE - 4:
            reward = 1.0 if self.place - 1 <= self.x <= self.place + self.bat else -1.0
            self.left -= 1
            self._drop()
        return self._observe(), reward, self.left == 0, False, {}

    def render(self):
        return np.repeat(self._observe(), 3, axis=2)

    def _drop(self):
        self.x, self.y = int(self.np_random.integers(0, self.SIDE - 1)), 0
        self.drift = int(self.np_random.integers(-1, 2))

    def _observe(self):
        picture = np.zeros((self.SIDE, self.SIDE, 1), np.uint8)
        picture[self.y : self.y + 2, self.x : self.x + 2] = 255
        picture[-3:, self.place : self.place + self.bat] = 160
        return picture
