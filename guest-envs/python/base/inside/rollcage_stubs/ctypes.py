"""Stand-in for ctypes: it can be imported, its types can be named, and whoever uses one is told that there is no machine code
in a guest."""

from rollcage_stubs import ctypes_util as util
from rollcage_stubs import refusal

__all__ = ["util"]
# `import ctypes.util` works.
__path__: list[str] = []


class _Refused(type):
    def __call__(cls, *arguments: object, **named: object) -> object:
        raise refusal(f"ctypes.{cls.__name__}")

    def __mul__(cls, length: int) -> type:
        return cls

    __rmul__ = __mul__


def _stand_in(name: str) -> type:
    return _Refused(name, (), {"__module__": "ctypes"})


_SimpleCData = _stand_in("_SimpleCData")
Structure, Union, Array, _Pointer = map(_stand_in, ("Structure", "Union", "Array", "_Pointer"))


def _no_library(name: str) -> OSError:
    """Returns the error of a library that cannot be loaded: natively one that is missing is an `OSError` too."""
    return OSError(str(refusal(f"ctypes.{name}")))


class CDLL:
    """Refuses to be loaded."""

    def __init__(self, *arguments: object, **named: object) -> None:
        raise _no_library(type(self).__name__)


class PyDLL(CDLL):
    """Refuses to be loaded."""


class LibraryLoader:
    """Refuses to load."""

    def __init__(self, dlltype: type) -> None:
        self._dlltype = dlltype

    def LoadLibrary(self, name: str) -> object:  # noqa: N802
        """Refuses."""
        raise _no_library("LibraryLoader.LoadLibrary")

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        raise _no_library(f"cdll.{name}")


cdll, pydll = LibraryLoader(CDLL), LibraryLoader(PyDLL)


class ArgumentError(Exception):
    """As in ctypes, for `except`."""


# Names of types with their size in a guest.
_SIZES = {
    "c_bool": 1, "c_byte": 1, "c_ubyte": 1, "c_char": 1, "c_int8": 1, "c_uint8": 1,
    "c_short": 2, "c_ushort": 2, "c_int16": 2, "c_uint16": 2,
    "c_int": 4, "c_uint": 4, "c_long": 4, "c_ulong": 4, "c_int32": 4, "c_uint32": 4, "c_float": 4, "c_wchar": 4,
    "c_size_t": 4, "c_ssize_t": 4, "c_void_p": 4, "c_char_p": 4, "c_wchar_p": 4, "py_object": 4,
    "c_longlong": 8, "c_ulonglong": 8, "c_int64": 8, "c_uint64": 8, "c_double": 8,
    "c_longdouble": 16,
}  # fmt: skip

globals().update({name: _stand_in(name) for name in _SIZES})


def sizeof(kind: type) -> int:
    """Returns the size of a simple type."""
    if kind.__name__ in _SIZES:
        return _SIZES[kind.__name__]
    raise refusal("ctypes.sizeof")


def __getattr__(name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(f"module 'ctypes' has no attribute {name!r}")
    return _stand_in(name)
