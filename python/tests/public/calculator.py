"""An env that computes: what functions of the C library return in the cage."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

FUNCTIONS = {"sin": np.sin, "cos": np.cos, "square": lambda x: x**2}


class Calculator(gymnasium.Env[Any, Any]):
    observation_space = spaces.Discrete(1)
    action_space = spaces.Discrete(1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return 0, 0.0, False, False, {}

    def values(self, asked: list[tuple[str, str]]) -> list[str]:
        """Results of functions of one double each. Numbers are hexadecimal, so that none is rounded."""
        return [float(FUNCTIONS[name](np.float64(float.fromhex(x)))).hex() for name, x in asked]
