"""Tests in your own Python, against the real server."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from my_env import MyEnv
from server import Game, Server


@pytest.fixture
def port() -> Iterator[int]:
    with Server(("127.0.0.1", 0), Game) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_the_number_is_found(port: int) -> None:
    env = MyEnv(port=port)
    env.reset(seed=1)
    low, high, done, guesses = 0, 99, False, 0
    while not done and guesses < MyEnv.GUESSES:
        guess = (low + high) // 2
        observation, reward, done, _, _ = env.step(guess)
        guesses += 1
        low, high = (guess + 1, high) if observation[0] == 0 else (low, guess - 1)
    assert done and reward == 1.0
    env.close()
