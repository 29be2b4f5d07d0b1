"""RLlib over rollcage: `cargo xtask pythons rllib` installs both by one call of pip, and runs this."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

import rollcage

pytestmark = pytest.mark.long
ray = pytest.importorskip("ray", reason="ray[rllib] is installed by `cargo xtask pythons rllib`")

#: Steps of one iteration.
BATCH = 400


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Ray on loopback, ended with the tests."""
    path = os.pathsep.join(
        filter(None, [os.path.dirname(os.path.dirname(rollcage.__file__)), os.environ.get("PYTHONPATH")])
    )
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        configure_logging=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
    yield
    ray.shutdown()


def ppo(env: str, runners: int, **config: Any) -> Any:
    from ray.rllib.algorithms.ppo import PPOConfig

    return (
        PPOConfig()
        .environment(env, env_config=config)
        .env_runners(num_env_runners=runners, num_envs_per_env_runner=4)
        .training(train_batch_size_per_learner=BATCH, minibatch_size=100, num_epochs=1)
        .debugging(seed=3)
        .build_algo()
    )


def made(config: Any) -> gymnasium.Env[Any, Any]:
    return gymnasium.make("rollcage/CartPole-v1", **config)


@pytest.mark.parametrize("runners", [0, 1])
def test_ppo_trains_over_our_envs(runners: int) -> None:
    """In the driver's own process, and in an actor, which gets the env's name and makes it."""
    from ray.tune.registry import register_env

    register_env("ours", made)
    algorithm = ppo("ours", runners)
    try:
        for _ in range(2):
            result = algorithm.train()
        sampled = result["env_runners"]
        assert sampled["num_env_steps_sampled_lifetime"] >= 2 * BATCH
        assert 5 < sampled["episode_return_mean"] <= 500
        assert not np.isnan(result["learners"]["default_policy"]["total_loss"])
    finally:
        algorithm.stop()


def test_trajectories_are_the_same_under_their_gymnasium() -> None:
    ours, theirs = gymnasium.make("rollcage/CartPole-v1"), gymnasium.make("CartPole-v1")
    actions = np.random.default_rng(1).integers(2, size=200)
    assert np.array_equal(ours.reset(seed=5)[0], theirs.reset(seed=5)[0])
    for action in actions:
        one, two = ours.step(action), theirs.step(action)
        assert np.array_equal(one[0], two[0]) and one[1:4] == two[1:4]
        if one[2] or one[3]:
            assert np.array_equal(ours.reset()[0], theirs.reset()[0])
    ours.close()
    theirs.close()
