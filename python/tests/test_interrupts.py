"""Ctrl-C, and `close` from another thread, in every wait: each would last for minutes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TARGET, hostile, kill, slow, workers

import rollcage

#: Seconds that nobody waits for.
LONG = 600.0
#: Seconds after which a wait that should have ended has not, on a busy machine.
HANG = 60


@pytest.fixture(autouse=True)
def no_call_hangs() -> Iterator[None]:
    def hangs(*_: object) -> None:
        raise TimeoutError(f"a call hangs: no answer for {HANG} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.setitimer(signal.ITIMER_REAL, HANG)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def interrupted(call: Callable[[], Any], after: float = 0.3) -> None:
    """The call raises what Ctrl-C raises."""
    timer = threading.Timer(after, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            call()
    finally:
        timer.cancel()
        timer.join()


def at(call: str, **config: Any) -> dict[str, Any]:
    return {"in_call": call, "at": 0, "length": -1, **config}


def test_compiling_is_interrupted() -> None:
    plugin = TARGET / "smith/crafted/code-slow.wasm"
    interrupted(lambda: rollcage.make_vec(plugin, limits={"compile_timeout": LONG}))
    assert not workers()


def test_describing_is_interrupted() -> None:
    interrupted(lambda: rollcage.make_vec(hostile("describe_loop"), limits={"start_timeout": LONG}), after=1.0)
    assert not workers()


@pytest.mark.parametrize("start", ["fork", "fork-after-create", "spawn"])
def test_creating_is_interrupted(start: str) -> None:
    limits = {"start_timeout": LONG}
    # Compiled before, so that it is this wait.
    rollcage.make_vec(hostile("loop"), config={"at": -1}).close()
    interrupted(lambda: rollcage.make_vec(hostile("loop"), 2, config=at("create"), limits=limits, start=start))
    assert not workers()


def test_services_of_a_run_that_come_up_are_interrupted(tmp_path: Path) -> None:
    grants = tmp_path / "grants.toml"
    grants.write_text(
        "[[service]]\nname = 'late'\nper = 'run'\ncommand = ['/bin/sleep', '1000']\n"
        "ready = { delay = '600s' }\nstop-timeout = '1s'\n"
    )
    rollcage.make_vec("cartpole").close()
    interrupted(lambda: rollcage.make_vec("cartpole", grants=grants))
    assert not workers()


def test_restoring_is_interrupted_and_changes_no_env() -> None:
    envs = rollcage.make_vec(hostile("slow"), 2, config=at("create", **slow(2.0)), seed=1)
    envs.reset()
    envs.step([0, 0])
    snapshot = envs.snapshot(0)
    before = envs.pids, envs.instances, envs.digests
    interrupted(lambda: envs.restore(1, snapshot))
    assert (envs.pids, envs.instances, envs.digests) == before
    np.testing.assert_array_equal(envs.step([1, 1])[0], [[2, 1], [2, 1]])
    envs.close()


def test_a_planned_restart_is_interrupted_and_goes_on() -> None:
    """The guest never says goodbye, and has ten minutes for it."""
    config = at("close") | {"length": 1}
    envs = rollcage.make_vec(hostile("loop"), config=config, recycle_after=1, limits={"close_timeout": LONG})
    envs.reset()
    assert envs.step([0])[2].all()
    interrupted(lambda: envs.step([0]))
    # It is still waited for, by whoever asks next.
    interrupted(lambda: envs.step([0]))
    assert envs.instances == [0]
    envs.close()
    assert not workers()


def test_a_goodbye_is_interrupted_and_all_the_same_the_end() -> None:
    envs = rollcage.make_vec(hostile("loop"), 3, config=at("close"), limits={"close_timeout": LONG})
    envs.reset()
    interrupted(envs.close)
    assert envs.closed and not workers()


def test_a_call_while_an_env_comes_up_after_a_fault_is_interrupted() -> None:
    envs = rollcage.make_vec(hostile("slow"), config=at("create", **slow(2.0)))
    envs.reset()
    kill(envs)
    while envs.pids[0] is not None:
        pass
    assert envs.step([0])[4]["fault"][0]
    interrupted(lambda: envs.call("anything"), after=0.2)
    assert envs.step([0])[0].tolist() == [[0, -1]] and envs.instances == [1]
    envs.close()


def test_close_ends_what_another_thread_waits_for() -> None:
    """Not a step alone: here a restore."""
    envs = rollcage.make_vec(hostile("slow"), config=at("create", **slow(2.0)))
    envs.reset()
    envs.step([0])
    snapshot = envs.snapshot(0)
    raised: list[BaseException] = []

    def restore() -> None:
        try:
            envs.restore(0, snapshot)
        except rollcage.ClosedError as error:
            raised.append(error)

    waiting = threading.Thread(target=restore)
    waiting.start()
    # It is under way when a second process is there.
    while len(workers()) < 3 and waiting.is_alive():
        pass
    envs.close()
    waiting.join(HANG)
    assert len(raised) == 1 and not workers()
