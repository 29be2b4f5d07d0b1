"""TorchRL over rollcage: `cargo xtask pythons frameworks` installs both by one call of pip, and runs this."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import hostile, twin

import rollcage

pytestmark = pytest.mark.long
pytest.importorskip("torchrl", reason="torchrl is installed by `cargo xtask pythons frameworks`")

import torch  # noqa: E402
from tensordict import TensorDict  # noqa: E402
from tensordict.nn import TensorDictModule  # noqa: E402
from torchrl.collectors import Collector  # noqa: E402
from torchrl.data import LazyTensorStorage, ReplayBuffer  # noqa: E402
from torchrl.envs import ActionMask, RewardSum, TransformedEnv, check_env_specs  # noqa: E402
from torchrl.modules import MaskedCategorical, MaskedOneHotCategorical, ProbabilisticActor  # noqa: E402

from rollcage.torchrl import Env  # noqa: E402

ENVS = ["acrobot", "blackjack", "cartpole", "frozenlake", "mountaincar-continuous", "pendulum", "pixels", "taxi"]
TWINS = [
    "custom_dict",
    "custom_multibinary",
    "custom_multidiscrete",
    "custom_tuple",
    "dummy_dict",
    "dummy_mixed",
    "rich",
]


def same(one: Any, two: Any) -> bool:
    """Whether two tensordicts have the same keys, and values to the bit."""
    keys = set(one.keys(True, True))
    return keys == set(two.keys(True, True)) and all(torch.equal(one[key], two[key]) for key in keys)


@pytest.mark.parametrize("categorical", [False, True])
@pytest.mark.parametrize("name", [*ENVS, *TWINS, "masked", "spaces"])
def test_specs_are_those_of_the_data(name: str, categorical: bool) -> None:
    plugin: str | Path = name if name in ENVS else twin(name) if name in TWINS else hostile(name)
    try:
        env = Env(plugin, 3, seed=7, categorical_action_encoding=categorical, observation_key="observation")
    except rollcage.UnsupportedError as error:
        assert "no tensors" in str(error) and name in ("spaces",)
        return
    masked = TransformedEnv(env, ActionMask()) if env.envs.action_masked else env
    check_env_specs(masked, break_when_any_done="both")
    check_env_specs(masked, seed=5)
    data = masked.rollout(50, break_when_any_done=False)
    assert data.batch_size == (3, 50)
    assert data["next", "reward"].shape == (3, 50, 1) and data["next", "reward"].dtype == torch.float32
    for key in ("done", "terminated", "truncated"):
        assert data["next", key].shape == (3, 50, 1) and data["next", key].dtype == torch.bool
    assert torch.equal(data["next", "done"], data["next", "terminated"] | data["next", "truncated"])
    env.close()
    env.close()


@pytest.mark.parametrize("name", ["cartpole", "pendulum", "taxi"])
def test_a_rollout_is_the_run_of_the_vector_env(name: str) -> None:
    """The same seeds and actions give the same observations, rewards and ends, and the same digest."""
    env = Env(name, 3, seed=11, categorical_action_encoding=True, max_episode_steps=30)
    data = env.rollout(100, break_when_any_done=False)
    envs = rollcage.make_vec(name, 3, seed=11, autoreset_mode="disabled", max_episode_steps=30)
    seen, _ = envs.reset()
    for step in range(100):
        assert np.array_equal(data["observation"][:, step].numpy(), seen)
        seen, rewards, terminated, truncated, _ = envs.step(data["action"][:, step].numpy())
        after = data["next"][:, step]
        assert np.array_equal(after["observation"].numpy(), seen)
        assert np.array_equal(after["reward"][:, 0].numpy(), rewards.astype(np.float32))
        assert np.array_equal(after["terminated"][:, 0].numpy(), terminated)
        assert np.array_equal(after["truncated"][:, 0].numpy(), truncated)
        if (ended := terminated | truncated).any() and step < 99:
            seen, _ = envs.reset(options={"reset_mask": ended})
    assert data["next", "done"].sum() > 3
    assert env.envs.digest == envs.digest
    env.close()
    envs.close()


def test_one_hot_and_numbers_are_one_action() -> None:
    """Actions of both encodings are the same actions, also of a MultiDiscrete, and so are the observations."""
    for plugin in ("cartpole", twin("rich")):
        hot, numbers = (Env(plugin, 2, seed=3, categorical_action_encoding=one) for one in (False, True))
        one, two = hot.reset(), numbers.reset()
        for _ in range(5):
            numbers.rand_action(two)
            one["action"] = hot._actions.seen(numbers._actions.given(two["action"]), hot.device)
            one, two = hot.step(one)["next"], numbers.step(two)["next"]
            assert torch.equal(one["reward"], two["reward"]) and not one["done"].any()
        assert hot.envs.digest == numbers.envs.digest
        hot.close()
        numbers.close()


def test_partial_resets_reset_the_others_not() -> None:
    env = Env("cartpole", 3, seed=5)
    data = env.rollout(4)[:, -1]["next"].exclude("reward")
    before = data["observation"].clone()
    data["_reset"] = torch.tensor([[False], [True], [False]])
    after = env.reset(data.clone())
    assert torch.equal(after["observation"][[0, 2]], before[[0, 2]])
    assert not torch.equal(after["observation"][1], before[1]) and (after["observation"][1].abs() <= 0.05).all()
    # Nobody is reset.
    data["_reset"] = torch.zeros(3, 1, dtype=torch.bool)
    digest = env.envs.digest
    assert torch.equal(env.reset(data.clone())["observation"][0], before[0]) and env.envs.digest == digest
    env.close()


def test_a_rollout_goes_on_until_all_are_done() -> None:
    """`break_when_all_done` steps only some of the envs, by `_step`."""
    env = Env("cartpole", 4, seed=2)
    data = env.rollout(500, break_when_all_done=True, break_when_any_done=False)
    ends = data["next", "done"][..., 0].int().argmax(-1)
    assert len(set(ends.tolist())) > 1 and data["next", "done"][:, -1].all()
    assert [env.envs.call_env(0, "render_mode")] == [None]
    # Each env took as many steps as its episode has; the others were not stepped behind its end.
    again = rollcage.make_vec("cartpole", 4, seed=2, autoreset_mode="disabled")
    again.reset()
    for step in range(data.shape[1]):
        ids = np.flatnonzero(step <= ends.numpy())
        again.send(data["action"][:, step].argmax(-1).numpy()[ids], ids)
        again.recv(min_ready=len(ids))
    assert again.digest == env.envs.digest
    again.close()
    env.close()


@pytest.mark.parametrize("categorical", [False, True])
def test_random_actions_are_open_ones(categorical: bool) -> None:
    """Under TorchRL's `ActionMask`: of taxi, and of a guest that refuses every other action."""
    env = TransformedEnv(Env("taxi", 4, seed=3, categorical_action_encoding=categorical), ActionMask())
    data = env.rollout(300, break_when_any_done=False)
    mask, action = data["action_mask"], data["action"]
    chosen = mask.gather(-1, action.unsqueeze(-1)) if categorical else mask & action.bool()
    assert chosen.any(-1).all() and not mask.all()
    env.close()
    env = TransformedEnv(Env(hostile("masked"), 2, seed=1, categorical_action_encoding=categorical), ActionMask())
    assert env.rollout(50, break_when_any_done=False)["next", "done"].sum() == 4
    assert env.rollout(50, break_when_all_done=True, break_when_any_done=False).shape == (2, 20)
    env.close()


@pytest.mark.parametrize("categorical", [False, True])
def test_a_masked_policy_collects(categorical: bool) -> None:
    env = Env("taxi", 2, seed=3, categorical_action_encoding=categorical)
    size = 1 if categorical else 500

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Linear(size, 6)

        def forward(self, seen: torch.Tensor) -> torch.Tensor:
            return self.net((seen.unsqueeze(-1) if categorical else seen).float())

    policy = ProbabilisticActor(
        TensorDictModule(Logits(), in_keys=["observation"], out_keys=["logits"]),
        in_keys={"logits": "logits", "mask": "action_mask"},
        distribution_class=MaskedCategorical if categorical else MaskedOneHotCategorical,
        spec=env.action_spec,
        return_log_prob=True,
    )
    collector = Collector(env, policy, frames_per_batch=200, total_frames=600)
    collected = 0
    for data in collector:
        collected += data.numel()
        mask, action = data["action_mask"], data["action"]
        chosen = mask.gather(-1, action.unsqueeze(-1)) if categorical else mask & action.bool()
        assert chosen.any(-1).all()
    assert collected == 600
    collector.shutdown()


def test_a_collector_fills_a_buffer_with_whole_episodes() -> None:
    """With transforms; what it collected are the episodes of the same run step by step."""
    env = TransformedEnv(Env("cartpole", 4, seed=5), RewardSum())
    collector = Collector(env, None, frames_per_batch=400, total_frames=2000)
    buffer = ReplayBuffer(storage=LazyTensorStorage(2000), batch_size=64)
    returns = []
    for data in collector:
        assert data.batch_size == (4, 100)
        buffer.extend(data.reshape(-1))
        ended = data["next", "done"][..., 0]
        returns += data["next", "episode_reward"][..., 0][ended].tolist()
    assert len(buffer) == 2000 and 10 < np.mean(returns) < 40 and len(returns) > 40
    assert buffer.sample()["observation"].shape == (64, 4)
    collector.shutdown()


def test_seeds_repeat_a_run() -> None:
    env = Env("cartpole", 2)
    actions = torch.nn.functional.one_hot(torch.randint(2, (20, 2)), 2)

    def run(seed: int) -> Any:
        env.set_seed(seed)
        data, rows = env.reset(), []
        for action in actions[:8]:
            data["action"] = action
            data, rows = env.step(data)["next"], [*rows, data]
        return torch.stack([row["observation"] for row in rows])

    first = run(9)
    assert torch.equal(first, run(9)) and not torch.equal(first, run(10))
    assert env.set_seed(9, static_seed=True) == 9
    assert torch.equal(env.reset()["observation"], env.reset(seed=9)["observation"])
    env.close()


def test_a_branch_goes_on_as_the_env_would() -> None:
    env = Env("cartpole", 3, seed=4)
    env.rollout(5)
    copies = env.branch(1, 4)
    assert copies.batch_size == (4,)
    now = copies.current()
    assert torch.equal(now["observation"], env.current()["observation"][1].expand(4, 4))
    check = torch.nn.functional.one_hot(torch.tensor([0, 1, 0, 1]), 2)
    after = copies.step(now.set("action", check))["next"]["observation"]
    assert torch.equal(after[0], after[2]) and not torch.equal(after[0], after[1])
    alone = env.step(env.current().set("action", check[[1, 1, 1]]))["next"]["observation"]
    assert torch.equal(alone[1], after[1])
    data = copies.rollout(6, auto_reset=False, tensordict=copies.current(), break_when_any_done=False)
    assert data.shape == (4, 6)
    written = env.write_back(2, [0, 1], source=copies)
    assert torch.equal(written["observation"][0], copies.current()["observation"][2])
    assert torch.equal(written["observation"][0], written["observation"][1])
    copies.close()
    env.close()


@pytest.mark.parametrize("name", ["cartpole", "taxi"])
def test_a_snapshot_is_a_tensordict(name: str) -> None:
    """It can be kept, pickled, indexed and expanded, and is the state to which TorchRL resets."""
    env = Env(name, 3, seed=4)
    env.rollout(5)
    kept = pickle.loads(pickle.dumps(env.snapshot()))
    torch.manual_seed(1)
    first = env.rollout(6, auto_reset=False, tensordict=env.current(), break_when_any_done=False)
    for back in (env.restore, lambda data: env.reset(data.clone(), set_state=True).exclude("snapshot")):
        restored = back(kept)
        assert same(restored, kept.exclude("snapshot"))
        torch.manual_seed(1)
        again = env.rollout(6, auto_reset=False, tensordict=restored, break_when_any_done=False)
        assert same(first, again)
    others = Env(name, 5)
    everywhere = others.restore(kept[2].expand(5))
    assert torch.equal(everywhere["observation"], kept["observation"][2].expand(5, -1))
    with pytest.raises(rollcage.UsageError, match="snapshot"):
        others.restore(TensorDict({}, [5]))
    others.close()
    env.close()


def test_a_fault_truncates_and_torchrl_resets() -> None:
    env = Env(hostile("fail"), 2, config=[{"at": -1}, {"in_call": "step", "at": 1}], seed=1)
    data = env.rollout(8, break_when_any_done=False)
    assert len(env.envs.faults) >= 2
    ended = data["next", "truncated"][1, :, 0]
    assert ended.sum() == len(env.envs.faults) and not data["next", "terminated"][1].any()
    env.close()


def test_a_vector_env_can_be_given() -> None:
    envs = rollcage.make_vec("cartpole", 2, seed=1, autoreset_mode="disabled")
    env = Env(envs)
    assert env.envs is envs and env.batch_size == (2,)
    check_env_specs(env)
    env.close()
    assert envs.closed
    with rollcage.make_vec("cartpole", 2) as others, pytest.raises(rollcage.UsageError, match="disabled"):
        Env(others)


def test_what_is_refused_says_why() -> None:
    with pytest.raises(rollcage.UsageError, match="TorchRL resets envs by itself"):
        Env("cartpole", 2, autoreset_mode="next-step")
    with pytest.raises(rollcage.UsageError, match="has another meaning in TorchRL"):
        Env("cartpole", 2, observation_key="reward")
    with pytest.raises(TypeError, match="write num_envs"):
        Env("cartpole", n_envs=2)
    env = Env("cartpole", 2)
    with pytest.raises(TypeError):
        pickle.dumps(env)
    env.reset()
    env.close()
    with pytest.raises(rollcage.ClosedError):
        env.reset()


def test_envs_on_several_hosts_are_one_batch() -> None:
    """Of a Ray cluster, here of one node with two hosts: the same data and digest as on one host."""
    ray = pytest.importorskip("ray")
    from rollcage.ray import make_vec

    ray.init(address="local", num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
    try:
        taken = []
        for envs in (
            make_vec("cartpole", 4, seed=2, nodes=[2, 2], strategy="PACK", autoreset_mode="disabled"),
            rollcage.make_vec("cartpole", 4, seed=2, autoreset_mode="disabled"),
        ):
            env = Env(envs)
            torch.manual_seed(1)
            data = env.rollout(200, break_when_all_done=True, break_when_any_done=False)
            data = torch.cat([data, env.rollout(20, break_when_any_done=False)], 1)
            kept = env.snapshot()
            copies = env.branch(1, 2)
            assert torch.equal(copies.current()["observation"], kept["observation"][[1, 1]])
            copies.close()
            assert same(env.restore(kept), kept.exclude("snapshot"))
            taken.append((data, envs.digest))
            env.close()
        assert same(taken[0][0], taken[1][0]) and taken[0][1] == taken[1][1]
    finally:
        ray.shutdown()
