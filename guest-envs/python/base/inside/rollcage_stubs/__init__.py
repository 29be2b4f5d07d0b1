"""Stand-ins for modules that CPython has not in a guest, but that envs and gymnasium import. They can be imported; whoever uses
them is told why that cannot be."""

import importlib
import sys

# Each by its real name.
STAND_INS = {
    "ctypes": "ctypes",
    "ctypes.util": "ctypes_util",
    "mmap": "mmap",
    "_multiprocessing": "multiprocessing",
    "_posixshmem": "posixshmem",
}


def refusal(name: str) -> NotImplementedError:
    """Returns the error of a thing that a guest cannot do."""
    return NotImplementedError(
        f"{name} does not work in a rollcage guest: there is one process there, and no machine code"
    )


def install() -> None:
    """Puts the stand-ins where `import` looks."""
    for name, module in STAND_INS.items():
        sys.modules[name] = importlib.import_module(f"{__name__}.{module}")


def refuse_processes() -> None:
    """Has `multiprocessing` say what is wrong when a process is started: its own error would be about a name of `os`."""
    from multiprocessing.process import BaseProcess

    def start(self: BaseProcess) -> None:
        raise refusal("multiprocessing")

    BaseProcess.start = start
