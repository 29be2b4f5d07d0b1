"""Stages of the build: each is a folder in the cache, named by a hash of what it is made from."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

# Time of every file that the build stages, in seconds: 2000-01-01, which is also what a guest's clock starts with.
EPOCH = 946_684_800

# Folders of one stage that are kept: the newest, so that going back to an older commit is quick too.
KEPT = 3

BASE = Path(__file__).resolve().parent.parent

# Programs and sources of the cross compilation.
CROSS = BASE / "cross"


class BuildError(Exception):
    """A reason why the base cannot be built, in words for the developer."""


def pins() -> dict[str, Any]:
    """Reads the pinned versions and hashes."""
    return tomllib.loads((BASE / "pins.toml").read_text())


def cache_folder() -> Path:
    """Returns the folder in which the stages are kept."""
    named = os.environ.get("ROLLCAGE_PYTHON_BUILD")
    folder = Path(named) if named else Path.home() / ".cache" / "rollcage-python-base"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of(*inputs: object) -> str:
    """Returns a hash of the inputs: a path stands for the names and bytes of its files, any other value for its `repr`."""
    digest = hashlib.sha256()
    for value in inputs:
        if isinstance(value, Path):
            for file in files_below(value):
                digest.update(f"{file.relative_to(value)}\0{sha256(file)}\n".encode())
        else:
            digest.update(repr(value).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def files_below(path: Path) -> list[Path]:
    """Returns the files of a folder in the order of their names, without compiled Python; or the one file itself."""
    if path.is_file():
        return [path]
    found = (file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return sorted(found, key=lambda file: file.as_posix())


def stage(name: str, inputs: Iterable[object], make: Callable[[Path], None]) -> Path:
    """Returns the folder of a stage. `make` fills it if there is none yet of these inputs."""
    cache = cache_folder()
    folder = cache / f"{name}-{hash_of(*inputs)}"
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Made in its place, for a venv cannot be moved.
        complete = folder / ".complete"
        if not complete.exists():
            begun, cpu = time.monotonic(), cpu_seconds()
            say(f"{name} …")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            complete.touch()
            say(f"{name}: {time.monotonic() - begun:.0f} s, {cpu_seconds() - cpu:.0f} s of CPU time")
        os.utime(folder)
        others = (other for other in cache.glob(f"{name}-{'?' * 16}") if other.is_dir())
        for old in sorted(others, key=lambda other: other.stat().st_mtime, reverse=True)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def cpu_seconds() -> float:
    """Returns the CPU time that this process and its children have taken."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def say(text: str) -> None:
    """Tells the developer what goes on."""
    print(f"python-base: {text}", file=sys.stderr, flush=True)


def run(command: list[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Runs a command and returns what it wrote. The output of a failed command is in the error."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=None if env is None else {**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        raise BuildError(f"the build needs the program `{words[0]}`: {error}") from None
    if done.returncode != 0:
        raise BuildError(f"`{' '.join(words)}` failed with {done.returncode}:\n{done.stdout[-6000:]}")
    return done.stdout
