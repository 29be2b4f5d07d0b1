"""Gymnasium's spaces from those that a plugin declares, and numpy's arrays from the bytes of their values.

A batch of values is one block of bytes: a row for each env, ``stride`` bytes apart, each row the leaves of the space in
order (``docs/interface.md``). The classes here are the tree of a space; each knows its place in a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from copy import copy, deepcopy
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from rollcage import _rollcage as native
from rollcage._types import Bytes
from rollcage.errors import UsageError

Described = dict[str, Any]


class Node(ABC):
    """A space and the place of its values in a row of bytes."""

    space: spaces.Space[Any]

    @abstractmethod
    def read(self, rows: Bytes) -> Any:
        """Values of a batch, in Gymnasium's batched form.

        Parameters
        ----------
        rows : ndarray of uint8, shape (envs, stride)
            The bytes. What is returned may be a view of them.

        """

    @abstractmethod
    def write(self, values: Any, rows: Bytes, path: str) -> None:
        """Writes a batch of values in Gymnasium's batched form into rows of zeros; `path` is for messages."""

    @abstractmethod
    def item(self, batch: Any, row: int) -> Any:
        """One env's value out of what `read` returned."""

    @abstractmethod
    def batch(self, values: Sequence[Any]) -> Any:
        """Gymnasium's batched form of single values, one for each env."""


class Numbers(Node):
    """A leaf of numbers: Box, Discrete, MultiDiscrete, MultiBinary."""

    def __init__(
        self, space: spaces.Space[Any], dtype: npt.DTypeLike, shape: tuple[int, ...], offset: int, size: int
    ) -> None:
        self.space = space
        self.dtype = np.dtype(dtype)
        self.shape = shape
        self.offset = offset
        self.size = size
        #: The bounds to which elements are clipped, if they are clipped.
        self.clip_to: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None

    def read(self, rows: Bytes) -> npt.NDArray[Any]:
        # Rows are strided: other values or padding follow a value.
        within = np.empty((1, *self.shape), self.dtype).strides[1:]
        shape = (len(rows), *self.shape)
        strides = (rows.shape[1], *within)
        values: npt.NDArray[Any] = np.ndarray(shape, self.dtype, rows, offset=self.offset, strides=strides)
        return values

    def write(self, values: Any, rows: Bytes, path: str) -> None:
        array = self.array(values, len(rows), path)
        rows[:, self.offset : self.offset + self.size] = array.view(np.uint8).reshape(len(rows), self.size)

    def array(self, values: Any, envs: int, path: str) -> npt.NDArray[Any]:
        """`values` as a contiguous array of this leaf's dtype and shape (envs, …)."""
        array = np.asarray(values)
        shape = (envs, *self.shape)
        if array.dtype != self.dtype:
            array = self._cast(array, path)
        if array.shape != shape:
            if array.size != envs * (self.size // self.dtype.itemsize) or array.shape[:1] != (envs,):
                raise UsageError(f"{path}: an array of shape {array.shape}; {shape} is expected")
            array = array.reshape(shape)
        if self.clip_to is not None:
            # Values that are not finite stay unchanged, and the host refuses them.
            array = np.where(np.isfinite(array), np.clip(array, *self.clip_to), array)
        return np.ascontiguousarray(array)

    def _cast(self, array: npt.NDArray[Any], path: str) -> npt.NDArray[Any]:
        if self.dtype.kind == "f" and array.dtype.kind in "fiub":
            return array.astype(self.dtype)
        kinds = "iubf" if isinstance(self.space, spaces.Box) else "iub"
        if self.dtype.kind in "iub" and array.dtype.kind in kinds:
            with np.errstate(invalid="ignore"):
                cast_to = array.astype(self.dtype)
            if (cast_to == array).all():
                return cast_to
            raise UsageError(f"{path}: values that do not fit {self.dtype}: {array}")
        raise UsageError(f"{path}: an array of {array.dtype}; {self.dtype} is expected")

    def item(self, batch: Any, row: int) -> Any:
        # An array for every Box, without dimensions too; a Discrete is a number.
        return batch[row, ...] if self.shape or isinstance(self.space, spaces.Box) else batch[row].item()

    def batch(self, values: Sequence[Any]) -> npt.NDArray[Any]:
        return np.stack([np.asarray(value) for value in values])


class Texts(Node):
    """A leaf of text: its length in bytes as uint32, UTF-8, zeros."""

    def __init__(self, space: spaces.Text, offset: int, size: int) -> None:
        self.space = space
        self.offset = offset
        self.size = size

    def read(self, rows: Bytes) -> tuple[str, ...]:
        places = (bytes(row[self.offset : self.offset + self.size]) for row in rows)
        return tuple(place[4 : 4 + int.from_bytes(place[:4], "little")].decode() for place in places)

    def write(self, values: Any, rows: Bytes, path: str) -> None:
        if not isinstance(values, (tuple, list, np.ndarray)) or len(values) != len(rows):
            raise UsageError(f"{path}: {len(rows)} texts are expected")
        for text, row in zip(values, rows, strict=True):
            if not isinstance(text, str):
                raise UsageError(f"{path}: a text is expected, got {text!r}")
            data = text.encode()
            if len(data) > self.size - 4:
                raise UsageError(f"{path}: a text of {len(text)} characters is too long")
            row[self.offset : self.offset + 4] = np.frombuffer(len(data).to_bytes(4, "little"), np.uint8)
            row[self.offset + 4 : self.offset + 4 + len(data)] = np.frombuffer(data, np.uint8)

    def item(self, batch: Any, row: int) -> str:
        return cast("str", batch[row])

    def batch(self, values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values)


class Dict(Node):
    """A Dict; each member knows its own place."""

    def __init__(self, members: dict[str, Node]) -> None:
        self.space = spaces.Dict({key: node.space for key, node in members.items()})
        # In Gymnasium's order, which sorts the keys of a plain dict.
        self.members = {key: members[key] for key in self.space.spaces}

    def read(self, rows: Bytes) -> dict[str, Any]:
        return {key: node.read(rows) for key, node in self.members.items()}

    def write(self, values: Any, rows: Bytes, path: str) -> None:
        if not isinstance(values, dict) or set(values) != set(self.members):
            raise UsageError(f"{path}: a dict with the keys {_listed(self.members)} is expected")
        for key, node in self.members.items():
            node.write(values[key], rows, f"{path}[{key!r}]")

    def item(self, batch: Any, row: int) -> dict[str, Any]:
        return {key: node.item(batch[key], row) for key, node in self.members.items()}

    def batch(self, values: Sequence[Any]) -> dict[str, Any]:
        return {key: node.batch([value[key] for value in values]) for key, node in self.members.items()}


class Tuple(Node):
    """A Tuple; each member knows its own place."""

    def __init__(self, members: Sequence[Node]) -> None:
        self.space = spaces.Tuple([node.space for node in members])
        self.members = list(members)

    def read(self, rows: Bytes) -> tuple[Any, ...]:
        return tuple(node.read(rows) for node in self.members)

    def write(self, values: Any, rows: Bytes, path: str) -> None:
        if not isinstance(values, (tuple, list)) or len(values) != len(self.members):
            raise UsageError(f"{path}: a tuple of {len(self.members)} is expected")
        for index, (node, value) in enumerate(zip(self.members, values, strict=True)):
            node.write(value, rows, f"{path}[{index}]")

    def item(self, batch: Any, row: int) -> tuple[Any, ...]:
        return tuple(node.item(part, row) for node, part in zip(self.members, batch, strict=True))

    def batch(self, values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(node.batch([value[index] for value in values]) for index, node in enumerate(self.members))


def node_of(described: Described, *, clip: bool = False) -> Node:
    """The tree of a space that the extension describes; with `clip`, numbers written into a Box are clipped to it."""
    kind = described["kind"]
    if kind == "dict":
        return Dict({key: node_of(entry, clip=clip) for key, entry in described["entries"]})
    if kind == "tuple":
        return Tuple([node_of(entry, clip=clip) for entry in described["entries"]])
    place = (described["offset"], described["size"])
    if kind == "text":
        # Gymnasium's Text always has a set of characters. A plugin without one allows every character.
        charset = {} if described["charset"] is None else {"charset": described["charset"]}
        return Texts(AnyText(described["max_length"], min_length=described["min_length"], **charset), *place)
    if kind == "discrete":
        return Numbers(spaces.Discrete(described["n"], start=described["start"]), np.int64, (), *place)
    shape = tuple(described["shape"])
    if kind == "multi_binary":
        return Numbers(spaces.MultiBinary(list(shape) if len(shape) > 1 else shape[0]), np.int8, shape, *place)
    if kind == "multi_discrete":
        nvec = np.array(described["nvec"], np.int64).reshape(shape)
        start = np.array(described["start"], np.int64).reshape(shape) if described["start"] else None
        return Numbers(spaces.MultiDiscrete(nvec, np.int64, start=start), np.int64, shape, *place)
    dtype = np.dtype(described["dtype"])
    low, high = (
        np.broadcast_to(bound[0] if bound.size == 1 else bound.reshape(shape), shape)
        for bound in (np.frombuffer(described["low"], dtype), np.frombuffer(described["high"], dtype))
    )
    box = Numbers(spaces.Box(low, high, shape, dtype.type), dtype, shape, *place)
    if clip:
        box.clip_to = (low, high)
    return box


class AnyText(spaces.Text):
    """Gymnasium's Text, also without a set of characters: then every text of a fitting length is in the space."""

    def __init__(self, max_length: int, *, min_length: int, charset: str | None = None) -> None:
        self.any = charset is None
        if charset is None:
            super().__init__(max_length, min_length=min_length)
        else:
            super().__init__(max_length, min_length=min_length, charset=charset)

    def contains(self, x: Any) -> bool:
        if self.any:
            return isinstance(x, str) and self.min_length <= len(x) <= self.max_length
        return bool(super().contains(x))

    def __deepcopy__(self, memo: dict[int, Any]) -> AnyText:
        # A batched space is one copy for each env. Nobody changes the set of characters, which may be most of Unicode.
        other = copy(self)
        other._np_random = deepcopy(self._np_random, memo)
        return other

    def __repr__(self) -> str:
        # The characters are the author's.
        characters = self.characters if len(self.characters) <= 200 else f"{self.characters[:200]}…"
        return native.one_line(f"Text({self.min_length}, {self.max_length}, charset={characters})")


class Values:
    """The values of one space for all envs: bytes to numpy and back.

    Parameters
    ----------
    described : dict
        The space, as the extension describes it.
    envs : int
        Rows of a batch.
    clip : bool
        Whether numbers that are written into a Box are clipped to its bounds.

    """

    def __init__(self, described: Described, envs: int, *, clip: bool = False) -> None:
        self.node = node_of(described, clip=clip)
        self.stride: int = described["stride"]
        self.envs = envs
        # For the commonest spaces a batch of bytes is already the array.
        leaf = self.node if isinstance(self.node, Numbers) and self.node.size == self.stride else None
        self._leaf = leaf
        #: Whether the space is a Box, which can be viewed without a copy.
        self.is_box = isinstance(self.node.space, spaces.Box)

    @property
    def space(self) -> spaces.Space[Any]:
        """The space of one env's values."""
        return self.node.space

    def read(self, data: Bytes, *, contiguous: bool = True) -> Any:
        """Values of a batch from its bytes.

        Parameters
        ----------
        data : ndarray of uint8, shape (rows * stride,)
            The bytes; what is returned may be a view of them.
        contiguous : bool
            Copy arrays that are not contiguous in memory.

        """
        leaf = self._leaf
        if leaf is not None:
            return data.view(leaf.dtype).reshape((-1, *leaf.shape))
        values = self.node.read(data.reshape(-1, self.stride))
        return _contiguous(values) if contiguous else values

    def write(self, values: Any, envs: int | None = None) -> Bytes:
        """Bytes of a batch of values.

        Raises
        ------
        UsageError
            The values have a wrong shape or type. The host checks whether each is in the space.
        TypeError
            One number is given where each env has one.

        """
        envs = self.envs if envs is None else envs
        leaf = self._leaf
        try:
            if leaf is not None:
                return leaf.array(values, envs, "actions").reshape(-1).view(np.uint8)
            rows = np.zeros((envs, self.stride), np.uint8)
            self.node.write(values, rows, "actions")
            return rows.reshape(-1)
        except UsageError:
            if not isinstance(self.node, Numbers) or np.ndim(values) > 0:
                raise
            shape = (envs, *self.node.shape)
            raise TypeError(f"actions: {values!r} is one value; an array of shape {shape} is expected") from None


def _listed(keys: Iterable[str]) -> str:
    """Keys of a Dict for a message: an author's words."""
    return native.one_line(", ".join(keys))


def _contiguous(values: Any) -> Any:
    if isinstance(values, np.ndarray):
        return np.ascontiguousarray(values).reshape(values.shape)
    if isinstance(values, dict):
        return {key: _contiguous(value) for key, value in values.items()}
    if isinstance(values, tuple) and not (values and isinstance(values[0], str)):
        return tuple(_contiguous(value) for value in values)
    return values
