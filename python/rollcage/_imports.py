"""What a module imports, found by reading its source: modules beside it, and installed distributions.

Only what the env's modules reach is followed, so that a training script in the same package adds nothing.
"""

from __future__ import annotations

import ast
import importlib.metadata as metadata
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

from rollcage.errors import UsageError

__all__ = ["Code"]


class Code:
    """The code that some modules need.

    Attributes
    ----------
    roots : dict
        Packages and modules of the user's own, by the folders in which they lie.
    distributions : set of str
        Names of the installed distributions that are imported.

    """

    def __init__(self, site_folders: Sequence[Path]) -> None:
        self.roots: dict[Path, set[str]] = {}
        self.distributions: set[str] = set()
        self._site_folders = site_folders
        self._tops: dict[str, Path | None] = {}
        self._read: set[Path] = set()
        self._installed: Mapping[str, list[str]] | None = None

    def add(self, module: str) -> None:
        """Adds a module, and what it imports.

        Raises
        ------
        UsageError
            There is no such module, or no file of it.

        """
        top = module.partition(".")[0]
        spec = _spec(top)
        if spec is None:
            raise UsageError(f"module {module!r} is not found")
        if self._root(top, spec) is None and top not in self._tops:
            raise UsageError(f"module {module!r} has no file that could be bundled")
        self._follow(module)

    def root_of(self, module: str) -> Path | None:
        """The folder in which the package of a module lies; None for an installed one."""
        return self._tops.get(module.partition(".")[0])

    def _root(self, top: str, spec: ModuleSpec) -> Path | None:
        """Enters a package or module at the top. Returns the folder in which it lies, if it is the user's own."""
        if top in self._tops:
            return self._tops[top]
        locations = list(spec.submodule_search_locations or ())
        if spec.origin and spec.origin not in ("built-in", "frozen", "namespace"):
            file = Path(spec.origin).resolve()
            root = file.parent.parent if locations else file.parent
        elif locations:
            root = Path(locations[0]).resolve().parent
        else:
            return None
        if any(root == folder for folder in self._site_folders):
            names = self._distributions_of(top)
            self.distributions.update(names)
            if names:
                self._tops[top] = None
                return None
        self._tops[top] = root
        self.roots.setdefault(root, set()).add(top)
        return root

    def _distributions_of(self, top: str) -> list[str]:
        if self._installed is None:
            self._installed = metadata.packages_distributions()
        return sorted(set(self._installed.get(top, ())))

    def _follow(self, module: str) -> None:
        """Reads a module of the user's own, and every package around it."""
        parts = module.split(".")
        root = self._tops.get(parts[0])
        if root is None:
            return
        for end in range(1, len(parts) + 1):
            path = root.joinpath(*parts[:end])
            file = path / "__init__.py" if path.is_dir() else path.with_name(path.name + ".py")
            if file.is_file() and file not in self._read:
                self._read.add(file)
                self._follow_file(file, ".".join(parts[:end]), is_package=path.is_dir())

    def _follow_file(self, file: Path, module: str, *, is_package: bool) -> None:
        try:
            tree = ast.parse(file.read_bytes(), str(file))
        except (OSError, SyntaxError, ValueError) as error:
            raise UsageError(f"{file}: {error}") from None
        package = module if is_package else module.rpartition(".")[0]
        for name in _imports(tree, package):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or not top:
                continue
            # What is not installed here is optional, or is missed when it is imported.
            spec = _spec(top)
            if spec is not None and self._root(top, spec) is not None:
                self._follow(name)


def _spec(top: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Full names of what a module imports; of ``from a import b`` both ``a`` and ``a.b``."""
    for node in _reached(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".") if package else []
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, *([base] if base else [])])
            if base:
                yield base
                for alias in node.names:
                    yield f"{base}.{alias.name}"


def _reached(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker or a script sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _is_never(child.test):
            for other in child.orelse:
                yield other
                yield from _reached(other)
            continue
        yield child
        yield from _reached(child)


def _is_never(test: ast.expr) -> bool:
    """Whether a condition is that of ``if TYPE_CHECKING:`` or ``if __name__ == "__main__":``."""
    if isinstance(test, (ast.Name, ast.Attribute)):
        name = test.id if isinstance(test, ast.Name) else test.attr
        return name == "TYPE_CHECKING"
    return isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__"
