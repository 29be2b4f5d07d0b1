"""Types: mypy over the package, in its strict mode, and the extension's stub beside the extension."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1]


def run(*command: str, folder: Path = PACKAGE) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_is_content() -> None:
    pytest.importorskip("mypy")
    run("mypy")


def test_the_stub_is_the_extension_s() -> None:
    pytest.importorskip("mypy")
    # Of the package that is installed: the source folder has no extension in it.
    run("mypy.stubtest", "rollcage._rollcage", folder=PACKAGE / "tests")


def test_ruff_is_content() -> None:
    pytest.importorskip("ruff")
    run("ruff", "check", "rollcage", "tests", "benches", "backend", "examples")
    run("ruff", "format", "--check", "rollcage", "tests", "benches", "backend", "examples")
