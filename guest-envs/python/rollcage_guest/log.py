"""Standard output and error of the guest, which are the env's log: line by line, and complete when a call returns."""

import sys
from typing import Any


def install() -> None:
    """Makes each printed line reach the log when it ends, whatever its characters."""
    for stream, at_once in ((sys.stdout, False), (sys.stderr, True)):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True, write_through=at_once, errors="backslashreplace")


def flush() -> None:
    """Writes what was printed without the end of a line."""
    try:
        sys.stdout.flush()
    except (AttributeError, OSError, ValueError):  # the author has replaced or closed it
        return
