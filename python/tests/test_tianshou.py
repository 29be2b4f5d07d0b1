"""Tianshou over rollcage: `cargo xtask pythons frameworks` installs both by one call of pip, and runs this."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import hostile, twin

import rollcage

pytestmark = pytest.mark.long
pytest.importorskip("tianshou", reason="tianshou is installed by `cargo xtask pythons frameworks`")

from tianshou.data import Collector, VectorReplayBuffer  # noqa: E402
from tianshou.env import DummyVectorEnv  # noqa: E402

from rollcage.tianshou import VectorEnv  # noqa: E402


def equal(one: Any, two: Any) -> bool:
    """Whether two arrays are equal; of objects, one by one."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, np.ndarray) and one.dtype == object:
        return len(one) == len(two) and all(equal(a, b) for a, b in zip(one, two, strict=True))
    return np.array_equal(one, two)


@pytest.mark.parametrize("name", ["CartPole-v1", "FrozenLake-v1", "Taxi-v4", "rich"])
def test_it_is_tianshous_vector_env_of_the_same_env(name: str) -> None:
    """Every call returns what `DummyVectorEnv` returns, for Gymnasium's env of the name or the twin in Python."""
    from rich import Rich

    theirs = DummyVectorEnv([(lambda: gymnasium.make(name)) if name != "rich" else Rich for _ in range(4)])
    ours = VectorEnv(twin("rich") if name == "rich" else f"{name.split('-')[0].lower()}", 4)
    assert len(ours) == len(theirs) == 4
    assert ours.action_space == theirs.action_space and ours.observation_space == theirs.observation_space
    theirs_seen = [theirs.reset([env], seed=3 + env) for env in range(4)]
    seen, infos = ours.reset(seed=3)
    assert equal(seen, np.concatenate([one for one, _ in theirs_seen]))
    rng = np.random.default_rng(1)
    size = (3, 2) if name == "rich" else ours.action_space[0].n
    for step in range(120):
        ids = np.arange(4) if step % 3 else np.sort(rng.choice(4, 2, replace=False))
        actions = rng.integers(size, size=(len(ids), 2) if name == "rich" else len(ids))
        one, two = ours.step(actions, ids), theirs.step(actions, ids)
        # Gymnasium's toy texts have whole numbers as rewards.
        assert all(equal(a, b) for a, b in zip(one[:4], two[:4], strict=True)) and one[0].dtype == two[0].dtype, step
        for info, other in zip(one[4], two[4], strict=True):
            assert set(other) <= set(info), (info, other)
            assert info["env_id"] == other["env_id"]
        if (ended := ids[one[2] | one[3]]).size:
            assert equal(ours.reset(ended)[0], theirs.reset(ended)[0])
    ours.close()
    theirs.close()


def test_a_collector_collects_episodes_and_steps() -> None:
    """By random actions; and what is in the buffer are transitions within one episode."""
    from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
    from tianshou.utils.net.common import Net
    from tianshou.utils.net.discrete import DiscreteActor

    envs = VectorEnv("cartpole", 4, seed=5)
    space = envs.envs.single_action_space
    assert isinstance(space, gymnasium.spaces.Discrete)
    net = DiscreteActor(preprocess_net=Net(state_shape=(4,), hidden_sizes=[8]), action_shape=2)
    policy = DiscreteActorPolicy(actor=net, action_space=space)
    buffer = VectorReplayBuffer(4000, 4)
    collector = Collector(policy, envs, buffer)
    collector.reset()
    stats = collector.collect(n_step=400, random=True)
    assert stats.n_collected_steps == 400 and stats.n_collected_episodes > 8
    stats = collector.collect(n_episode=10)
    assert stats.n_collected_episodes == 10 and len(stats.returns) == 10
    collector.close()
    whole = buffer[:]
    follows = ~whole.done[:-1] & (buffer.next(np.arange(len(buffer)))[:-1] == np.arange(1, len(buffer)))
    assert np.array_equal(whole.obs_next[:-1][follows], whole.obs[1:][follows]) and whole.done.sum() > 18
    assert envs.is_closed


def test_a_fault_is_a_truncated_episode() -> None:
    envs = VectorEnv(hostile("fail"), 2, config=[{"at": -1}, {"in_call": "step", "at": 1}], seed=1)
    envs.reset()
    envs.step(np.zeros(2, np.int64))
    _, _, terminated, truncated, infos = envs.step(np.zeros(2, np.int64))
    assert truncated.tolist() == [False, True] and not terminated.any()
    assert infos[1]["fault"] == "guest_failed" and "fault" not in infos[0]
    with pytest.raises(rollcage.UsageError, match="over"):
        envs.step(np.zeros(1, np.int64), [1])
    envs.reset([1])
    envs.step(np.zeros(2, np.int64), [1, 0])
    envs.close()
    envs.close()


def test_what_is_refused_says_why() -> None:
    with pytest.raises(rollcage.UnsupportedError, match="Tuple"):
        VectorEnv("blackjack", 2)
    with pytest.raises(rollcage.UsageError, match="reset envs by themselves"):
        VectorEnv("cartpole", 2, autoreset_mode="same-step")
