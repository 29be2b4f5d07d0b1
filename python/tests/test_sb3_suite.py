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


def over_ours(folder: Path, *files: str) -> tuple[int, int, int]:
    """Runs some of their files over our envs: how many passed, how many were skipped, and how often ours were made."""
    pytest.importorskip("stable_baselines3")
    for pattern in files:
        for file in sources().glob(f"tests/{pattern}"):
            shutil.copy(file, folder)
    shutil.copy(HERE / "sb3_suite/over_rollcage.py", folder / "conftest.py")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rsf", "-p", "no:cacheprovider", "--durations=5", str(folder)],
        cwd=folder,
        # Networks are small here, and threads that share few cores wait for each other.
        env={**os.environ, "ROLLCAGE_GUESTS": str(TWINS), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    print(run.stdout[-4000:])
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr
    passed, skipped, made = (
        re.search(pattern, run.stdout) for pattern in (r"(\d+) passed", r"(\d+) skipped", r"of Python envs (\d+) times")
    )
    assert passed is not None and made is not None
    return int(passed[1]), 0 if skipped is None else int(skipped[1]), int(made[1])


def test_their_tests_pass_over_ours(tmp_path: Path) -> None:
    """Everything that Stable-Baselines3 tests of vector envs, and its tests of what a run begins and ends with."""
    passed, skipped, made = over_ours(tmp_path, "test_vec_*.py", "test_envs.py")
    assert passed >= 70 and skipped <= 45
    assert made >= 75


@pytest.mark.long
def test_their_algorithms_train_over_ours(tmp_path: Path) -> None:
    """Its algorithms, callbacks, predictions, saved models, hindsight replay; and that a seed makes training repeatable."""
    files = ("run", "callbacks", "predict", "deterministic", "save_load", "her")
    passed, skipped, made = over_ours(tmp_path, *(f"test_{name}.py" for name in files))
    assert passed >= 182 and skipped <= 29
    assert made >= 240
