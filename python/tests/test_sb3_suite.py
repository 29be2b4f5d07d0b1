"""Stable-Baselines3's own tests, from its source distribution, over rollcage: `sb3_suite/over_rollcage.py` says how."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import TARGET, TWINS

HERE = Path(__file__).parent


def sources() -> Path:
    """The source distribution of the version that is installed; kept beside the builds."""
    wanted = version("stable-baselines3")
    kept = TARGET / "sb3-tests" / f"stable_baselines3-{wanted}"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        command = [
            "download",
            "--quiet",
            "--no-binary",
            ":all:",
            "--no-deps",
            "--no-build-isolation",
            "--dest",
            str(kept.parent),
        ]
        subprocess.run([sys.executable, "-m", "pip", *command, f"stable-baselines3=={wanted}"], check=True)
        with tarfile.open(kept.parent / f"stable_baselines3-{wanted}.tar.gz") as archive:
            archive.extractall(kept.parent, filter="data")
    return kept


def test_their_tests_pass_over_ours(tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3")
    for file in [*sources().glob("tests/test_vec_*.py"), sources() / "tests/test_envs.py"]:
        shutil.copy(file, tmp_path)
    shutil.copy(HERE / "sb3_suite/over_rollcage.py", tmp_path / "conftest.py")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "ROLLCAGE_GUESTS": str(TWINS)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    print(run.stdout[-4000:])
    assert run.returncode == 0, run.stdout + run.stderr
    counts = re.search(r"(\d+) passed, (\d+) skipped", run.stdout)
    assert counts is not None
    passed, skipped = map(int, counts.groups())
    assert passed >= 69 and skipped <= 46
    made = re.search(r"in place of Python envs (\d+) times", run.stdout)
    assert made is not None and int(made.group(1)) >= 75
