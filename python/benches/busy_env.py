"""An env in Python that takes a while for each step: for `clusters.py`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class Busy(gymnasium.Env[np.ndarray, int]):
    """Counts in each step. Episodes end only by a time limit.

    Parameters
    ----------
    turns : int
        How far it counts.

    """

    def __init__(self, turns: int = 10_000) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 1, (4,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self._turns = turns

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(4, np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        for _ in range(self._turns):
            pass
        return np.zeros(4, np.float32), 1.0, False, False, {}
