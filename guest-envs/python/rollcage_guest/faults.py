"""Exceptions of an author's code in words: what happened, where in the author's file, and what to do.

The message goes to the host, and becomes the fault's. The traceback goes to stderr, which is the env's log.
"""

import errno
import inspect
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType

from rollcage_guest import log
from rollcage_guest.importer import ROOT, relative

_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep

#: Characters of an exception's text that a message repeats.
TEXT_MAX = 1_000

#: Innermost frames that are looked at, and that a traceback shows.
FRAMES_MAX = 1_000

#: Top-level module of the env; its frames are named before those of its dependencies.
author_package: str | None = None

#: Packages that many envs import and that have native code without a build for the cage.
NATIVE = {
    *(
        "pygame",
        "scipy",
        "torch",
        "tensorflow",
        "jax",
        "jaxlib",
        "cv2",
        "matplotlib",
        "pandas",
        "PIL",
        "mujoco",
        "ale_py",
    ),
    *(
        "Box2D",
        "pybullet",
        "numba",
        "sklearn",
        "skimage",
        "h5py",
        "lxml",
        "moviepy",
        "glfw",
        "OpenGL",
        "pyglet",
        "psutil",
    ),
}

#: Starts of names in `os` that are about other processes.
_PROCESSES = (
    "exec",
    "fork",
    "kill",
    "nice",
    "pidfd",
    "popen",
    "posix_spawn",
    "sched_",
    "set",
    "spawn",
    "system",
    "wait",
)

#: Errors of the machine's own numbering and of WASI's, which differ.
_NO_PERMISSION = {errno.EACCES, errno.EPERM, 2, 63, 76}


class InWords(Exception):
    """An exception whose text says all: neither its type nor its traceback helps an author."""


class Refused(InWords):
    """A use of what the cage does not have. The text says what, and what to do."""


class Wrong(InWords):
    """An answer of the env that breaks Gymnasium's interface. The text names the answer."""


def message(error: BaseException) -> str:
    """One line: ``ZeroDivisionError: division by zero (my_env.py, line 12, in step)``, and what to do if that is known."""
    cut(error)
    hint = _hint(error)
    line = head(error)
    place = where(error)
    if place and not isinstance(error, SyntaxError):
        line += f" ({place})"
    return f"{line}: {hint}" if hint else line


def cut(error: BaseException) -> None:
    """Drops all but the innermost frames of a traceback: a recursion may have a million, and each takes its time."""
    last = first = error.__traceback__
    length = 0
    while last is not None:
        last = last.tb_next
        length += 1
        if length > FRAMES_MAX and first is not None:
            first = first.tb_next
    error.__traceback__ = first


def a(value: object) -> str:
    """The type of an answer with its article: ``a str``, ``an ndarray``."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeioAEIO' or name == 'ndarray' else 'a'} {name}"


def head(error: BaseException) -> str:
    """Type and text of an exception, on one line."""
    text = _text(error)
    if isinstance(error, InWords):
        return text
    if isinstance(error, SystemExit):
        code = error.code
        return f"sys.exit({'' if code is None else repr(code)[:60]}) was called"
    name = type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{name}: {error.msg} ({shown(error.filename)}, line {error.lineno})"
    return f"{name}: {text}" if text else name


def _text(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception as second:
        return f"(its text cannot be made: {type(second).__name__})"
    return text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + "…"


def shown(path: str) -> str:
    """A file's path as its author knows it: relative to the project."""
    below = relative(path)
    return path if below is None else below


def where(error: BaseException) -> str | None:
    """Place in the author's own code where an exception came from: ``my_env.py, line 12, in step``.

    The innermost frame of the env's own package; else of any bundled file; else the innermost frame outside this package.
    """
    frames = list(_frames(error.__traceback__))
    own = [frame for frame in frames if _is_authors(frame[0])]
    bundled = [frame for frame in frames if relative(frame[0]) is not None]
    chosen = own or bundled or frames
    if not chosen:
        return None
    path, line, function = chosen[-1]
    return f"{shown(path)}, line {line}" + ("" if function == "<module>" else f", in {function}")


def where_defined(functions: Iterable[object]) -> str | None:
    """Place of the first of these functions that is the author's own, else of the last one that is bundled."""
    found = None
    for function in functions:
        code = getattr(inspect.unwrap(getattr(function, "__func__", function)), "__code__", None)
        if code is None or relative(code.co_filename) is None:
            continue
        found = f"{shown(code.co_filename)}, line {code.co_firstlineno}, in {code.co_name}"
        if _is_authors(code.co_filename):
            break
    return found


def _frames(trace: TracebackType | None) -> Iterator[tuple[str, int | None, str]]:
    for frame, line in traceback.walk_tb(trace):
        path = frame.f_code.co_filename
        if not _is_machinery(path):
            yield path, line, frame.f_code.co_name


def _is_machinery(path: str) -> bool:
    """Whether a file is this package's, or Python's own import."""
    return path.startswith((_OWN, "<frozen ")) or path.endswith("/importlib/__init__.py")


def _is_authors(path: str) -> bool:
    below = relative(path)
    if below is None or author_package is None:
        return False
    return below in (f"{author_package}.py",) or below.startswith(f"{author_package}/")


def raised_by_author(error: BaseException) -> bool:
    """Whether the innermost frame of an exception is the author's own: a `raise` or `assert`, or a line's own error."""
    cut(error)
    frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and _is_authors(frames[-1])


def report(error: BaseException) -> None:
    """Prints the traceback to stderr, without the frames of this package."""
    cut(error)
    try:
        log.flush()
        for line in lines(error):
            print(line, file=sys.stderr, end="")
        log.flush()
    except Exception:
        # What is left of the memory, or an author's own sys.stderr, does not allow it: the message must do.
        pass


def lines(error: BaseException) -> Iterator[str]:
    """The traceback as `traceback` formats it, without the frames of this package."""
    formatted = traceback.TracebackException.from_exception(error, compact=True)
    _strip(formatted, set())
    yield from formatted.format(chain=True)


def _strip(formatted: traceback.TracebackException | None, seen: set[int]) -> None:
    if formatted is None or id(formatted) in seen:
        return
    seen.add(id(formatted))
    kept = [frame for frame in formatted.stack if not _is_machinery(frame.filename)]
    formatted.stack[:] = kept
    _strip(formatted.__cause__, seen)
    _strip(formatted.__context__, seen)


def caller() -> str:
    """Place in the author's code that is running now, for what must be told before the instance ends."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_OWN):
        frame = frame.f_back
    if frame is None:
        return "the env"
    return f"{shown(frame.f_code.co_filename)}, line {frame.f_lineno}, in {frame.f_code.co_name}"


def _hint(error: BaseException) -> str | None:
    """What an author can do about an error that the cage causes."""
    text = _text(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return missing_module(error.name)
    if isinstance(error, RuntimeError) and "start new thread" in text:
        return "the cage has no threads; call the function directly, or do the work in step"
    if isinstance(error, MemoryError):
        return "the env's memory limit is reached; `--memory` raises it (`memory_bytes` of `limits` in Python)"
    if isinstance(error, ValueError) and text.startswith("array is too big"):
        return "an env has at most 4 GiB of memory, and an array half of that"
    if isinstance(error, AttributeError):
        return _attribute_hint(error)
    if isinstance(error, OSError):
        # Libraries wrap what a connection said: `URLError`, the errors of requests.
        cause = error.__cause__ or error.__context__
        own = _system_hint(error, text)
        return own if own is not None or cause is None or cause is error else _hint(cause)
    if type(error).__name__ == "DependencyNotInstalled":
        cause = error.__cause__ or error.__context__
        return None if cause is None or cause is error else _hint(cause)
    return None


def _attribute_hint(error: AttributeError) -> str | None:
    where = getattr(error, "obj", None)
    if getattr(where, "__name__", None) == "signal":
        return f"the cage has no signals, so `signal.{error.name}` does not exist"
    if where is os and str(error.name).startswith(_PROCESSES):
        return f"the cage has no other processes, so `os.{error.name}` does not exist"
    return None


def _system_hint(error: OSError, text: str) -> str | None:
    if "does not support processes" in text:
        return "the cage starts no programs; run it on the host (`--grant service=…`), and connect to it"
    path = error.filename
    if "No usable temporary directory" in text:
        return "grant a folder, and name it: `--grant dir=FOLDER:/data:rw` and `tempfile.mkdtemp(dir='/data')`"
    # `sockets` leaves the address there.
    address = getattr(error, "rollcage_address", None)
    if isinstance(address, tuple) and isinstance(error, ConnectionRefusedError):
        return f"nobody listens at {_peer(address)}; the server must be there before the env connects"
    if path is None and isinstance(error, PermissionError):
        grant = f"tcp-connect={_peer(address)}" if isinstance(address, tuple) else "tcp-connect=HOST:PORT"
        return (
            f"it is not granted (`--grant {grant}`; datagrams: `udp=`, a server: `tcp-listen=`); `wants` in [tool.rollcage] "
            "tells who runs the env"
        )
    if isinstance(path, (bytes, os.PathLike)):
        path = os.fsdecode(path)
    if isinstance(path, str) and isinstance(error, FileNotFoundError) and (relative(path) or not os.path.isabs(path)):
        return "the plugin has no such file; `assets` of [tool.rollcage] in pyproject.toml puts files into it, as in [\"levels/*.txt\"]"
    if isinstance(path, str) and relative(path) is None and error.errno in _NO_PERMISSION | {errno.ENOENT, 44}:
        return (
            f"the env sees its own files (below {ROOT}) and granted folders (`--grant dir=FOLDER:{path_example(path)}`); "
            "`[tool.rollcage] assets` puts files into the plugin"
        )
    return None


def _peer(address: tuple[object, ...]) -> str:
    host, port = ([*address, ""])[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def path_example(path: str) -> str:
    """A folder to grant so that a path can be seen."""
    folder = os.path.dirname(path)
    return folder if folder not in ("", "/") else "/data"


def missing_module(name: str) -> str:
    """Why a module is not there, and what to do."""
    top = name.partition(".")[0]
    if top in NATIVE:
        return f"`{top}` has native code, which does not run in the cage"
    if top in sys.stdlib_module_names:
        return f"`{name}` of Python's own library needs what the cage does not have"
    return f"if `{top}` is a package, list it under `dependencies` in pyproject.toml; if it is a file, put it beside the env"
