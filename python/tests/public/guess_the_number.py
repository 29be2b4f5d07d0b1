"""A game of TextArena as a `gymnasium.Env`: the game itself is unchanged, and only its answers are put into a tuple."""

from __future__ import annotations

import string
import sys
from types import ModuleType
from typing import Any

import gymnasium
from gymnasium import spaces

try:
    import ssl  # noqa: F401
except ImportError:
    # TextArena imports it for games over the network, and the cage has none.
    sys.modules["ssl"] = ModuleType("ssl")
    sys.modules["ssl"].OPENSSL_VERSION = "OpenSSL, which is not here"  # type: ignore[attr-defined]

import textarena  # noqa: E402
import urllib3  # noqa: E402, F401  # TextArena imports it, and does not declare it.

#: How many characters of a game are seen, the last ones: it gets longer with every guess.
SEEN = 4_000


class GuessTheNumber(gymnasium.Env[str, str]):
    """Guess a number. Texts come in, and texts go out."""

    def __init__(self, number: str = "GuessTheNumber-v0") -> None:
        """Make the game.

        Args:
            number: Its id in TextArena.
        """
        self.game = textarena.make(number)
        self.observation_space = spaces.Text(SEEN, min_length=0, charset=string.printable)
        self.action_space = spaces.Text(16, min_length=0, charset=string.printable)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.game.reset(num_players=1, seed=seed)
        return self.game.get_observation()[1][-SEEN:], {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        done, _ = self.game.step(action)
        if not done:
            return self.game.get_observation()[1][-SEEN:], 0.0, False, False, {}
        rewards, _ = self.game.close()
        return "", float(rewards[0]), True, False, {}
