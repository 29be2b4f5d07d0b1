"""Modules kept in memory: a guest has no files, so whatever an env may import later must be in the base.

The build packs the standard library, numpy, gymnasium and the SDK into one file, the *store* (`basebuild/store.py`): for each
module its source and, for all but the SDK, its code, both compressed. [`Finder`] imports from it, while the base is made as well
as later in an env. Metadata of the packages is in the store too (`importlib.metadata`).
"""

import importlib.machinery
import json
import marshal
import sys
import zlib
from collections.abc import Iterator, Sequence
from types import CodeType, ModuleType
from typing import Any, NamedTuple

MAGIC = b"rollcage store 1\n"


class Record(NamedTuple):
    """What the store knows of a module."""

    # `__file__` in the guest.
    path: str
    package: bool
    # Path of the library that componentize-py has linked, if it is an extension module.
    library: str | None
    # Offset and length of the compressed source and code; no code of 0 bytes.
    source: int
    source_length: int
    code: int
    code_length: int


class Store:
    """What the build packed."""

    def __init__(self, file: str) -> None:
        with open(file, "rb") as opened:
            content = opened.read()
        if not content.startswith(MAGIC):
            raise ImportError(f"{file} is no store of modules")
        start = len(MAGIC) + 4
        length = int.from_bytes(content[len(MAGIC) : start], "little")
        index: dict[str, Any] = json.loads(content[start : start + length])
        self._content = memoryview(content)[start + length :]
        self.modules = {name: Record(*record) for name, record in index["modules"].items()}
        self.distributions: dict[str, dict[str, str]] = index["distributions"]

    def source(self, record: Record) -> bytes:
        """Returns the source of a module."""
        return zlib.decompress(self._content[record.source : record.source + record.source_length])

    def code(self, record: Record) -> CodeType:
        """Returns the code of a module."""
        if record.code_length:
            return marshal.loads(zlib.decompress(self._content[record.code : record.code + record.code_length]))
        return compile(self.source(record), record.path, "exec", dont_inherit=True)


class Loader:
    """Loads one module from the store."""

    def __init__(self, store: Store, name: str, record: Record) -> None:
        self._store, self.name, self._record = store, name, record

    @property
    def path(self) -> str:
        return self._record.path

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._store.code(self._record), module.__dict__)

    def get_code(self, name: str) -> CodeType:
        return self._store.code(self._record)

    def get_source(self, name: str) -> str | None:
        return self._store.source(self._record).decode()

    def get_filename(self, name: str) -> str:
        return self._record.path

    def is_package(self, name: str) -> bool:
        return self._record.package

    def get_data(self, path: str) -> bytes:
        if path != self._record.path:
            raise FileNotFoundError(f"{path} is not in the base")
        return self._store.source(self._record)


class Finder:
    """Finds modules, and the metadata of packages, in the store. One stands on `sys.meta_path`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        found = self._store.modules.get(name)
        if found is None:
            return None
        loader: Any
        if found.library is not None:
            loader = importlib.machinery.ExtensionFileLoader(name, found.library)
        else:
            loader = Loader(self._store, name, found)
        spec = importlib.machinery.ModuleSpec(
            name, loader, origin=found.library or found.path, is_package=found.package
        )
        # `__file__` is set.
        spec.has_location = True
        if found.package:
            spec.submodule_search_locations = [found.path.rpartition("/")[0]]
        return spec

    def invalidate_caches(self) -> None:
        """Nothing is cached."""

    def find_distributions(self, context: Any = None) -> Iterator[Any]:
        """Yields the packages of the base, as `importlib.metadata` asks for them."""
        from rollcage_distributions import MemoryDistribution

        wanted = getattr(context, "name", None)
        normal = None if wanted is None else wanted.lower().replace("_", "-").replace(".", "-")
        for name, files in self._store.distributions.items():
            if normal in (None, name):
                yield MemoryDistribution(files)


def adopt(store: Store) -> None:
    """Gives modules that were imported from files, before the store was there, a loader that knows their source."""
    for name, module in list(sys.modules.items()):
        found = store.modules.get(name)
        spec = getattr(module, "__spec__", None)
        if found is None or spec is None or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            continue
        spec.loader = module.__loader__ = Loader(store, name, found)
        spec.origin = module.__file__ = found.path
        spec.cached = module.__cached__ = None


def install(file: str) -> Store:
    """Reads a store and imports from it from now on."""
    store = Store(file)
    builtin_and_frozen = [finder for finder in sys.meta_path if finder is not importlib.machinery.PathFinder]
    sys.meta_path[:] = [*builtin_and_frozen, Finder(store), importlib.machinery.PathFinder]
    adopt(store)
    return store
