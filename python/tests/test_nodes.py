"""The calls over several hosts without a cluster: hosts in threads of this process, late, silent and lost when a test says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import pytest

import rollcage
from rollcage import _nodes, vector
from rollcage import _rollcage as native
from rollcage import _sources as sources
from rollcage._host import Host, Outcome, Plugin
from rollcage._nodes import Link, LostError, Nodes, shares_of


class Machine:
    """A host in a thread, and what a test does to it."""

    def __init__(self) -> None:
        self.host, self.queue = Host(), ThreadPoolExecutor(1)
        #: Seconds before each answer.
        self.late = 0.0
        self.gone = threading.Event()
        self.silent = threading.Event()

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        """Does something in the host's order; its answer comes when the machine gives it."""
        answer: Future[Any] = Future()

        def run() -> None:
            time.sleep(self.late)
            if self.silent.is_set():
                return
            if self.gone.is_set():
                answer.set_exception(LostError("it was switched off"))
                return
            answer.set_result(work())

        self.queue.submit(run)
        return answer


class Machines:
    """An engine of machines in this process."""

    def __init__(self, given: dict[str, Any], shares: Sequence[int]) -> None:
        self.plugin = native.opened(given.pop("plugin"), sources.options())
        self.given, self.closed = given, False
        self.machines: list[Machine] = []
        self.links: list[Link] = []
        #: Machines that are lost before they have started.
        self.bad_starts = 0
        first = 0
        for number, envs in enumerate(shares):
            machine = self.start(first, envs, 0)
            self.links.append(Link(first, envs, machine, f"machine {number}"))
            first += envs
        self.known = self.links[0].host.host._parts[0].known

    def start(self, first: int, envs: int, first_instance: int) -> Machine:
        machine = Machine()
        given = {**self.given, "num_envs": envs, "first_env": first, "first_instance": first_instance}
        if len(given["configs"]) > 1:
            given["configs"] = given["configs"][first : first + envs]
        plugin = Plugin(self.plugin.name, self.plugin.in_python, self.plugin.to_bytes())
        for outcome in (machine.host.assemble(given, plugin, None, "."), machine.host.ask(0, "start")):
            if outcome.error is not None:
                raise outcome.error
        self.machines.append(machine)
        return machine

    def ask(self, host: Machine, part: int, call: str, *given: Any) -> Future[Any]:
        return host.submit(lambda: host.host.ask(part, call, *given))

    def ping(self, host: Machine) -> Future[Any]:
        answer: Future[Any] = Future()
        if host.gone.is_set():
            answer.set_exception(LostError("it was switched off"))
        elif not host.silent.is_set():
            answer.set_result(Outcome())
        return answer

    def wait(self, tokens: Sequence[Future[Any]], many: int, timeout: float | None) -> list[Future[Any]]:
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            done = [token for token in tokens if token.done()]
            left = None if until is None else until - time.monotonic()
            if len(done) >= many or (left is not None and left <= 0):
                return done
            wait([token for token in tokens if not token.done()], timeout=left, return_when=FIRST_COMPLETED)

    def take(self, token: Future[Any]) -> Any:
        return token.result()

    def replace(self, link: Link, first_instance: int) -> tuple[Machine, str]:
        if self.bad_starts > 0:
            self.bad_starts -= 1
            raise LostError("no machine is free")
        return self.start(link.first, link.envs, first_instance), f"machine {len(self.machines)}"

    def give_up(self, host: Machine) -> None:
        host.gone.set()

    def close(self) -> None:
        self.closed = True
        for machine in self.machines:
            for part in machine.host._parts.values():
                part.envs.close()
            machine.queue.shutdown(wait=False)


class Spread(vector.VectorEnv):
    """A `VectorEnv` over machines."""

    engine: Machines

    def __init__(self, shares: Sequence[int], losses: int = 3, **given: Any) -> None:
        self._spread, self._losses = shares, losses
        super().__init__("cartpole", sum(shares), **given)

    def _made(self, given: dict[str, Any], copy: bool) -> Any:
        self.engine = Machines(given, self._spread)
        mode, on_fault = given["autoreset_mode"], given["on_fault"]
        return Nodes(
            self.engine, self.engine.links, self.engine.known, mode=mode, on_fault=on_fault, losses=self._losses
        )


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Silence is noticed in tenths of seconds."""
    monkeypatch.setattr(_nodes, "QUIET", 0.2)
    monkeypatch.setattr(_nodes, "PATIENCE", 1.0)
    yield


ACTIONS = np.arange(5) % 2


def test_shares_are_even_with_the_rest_first() -> None:
    assert shares_of(7, 3) == [3, 2, 2]
    assert shares_of(1024, 3) == [342, 341, 341]
    assert shares_of(3, 3) == [1, 1, 1]


def test_late_machines_are_waited_for() -> None:
    with Spread([2, 2, 1], seed=4) as envs, rollcage.make_vec("cartpole", 5, seed=4) as here:
        envs.engine.machines[1].late = 0.7  # longer than it takes to be asked whether it is there
        assert np.array_equal(envs.reset()[0], here.reset()[0])
        for _ in range(3):
            for ours, theirs in zip(envs.step(ACTIONS)[:4], here.step(ACTIONS)[:4], strict=True):
                assert np.array_equal(ours, theirs)
        assert envs.digest == here.digest


def test_calls_go_to_the_machine_of_their_env() -> None:
    config = [{"sutton_barto_reward": env % 2 == 1} for env in range(5)]
    with (
        Spread([2, 2, 1], seed=4, config=config) as envs,
        rollcage.make_vec("cartpole", 5, seed=4, config=config) as here,
    ):
        assert envs.configs == config and len(set(envs.pids)) == 5
        with pytest.raises(rollcage.UsageError, match="env 0 must be reset"):
            envs.step(ACTIONS)
        envs.reset()
        here.reset()
        with pytest.raises(rollcage.UsageError, match="env 4: action"):
            envs.step([0, 0, 0, 0, 2])
        for _ in range(3):
            assert np.array_equal(envs.step(ACTIONS)[0], here.step(ACTIONS)[0])
        assert np.array_equal(envs.render_env(4), here.render_env(4))
        snapshot = envs.snapshot(4)
        assert np.array_equal(envs.restore(0, snapshot), here.restore(0, snapshot))
        assert np.array_equal(envs.step(ACTIONS)[0], here.step(ACTIONS)[0])
        with envs.branch(3, 2) as copies:
            one = copies.step([0, 1])[0]
            assert not np.array_equal(one[0], one[1])
            assert np.array_equal(envs.write_back(1, 2, source=copies)[2], one[1])
            with pytest.raises(rollcage.UsageError, match="another node"):
                envs.write_back(1, 0, source=copies)
        mask = np.array([False, True, False, False, True])
        assert np.array_equal(
            envs.reset(options={"reset_mask": mask})[0][mask], here.reset(options={"reset_mask": mask})[0][mask]
        )
        assert np.array_equal(
            envs.rollout("random", 20).rewards[:, [0, 1, 4]], here.rollout("random", 20).rewards[:, [0, 1, 4]]
        )
        with pytest.raises(rollcage.UsageError, match="no step was begun"):
            envs.step_wait()


def test_the_first_ready_machine_answers_first() -> None:
    with Spread([2, 2, 1], seed=4) as envs:
        envs.reset()
        envs.engine.machines[0].late = 1.0
        envs.send(ACTIONS, range(5))
        first = envs.recv()[4]["env_id"].tolist()
        assert 0 not in first and 1 not in first
        rest = envs.recv(5)[4]["env_id"].tolist()
        assert sorted(first + rest) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("mode", ["next-step", "same-step", "disabled"])
@pytest.mark.parametrize("silent", [False, True])
def test_a_machine_that_is_lost_or_silent_is_told(mode: str, silent: bool) -> None:
    with Spread([2, 2, 1], seed=4, autoreset_mode=mode) as envs:
        envs.reset()
        before = envs.step(ACTIONS)[0]
        machine = envs.engine.machines[1]
        (machine.silent if silent else machine.gone).set()
        begun = time.monotonic()
        observations, rewards, terminations, truncations, infos = envs.step(ACTIONS)
        assert time.monotonic() - begun < 10
        assert truncations.tolist() == [False, False, True, True, False] and not terminations.any()
        assert infos["fault"].tolist()[2:4] == ["node_lost"] * 2
        assert rewards.tolist() == [1, 1, 0, 0, 1]
        words = "not said" if silent else "switched off"
        assert words in envs.faults[0].message and envs.faults[0].step == 1
        if mode == "same-step":
            assert np.array_equal(np.stack(infos["final_obs"][2:4]), before[2:4])
            assert not np.array_equal(observations[2:4], before[2:4])
        else:
            assert np.array_equal(observations[2:4], before[2:4])
        if mode == "disabled":
            with pytest.raises(rollcage.UsageError, match="env 2 cannot be stepped"):
                envs.step(ACTIONS)
            envs.reset(options={"reset_mask": truncations})
        rewards = envs.step(ACTIONS)[1]
        assert rewards[[0, 1, 4]].tolist() == [1, 1, 1]
        if mode != "next-step":  # where that step was their reset
            assert rewards[2:4].tolist() == [1, 1]
        assert envs.step(ACTIONS)[1].tolist() == [1.0] * 5
        assert envs.instances == [0, 0, 1, 1, 0]
        assert [digest is None for digest in envs.digests] == [False, False, True, True, False]
        assert envs.digest is None


def test_a_machine_in_its_place_may_be_lost_too() -> None:
    with Spread([2, 2, 1], seed=4) as envs:
        envs.reset()
        envs.engine.machines[1].gone.set()
        envs.engine.bad_starts = 2
        envs.step(ACTIONS)
        assert envs.step(ACTIONS)[1].tolist() == [1, 1, 0, 0, 1]
        assert envs.instances == [0, 0, 1, 1, 0]
    with Spread([2, 2, 1], losses=2, seed=4) as envs:
        envs.reset()
        envs.engine.machines[1].gone.set()
        envs.engine.bad_starts = 9
        envs.step(ACTIONS)
        with pytest.raises(rollcage.FaultError, match="no machine is free.*node_losses"):
            envs.step(ACTIONS)


def test_a_call_tells_a_loss_and_the_next_step_is_not_run() -> None:
    with Spread([2, 2, 1], seed=4) as envs:
        envs.reset()
        envs.engine.machines[2].gone.set()
        with pytest.raises(rollcage.FaultError) as caught:
            envs.render_env(4)
        assert (caught.value.fault.env, caught.value.fault.kind) == (4, "node_lost")
        infos = envs.step(ACTIONS)[4]
        assert infos["fault"].tolist()[4] == "node_lost"
        assert len(envs.faults) == 1


def test_every_machine_may_be_lost_at_once() -> None:
    with Spread([1, 1, 1], seed=4) as envs:
        envs.reset()
        for machine in envs.engine.machines:
            machine.gone.set()
        infos = envs.step(ACTIONS[:3])[4]
        assert infos["fault"].tolist() == ["node_lost"] * 3
        envs.step(ACTIONS[:3])
        assert envs.step(ACTIONS[:3])[1].tolist() == [1.0] * 3


def test_a_loss_in_a_reset_is_in_the_resets_row() -> None:
    with Spread([2, 2, 1], seed=4) as envs:
        envs.engine.machines[0].gone.set()
        observations, infos = envs.reset(seed=9)
        assert infos["fault"].tolist()[:2] == ["node_lost"] * 2
        with rollcage.make_vec("cartpole", 5, seed=9) as here:
            assert np.array_equal(observations, here.reset(seed=9)[0])
        assert envs.step(ACTIONS)[1].tolist() == [1.0] * 5


def test_an_interrupted_step_is_taken_up_again() -> None:
    with Spread([2, 2, 1], seed=4) as envs, rollcage.make_vec("cartpole", 5, seed=4) as here:
        envs.reset()
        here.reset()
        envs.engine.machines[0].late = 0.5
        envs.step_async(ACTIONS)
        real, envs.engine.wait = envs.engine.wait, _interrupted  # type: ignore[method-assign,assignment]
        with pytest.raises(KeyboardInterrupt):
            envs.step_wait()
        envs.engine.wait = real  # type: ignore[method-assign]
        assert np.array_equal(envs.step_wait()[0], here.step(ACTIONS)[0])
        assert envs.digest == here.digest


def _interrupted(*_: Any) -> Any:
    raise KeyboardInterrupt


def test_closing_ends_the_engine() -> None:
    envs = Spread([1, 1], seed=4)
    envs.reset()
    copies = envs.branch(1, 2)
    copies.close()
    assert not envs.engine.closed
    envs.close()
    assert envs.engine.closed
