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
