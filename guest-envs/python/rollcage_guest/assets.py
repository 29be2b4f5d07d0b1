"""Reads the plugin's assets: files that travel inside the plugin and cannot be written.

Knows the interface's `assets` alone. `files` and `importer` show the part below ``site/`` as the folder `/site`.
"""

from wit_world.imports import assets as wit

#: The most bytes that the host returns for one read.
READ_MAX = 1 << 20


def paths() -> list[str]:
    """Paths of all assets, in the order of their bytes."""
    return wit.list()


def size(path: str) -> int | None:
    """Bytes of an asset. None: there is no such asset."""
    return wit.size(path)


def read_at(path: str, offset: int, length: int) -> bytes:
    """At most `length` bytes of an asset from `offset`. No bytes: the asset ends there.

    Raises
    ------
    FileNotFoundError
        There is no such asset.

    """
    part = wit.read(path, offset, min(length, READ_MAX))
    if part is None:
        raise FileNotFoundError(f"the plugin has no asset `{path}`")
    return bytes(part)


def read(path: str) -> bytes:
    """All bytes of an asset.

    Raises
    ------
    FileNotFoundError
        There is no such asset.

    """
    parts: list[bytes] = []
    offset = 0
    while part := read_at(path, offset, READ_MAX):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


class Folder:
    """A folder of the assets: names of what it holds."""

    __slots__ = ("files", "folders")

    def __init__(self) -> None:
        self.files: list[str] = []
        self.folders: list[str] = []


class Tree:
    """The assets below ``site/`` as files and folders. Paths are relative to it; the root is the empty path."""

    def __init__(self, under: str = "site/") -> None:
        self._under = under
        self._sizes: dict[str, int | None] = {}
        self.folders: dict[str, Folder] = {"": Folder()}
        for path in paths():
            if path.startswith(under):
                self._add(path[len(under) :])

    def _add(self, path: str) -> None:
        self._sizes[path] = None
        parent, _, name = path.rpartition("/")
        self._folder(parent).files.append(name)

    def _folder(self, path: str) -> Folder:
        found = self.folders.get(path)
        if found is None:
            found = self.folders[path] = Folder()
            parent, _, name = path.rpartition("/")
            self._folder(parent).folders.append(name)
        return found

    def is_file(self, path: str) -> bool:
        return path in self._sizes

    def size(self, path: str) -> int:
        """Bytes of a file that exists. The host is asked once."""
        known = self._sizes[path]
        if known is None:
            known = self._sizes[path] = size(self._under + path) or 0
        return known

    def read(self, path: str) -> bytes:
        return read(self._under + path)

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        return read_at(self._under + path, offset, length)
