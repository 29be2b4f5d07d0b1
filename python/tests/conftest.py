"""What every test here needs: the guests, built by `cargo xtask test`, and nobody left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

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
