"""Envs of a soccer team, and its settings: what the story's program imports."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Conf:
    """Where the simulator is: known when the main part of the program has called `setup`."""

    def setup(self, server_ip: str) -> None:
        """Fills it in."""
        self.server_ip = server_ip


conf = Conf()


class Soccer(gymnasium.Env[Any, Any]):
    """An env that nobody plays."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), 0.0, False, False, {}


class ReadsConf(Soccer):
    """Reads what the main part has set, in a process in which it did not run."""

    def __init__(self) -> None:
        self.address = conf.server_ip
