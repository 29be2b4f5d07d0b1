"""The folder `/site`: the plugin's files for `open`, `os`, `os.path` and `pathlib`, read only.

CPython's own functions see the granted directories and nothing else. The functions here answer for paths below `/site`,
and pass every other path on. A relative path is relative to `/site`, until the author changes the directory.
"""

import builtins
import errno
import glob
import io
import os
import stat
import sys
import tokenize
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from rollcage_guest.assets import Tree
from rollcage_guest.importer import ROOT, relative

#: Time of all files: the beginning of the env's virtual clock, 2000-01-01T00:00:00Z.
TIME = 946_684_800

_FILE = stat.S_IFREG | 0o444
_FOLDER = stat.S_IFDIR | 0o555

#: Functions of `os` that change a file or folder, and how many paths each takes first.
_CHANGING = {
    "mkdir": 1,
    "rmdir": 1,
    "remove": 1,
    "unlink": 1,
    "truncate": 1,
    "chmod": 1,
    "utime": 1,
    "mkfifo": 1,
    "rename": 2,
    "replace": 2,
    "link": 2,
    "symlink": 2,
}


class AssetFile(io.RawIOBase):
    """A file of `/site`, read where it is asked for."""

    def __init__(self, tree: Tree, below: str, name: Any) -> None:
        super().__init__()
        self.name = name
        self.mode = "rb"
        self._tree = tree
        self._below = below
        self._size = tree.size(below)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "Invalid argument")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        part = self._tree.read_at(self._below, self._at, len(buffer)) if self._at < self._size else b""
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


class Entry:
    """An entry of a folder of `/site`, as `os.scandir` gives them."""

    __slots__ = ("_site", "_status", "name", "path")

    def __init__(self, site: "Site", name: str, path: str) -> None:
        self.name = name
        self.path = path
        self._site = site
        self._status: os.stat_result | None = None

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        if self._status is None:
            self._status = self._site.stat(self.path)
        return self._status

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return stat.S_ISDIR(self.stat().st_mode)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return stat.S_ISREG(self.stat().st_mode)

    def is_symlink(self) -> bool:
        return False

    def is_junction(self) -> bool:
        return False

    def inode(self) -> int:
        return self.stat().st_ino

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"


class Entries:
    """The entries of a folder: an iterator, and a context manager."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[Entry]:
        return self

    def __next__(self) -> Entry:
        return next(self._entries)

    def __enter__(self) -> "Entries":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._entries = iter(())


class Site:
    """Answers for the paths below `/site`, and passes others on to the functions that stood there before."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._directory = ROOT
        self._real: dict[tuple[Any, str], Any] = {}
        # Numbers for `st_ino`, in the order of the paths, from 2 on.
        self._numbers: dict[str, int] = {}

    # Paths.

    def _below(self, path: Any) -> str | None:
        """A path relative to `/site`; None for paths elsewhere, and for descriptors of open files."""
        if isinstance(path, int):
            return None
        text = os.fsdecode(path)
        if not text.startswith("/"):
            if not self._directory:
                return None
            text = f"{self._directory}/{text}" if text else self._directory
        if "/." in text or "//" in text or text.endswith("/"):
            text = os.path.normpath(text)
        return relative(text)

    def _missing(self, path: Any) -> FileNotFoundError:
        return FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    # What the functions of Python's library do, for paths below `/site`.

    def open(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        """`open`, with its own rules. Files of `/site` are read as bytes or as text (UTF-8 unless told otherwise)."""
        below = None if opener is not None else self._below(file)
        if below is None:
            return self._real[io, "open"](file, mode, buffering, encoding, errors, newline, closefd, opener)
        if set(mode) & set("wax+"):
            raise read_only(file, "written")
        if below in self._tree.folders:
            raise IsADirectoryError(errno.EISDIR, "Is a directory", file)
        if not self._tree.is_file(below):
            raise self._missing(file)
        raw = AssetFile(self._tree, below, file)
        if "b" in mode:
            if encoding is not None or errors is not None or newline is not None:
                raise ValueError("binary mode doesn't take an encoding, errors or newline argument")
            return raw if buffering == 0 else io.BufferedReader(raw, buffering if buffering > 1 else 1 << 16)
        if buffering == 0:
            raise ValueError("can't have unbuffered text I/O")
        encoding = "utf-8" if encoding in (None, "locale") else encoding
        text = io.TextIOWrapper(io.BufferedReader(raw, 1 << 16), encoding, errors, newline)
        text.mode = mode  # type: ignore[misc]
        return text

    def stat(self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        below = self._below(path) if dir_fd is None else None
        if below is None:
            return self._real[os, "stat"](path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        is_folder = below in self._tree.folders
        if not is_folder and not self._tree.is_file(below):
            raise self._missing(path)
        size = 0 if is_folder else self._tree.size(below)
        number = self._numbers.setdefault(below, len(self._numbers) + 2)
        mode = _FOLDER if is_folder else _FILE
        return os.stat_result((mode, number, 1, 1, 0, 0, size, TIME, TIME, TIME))

    def lstat(self, path: Any, *, dir_fd: int | None = None) -> os.stat_result:
        if dir_fd is None and self._below(path) is not None:
            return self.stat(path)
        return self._real[os, "lstat"](path, dir_fd=dir_fd)

    def access(
        self,
        path: Any,
        mode: int,
        *,
        dir_fd: int | None = None,
        effective_ids: bool = False,
        follow_symlinks: bool = True,
    ) -> bool:
        below = self._below(path) if dir_fd is None else None
        if below is None:
            return self._real[os, "access"](path, mode, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        if below in self._tree.folders:
            return not mode & os.W_OK
        return self._tree.is_file(below) and not mode & (os.W_OK | os.X_OK)

    def listdir(self, path: Any = ".") -> list[Any]:
        path = "." if path is None else path
        names = self._names(path)
        if names is None:
            names = self._real[os, "listdir"](path)
            return sorted({*names, ROOT[1:]}) if path == "/" else names
        return [os.fsencode(name) for name in names] if isinstance(path, bytes) else names

    def scandir(self, path: Any = ".") -> Any:
        path = "." if path is None else path
        names = self._names(path)
        if names is None:
            return self._real[os, "scandir"](path)
        folder = os.fsdecode(path)
        return Entries([Entry(self, name, os.path.join(folder, name)) for name in names])

    def _names(self, path: Any) -> list[str] | None:
        below = self._below(path)
        if below is None:
            return None
        folder = self._tree.folders.get(below)
        if folder is None:
            if self._tree.is_file(below):
                raise NotADirectoryError(errno.ENOTDIR, "Not a directory", path)
            raise self._missing(path)
        return sorted(folder.files + folder.folders)

    def readlink(self, path: Any, *, dir_fd: int | None = None) -> Any:
        if dir_fd is None and self._below(path) is not None:
            self.stat(path)
            raise OSError(errno.EINVAL, "Invalid argument", path)
        return self._real[os, "readlink"](path, dir_fd=dir_fd)

    def getcwd(self) -> str:
        return self._directory or self._real[os, "getcwd"]()

    def getcwdb(self) -> bytes:
        return os.fsencode(self.getcwd())

    def chdir(self, path: Any) -> None:
        below = self._below(path)
        if below is None:
            self._real[os, "chdir"](path)
            self._directory = ""
        elif below in self._tree.folders:
            self._directory = f"{ROOT}/{below}" if below else ROOT
        else:
            self._names(path)

    def os_open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """`os.open`, whose numbers the files of `/site` do not have."""
        if dir_fd is None and self._below(path) is not None:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
                raise read_only(path, "written")
            self.stat(path)
            raise OSError(errno.ENOTSUP, "files of the plugin have no descriptor: use open()", path)
        return self._real[os, "open"](path, flags, mode, dir_fd=dir_fd)

    def _changing(self, name: str, paths: int) -> Callable[..., Any]:
        real = self._real[os, name]

        def change(*given: Any, **keywords: Any) -> Any:
            # The second path of a symbolic link is where the link stands; the first need not exist.
            for path in given[1:paths] if name == "symlink" else given[:paths]:
                if keywords.get("dir_fd") is None and self._below(path) is not None:
                    raise read_only(path, "changed")
            return real(*given, **keywords)

        change.__name__ = name
        return change

    # The functions' places.

    def _put(self, owner: Any, name: str, function: Any) -> None:
        self._real[owner, name] = getattr(owner, name)
        setattr(owner, name, function)

    def install(self) -> None:
        """Puts the functions into `builtins`, `io` and `os`, and where a module has kept one of them."""
        self._put(io, "open", self.open)
        self._put(builtins, "open", self.open)
        self._put(tokenize, "_builtin_open", self.open)
        for name in ("stat", "lstat", "access", "listdir", "scandir", "readlink", "getcwd", "getcwdb", "chdir"):
            if hasattr(os, name):
                self._put(os, name, getattr(self, name))
        self._put(os, "open", self.os_open)
        for name, paths in _CHANGING.items():
            if hasattr(os, name):
                self._real[os, name] = getattr(os, name)
                setattr(os, name, self._changing(name, paths))
        for holder in (getattr(glob, "_Globber", None), getattr(glob, "_StringGlobber", None)):
            # Python 3.12 and 3.13 keep these functions in a class; before and after, they are looked up in `os`.
            for name in ("lstat", "scandir"):
                kept: Any = getattr(holder, name, None)
                if kept is not None and kept is self._real.get((os, name)):
                    function: Any = kept
                    self._real[holder, name] = staticmethod(function)
                    setattr(holder, name, staticmethod(getattr(self, name)))
        sources = sys.modules.get("numpy.lib._datasource")
        openers = getattr(getattr(sources, "_file_openers", None), "_file_openers", None)
        if openers is not None:
            # numpy's loadtxt and genfromtxt keep `io.open`.
            openers[None] = self.open

    def uninstall(self) -> None:
        """Undoes `install`: for tests."""
        for (owner, name), function in self._real.items():
            setattr(owner, name, function)
        sources = sys.modules.get("numpy.lib._datasource")
        openers = getattr(getattr(sources, "_file_openers", None), "_file_openers", None)
        if openers is not None:
            openers[None] = io.open


def read_only(path: Any, verb: str) -> OSError:
    """The error for a change below `/site`."""
    name = os.fsdecode(path) if not isinstance(path, str) else path
    return OSError(
        errno.EROFS,
        f"files of the plugin cannot be {verb}; an env writes into a granted folder (`--grant dir=FOLDER:/data:rw`)",
        name,
    )
