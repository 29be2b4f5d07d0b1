"""The Python twin of `guests/examples/rich.rs`, word for word: what a vector env of Gymnasium's makes of the same env."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Rich(gymnasium.Env[Any, Any]):
    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, length: int = 7, render_mode: str | None = None) -> None:
        self.observation_space = spaces.Dict(
            {
                "count": spaces.Discrete(1000),
                "place": spaces.Box(-10.0, 10.0, (3,), np.float32),
                "bits": spaces.MultiBinary(2),
            }
        )
        self.action_space = spaces.MultiDiscrete([3, 2])
        self.render_mode = render_mode
        self.length = length
        self.level = 1
        self.start = self.steps = 0
        self.place = np.zeros(3, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.start = (options or {}).get("start", 0)
        self.steps = 0
        self.place = np.array([np.float32(self.np_random.random()) for _ in range(3)], np.float32)
        return self._seen(), self._facts()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.place[0] = np.float32(action[0]) + np.float32(self.np_random.random())
        reward = self.np_random.random() * self.level + float(action[1])
        terminated = bool(self.np_random.random() < 0.1)
        info = self._facts()
        if self.steps % 3 == 0:
            info |= {"note": "every third", "nested": {"steps": self.steps, "half": 0.5}}
        return self._seen(), reward, terminated, self.steps >= self.length, info

    def render(self) -> Any:
        return np.full((2, 2, 3), (self.steps % 256, 0, 255), np.uint8)

    def add(self, a: int, b: int) -> int:
        return a + b

    def _seen(self) -> dict[str, Any]:
        count = self.start + self.steps
        return {
            "count": np.int64(count),
            "place": self.place.copy(),
            "bits": np.array([count % 2 == 1, count % 3 == 1], np.int8),
        }

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"count": self.start + self.steps}
        if self.steps % 2 == 1:
            facts["odd"] = np.array([self.steps, 0.25])
        return facts
