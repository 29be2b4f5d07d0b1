"""Importable stand-ins for modules with native code that an env declares, and that are not in the cage.

Many envs import such modules for a window that nobody opens here. A stand-in can be imported, have attributes, be a base
class, a decorator, an annotation, and stand in `isinstance` and `except`. To use it is refused by name.

While a module of the plugin is imported, what it does with a stand-in is not refused: ``FONT = pygame.font.Font(None, 20)`` at
the top of a module gives a stand-in in turn. At any other time a call is refused.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from types import FrameType, ModuleType
from typing import Any, NoReturn

#: Whether a module of the plugin is being imported.
_importing = False


class NotInCage(ImportError):
    """A use of a module that is not in the cage.

    It is an `ImportError`, so that code with something to fall back on does so.
    """


def _refuse(name: str) -> NoReturn:
    top = name.partition(".")[0]
    used = "" if name == top else f" (`{name}` was used)"
    raise NotInCage(f"{top} is not in the cage: it has native code, which does not run here{used}", name=top)


class StandIn:
    """Something of a module that is not there."""

    __slots__ = ("_attributes", "_bases", "_name", "__weakref__")

    def __init__(self, name: str) -> None:
        self._name = name
        self._attributes: dict[str, Any] = {}
        self._bases: tuple[type, ...] | None = None

    def __getattr__(self, name: str) -> Any:
        if name in StandIn.__slots__:
            # Made by `__new__` alone: looking for its name would come here again, without end.
            raise AttributeError(name)
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"{self._name} has no {name}: it is not in the cage")
        found = self._attributes.get(name)
        if found is None:
            found = self._attributes[name] = _part(self._name, name)
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        if name in StandIn.__slots__:
            object.__setattr__(self, name, value)
        elif _importing:
            self._attributes[name] = value
        else:
            _refuse(self._name)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if not _importing:
            _refuse(self._name)
        return StandIn(self._name + "()") if not self._name.endswith("()") else self

    def __copy__(self) -> "StandIn":
        return self

    def __deepcopy__(self, memo: Any) -> "StandIn":
        return self

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        if self._bases is None:
            name = self._name

            def refuse(cls: type, *_: Any, **__: Any) -> Any:
                if _importing:
                    return object.__new__(cls)
                _refuse(name)

            self._bases = (type(name.rpartition(".")[2].strip("()"), (), {"__new__": refuse, "__module__": name}),)
        return () if self._bases[0] in bases else self._bases

    def __instancecheck__(self, instance: Any) -> bool:
        return self._bases is not None and isinstance(instance, self._bases)

    def __subclasscheck__(self, subclass: type) -> bool:
        return self._bases is not None and issubclass(subclass, self._bases)

    def __bool__(self) -> bool:
        # What a call would have said (`torch.cuda.is_available()`) is no; a name that is looked up is there.
        return not self._name.endswith("()")

    def __or__(self, other: Any) -> "StandIn":
        return self

    __ror__ = __or__

    def __getitem__(self, key: Any) -> "StandIn":
        return self

    def __repr__(self) -> str:
        return f"<{self._name}, which is not in the cage>"

    def _use(self, *_: Any) -> Any:
        if _importing:
            return StandIn(self._name)
        _refuse(self._name)

    __setitem__ = __delitem__ = __enter__ = __exit__ = _use
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _use
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __invert__ = _use
    __and__ = __rand__ = __xor__ = __rxor__ = __lshift__ = __rshift__ = __matmul__ = __rmatmul__ = _use
    __lt__ = __le__ = __gt__ = __ge__ = _use

    def __iter__(self) -> Iterator[Any]:
        return iter(()) if _importing else _refuse(self._name)

    def __len__(self) -> int:
        return 0 if _importing else _refuse(self._name)

    def __int__(self) -> int:
        return 0 if _importing else _refuse(self._name)

    def __float__(self) -> float:
        return 0.0 if _importing else _refuse(self._name)


def _part(of: str, name: str) -> Any:
    """An attribute: an exception class where the name says so, since `except` takes nothing else."""
    if name.endswith("Warning"):
        return type(name, (UserWarning,), {"__module__": of})
    if name == "error" or name.endswith(("Error", "Exception")):
        return type(name, (Exception,), {"__module__": of})
    return StandIn(f"{of}.{name}")


class StubModule(ModuleType):
    """A module that is not there."""

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            # `from pygame.locals import *` brings nothing; a name that is missing later says so by itself.
            return []
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        part = _part(self.__name__, name)
        setattr(self, name, part)
        return part

    def __call__(self, *_: Any, **__: Any) -> Any:
        if not _importing:
            _refuse(self.__name__)
        return StandIn(self.__name__ + "()")


class StubFinder:
    """Finds the modules that stand-ins are made for, and everything below them. Real modules are found before."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = frozenset(names)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in self.names:
            return None
        spec = ModuleSpec(fullname, self, is_package=True)  # type: ignore[arg-type]
        spec.submodule_search_locations = []
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StubModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def install(names: tuple[str, ...]) -> None:
    """Makes modules of these top-level names importable, where there are no real ones."""
    if names:
        sys.meta_path.append(StubFinder(names))


#: Modules of Python's own library, and the native part that each needs.
STANDARD = {
    "bz2": "_bz2",
    "curses": "_curses",
    "fcntl": "fcntl",
    "grp": "grp",
    "lzma": "_lzma",
    "pwd": "pwd",
    "readline": "readline",
    "resource": "resource",
    "sqlite3": "_sqlite3",
    "ssl": "_ssl",
    "syslog": "syslog",
    "termios": "termios",
    "tkinter": "_tkinter",
    "tty": "termios",
    "turtle": "_tkinter",
}


class StandardFinder(StubFinder):
    """Finds those of `STANDARD` whose native part is missing, for code of the plugin.

    Python's own library asks for some of them too, and does without.
    """

    def __init__(self, is_plugins: Callable[[str], bool]) -> None:
        super().__init__(tuple(STANDARD))
        self._is_plugins = is_plugins

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        part = STANDARD.get(fullname.partition(".")[0])
        if part is None or not self._is_plugins(_importing_file()):
            return None
        if part in sys.builtin_module_names or PathFinder.find_spec(part) is not None:
            return None
        return super().find_spec(fullname, path, target)

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == "ssl":
            # Its errors are caught as errors of the system.
            for name in ("SSLError", "SSLWantReadError", "SSLWantWriteError", "SSLZeroReturnError", "SSLEOFError"):
                setattr(module, name, type(name, (OSError,), {"__module__": "ssl"}))


def _importing_file() -> str:
    """The file of the code that has an `import` now."""
    frame: FrameType | None = sys._getframe()
    own = frame.f_code.co_filename
    while frame is not None:
        path = frame.f_code.co_filename
        if path != own and not path.startswith("<frozen ") and not path.endswith("/importlib/__init__.py"):
            return path
        frame = frame.f_back
    return ""


def install_standard(is_plugins: Callable[[str], bool]) -> None:
    """Makes those of `STANDARD` that are missing importable for the plugin's code: `is_plugins` says which files are that."""
    # Before the real ones, whose Python part is there and then lacks its native part.
    sys.meta_path.insert(0, StandardFinder(is_plugins))


def uninstall() -> None:
    """Undoes `install` and `install_standard`: for tests."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, StubFinder)]
    for name, module in list(sys.modules.items()):
        if isinstance(module, StubModule):
            del sys.modules[name]


@contextmanager
def importing() -> Iterator[None]:
    """While a module of the plugin is imported: uses of stand-ins are not refused."""
    global _importing
    before, _importing = _importing, True
    try:
        yield
    finally:
        _importing = before
