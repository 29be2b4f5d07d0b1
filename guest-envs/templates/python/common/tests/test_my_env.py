"""Tests in your own Python; `rollcage check .` looks at much more."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from gymnasium.utils.env_checker import check_env

from my_env import MyEnv


def test_it_is_a_gymnasium_env() -> None:
    check_env(MyEnv(), skip_render_check=True)


def test_equal_seeds_are_equal_episodes() -> None:
    def play(seed: int) -> list:
        env = MyEnv()
        env.action_space.seed(seed)
        env.reset(seed=seed)
        return [env.step(env.action_space.sample())[1] for _ in range(5)]

    assert play(3) == play(3)
