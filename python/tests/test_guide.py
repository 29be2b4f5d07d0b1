"""The code in `docs/coming-from-subprocvecenv.md`, run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parents[2] / "docs/coming-from-subprocvecenv.md"
PIECES = [
    piece
    for piece in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    if piece.startswith(("import rollcage", "from rollcage"))
]


def test_there_are_all() -> None:
    assert len(PIECES) == 6


@pytest.mark.parametrize("piece", PIECES, ids=range(len(PIECES)))
def test_a_piece_runs(piece: str) -> None:
    if "sb3" in piece:
        pytest.importorskip("stable_baselines3")
    if '"go"' in piece and not Path("/usr/games/gnugo").exists():
        pytest.skip("GNU Go is not installed")
    command = [sys.executable, "-W", "error", "-c", piece]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=GUIDE.parents[1])
    assert run.returncode == 0, run.stderr


def test_the_three_pains() -> None:
    pytest.importorskip("stable_baselines3")
    script = GUIDE.parents[1] / "python/examples/three_pains.py"
    run = subprocess.run([sys.executable, "-W", "ignore", script], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    theirs = re.findall(r"SubprocVecEnv  (.*)", run.stdout)
    ours = re.findall(r"rollcage       (.*)", run.stdout)
    for line, words in zip(
        theirs, ["Address already in use", "cannot pickle 'socket' object", "has no attribute 'server_ip'"], strict=True
    ):
        assert words in line, run.stdout
    for line, words in zip(ours, [r"ports \d+ and \d+", "two envs run", r"'10.0.0.7' and '10.0.0.7'"], strict=True):
        assert re.search(words, line), run.stdout
    first = re.search(r"ports (\d+) and (\d+)", ours[0])
    assert first is not None and first.group(1) != first.group(2)
