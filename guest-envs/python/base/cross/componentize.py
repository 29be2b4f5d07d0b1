"""Runs componentize-py with `steady.c` preloaded: from here on what it sees of this machine is constant."""

import ctypes
import sys

from componentize_py import script

if ctypes.CDLL(None).rollcage_steady() != 0:
    print("seccomp filters cannot be had here: two builds will differ in some bytes", file=sys.stderr)
sys.exit(script())
