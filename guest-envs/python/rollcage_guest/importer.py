"""Imports modules from the assets below ``site/``, which the guest sees as the folder `/site`.

A hook of `sys.path_hooks`: so packages, namespace packages, `sys.path` changed by the author, `pkgutil` and
`importlib.metadata` work as with files. Sources are read when they are imported.
"""

import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType
from typing import Any

from rollcage_guest import stubs
from rollcage_guest.assets import Tree

#: Where the assets below ``site/`` stand in the guest.
ROOT = "/site"


def relative(path: str) -> str | None:
    """A normal absolute path relative to `/site`. None: it is not below it."""
    if path == ROOT:
        return ""
    return path[len(ROOT) + 1 :] if path.startswith(ROOT + "/") else None


class SiteLoader(SourceFileLoader):
    """Loads one module from its source among the assets. There is no bytecode cache."""

    def __init__(self, name: str, path: str, tree: Tree) -> None:
        super().__init__(name, path)
        self._tree = tree

    def exec_module(self, module: ModuleType) -> None:
        with stubs.importing():
            super().exec_module(module)

    def get_data(self, path: str) -> bytes:
        below = relative(path)
        if below is None or not self._tree.is_file(below):
            raise FileNotFoundError(2, "No such file or directory", path)
        return self._tree.read(below)

    def path_stats(self, path: str) -> dict[str, float]:
        # Without a time, `SourceLoader.get_code` looks for no bytecode.
        raise OSError(f"{path} has no bytecode")

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        pass


class SiteFinder:
    """Finds modules in one folder of `/site`."""

    def __init__(self, path: str, tree: Tree) -> None:
        below = relative(path.rstrip("/"))
        if below is None or below not in tree.folders:
            raise ImportError(f"{path} is not a folder of {ROOT}", path=path)
        self._below = below
        self._tree = tree

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> ModuleSpec | None:
        name = fullname.rpartition(".")[2]
        base = f"{self._below}/{name}" if self._below else name
        package = f"{base}/__init__.py"
        if self._tree.is_file(package):
            return self._spec(fullname, package, [f"{ROOT}/{base}"])
        if self._tree.is_file(f"{base}.py"):
            return self._spec(fullname, f"{base}.py", None)
        if base in self._tree.folders:
            namespace = ModuleSpec(fullname, None, is_package=True)
            namespace.submodule_search_locations = [f"{ROOT}/{base}"]
            return namespace
        return None

    def _spec(self, fullname: str, below: str, locations: list[str] | None) -> ModuleSpec | None:
        path = f"{ROOT}/{below}"
        loader = SiteLoader(fullname, path, self._tree)
        return importlib.util.spec_from_file_location(
            fullname, path, loader=loader, submodule_search_locations=locations
        )

    def iter_modules(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """Names of the folder's modules, and whether each is a package (`pkgutil.iter_modules`)."""
        folder = self._tree.folders[self._below]
        found = {name[:-3]: False for name in folder.files if name.endswith(".py") and name != "__init__.py"}
        for name in folder.folders:
            if name.isidentifier() and self._tree.is_file(f"{self._below}/{name}/__init__.py".lstrip("/")):
                found[name] = True
        for name in sorted(found):
            yield prefix + name, found[name]

    def invalidate_caches(self) -> None:
        """Assets do not change."""


def install(tree: Tree) -> None:
    """Puts `/site` at the front of `sys.path`."""

    def hook(path: str) -> SiteFinder:
        return SiteFinder(path, tree)

    sys.path_hooks.insert(0, hook)
    sys.path.insert(0, ROOT)
    sys.path_importer_cache.pop(ROOT, None)
    sys.dont_write_bytecode = True


def uninstall() -> None:
    """Undoes `install` and forgets the modules that it loaded: for tests, which run many plugins in one process."""
    sys.path_hooks[:] = [hook for hook in sys.path_hooks if getattr(hook, "__module__", "") != __name__]
    sys.path[:] = [entry for entry in sys.path if relative(entry) is None]
    for path in [path for path in sys.path_importer_cache if relative(path) is not None]:
        del sys.path_importer_cache[path]
    for name, module in list(sys.modules.items()):
        # A namespace package's path cannot be asked for once its parent is gone.
        locations = getattr(module, "__path__", None)
        paths = getattr(locations, "_path", locations) or [getattr(module, "__file__", None)]
        if any(isinstance(path, str) and relative(path) is not None for path in paths):
            del sys.modules[name]
