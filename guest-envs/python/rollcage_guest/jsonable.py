"""Values of an env as JSON that every reader accepts: for `info`, results of calls, and attributes.

numpy's scalars and arrays become numbers and lists. NaN and infinities, which JSON does not have, become null.
"""

import dataclasses
import datetime
import enum
import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

#: Levels of JSON that the host reads.
DEPTH_MAX = 64

#: Integers from here on do not fit a double, and the host refuses their JSON.
INTEGER_MAX = 1 << 1023


class NotJson(Exception):
    """A value that has no JSON form. The text names its type."""


def _plain(value: Any) -> Any:
    """What `json` does not know by itself."""
    if isinstance(value, np.generic):
        plain = value.item()
        if isinstance(plain, (bool, int, float, str)):
            return plain
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (set, frozenset)):
        try:
            return sorted(value)
        except TypeError:
            return list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    raise TypeError(type(value).__name__)


_encode = json.JSONEncoder(allow_nan=False, default=_plain, separators=(",", ":")).encode


def text(value: Any) -> str:
    """JSON of a value.

    Raises
    ------
    NotJson
        Some part of it has no JSON form, or is nested too deep.

    """
    try:
        written = _encode(value)
        # Half a surrogate pair, and levels that are many: seldom there, so looked for in the text.
        if "\\ud" not in written and written.count("[") + written.count("{") <= DEPTH_MAX:
            return written
    except (TypeError, ValueError, RecursionError):
        pass
    return _encode(clean(value))


def clean(value: Any, depth: int = 0) -> Any:
    """The value with all that JSON does not have replaced.

    Raises
    ------
    NotJson
        As for `text`.

    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return clean(value.value, depth)
    if isinstance(value, int):
        if abs(value) >= INTEGER_MAX:
            raise NotJson("an integer of more than 1,023 bits")
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if depth >= DEPTH_MAX:
        raise NotJson(f"a value nested more than {DEPTH_MAX} deep")
    if isinstance(value, dict):
        return {_key(key): clean(one, depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(one, depth + 1) for one in value]
    try:
        plain = _plain(value)
    except TypeError as error:
        raise NotJson(str(error)) from None
    return clean(plain, depth)


def _key(key: Any) -> str:
    return clean(key if isinstance(key, str) else str(key))
