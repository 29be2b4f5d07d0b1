"""A cart on a rail: push it to a place, and let it stand still there."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class MyEnv(gym.Env):
    """Push a cart to a place on a rail, and stop it there."""

    metadata = {"render_modes": ["ansi"], "render_fps": 20}

    #: Seconds between two states, and how far the rail goes in metres.
    TAU, RAIL = 0.05, 2.0

    def __init__(self, friction: float = 0.1, render_mode: str | None = None):
        """Make a rail.

        Args:
            friction (float in [0, 1]): The part of its speed that the cart loses in a second.
        """
        self.friction, self.render_mode = friction, render_mode
        high = np.array([self.RAIL, 10.0, self.RAIL], np.float32)
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position, self.goal = self.np_random.uniform(-self.RAIL, self.RAIL, 2)
        self.speed = 0.0
        return self._observe(), {}

    def step(self, action):
        push = float(np.clip(action[0], -1.0, 1.0))
        self.speed = float(np.clip(self.speed * (1 - self.friction * self.TAU) + push * self.TAU, -10.0, 10.0))
        self.position += self.speed * self.TAU
        if abs(self.position) > self.RAIL:
            # The end of the rail is soft.
            self.position, self.speed = float(np.sign(self.position)) * self.RAIL, 0.0
        away = abs(self.position - self.goal)
        done = bool(away < 0.05 and abs(self.speed) < 0.1)
        return self._observe(), 10.0 if done else -away - 0.1 * push * push, done, False, {}

    def render(self):
        cells = ["-"] * 41
        for place, mark in ((self.goal, "|"), (self.position, "O")):
            cells[round((place / self.RAIL + 1) * 20)] = mark
        return "".join(cells)

    def _observe(self):
        return np.array([self.position, self.speed, self.goal], np.float32)
