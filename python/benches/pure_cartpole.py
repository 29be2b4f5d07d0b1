"""CartPole without numpy in its step, as a `gymnasium.Env`: what an env costs that is Python and nothing else."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class PureCartPole(gymnasium.Env[Any, int]):
    """Gymnasium's CartPole; observations are lists of floats."""

    def __init__(self) -> None:
        high = np.array([4.8, np.inf, 24 * math.pi / 180, np.inf], np.float32)
        self.observation_space = spaces.Box(-high, high)
        self.action_space = spaces.Discrete(2)
        self.state = (0.0, 0.0, 0.0, 0.0)
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = tuple(self.np_random.uniform(-0.05, 0.05, 4).tolist())  # type: ignore[assignment]
        self.steps = 0
        return list(self.state), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        x, speed, angle, turning = self.state
        cosine, sine = math.cos(angle), math.sin(angle)
        pushed = ((10.0 if action == 1 else -10.0) + 0.05 * turning * turning * sine) / 1.1
        falling = (9.8 * sine - cosine * pushed) / (0.5 * (4.0 / 3.0 - 0.1 * cosine * cosine / 1.1))
        moving = pushed - 0.05 * falling * cosine / 1.1
        x, speed = x + 0.02 * speed, speed + 0.02 * moving
        angle, turning = angle + 0.02 * turning, turning + 0.02 * falling
        self.state = (x, speed, angle, turning)
        self.steps += 1
        terminated = abs(x) > 2.4 or abs(angle) > 12 * math.pi / 180
        return list(self.state), 1.0, terminated, self.steps >= 500, {}
