"""The `rollcage` program inside the package: workers are started from it, and it is the command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from rollcage.errors import UsageError

#: The path at which the build puts the program.
PACKAGED = Path(__file__).absolute().parent / "_program" / "rollcage"


def path() -> Path:
    """The path of the program: the one in ``ROLLCAGE_PROGRAM``, else the packaged one.

    Raises
    ------
    UsageError
        There is no such file.

    """
    named = os.environ.get("ROLLCAGE_PROGRAM")
    # Envs are started anew from this path, whatever the working directory is then.
    program = Path(named).absolute() if named else PACKAGED
    if not program.is_file():
        hint = "install the package anew, or name a program of the same build by ROLLCAGE_PROGRAM"
        raise UsageError(f"the rollcage program is not at {program}", [hint])
    return program


def main() -> NoReturn:
    """The console script: becomes the program."""
    program = str(path())
    os.execv(program, ["rollcage", *sys.argv[1:]])
