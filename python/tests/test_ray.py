"""`rollcage.ray` over a real Ray: three raylets on this machine, each with a cache of its own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import alive, hostile

import rollcage
from rollcage import _program

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

import rollcage.ray  # noqa: E402

#: Seven envs on three nodes: shares that are not even.
ENVS = 7
LOOPBACK = "127.0.0.1"
#: Each takes some ten seconds, or compiles CPython; `test_nodes.py` has their likes without a cluster.
long = pytest.mark.long


class Raylets:
    """A cluster whose nodes can be killed and added."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._made = folder, 0
        # Ray takes the machine's own address for loopback, and would listen there.
        self._patches = pytest.MonkeyPatch()
        self._patches.setattr(ray._private.services, "get_node_ip_address", lambda *_: LOOPBACK)
        # The head has no CPU: nothing is placed there, and it outlives every kill.
        head = {"num_cpus": 0, "include_dashboard": False, "node_ip_address": LOOPBACK}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.add() for _ in range(3)]
        paths = [str(Path(rollcage.__file__).parents[1]), str(Path(__file__).parent)]
        ray.init(
            self.cluster.address,
            log_to_driver=False,
            configure_logging=False,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}},
        )

    def add(self) -> Any:
        self._made += 1
        cache = self._folder / f"cache-{self._made}"
        return self.cluster.add_node(num_cpus=1, node_ip_address=LOOPBACK, env_vars={"ROLLCAGE_CACHE": str(cache)})

    def kill(self, node_id: str) -> None:
        """Kills a raylet, with all that it runs, and starts another in its place."""
        (node,) = [one for one in self.nodes if one.node_id.startswith(node_id)]
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes.append(self.add())

    def close(self) -> None:
        ray.shutdown()
        self.cluster.shutdown()
        self._patches.undo()


@pytest.fixture(scope="module")
def raylets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Raylets]:
    raylets = Raylets(tmp_path_factory.mktemp("raylets"))
    yield raylets
    raylets.close()


def short_id(name: str | None) -> str:
    assert name is not None
    return name.rpartition("(")[2].rstrip(")")


def same(ours: Any, theirs: Any) -> None:
    """Equal observations, rewards or infos, in whatever form."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            same(ours[key], theirs[key])
    elif isinstance(ours, (tuple, list)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)
    elif isinstance(ours, np.ndarray) and ours.dtype != object:
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f")
    elif isinstance(ours, np.ndarray):
        same(list(ours), list(theirs))
    else:
        assert ours == theirs or (ours != ours and theirs != theirs)


# ── One run, whatever the shares ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("plugin", "mode"),
    [
        ("taxi", "same-step"),
        pytest.param("blackjack", "next-step", marks=long),
        pytest.param("cartpole", "next-step", marks=long),
    ],
)
def test_what_comes_back_is_that_of_one_host(raylets: Raylets, plugin: str, mode: str) -> None:
    given: dict[str, Any] = {"seed": 5, "autoreset_mode": mode, "max_episode_steps": 12}
    with (
        rollcage.make_vec(plugin, ENVS, **given) as here,
        rollcage.ray.make_vec(plugin, ENVS, nodes=3, **given) as there,
    ):
        assert there.shares == [3, 2, 2] and len(set(there.node_names)) == 3
        assert there.single_observation_space == here.single_observation_space
        same(there.reset(seed=9), here.reset(seed=9))
        here.action_space.seed(1)
        for _ in range(60):
            actions = here.action_space.sample()
            same(there.step(actions), here.step(actions))
        mask = np.array([env in (1, 5) for env in range(ENVS)])
        same(there.reset(options={"reset_mask": mask}), here.reset(options={"reset_mask": mask}))
        actions = here.action_space.sample()
        same(there.step(actions), here.step(actions))
        assert (there.digest, there.digests) == (here.digest, here.digests)
        assert there.portable and there.configs == here.configs


def test_one_node_and_three_have_one_digest(raylets: Raylets) -> None:
    digests = []
    for nodes in (1, 3, [1, 4, 2]):
        with rollcage.ray.make_vec("cartpole", ENVS, nodes=nodes, seed=3) as envs:
            envs.reset()
            envs.rollout("random", episodes=16)
            digests.append((envs.digest, tuple(envs.digests)))
    with rollcage.make_vec("cartpole", ENVS, seed=3) as envs:
        envs.reset()
        envs.rollout("random", episodes=16)
        digests.append((envs.digest, tuple(envs.digests)))
    assert len(set(digests)) == 1


@long
def test_configs_seeds_and_faults_have_the_runs_numbers(raylets: Raylets) -> None:
    config = [{"sutton_barto_reward": env % 2 == 1} for env in range(ENVS)]
    with rollcage.ray.make_vec("cartpole", ENVS, nodes=3, config=config, seed=2) as envs:
        assert envs.configs == config
        assert envs.np_random_seed == tuple(range(2, 2 + ENVS))
        envs.reset()
        assert envs.step(np.zeros(ENVS, np.int64))[1].tolist() == [float(env % 2 == 0) for env in range(ENVS)]
        pid = envs.pids[4]
        assert pid is not None and alive(pid)
        os.kill(pid, 9)
        fault = None
        for _ in range(50):
            infos = envs.step(np.zeros(ENVS, np.int64))[4]
            if "fault" in infos:
                fault = envs.faults[0]
                assert np.flatnonzero(infos["_fault"]).tolist() == [4]
                break
        assert fault is not None and (fault.env, fault.kind) == (4, "signalled")
        # An env's fault is its host's affair: nothing is lost with it.
        assert envs.portable and envs.digest is not None
        with pytest.raises(rollcage.UsageError, match="env 5: action"):
            envs.step([0, 0, 0, 0, 0, 7, 0])
        with pytest.raises(rollcage.UsageError, match="no env was stepped|env 5"):
            envs.send([7], [5])


@long
def test_no_env_is_stepped_if_an_action_is_wrong(raylets: Raylets) -> None:
    with (
        rollcage.ray.make_vec("cartpole", 3, nodes=3, seed=2) as envs,
        rollcage.make_vec("cartpole", 3, seed=2) as here,
    ):
        with pytest.raises(rollcage.UsageError, match="must be reset"):
            envs.step([0, 0, 0])
        envs.reset()
        here.reset()
        with pytest.raises(rollcage.UsageError, match="env 2: action"):
            envs.step([0, 0, 2])
        same(envs.step([0, 1, 0]), here.step([0, 1, 0]))
        assert envs.digests == here.digests


# ── Steps of some envs ──────────────────────────────────────────────────────────────────────────────────────────────


def test_send_and_recv(raylets: Raylets) -> None:
    with (
        rollcage.ray.make_vec("cartpole", ENVS, nodes=3, seed=4) as envs,
        rollcage.make_vec("cartpole", ENVS, seed=4) as here,
    ):
        envs.reset()
        here.reset()
        envs.send(np.zeros(ENVS, np.int64), np.arange(ENVS))
        with pytest.raises(rollcage.errors.AlreadyPendingCallError):
            envs.send([0], [3])
        seen: list[int] = []
        observations = np.zeros((ENVS, 4), np.float32)
        while len(seen) < ENVS:
            some, rewards, _, _, infos = envs.recv()
            ids = infos["env_id"].tolist()
            assert ids == sorted(ids) and len(rewards) == len(ids)
            observations[ids] = some
            seen += ids
        assert sorted(seen) == list(range(ENVS))
        same(observations, here.step(np.zeros(ENVS, np.int64))[0])
        envs.send([1, 1], [6, 0])
        one = envs.recv(2, timeout=30)
        assert one[4]["env_id"].tolist() == [0, 6]
        with pytest.raises(rollcage.UsageError, match="in flight"):
            envs.recv()


@long
def test_step_in_two_halves(raylets: Raylets) -> None:
    with rollcage.ray.make_vec("cartpole", 4, nodes=2) as envs:
        envs.reset(seed=1)
        with pytest.raises(gymnasium.error.NoAsyncCallError):
            envs.step_wait()
        envs.step_async([0, 0, 0, 0])
        with pytest.raises(gymnasium.error.AlreadyPendingCallError):
            envs.step([0, 0, 0, 0])
        assert envs.step_wait()[1].tolist() == [1.0] * 4
        envs.step_async([0, 0, 0, 0])
        # A reset of all gives the answers up.
        assert envs.reset(seed=1)[0].shape == (4, 4)


# ── What else an env can do ─────────────────────────────────────────────────────────────────────────────────────────


@long
def test_calls_attributes_and_pictures_go_to_the_right_node(raylets: Raylets) -> None:
    with rollcage.ray.make_vec(hostile("attributes"), 5, nodes=3) as envs:
        envs.reset(seed=1)
        envs.set_attr("level", [1, 2, 3, 4, 5])
        assert envs.get_attr("level") == (1, 2, 3, 4, 5) == envs.call("level")
        assert envs.call("add", a=2, b=3) == (5.0,) * 5
        assert envs.get_env_attr(3, "level") == 4 and envs.call_env(4, "add", a=1, b=1) == 2.0
        envs.call_env(3, "log", text="said here")
        assert "said here" in envs.log(3) and "said here" not in envs.log(2)
        with pytest.raises(rollcage.errors.UnsupportedError):
            envs.get_attr("nothing-of-this-name")
        with pytest.raises(AttributeError):
            envs.call("nothing-of-this-name")
    with rollcage.ray.make_vec("cartpole", 5, nodes=3, render_mode="rgb_array", seed=1) as envs:
        envs.reset()
        pictures = envs.render()
        assert len(pictures) == 5 and pictures[4].shape[2] == 3
        with rollcage.make_vec("cartpole", 5, render_mode="rgb_array", seed=1) as here:
            here.reset()
            same(pictures, here.render())


@long
def test_snapshots_go_everywhere_and_branches_stay(raylets: Raylets) -> None:
    with rollcage.ray.make_vec("cartpole", ENVS, nodes=3, seed=6) as envs:
        envs.reset()
        for turn in range(5):
            envs.step(np.full(ENVS, turn % 2))
        snapshot = envs.snapshot(6)
        observations = envs.restore(0, snapshot)
        assert np.array_equal(observations[0], observations[6])
        assert not np.array_equal(observations[0], observations[1])
        with envs.branch(6, 3) as copies:
            assert isinstance(copies, rollcage.ray.VectorEnv) and copies.num_envs == 3
            one = copies.step([0, 0, 1])[0]
            assert np.array_equal(one[0], one[1]) and not np.array_equal(one[0], one[2])
            observations = envs.write_back(2, [5], source=copies)
            assert np.array_equal(observations[5], one[2])
            with pytest.raises(rollcage.UsageError, match="another node"):
                envs.write_back(2, [0], source=copies)
        assert envs.step(np.zeros(ENVS, np.int64))[1].sum() == ENVS


@long
def test_a_plugin_of_a_class_travels(raylets: Raylets) -> None:
    """An env in Python is bundled here, and neither its module nor numpy is needed there."""
    given: dict[str, Any] = {"seed": 3}
    with (
        rollcage.ray.make_vec("CartPole-v1", 2, nodes=2, **given) as envs,
        rollcage.make_vec("CartPole-v1", 2, **given) as here,
    ):
        same(envs.reset(), here.reset())
        same(envs.step([0, 1]), here.step([0, 1]))
        assert envs.digest == here.digest


# ── What is refused ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_grants_are_checked_on_each_node_before_anything_starts(raylets: Raylets, tmp_path: Path) -> None:
    with pytest.raises(rollcage.UsageError, match=r"on node .*no-such-folder"):
        rollcage.ray.make_vec("cartpole", 3, nodes=3, grants=[f"dir={tmp_path}/no-such-folder:/data"])
    with pytest.raises(rollcage.UsageError, match="config `nothing`"):
        rollcage.ray.make_vec("cartpole", 3, nodes=3, config={"nothing": 1})


@long
def test_what_is_missing_is_named(raylets: Raylets) -> None:
    begun = time.monotonic()
    with pytest.raises(rollcage.UsageError, match="5 hosts") as caught:
        rollcage.ray.make_vec("cartpole", 5, nodes=5, placement_timeout=2)
    assert time.monotonic() - begun < 40
    assert "Ray has 4 nodes" in str(caught.value) and "ray start" in str(caught.value)
    for nodes, words in ((8, "8 nodes for 7"), ([3, 3], "shares of 6"), ("all", "'auto'")):
        with pytest.raises(rollcage.UsageError, match=words):
            rollcage.ray.make_vec("cartpole", ENVS, nodes=nodes)
    with pytest.raises(rollcage.UsageError, match="copy=False"):
        rollcage.ray.make_vec("cartpole", ENVS, copy=False)
    with rollcage.ray.make_vec("cartpole", 4, nodes=4, strategy="PACK", cpus_per_node=0.25) as envs:
        assert envs.reset(seed=1)[0].shape == (4, 4)


# ── A node that dies ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["next-step", pytest.param("same-step", marks=long)])
def test_a_killed_node_is_a_fault_of_its_envs(raylets: Raylets, mode: str) -> None:
    with (
        rollcage.make_vec("cartpole", ENVS, seed=8, autoreset_mode=mode) as here,
        rollcage.ray.make_vec("cartpole", ENVS, nodes=3, seed=8, autoreset_mode=mode) as envs,
    ):
        envs.reset()
        here.reset()
        actions = np.arange(ENVS) % 2
        for _ in range(5):
            envs.step(actions)
            here.step(actions)
        raylets.kill(short_id(envs.node_names[1]))
        begun = time.monotonic()
        observations, rewards, terminations, truncations, infos = envs.step(actions)
        assert time.monotonic() - begun < 30
        here.step(actions)
        assert truncations[3:5].all() and not terminations[3:5].any()
        assert infos["fault"][3:5].tolist() == ["node_lost"] * 2 and "is gone" in infos["fault_message"][3]
        assert not infos["_fault"][[0, 1, 2, 5, 6]].any()
        # The others are whole, step by step.
        for _ in range(40):
            step, theirs = envs.step(actions), here.step(actions)
            for column in range(4):
                same(step[column][[0, 1, 2, 5, 6]], theirs[column][[0, 1, 2, 5, 6]])
        assert envs.digest is None and not envs.portable
        assert [digest is None for digest in envs.digests] == [env in (3, 4) for env in range(ENVS)]
        assert [envs.digests[env] for env in (0, 6)] == [here.digests[env] for env in (0, 6)]
        assert envs.instances == [0, 0, 0, 1, 1, 0, 0]
        fault = next(fault for fault in envs.faults if fault.env == 4)
        assert (fault.kind, fault.instance, fault.step) == ("node_lost", 0, 5)


@long
def test_lost_envs_are_masked_until_they_are_reset(raylets: Raylets) -> None:
    with rollcage.ray.make_vec("cartpole", ENVS, nodes=3, seed=8, on_fault="mask") as envs:
        envs.reset()
        actions = np.zeros(ENVS, np.int64)
        envs.step(actions)
        raylets.kill(short_id(envs.node_names[2]))
        infos = envs.step(actions)[4]
        assert infos["fault"][5:].tolist() == ["node_lost"] * 2
        rewards, infos = envs.step(actions)[1], envs.step(actions)[4]
        assert infos["masked"].tolist() == [False] * 5 + [True] * 2 and rewards[5:].tolist() == [0, 0]
        mask = np.zeros(ENVS, np.bool_)
        mask[6] = True
        envs.reset(options={"reset_mask": mask})
        rewards, infos = (envs.step(actions)[index] for index in (1, 4))
        assert rewards[6] == 1 and rewards[5] == 0
        assert infos["masked"].tolist() == [False] * 5 + [True, False]
        envs.reset()
        assert envs.step(actions)[1].tolist() == [1.0] * ENVS


@long
def test_a_lost_node_is_raised(raylets: Raylets) -> None:
    with rollcage.ray.make_vec("cartpole", ENVS, nodes=3, seed=8, on_fault="raise") as envs:
        envs.reset()
        actions = np.zeros(ENVS, np.int64)
        raylets.kill(short_id(envs.node_names[0]))
        with pytest.raises(rollcage.FaultError) as caught:
            envs.step(actions)
        assert (caught.value.fault.env, caught.value.fault.kind) == (0, "node_lost")
        assert envs.last()[1].tolist() == [0.0] * 3 + [1.0] * 4
        with pytest.raises(rollcage.UsageError, match="must be reset"):
            envs.step(actions)
        envs.reset()
        assert envs.step(actions)[1].tolist() == [1.0] * ENVS


@long
def test_losses_are_absorbed_within_a_budget(raylets: Raylets) -> None:
    with rollcage.ray.make_vec("cartpole", 3, nodes=3, seed=8, node_losses=0) as envs:
        envs.reset()
        raylets.kill(short_id(envs.node_names[0]))
        with pytest.raises(rollcage.FaultError, match="node_losses"):
            envs.step([0, 0, 0])


@long
def test_a_loss_is_told_by_recv_too(raylets: Raylets) -> None:
    with rollcage.ray.make_vec("cartpole", ENVS, nodes=3, seed=8) as envs:
        envs.reset()
        raylets.kill(short_id(envs.node_names[1]))
        envs.send(np.zeros(2, np.int64), [0, 3])
        told: dict[int, str | None] = {}
        while len(told) < 2:
            infos = envs.recv(timeout=40)[4]
            faults = infos.get("fault", [None] * len(infos["env_id"]))
            told.update(zip(infos["env_id"].tolist(), faults, strict=True))
        assert told[3] == "node_lost" and not told[0]
        envs.send(np.zeros(2, np.int64), [3, 4])
        infos = envs.recv(2, timeout=60)[4]
        # The one that was told is reset; the other is told with its reset.
        assert infos["env_id"].tolist() == [3, 4] and infos["fault"].tolist()[1] == "node_lost"


# ── Recordings ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_recordings_of_nodes_are_replayed_as_one(raylets: Raylets, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with rollcage.ray.make_vec("cartpole", ENVS, nodes=3, seed=8, record=folder) as envs:
        envs.reset()
        envs.rollout("random", 50)
        digest = envs.digest
        receipts = envs.finish_recording()
    assert len(set(receipts)) == 3 and all(receipts)
    assert sorted(one.name for one in folder.iterdir()) == ["envs-00000-00002", "envs-00003-00004", "envs-00005-00006"]
    ran = subprocess.run([str(_program.path()), "replay", str(folder)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("identical: 350 steps") and digest in ran.stdout


def test_nothing_is_left(raylets: Raylets) -> None:
    envs = rollcage.ray.make_vec("cartpole", 3, nodes=3)
    envs.reset(seed=1)
    pids = [pid for pid in envs.pids if pid is not None]
    assert len(pids) == 3 and all(alive(pid) for pid in pids)
    envs.close()
    envs.close()
    until = time.monotonic() + 20
    while any(alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in pids)
    with pytest.raises(rollcage.errors.ClosedError):
        envs.step([0, 0, 0])
