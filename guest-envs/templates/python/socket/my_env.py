"""A game behind a socket: the server has the state, the env asks it. The protocol is a line of JSON each way."""

import json
import socket
from typing import Annotated

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class MyEnv(gym.Env):
    """Guess a number that a server keeps."""

    metadata = {"render_modes": ["ansi"], "render_fps": 4}

    #: Guesses of an episode at most.
    GUESSES = 12

    def __init__(self, host: str = "127.0.0.1", port: Annotated[int, range(1, 65536)] = 48800, render_mode: str | None = None):
        """Connect to a server at the first reset.

        Args:
            host: Address of the server.
            port: Its port.
        """
        self.address, self.render_mode = (host, port), render_mode
        self.connection = None
        # How the last guess was (too low, right, too high), and the last guess.
        self.observation_space = spaces.MultiDiscrete([3, 100])
        self.action_space = spaces.Discrete(100)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.connection is None:
            # What is granted is the server's address; without a grant this is refused in words.
            self.connection = socket.create_connection(self.address, timeout=10)
            self.lines = self.connection.makefile("rw", encoding="utf-8", newline="\n")
        self.guesses, self.said = 0, (1, 0)
        self._ask({"begin": int(self.np_random.integers(0, 2**31))})
        return self._observe(), {}

    def step(self, action):
        answer = self._ask({"guess": int(action)})["answer"]
        self.guesses += 1
        self.said = (answer + 1, int(action))
        done = answer == 0
        return self._observe(), 1.0 if done else -0.1, done, self.guesses >= self.GUESSES, {}

    def render(self):
        return f"guess {self.guesses}: {self.said[1]} is {('too low', 'right', 'too high')[self.said[0]]}"

    def close(self):
        if self.connection is not None:
            self.connection.close()

    def _ask(self, question):
        self.lines.write(json.dumps(question) + "\n")
        self.lines.flush()
        answer = self.lines.readline()
        if not answer:
            raise ConnectionError(f"the server at {self.address} has closed the connection")
        return json.loads(answer)

    def _observe(self):
        return np.array(self.said, np.int64)
