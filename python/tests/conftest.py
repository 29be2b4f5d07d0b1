"""What every test here needs: the guests, built by `cargo xtask test`, and nobody left behind."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import hypothesis
import pytest

import rollcage

# Which version of Gymnasium this is to be, where several are looked at (`cargo xtask pythons`).
WANTED = os.environ.get("ROLLCAGE_GYMNASIUM")
assert WANTED in (None, gymnasium.__version__), f"Gymnasium is {gymnasium.__version__}"

# A shell starts a background job with SIGINT ignored, and there the tests of Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A failure is printed, with what repeats it; nothing is kept in the folder of the tests.
hypothesis.settings.register_profile("rollcage", database=None, print_blob=True)
hypothesis.settings.load_profile("rollcage")

TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or Path(__file__).resolve().parents[2] / "target")

#: Twins of Python envs (`guests/`), and the guests that misbehave (`tests/hostile/` of the repository).
TWINS = TARGET / "guests/wasm32-wasip2/release/examples"
HOSTILE = TARGET / "guests/wasm32-wasip2/release"


def twin(name: str) -> Path:
    return TWINS / f"{name}.wasm"


def hostile(name: str) -> Path:
    return HOSTILE / f"{name}.wasm"


def workers() -> set[int]:
    """Processes that this one has started and that have not ended."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if entry.name.isdigit() and int(stat[1]) == os.getpid() and stat[0] != "Z":
            command = (entry / "cmdline").read_bytes()
            if b"__rollcage" in command:
                found.add(int(entry.name))
    return found


def alive(pid: int) -> bool:
    """Whether a process runs: one that has ended may not have been reaped yet by whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def kill(envs: rollcage.VectorEnv, env: int = 0, how: signal.Signals = signal.SIGKILL) -> None:
    """Sends a signal to the worker of an env. (A process 0 would be all of this process's group.)"""
    pid = envs.pids[env]
    assert pid, f"env {env} has no worker"
    os.kill(pid, how)


@functools.cache
def slow(seconds: float) -> dict[str, int]:
    """The config of the guest `slow` with which a step takes about so long on this machine: it counts, and sees no clock."""
    spins = 200_000_000
    envs = rollcage.make_vec(hostile("slow"), 1, config={"at": 0, "length": -1, "spins": spins})
    envs.reset()
    begun = time.monotonic()
    envs.step([0])
    taken = time.monotonic() - begun
    envs.close()
    return {"spins": int(spins * seconds / taken)}


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    """No test leaves a worker behind."""
    yield
    import gc

    gc.collect()
    until = time.monotonic() + 2
    while (left := workers()) and time.monotonic() < until:
        time.sleep(0.01)
    assert not left, f"workers are left: {left}"
