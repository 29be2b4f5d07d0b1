"""Processes, threads, forks, signals, garbage: a VectorEnv in a program that has other things to do."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import alive, hostile, slow, twin, workers

import rollcage


def test_n_envs_are_n_workers() -> None:
    envs = rollcage.make_vec(twin("rich"), 5, seed=1)
    assert len(set(envs.pids)) == 5
    # And what they are copies of, which is no env.
    others = workers() - {pid for pid in envs.pids if pid is not None}
    titles = [Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[2].strip() for pid in others]
    assert titles == ([b"envs"] if envs.started_by == "fork" else [])
    envs.reset()
    assert [envs.log(env).count("created") for env in range(5)] == [1] * 5
    envs.close()
    assert not workers()


def held() -> tuple[int, int, int, int]:
    """Descriptors, threads, children and mappings of shared memory."""
    status = Path("/proc/self/status").read_text()
    threads = int(status.split("Threads:")[1].split()[0])
    slabs = Path("/proc/self/maps").read_text().count("memfd:rollcage")
    return len(os.listdir("/proc/self/fd")), threads, len(workers()), slabs


def test_fifty_made_and_dropped_leave_nothing() -> None:
    rollcage.make_vec("cartpole", 2).close()
    gc.collect()
    before = held()
    for number in range(50):
        envs = rollcage.make_vec("cartpole", 2, seed=number, copy=number % 2 == 0)
        envs.reset()
        envs.step([0, 1])
        if number % 3 == 0:
            envs.close()
        elif number % 3 == 1:
            envs.itself = envs  # type: ignore[attr-defined]  # a cycle, for the garbage collector
        del envs
        gc.collect()
    assert held() == before
    with pytest.raises(rollcage.UsageError):
        rollcage.make_vec("frozenlake", 4, config={"map_name": "9x9"})
    assert held() == before


def in_a_child(work: Any) -> int:
    """Runs it in a forked process; its exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_may_not_use_them() -> None:
    envs = rollcage.make_vec("cartpole", 2, seed=1)
    expected = rollcage.make_vec("cartpole", 2, seed=1)
    envs.reset()
    expected.reset()
    envs.step_async([0, 1])

    def use() -> None:
        for call in (
            lambda: envs.step([0, 1]),
            lambda: envs.step_wait(),
            lambda: envs.reset(),
            lambda: envs.send([0], [0]),
            lambda: envs.recv(),
            lambda: envs.call("anything"),
            lambda: envs.get_attr("anything"),
        ):
            with pytest.raises(rollcage.ForkedError, match="forked"):
                call()
        envs.close()

    def drop() -> None:
        nonlocal envs
        del envs
        gc.collect()

    def make_ones_own() -> None:
        own = rollcage.make_vec("cartpole", 2, seed=1)
        own.reset()
        own.step([0, 1])
        own.close()

    assert in_a_child(use) == 0
    assert in_a_child(drop) == 0
    assert in_a_child(make_ones_own) == 0
    # The parent's have noticed nothing.
    np.testing.assert_array_equal(envs.step_wait()[0], expected.step([0, 1])[0])
    assert envs.instances == [0, 0]
    envs.close()
    expected.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_keeps_nothing_alive() -> None:
    envs = rollcage.make_vec("cartpole", 3, seed=1)
    envs.reset()
    pids = [pid for pid in envs.pids if pid is not None]
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    try:
        assert Path(f"/proc/{child}/maps").read_text().count("memfd:rollcage-slab") == 0
        envs.close()
        del envs
        gc.collect()
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_close_in_a_child_forked_while_another_thread_steps() -> None:
    """The thread that steps is not in the child, and what it had locked stays locked there."""
    envs = rollcage.make_vec(hostile("loop"), 2, config={"at": 0, "length": -1}, limits={"step_timeout": 600.0})
    envs.reset()
    stepping = threading.Thread(target=lambda: pytest.raises(rollcage.ClosedError, envs.step, [0, 0]))
    stepping.start()
    time.sleep(0.2)

    def use() -> None:
        signal.alarm(30)  # which ends a child that hangs
        with pytest.raises(rollcage.ForkedError, match="forked"):
            envs.step([0, 0])
        with pytest.raises(rollcage.ForkedError, match="forked"):
            _ = envs.digest
        envs.close()
        assert envs.closed

    def drop() -> None:
        nonlocal envs
        signal.alarm(30)
        del envs
        gc.collect()

    def make_ones_own() -> None:
        signal.alarm(30)
        own = rollcage.make_vec("cartpole", 2, seed=1)
        own.reset()
        own.close()
        envs.close()

    for _ in range(5):
        assert [in_a_child(work) for work in (use, drop, make_ones_own)] == [0, 0, 0]
    assert stepping.is_alive() and len(workers()) >= 2
    envs.close()
    stepping.join(30)
    assert not stepping.is_alive()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_subproc_vec_env_and_data_loader_beside_ours() -> None:
    pytest.importorskip("stable_baselines3")
    import gymnasium
    import torch.utils.data
    from stable_baselines3.common.vec_env import SubprocVecEnv

    ours = rollcage.make_vec("cartpole", 2, seed=1)
    ours.reset()
    theirs = SubprocVecEnv([lambda: gymnasium.make("CartPole-v1")] * 2, start_method="fork")
    theirs.reset()
    loader = torch.utils.data.DataLoader(range(8), num_workers=2, multiprocessing_context="fork")  # type: ignore[arg-type]
    for _ in range(3):
        assert len(list(loader)) == 8
        ours.step([0, 1])
        theirs.step(np.array([0, 1]))
    theirs.close()
    ours.step([0, 1])
    assert ours.instances == [0, 0]
    ours.close()


def test_made_in_one_thread_and_used_in_another() -> None:
    made: list[rollcage.VectorEnv] = []
    thread = threading.Thread(target=lambda: made.append(rollcage.make_vec("cartpole", 3, seed=1)))
    thread.start()
    thread.join()
    (envs,) = made
    envs.reset()
    # The thread that started them has ended, and they have not.
    assert envs.step([0, 1, 0])[1].tolist() == [1.0] * 3 and envs.instances == [0] * 3
    thread = threading.Thread(target=envs.close)
    thread.start()
    thread.join()
    assert envs.closed


def test_many_threads_with_envs_of_their_own() -> None:
    def play(seed: int) -> str:
        envs = rollcage.make_vec("cartpole", 2, seed=seed % 2)
        envs.reset()
        for step in range(200):
            envs.step([step % 2, 0])
        digest = envs.digest
        envs.close()
        return digest

    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(play, range(16)))
    assert len(set(digests)) == 2


def test_two_threads_at_once_are_told() -> None:
    envs = rollcage.make_vec(hostile("slow"), 1, config={"at": 0, "length": -1, **slow(0.8)})
    envs.reset()
    waiting = threading.Thread(target=envs.step, args=([0],))
    waiting.start()
    time.sleep(0.1)
    with pytest.raises(rollcage.UsageError, match="in use"):
        envs.step([0])
    waiting.join()
    assert envs.step([1])[0].tolist() == [[2, 1]]
    envs.close()


def test_others_run_while_a_step_waits() -> None:
    envs = rollcage.make_vec(hostile("slow"), 1, config={"at": 0, "length": -1, **slow(0.8)})
    envs.reset()
    waiting = threading.Thread(target=envs.step, args=([0],))
    waiting.start()
    turns = 0
    while waiting.is_alive():
        turns += 1
        time.sleep(0.001)
    assert turns > 20
    envs.close()


def test_close_ends_a_step_of_another_thread() -> None:
    envs = rollcage.make_vec(hostile("loop"), 1, config={"at": 0, "length": -1})
    envs.reset()
    raised: list[BaseException] = []

    def step() -> None:
        try:
            envs.step([0])
        except rollcage.ClosedError as error:
            raised.append(error)

    waiting = threading.Thread(target=step)
    waiting.start()
    time.sleep(0.1)
    begun = time.monotonic()
    envs.close()
    waiting.join(3)
    assert time.monotonic() - begun < 3 and len(raised) == 1
    with pytest.raises(rollcage.ClosedError):
        envs.step([0])


def test_close_in_a_handler_of_a_signal() -> None:
    envs = rollcage.make_vec(hostile("loop"), 1, config={"at": 0, "length": -1})
    envs.reset()

    def handler(*_: object) -> None:
        envs.close()
        raise SystemExit(3)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(SystemExit):
            envs.step([0])
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not workers()


@pytest.mark.parametrize("reap", ["waits for any child", "ignores SIGCHLD"])
def test_somebody_else_reaps(reap: str) -> None:
    """A program that takes every child's status, ours too: a death is seen all the same."""
    script = f"""
import os, signal, threading, time, rollcage
if {reap == "ignores SIGCHLD"}:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
else:
    def forever():
        while True:
            try:
                os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pass
            time.sleep(0.001)
    threading.Thread(target=forever, daemon=True).start()
envs = rollcage.make_vec("cartpole", 2, seed=1)
envs.reset()
os.kill(envs.pids[1], signal.SIGKILL)
time.sleep(0.1)
infos = envs.step([0, 0])[4]
assert infos["fault"][1] in ("exited", "signalled"), infos
envs.step([0, 0])
assert envs.instances == [0, 1]
envs.close()
print("done")
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert run.stdout == "done\n", run.stderr


SCRIPT = """
import rollcage
SETTING = {"map_name": "8x8"}
envs = rollcage.make_vec("frozenlake", 3, config=SETTING, seed=1)
print("made", len(envs.reset()[0]))
envs.step([0, 0, 0])
"""


def test_no_main_is_needed(tmp_path: Path) -> None:
    """As a file, from the standard input, as `-c`, and line by line as a notebook does: each runs once, and ends."""
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    interactive = SCRIPT.strip() + "\n"
    for command, stdin in [
        ([sys.executable, str(file)], None),
        ([sys.executable, "-"], SCRIPT),
        ([sys.executable, "-c", SCRIPT], None),
        ([sys.executable, "-i", "-q"], interactive),
    ]:
        run = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=30)
        assert run.returncode == 0 and run.stdout.count("made 3") == 1, run.stderr
    assert not workers()


def test_the_end_of_the_interpreter_is_theirs() -> None:
    """Nothing is left of envs that nobody closed, whatever still points to them, a thread in a step included."""
    script = """
import threading, rollcage, sys
envs = rollcage.make_vec("cartpole", 2)
envs.reset()
sys.modules["kept"] = envs
print(*envs.pids, flush=True)
threading.Thread(target=lambda: [envs.step([0, 1]) for _ in range(10**9)], daemon=True).start()
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    pids = [int(word) for word in run.stdout.split()]
    assert len(pids) == 2, run.stderr
    until = time.monotonic() + 1
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(map(alive, pids))


def test_no_engine_is_in_the_trainer() -> None:
    """The extension has no wasm engine in it."""
    extension = Path(rollcage._rollcage.__file__).read_bytes()  # type: ignore[attr-defined]
    assert b"cranelift_codegen" not in extension and b"wasmtime_environ" not in extension
    # Both are in the program: the words to look for are right.
    program = rollcage._program.path().read_bytes()  # type: ignore[attr-defined]
    assert b"cranelift_codegen" in program and b"wasmtime_environ" in program


def test_a_cache_that_cannot_be_used_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    monkeypatch.setenv("ROLLCAGE_CACHE", str(folder))
    with pytest.warns(UserWarning, match="others may write to it; the plugin is compiled each time"):
        envs = rollcage.make_vec("cartpole")
    envs.reset()
    envs.close()
    assert not list(folder.iterdir())


def test_the_bound_of_the_cache_is_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLCAGE_CACHE", str(tmp_path / "cache"))

    def files_after(backend: str) -> int:
        rollcage.make_vec("blackjack", backend=backend).close()
        return len(list((tmp_path / "cache").iterdir()))

    assert (files_after("native"), files_after("pulley")) == (1, 2)
    (tmp_path / "cache").joinpath("0" * 64 + ".plugin").write_bytes(b"old")
    monkeypatch.setenv("ROLLCAGE_CACHE_MAX", "1")
    assert files_after("native") == 3, "nothing was added, so nobody looks"
    rollcage.make_vec("cartpole").close()
    assert len(list((tmp_path / "cache").iterdir())) == 1
    monkeypatch.setenv("ROLLCAGE_CACHE_MAX", "much")
    with pytest.warns(UserWarning, match="environment variable `ROLLCAGE_CACHE_MAX`: expected a size like `2GB`"):
        rollcage.make_vec("cartpole").close()


def keepers() -> list[int]:
    return [pid for pid in workers() if b"__rollcage-keeper" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_private_folder_is_made_where_tmpdir_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, said = tmp_path / "temporary", tmp_path / "said"
    folder.mkdir()
    grants = tmp_path / "grants.toml"
    script = f"pwd > {said}; echo up; exec sleep 600"
    grants.write_text(
        f"[[service]]\nname = 'a'\ncommand = ['/bin/sh', '-c', '{script}']\nready = {{ line = 'up' }}\n"
        "stop-timeout = '100ms'\n"
    )
    monkeypatch.setenv("TMPDIR", str(folder))
    with rollcage.make_vec("mirror", 1, grants=grants):
        assert Path(said.read_text().strip()).parent == folder
        assert len(list(folder.iterdir())) == 1
    assert list(folder.iterdir()) == []


def test_a_killed_keeper_is_a_fault_of_its_env(tmp_path: Path) -> None:
    grants = tmp_path / "grants.toml"
    grants.write_text("[[lease]]\nname = 'a'\nrange = '18260-18269'\n")
    with rollcage.make_vec("mirror", 1, grants=grants, on_fault="raise") as envs:
        envs.reset(seed=1)
        (keeper,) = keepers()
        os.kill(keeper, signal.SIGKILL)
        until = time.monotonic() + 20
        while alive(keeper) and time.monotonic() < until:
            time.sleep(0.01)
        with pytest.raises(rollcage.WorkerError) as caught:
            for _ in range(100):  # The watcher is about to reap it.
                envs.step(envs.action_space.sample())
        assert (caught.value.fault.kind, caught.value.fault.env) == ("keeper_lost", 0)
        assert "somebody else's" in caught.value.fault.message
        envs.reset()
        assert keepers() != [keeper]
