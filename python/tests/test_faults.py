"""What goes wrong with an env, case by case: the table in `docs/coming-from-subprocvecenv.md`, whose column of ours is what these
tests found. `ROLLCAGE_UPDATE=1` rewrites it.

The cases are those in which Stable-Baselines3's `SubprocVecEnv` and Gymnasium's `AsyncVectorEnv` were measured: four envs, the
last one bad at its third step. No call here may hang.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import alive, hostile, kill, slow, twin, workers

import rollcage

ENVS, BAD = 4, 3
GOOD = {"at": -1, "length": -1}
#: Seconds of a slow step.
SLOW = 0.8
#: Seconds without an answer that count as hanging: an answer takes one slow step, and much longer on a busy machine.
HANG = 40 * SLOW

GUIDE = Path(__file__).resolve().parents[2] / "docs/coming-from-subprocvecenv.md"
#: What each case came to, in the words of the table.
FOUND: dict[str, str] = {}


def make(guest: str, **kwargs: Any) -> rollcage.VectorEnv:
    """Four envs, the last of which misbehaves at its third step; the observation is its own step number and action."""
    bad = {"at": 2, "length": -1, **(slow(SLOW) if guest == "slow" else {})}
    config = [GOOD if env != BAD else bad for env in range(ENVS)]
    return rollcage.make_vec(hostile(guest), ENVS, config=config, seed=1, **kwargs)


@pytest.fixture(autouse=True)
def no_call_hangs() -> Iterator[None]:
    def hangs(*_: object) -> None:
        raise TimeoutError(f"a call hangs: no answer for {HANG} s")

    before = signal.signal(signal.SIGALRM, hangs)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def answers() -> Iterator[None]:
    """Within the time that counts as hanging."""
    signal.setitimer(signal.ITIMER_REAL, HANG)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


ZEROS = np.zeros(ENVS, np.int64)


def goes_on(envs: rollcage.VectorEnv, met: Any, kind: str, message: str) -> None:
    """The step that met a fault, and what follows: the fault is named, the others have stepped, the env starts anew."""
    observations, rewards, terminations, truncations, infos = met
    assert infos["_fault"].tolist() == [False, False, False, True]
    assert infos["fault"][BAD] == kind
    assert message in infos["fault_message"][BAD]
    assert truncations.tolist() == [False, False, False, True] and not terminations.any()
    assert rewards.tolist() == [1.0, 1.0, 1.0, 0.0]
    # The bad env's is the last one that it gave.
    assert observations[:, 0].tolist() == [3, 3, 3, 2]
    with answers():
        observations, _, _, truncations, infos = envs.step(ZEROS)
    assert observations.tolist() == [[4, 0], [4, 0], [4, 0], [0, -1]] and not truncations.any() and "fault" not in infos
    with answers():
        observations, *_ = envs.step(ZEROS)
    assert observations[:, 0].tolist() == [5, 5, 5, 1]
    with answers():
        assert envs.reset(seed=1)[0][:, 0].tolist() == [0] * ENVS
    assert envs.instances == [0, 0, 0, 1] and [fault.kind for fault in envs.faults] == [kind]
    assert (envs.faults[0].env, envs.faults[0].episode, envs.faults[0].step) == (BAD, 0, 2)
    with answers():
        envs.close()


def raises(guest: str, error: type[rollcage.FaultError], **kwargs: Any) -> None:
    """The same with `on_fault="raise"`: the call raises once the others have answered, and no answer is lost."""
    envs = make(guest, on_fault="raise", **kwargs)
    envs.reset()
    envs.step(ZEROS)
    envs.step(ZEROS)
    with answers(), pytest.raises(error, match="env 3 .*episode 0, step 2") as raised:
        envs.step(ZEROS)
    assert raised.value.fault.env == BAD and isinstance(raised.value, rollcage.FaultError)
    assert envs.last()[0][:, 0].tolist() == [3, 3, 3, 2]
    envs.close()


def third_step(guest: str, **kwargs: Any) -> tuple[rollcage.VectorEnv, Any]:
    envs = make(guest, **kwargs)
    with answers():
        envs.reset()
    for _ in range(2):
        with answers():
            envs.step(ZEROS)
    with answers():
        met = envs.step(ZEROS)
    return envs, met


def killed(how: signal.Signals) -> None:
    envs = make("slow")
    envs.reset()
    envs.step(ZEROS)
    envs.step(ZEROS)
    envs.step_async(ZEROS)
    time.sleep(0.1)
    kill(envs, BAD, how)
    if how == signal.SIGSEGV:
        # Rust's handler takes the first, in case it is a stack overflow, and sets the default back: a real one comes again. At
        # an instruction that reaches for memory wasmtime's handler takes it for the guest's, and ends the worker at once.
        time.sleep(0.1)
        if envs.pids[BAD] is not None:
            kill(envs, BAD, how)
    with answers():
        met = envs.step_wait()
    goes_on(envs, met, "signalled", f"signal {how.value} ({how.name})")


def test_worker_killed_in_a_step() -> None:
    killed(signal.SIGKILL)
    FOUND["worker killed (SIGKILL) mid-step"] = (
        "fault `signalled` names env and step; the env is started anew, the others have stepped"
    )


def test_segmentation_fault() -> None:
    killed(signal.SIGSEGV)
    goes_on(*third_step("trap"), "trap", "unreachable")
    FOUND["segfault"] = (
        "of the worker: fault `signalled`, as above; in an env it is a trap: fault `trap`, with a backtrace"
    )


def test_exit_in_a_step() -> None:
    goes_on(*third_step("exit"), "exited", "")
    raises("exit", rollcage.WorkerError)
    FOUND["`os._exit(1)` in step"] = "fault `exited`, as above"


def test_error_in_a_step() -> None:
    goes_on(*third_step("fail"), "guest_failed", "")
    raises("fail", rollcage.GuestError)
    envs, met = third_step("panic")
    assert "panicked" in envs.faults[0].message + envs.faults[0].log and envs.faults[0].backtrace
    goes_on(envs, met, "trap", "")
    FOUND["exception in step"] = (
        "fault `guest_failed` with the env's message, or `trap` with a panic's backtrace; the env is started anew"
    )


def test_endless_loop() -> None:
    envs, met = third_step("loop", limits={"step_timeout": 0.3})
    goes_on(envs, met, "step_timeout", "0.3 s")
    raises("loop", rollcage.FaultTimeoutError, limits=rollcage.Limits(step_timeout=0.3))
    FOUND["endless loop in step"] = (
        "fault `step_timeout` after 10 s, or as given; the worker is killed, the env started anew"
    )


def test_endless_memory() -> None:
    goes_on(*third_step("memory"), "memory", "")
    raises("memory", rollcage.FaultLimitError)
    FOUND["20 GB allocation in step"] = "fault `memory` at 256 MiB, or as given; the env is started anew"


def test_fault_that_masks() -> None:
    envs, met = third_step("fail", on_fault="mask")
    assert met[4]["fault"][BAD] == "guest_failed" and met[4]["masked"][BAD]
    for _ in range(3):
        observations, rewards, _, truncations, infos = envs.step(ZEROS)
        assert infos["masked"].tolist() == [False, False, False, True] and "fault" not in infos
        assert rewards[BAD] == 0.0 and not truncations[BAD] and observations[BAD, 0] == 2
    assert envs.reset()[0][:, 0].tolist() == [0] * ENVS
    assert "masked" not in envs.step(ZEROS)[4]
    envs.close()


@pytest.mark.parametrize("on_fault", ["restart", "mask"])
def test_fault_as_stable_baselines3_sees_it(on_fault: str) -> None:
    pytest.importorskip("stable_baselines3")
    from rollcage.sb3 import VecEnv

    bad = {"at": 2, "length": -1}
    envs = VecEnv(hostile("fail"), ENVS, config=[GOOD, GOOD, GOOD, bad], seed=1, on_fault=on_fault)
    envs.reset()
    envs.step(ZEROS)
    envs.step(ZEROS)
    observations, rewards, dones, infos = envs.step(ZEROS)
    assert dones.tolist() == [False, False, False, True] and rewards.tolist() == [1, 1, 1, 0]
    assert infos[BAD]["fault"] == "guest_failed" and infos[BAD]["TimeLimit.truncated"] is True
    assert infos[BAD]["terminal_observation"].tolist() == [2, 0] and "episode" not in infos[BAD]
    assert infos[0] == {"TimeLimit.truncated": False}
    # The next episode's first observation, or the last that there was.
    assert observations[BAD].tolist() == ([0, -1] if on_fault == "restart" else [2, 0])
    observations, _, dones, infos = envs.step(ZEROS)
    assert not dones.any()
    if on_fault == "restart":
        assert observations[BAD].tolist() == [1, 0] and infos[BAD] == {"TimeLimit.truncated": False}
    else:
        assert infos[BAD] == {"masked": True, "TimeLimit.truncated": False}
    envs.close()


def test_fault_of_a_single_env() -> None:
    """Its info tells of a fault in a reset, too, and has nothing left of the step before a fault."""
    env = rollcage.Env(hostile("fail"), config={"in_call": "reset", "episode": 1, "at": 0})
    assert env.reset(seed=1)[1] == {}
    info = env.reset()[1]
    assert info["fault"] == "guest_failed" and info["fault_message"]
    env.close()
    env = rollcage.Env(twin("rich"), seed=1)
    env.reset()
    infos = [env.step([0, 0])[4] for _ in range(3)]
    assert ["note" in info for info in infos] == [False, False, True]
    kill(env.envs)
    *_, truncated, info = env.step([0, 0])
    assert truncated and set(info) == {"fault", "fault_message"}
    env.close()


def test_error_when_made() -> None:
    with answers(), pytest.raises(rollcage.RollcageError) as raised:
        rollcage.make_vec(hostile("create_fail"), ENVS)
    assert "create" in str(raised.value).lower()
    assert not workers()
    FOUND["exception in the constructor"] = "raised where the envs are made, with the env's message; nothing is left"


def interrupt_after(seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    return timer


@pytest.mark.parametrize("sb3", [False, True], ids=["gymnasium", "stable-baselines3"])
def test_interrupted_step(sb3: bool) -> None:
    config = [GOOD, GOOD, GOOD, {"at": 2, "length": -1, **slow(SLOW)}]
    if sb3:
        pytest.importorskip("stable_baselines3")
        from rollcage.sb3 import VecEnv

        envs: Any = VecEnv(hostile("slow"), ENVS, config=config)
    else:
        envs = make("slow")
    envs.reset()
    envs.step(ZEROS)
    envs.step(ZEROS)
    timer = interrupt_after(0.1)
    with answers(), pytest.raises(KeyboardInterrupt):
        envs.step(ZEROS)
    timer.join()
    # The answer to the third action is the third step's, and nobody's any more.
    for number in (4, 5, 6):
        with answers():
            observations = envs.step(np.ones(ENVS, np.int64))[0]
        assert observations.tolist() == [[number, 1]] * ENVS
    with answers():
        observations = envs.reset() if sb3 else envs.reset()[0]
    assert observations.tolist() == [[0, -1]] * ENVS
    envs.close()
    FOUND["a slow step is interrupted (Ctrl-C), then stepping goes on"] = (
        "KeyboardInterrupt within 20 ms; the next call first waits for that step's answer, which nobody gets: never a stale one"
    )


def test_interrupted_wait_goes_on_where_it_was() -> None:
    envs = make("slow")
    envs.reset()
    envs.step(ZEROS)
    envs.step(ZEROS)
    envs.step_async(ZEROS)
    timer = interrupt_after(0.1)
    with pytest.raises(KeyboardInterrupt):
        envs.step_wait()
    timer.join()
    assert envs.step_wait()[0].tolist() == [[3, 0]] * ENVS
    envs.close()


def test_interrupted_call() -> None:
    """`render` and `call` are interrupted, too; their answer is nobody's."""
    envs = rollcage.make_vec(
        hostile("slow"), 1, config={"in_call": "render", "at": 0, "length": -1, **slow(SLOW)}, render_mode="rgb_array"
    )
    envs.reset()
    timer = interrupt_after(0.1)
    with answers(), pytest.raises(KeyboardInterrupt):
        envs.render()
    timer.join()
    with answers():
        assert envs.step([1])[0].tolist() == [[1, 1]]
    envs.close()


def test_wait_with_a_time_limit() -> None:
    envs = make("slow")
    envs.reset()
    envs.step(ZEROS)
    envs.step(ZEROS)
    envs.send(ZEROS, range(ENVS))
    observations, *_, infos = envs.recv(min_ready=ENVS, timeout=0.1)
    assert infos["env_id"].tolist() == [0, 1, 2] and observations[:, 0].tolist() == [3, 3, 3]
    # The others go on; the late one's answer is that to its own action.
    envs.send([1, 1], [0, 1])
    got = {}
    while len(got) < 3:
        observations, *_, infos = envs.recv(timeout=HANG)
        got.update(zip(infos["env_id"].tolist(), observations.tolist(), strict=True))
    assert got == {0: [4, 1], 1: [4, 1], BAD: [3, 0]}
    FOUND["`step_wait(timeout=)` fires, then stepping goes on"] = (
        "`recv(timeout=)` returns those that have answered; a late answer belongs to its own action"
    )
    with answers():
        assert envs.reset()[0][:, 0].tolist() == [0] * ENVS
    envs.close()
    FOUND["reset after either"] = "works"


TRAINER = """
import sys, rollcage
envs = rollcage.make_vec("cartpole", 4, seed=1)
envs.reset()
print(*envs.pids, flush=True)
while True:
    envs.step([0, 1, 0, 1])
"""


def test_trainer_killed() -> None:
    trainer = subprocess.Popen([sys.executable, "-c", TRAINER], stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    pids = [int(word) for word in trainer.stdout.readline().split()]
    assert len(pids) == ENVS and all(Path(f"/proc/{pid}").exists() for pid in pids)
    time.sleep(0.2)
    trainer.kill()
    trainer.wait()
    until = time.monotonic() + 1
    while (left := [pid for pid in pids if alive(pid)]) and time.monotonic() < until:
        time.sleep(0.01)
    assert not left
    trainer.stdout.close()
    FOUND["trainer killed (SIGKILL)"] = "no worker is left within 1 s"


def test_spy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The env looks for keys, for a listener on this machine, and for other processes."""
    keys = tmp_path / ".ssh"
    keys.mkdir()
    (keys / "id_rsa").write_text("NOT-A-REAL-KEY planted for the test")
    monkeypatch.setenv("HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        envs = rollcage.make_vec(hostile("probe"), 1)
        envs.reset()
        port = listener.getsockname()[1]
        attempts: list[tuple[str, dict[str, Any]]] = [
            ("read", {"path": str(keys / "id_rsa")}),
            ("read", {"path": "/etc/passwd"}),
            ("read", {"path": f"/proc/{os.getpid()}/environ"}),
            ("list", {"path": "/"}),
            ("write", {"path": str(tmp_path / "planted")}),
            ("connect", {"addr": f"127.0.0.1:{port}"}),
            ("udp", {"addr": f"127.0.0.1:{port}"}),
            ("resolve", {"name": "localhost"}),
            ("process", {}),
        ]
        for method, arguments in attempts:
            (outcome,) = envs.call(method, **arguments)
            assert "error" in outcome, (method, arguments, outcome)
        assert envs.call("environ")[0]["variables"] == []
        with pytest.raises(BlockingIOError):
            listener.accept()
        envs.close()
    assert not (tmp_path / "planted").exists()
    FOUND["env reads `~/.ssh/id_rsa`, sends it over TCP, signals the trainer"] = (
        "nothing is read, nothing is sent; there is nothing to signal with"
    )


def test_the_guide_says_what_was_found(request: pytest.FixtureRequest) -> None:
    """Runs last: the column of ours in the guide's table."""
    cases: list[Callable[[], None]] = [
        item for item in request.session.items if item.fspath.basename == "test_faults.py"
    ]  # type: ignore[misc]
    if len(FOUND) < 12:
        pytest.skip(f"only {len(FOUND)} of 12 cases were run ({len(cases)} tests)")
    text = GUIDE.read_text()
    lines = text.splitlines()
    for number, line in enumerate(lines):
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| ") and cells[0] in FOUND:
            cells[-1] = FOUND.pop(cells[0])
            lines[number] = "| " + " | ".join(cells) + " |"
    assert not FOUND, f"the guide has no row for {list(FOUND)}"
    found = "\n".join(lines) + "\n"
    if os.environ.get("ROLLCAGE_UPDATE"):
        GUIDE.write_text(found)
    assert GUIDE.read_text() == found
