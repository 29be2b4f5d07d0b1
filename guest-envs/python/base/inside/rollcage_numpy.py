"""What numpy does otherwise in a guest: it duplicates the descriptor of a file that it reads or writes by itself, and WASI cannot.
So files are read and written by their own `read` and `write`. (`ndarray.tofile` remains refused: it is a method in C.)
"""

import os
from typing import Any

import numpy as np
import numpy._core.multiarray
import numpy._core.numeric
import numpy.lib._format_impl


def install() -> None:
    """Makes `numpy.save`, `numpy.load` and `numpy.fromfile` work."""
    numpy.lib._format_impl.isfileobj = lambda file: False
    for module in (np, numpy._core.multiarray, numpy._core.numeric):
        module.fromfile = fromfile


def fromfile(
    file: Any, dtype: Any = float, count: int = -1, sep: str = "", offset: int = 0, *, like: Any = None
) -> np.ndarray:
    """Construct an array from data in a text or binary file: as numpy's, without `like`."""
    if like is not None:
        raise NotImplementedError("numpy.fromfile(like=…) does not work in a rollcage guest")
    if sep and offset:
        raise TypeError("'offset' argument only permitted for binary files")
    if not hasattr(file, "read"):
        with open(os.fspath(file), "rb") as opened:
            return fromfile(opened, dtype, count, sep, offset)
    # numpy's own takes files of the system alone, and says so by this error.
    file.fileno()
    if sep:
        return np.fromstring(file.read().decode("latin-1"), dtype, count, sep=sep)
    file.seek(offset, os.SEEK_CUR)
    dtype = np.dtype(dtype)
    content = file.read() if count < 0 else file.read(count * dtype.itemsize)
    items = len(content) // dtype.itemsize
    return np.frombuffer(content, dtype, items).copy() if items else np.empty(0, dtype)
