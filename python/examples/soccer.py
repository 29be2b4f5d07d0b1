"""Envs of a soccer team, and its settings: what the story's program imports."""

from __future__ import annotations

import socket
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


class CountsPorts(Soccer):
    """Counts in a class variable, of which every process has its own."""

    next_port = 47710

    def __init__(self) -> None:
        self.port = CountsPorts.next_port
        CountsPorts.next_port += 1
        self.server = socket.create_server(("127.0.0.1", self.port))


class HoldsASocket(Soccer):
    """Is given to another process, socket and all."""

    def __init__(self) -> None:
        self.socket = socket.socket()


class ReadsConf(Soccer):
    """Reads what the main part has set, in a process in which it did not run."""

    def __init__(self) -> None:
        self.address = conf.server_ip


# ── The same envs as they run in rollcage: what differed between them comes by the config. ──────────────────────────


class HasAPort(Soccer):
    """Listens on a port that it is given, in place of one that it counted itself."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.server = socket.create_server(("127.0.0.1", port))


class Connects(Soccer):
    """Holds a socket from its constructor on, in its own process, and asks its server once in every step."""

    observation_space = spaces.Box(0.0, np.inf, (1,), np.float32)

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.socket.sendall(bytes([action]))
        answer = self.socket.recv(1)
        return np.array([answer[0]], np.float32), 0.0, False, False, {}


def set_up(server_ip: str) -> ReadsConf:
    """What stood under `if __name__ == "__main__"`, and the env, unchanged."""
    conf.setup(server_ip)
    return ReadsConf()
