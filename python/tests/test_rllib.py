"""RLlib over rollcage: `cargo xtask pythons rllib` installs both by one call of pip, and runs this."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
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
        address="local",
        num_cpus=2,
        include_dashboard=False,
        configure_logging=False,
        log_to_driver=False,
        # The hook registers our ids in every process of Ray's.
        runtime_env={"env_vars": {"PYTHONPATH": path}, "worker_process_setup_hook": "rollcage.register"},
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


def within(runner: Any) -> dict[str, Any]:
    """What an env runner has in its process."""
    import gc

    import rollcage

    envs = [one for one in gc.get_objects() if isinstance(one, rollcage.VectorEnv) and not one.closed]
    return {
        "process": os.getpid(),
        "is": runner.env.unwrapped is envs[0],
        "envs": [one.num_envs for one in envs],
        "workers": len({pid for one in envs for pid in one.pids}),
    }


@pytest.mark.parametrize("runners", [0, 2])
def test_an_env_runner_has_one_vector_env(runners: int) -> None:
    """By the id alone: of all the runner's envs, in the runner's own process, and each env has a worker."""
    from ray.rllib.algorithms.ppo import PPOConfig

    algorithm = (
        PPOConfig()
        .environment("rollcage/CartPole-v1")
        .env_runners(num_env_runners=runners, num_envs_per_env_runner=4, gym_env_vectorize_mode="vector_entry_point")
        .training(train_batch_size_per_learner=BATCH, minibatch_size=100, num_epochs=1)
        .debugging(seed=3)
        .build_algo()
    )
    try:
        sampled = algorithm.train()["env_runners"]
        assert sampled["num_env_steps_sampled_lifetime"] >= BATCH and 5 < sampled["episode_return_mean"] < 100
        found = algorithm.env_runner_group.foreach_env_runner(within, local_env_runner=runners == 0)
        assert len(found) == max(runners, 1)
        for one in found:
            assert one["is"] and one["envs"] == [4] and one["workers"] == 4
        assert (os.getpid() in {one["process"] for one in found}) == (runners == 0)
    finally:
        algorithm.stop()


@ray.remote(num_cpus=0)
class Meeting:
    """Where trials wait for each other."""

    def __init__(self) -> None:
        self.there = 0

    def arrives(self) -> None:
        self.there += 1

    def all(self, many: int) -> bool:
        return self.there >= many


TRIALS, ENVS = 4, 2


def trial(config: Any) -> None:
    """Makes envs with a leased port each, and keeps them until every trial has its own."""
    from ray import tune

    import rollcage

    lease = {"grants": ["lease=agent:47610-47699"], "config": {"port": {"lease": "agent"}}}
    with rollcage.make_vec("mirror", ENVS, **lease) as envs:
        ray.get(config["meeting"].arrives.remote())
        until = time.monotonic() + 120
        while not ray.get(config["meeting"].all.remote(TRIALS)) and time.monotonic() < until:
            time.sleep(0.1)
        tune.report(
            {"ports": [one["port"] for one in envs.configs], "met": ray.get(config["meeting"].all.remote(TRIALS))}
        )


def test_leases_of_tunes_trials_do_not_meet(tmp_path: Path) -> None:
    """Four trials hold the ports of two envs each at the same time."""
    from ray import tune

    results = tune.Tuner(
        tune.with_resources(trial, {"cpu": 0.5}),
        param_space={"meeting": Meeting.remote()},
        tune_config=tune.TuneConfig(num_samples=TRIALS, max_concurrent_trials=TRIALS),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert not results.errors
    assert all(one.metrics["met"] for one in results)
    ports = [port for one in results for port in one.metrics["ports"]]
    assert len(ports) == len(set(ports)) == TRIALS * ENVS and all(47610 <= port <= 47699 for port in ports)


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
