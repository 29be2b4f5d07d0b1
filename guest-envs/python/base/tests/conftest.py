"""Puts the build's and the base's modules where the tests import them."""

import sys
from pathlib import Path

BASE = Path(__file__).resolve().parent.parent

sys.path[:0] = [str(BASE), str(BASE / "inside")]
