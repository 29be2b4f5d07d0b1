"""What needs a terminal or ends the process: refused, or told, in an author's words."""

import builtins
import io
import os
import sys
from typing import Any, NoReturn

from rollcage_guest import log
from rollcage_guest.faults import Refused, caller
from rollcage_guest.manifest import Manifest


def native_line(manifest: Manifest) -> str:
    """A line for the shell that runs the env natively, so that a debugger can step through it."""
    if manifest.id is not None:
        modules = ", ".join([*(one.partition(":")[0] for one in manifest.imports), "gymnasium"])
        calls = "".join(one.replace(":", ".") + "(); " for one in manifest.imports if ":" in one)
        made = f"import {modules}; {calls}env = gymnasium.make({manifest.id!r})"
    else:
        module, _, name = (manifest.env or "").partition(":")
        outer = name.partition(".")[0]
        made = f"from {module} import {outer}; env = {name}()"
    return f'python -i -c "{made}; env.reset(seed=0); env.step(env.action_space.sample())"'


class NoInput(io.TextIOBase):
    """Standard input where there is nobody to type: every read is refused."""

    def __init__(self, why: str) -> None:
        self._why = why

    def readable(self) -> bool:
        return True

    def _refuse(self, *_: Any) -> NoReturn:
        raise Refused(self._why)

    read = readline = readlines = __next__ = _refuse

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")

    def isatty(self) -> bool:
        return False


def install(manifest: Manifest) -> None:
    """Replaces `breakpoint`, `input`, `sys.stdin`, `os._exit` and `os.abort`."""
    line = native_line(manifest)
    no_terminal = f"the cage has no terminal, so nobody can type. Step through the env natively: {line}"

    def breakpointhook(*_: Any, **__: Any) -> NoReturn:
        raise Refused(f"breakpoint(): {no_terminal}")

    def no_input(prompt: object = "", /) -> NoReturn:
        raise Refused(f"input(): {no_terminal}")

    sys.breakpointhook = breakpointhook
    builtins.input = no_input
    sys.stdin = NoInput(f"sys.stdin: {no_terminal}")
    for name in ("_exit", "abort"):
        real = getattr(os, name, None)
        if real is not None and getattr(real, "__module__", None) != __name__:
            setattr(os, name, _told(name, real))


def _told(name: str, real: Any) -> Any:
    """The function that ends the process, which first names its caller in the log."""

    def end(*given: Any) -> NoReturn:
        arguments = ", ".join(repr(one)[:40] for one in given)
        log.flush()
        print(f"os.{name}({arguments}) was called ({caller()}): it ends the env", file=sys.stderr, flush=True)
        real(*given)
        raise AssertionError("unreachable")

    return end
