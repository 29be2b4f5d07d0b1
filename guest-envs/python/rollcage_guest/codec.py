"""Values of a space as the interface's bytes, and back.

On the path of a step: session → **codec** → session. The layout is that of `wit/0.1.0/types.wit`: leaves in depth-first
order, each at a multiple of its alignment, the whole padded with zeros to a multiple of 8.

What is done once per space is done when the codec is made: a space becomes a tree of closures.
"""

import math
import operator
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from rollcage_guest.spaces import Text, child, named

#: Alignment of a whole value, and of a Dict or Tuple.
COMPOSITE = 8

Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]


class Mismatch(Exception):
    """A value that is not one of its space. The text names the part, what is wanted and what was given."""


class Codec:
    """Bytes of the values of one space.

    Attributes
    ----------
    size
        Bytes of one value: a multiple of 8.
    encode
        Turns a value into bytes. Raises `Mismatch`. Box bounds are not checked, as in Gymnasium; NaN is refused.
    decode
        Turns bytes into a value of the types that the space's own samples have. The bytes were checked by the host.

    """

    __slots__ = ("decode", "encode", "size")

    def __init__(self, space: spaces.Space[Any], what: str) -> None:
        leaves: list[_Leaf] = []
        end = _place(space, what, "", 0, leaves)
        self.size = _align(end, COMPOSITE)
        if isinstance(space, (spaces.Dict, spaces.Tuple)):
            self.encode = _encode_tree(space, what, leaves, self.size)
            self.decode = _decode_tree(space, iter(leaves))
        else:
            (leaf,) = leaves
            self.encode = _padded(leaf.encode, self.size - end)
            self.decode = leaf.decode


def extent(space: spaces.Space[Any]) -> tuple[int, int]:
    """Alignment of a value within a Dict, and its bytes without the padding after them."""
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        return COMPOSITE, _place(space, "", "", 0, [])
    alignment, size, _ = _layout(space)
    return alignment, size


class _Leaf:
    """A leaf of a space and where its bytes stand in a value."""

    __slots__ = ("decode", "encode", "offset", "size")

    def __init__(self, offset: int, size: int, encode: Encode, decode: Decode) -> None:
        self.offset = offset
        self.size = size
        self.encode = encode
        self.decode = decode


def _align(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def _children(space: spaces.Space[Any]) -> Iterator[tuple[str | int, spaces.Space[Any]]]:
    return iter(space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces))  # type: ignore[attr-defined]


def _place(space: spaces.Space[Any], what: str, path: str, offset: int, leaves: list[_Leaf]) -> int:
    """Appends the leaves of a space that begins at `offset`. Returns where it ends."""
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        offset = _align(offset, COMPOSITE)
        for key, one in _children(space):
            offset = _place(one, what, child(path, key), offset, leaves)
        return offset
    alignment, size, make = _layout(space)
    offset = _align(offset, alignment)
    leaves.append(_Leaf(offset, size, *make(space, named(what, path), offset)))
    return offset + size


def _layout(space: Any) -> tuple[int, int, Callable[[Any, str, int], tuple[Encode, Decode]]]:
    """Alignment and bytes of a leaf, and the maker of its closures."""
    match space:
        case spaces.Box():
            return space.dtype.itemsize, space.dtype.itemsize * _count(space.shape), _box
        case spaces.Discrete():
            return 8, 8, _discrete
        case spaces.MultiDiscrete():
            return 8, 8 * _count(space.shape), _multi_discrete
        case spaces.MultiBinary():
            return 1, _count(space.shape), _multi_binary
        case spaces.Text():
            return 4, 4 + 4 * space.max_length, _text
    raise TypeError(f"a {type(space).__name__} space has no bytes")


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= int(side)
    return count


def _padded(encode: Encode, padding: int) -> Encode:
    if not padding:
        return encode
    zeros = bytes(padding)
    return lambda value: encode(value) + zeros


# Trees: what is between the leaves is joined from ready pieces.


def _encode_tree(space: spaces.Space[Any], what: str, leaves: list[_Leaf], size: int) -> Encode:
    pieces: list[bytes] = []
    slots: list[int] = []
    end = 0
    for leaf in leaves:
        if leaf.offset > end:
            pieces.append(bytes(leaf.offset - end))
        slots.append(len(pieces))
        pieces.append(b"")
        end = leaf.offset + leaf.size
    if size > end:
        pieces.append(bytes(size - end))
    encoders = [leaf.encode for leaf in leaves]
    plan = list(zip(slots, encoders, strict=True))
    gather = _gather(space, what, "")

    def encode(value: Any) -> bytes:
        values: list[Any] = []
        gather(value, values)
        for (slot, leaf), one in zip(plan, values, strict=True):
            pieces[slot] = leaf(one)
        return b"".join(pieces)

    return encode


def _gather(space: spaces.Space[Any], what: str, path: str) -> Callable[[Any, list[Any]], None]:
    """Collects the values of a tree's leaves, in order."""
    where = named(what, path)
    if isinstance(space, spaces.Dict):
        parts = [
            (key, _gather(one, what, child(path, key)) if _is_tree(one) else None) for key, one in _children(space)
        ]

        def from_dict(value: Any, values: list[Any]) -> None:
            for key, inner in parts:
                try:
                    one = value[key]
                except (KeyError, TypeError, IndexError):
                    raise Mismatch(_missing(where, key, value)) from None
                if inner is None:
                    values.append(one)
                else:
                    inner(one, values)

        return from_dict
    inners = [_gather(one, what, child(path, key)) if _is_tree(one) else None for key, one in _children(space)]
    count = len(inners)

    def from_tuple(value: Any, values: list[Any]) -> None:
        if not isinstance(value, (tuple, list)):
            raise Mismatch(f"{where}: {_kind(value)}, wanted a tuple of {count}")
        if len(value) != count:
            raise Mismatch(f"{where}: a {type(value).__name__} of {len(value)}, wanted {count}")
        for inner, one in zip(inners, value, strict=True):
            if inner is None:
                values.append(one)
            else:
                inner(one, values)

    return from_tuple


def _missing(where: str, key: str | int, value: Any) -> str:
    if not isinstance(value, Mapping):
        return f"{where}: {_kind(value)}, wanted a dict with `{key}`"
    given = ", ".join(f"`{one}`" for one in value) or "none"
    return f"{where}: the key `{key}` is missing (given: {given})"


def _is_tree(space: Any) -> bool:
    return isinstance(space, (spaces.Dict, spaces.Tuple))


def _decode_tree(space: spaces.Space[Any], leaves: Iterator[_Leaf]) -> Decode:
    parts = [
        (key, _decode_tree(one, leaves) if _is_tree(one) else next(leaves).decode) for key, one in _children(space)
    ]
    if isinstance(space, spaces.Dict):
        return lambda data: {key: decode(data) for key, decode in parts}
    decoders = [decode for _, decode in parts]
    return lambda data: tuple([decode(data) for decode in decoders])


# Leaves. Each maker returns the closures for one leaf at one offset.


def _kind(value: Any) -> str:
    """What a value is, for messages: its type, and dtype and shape of an array."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} with shape {value.shape}"
    name = type(value).__name__
    if value is None:
        return "None"
    return f"a {name} of {len(value)}" if isinstance(value, (list, tuple, dict)) else f"{name} {str(value)[:40]}"


def as_array(value: Any, dtype: np.dtype[Any], shape: tuple[int, ...], where: str) -> np.ndarray[Any, Any]:
    """A value as an array of this dtype and shape.

    Floats are cast to a narrower float, as Gymnasium does. Other values must be held by the dtype unchanged.

    Raises
    ------
    Mismatch
        Another shape, or values that the dtype does not hold.

    """
    try:
        given = np.asarray(value)
    except Exception as error:
        raise Mismatch(f"{where}: {_kind(value)} is not an array of shape {shape} ({error})") from None
    if given.shape != shape:
        raise Mismatch(f"{where}: shape {given.shape}, wanted {shape}")
    if given.dtype == dtype:
        return given
    kind, wanted = given.dtype.kind, dtype.kind
    if kind not in "biuf":
        raise Mismatch(f"{where}: {_kind(value)}, wanted an array of {dtype} with shape {shape}")
    if wanted == "f":
        with np.errstate(all="ignore"):
            return given.astype(dtype)
    with np.errstate(all="ignore"):
        cast = given.astype(dtype)
        if not (cast == given).all():
            raise Mismatch(f"{where}: values of {given.dtype} that {dtype} does not hold, such as {_odd(given, cast)}")
    return cast


def _odd(given: np.ndarray[Any, Any], cast: np.ndarray[Any, Any]) -> Any:
    return given.reshape(-1)[int(np.argmax((cast != given).reshape(-1)))]


#: Elements of a Box up to which NaN is looked for in Python's own floats: that takes a third of the time of numpy's way.
_FEW = 64


def _box(space: spaces.Box, where: str, offset: int) -> tuple[Encode, Decode]:
    dtype, shape = np.dtype(space.dtype), tuple(int(side) for side in space.shape)
    count = _count(shape)
    array = np.ndarray
    is_flat = len(shape) == 1

    def refuse_nan(value: np.ndarray[Any, Any]) -> None:
        found = np.argwhere(np.isnan(value))
        if len(found):
            raise Mismatch(f"{where}: NaN in element {found[0].tolist()}" if shape else f"{where}: NaN")

    def encode(value: Any) -> bytes:
        if type(value) is not array or value.dtype != dtype or value.shape != shape:
            value = as_array(value, dtype, shape, where)
        return value.tobytes()

    unpack = struct.Struct(f"<{count}{dtype.char}").unpack if dtype.kind == "f" and count <= _FEW else None

    def encode_few(value: Any) -> bytes:
        if type(value) is not array or value.dtype != dtype or value.shape != shape:
            value = as_array(value, dtype, shape, where)
        data = value.tobytes()
        # NaN if an element is, or if there are infinities of both signs.
        total = sum(unpack(data))  # type: ignore[misc]
        if total != total:
            refuse_nan(value)
        return data

    isnan, vdot = math.isnan, np.vdot

    def encode_many(value: Any) -> bytes:
        if type(value) is not array or value.dtype != dtype or value.shape != shape:
            value = as_array(value, dtype, shape, where)
        # The sum of squares is NaN if and only if an element is: an infinity stays one.
        if isnan(vdot(value, value)):
            refuse_nan(value)
        return value.tobytes()

    frombuffer = np.frombuffer

    def decode(data: bytes) -> Any:
        # A copy, since the author may write into it.
        return frombuffer(data, dtype, count, offset).reshape(shape).copy()

    def decode_flat(data: bytes) -> Any:
        return frombuffer(data, dtype, count, offset).copy()

    if dtype.kind == "f":
        encode = encode_few if unpack is not None else encode_many
    return encode, decode_flat if is_flat else decode


#: Choices of a Discrete up to which the scalars of all choices are kept.
_KEPT = 1024


def _discrete(space: Any, where: str, offset: int) -> tuple[Encode, Decode]:
    low = int(space.start)
    high = low + int(space.n) - 1
    pack, unpack = struct.Struct("<q").pack, struct.Struct("<q").unpack_from
    scalar = np.dtype(space.dtype).type
    index = operator.index

    def encode(value: Any) -> bytes:
        try:
            number = index(value)
        except TypeError:
            raise Mismatch(f"{where}: {_kind(value)}, wanted an integer from {low} to {high}") from None
        if not low <= number <= high:
            raise Mismatch(f"{where}: {number}, wanted an integer from {low} to {high}")
        return pack(number)

    def decode(data: bytes) -> Any:
        return scalar(unpack(data, offset)[0])

    if high - low >= _KEPT:
        return encode, decode
    # numpy's scalars cannot change, so each is made once.
    kept = [scalar(number) for number in range(low, high + 1)]

    def decode_kept(data: bytes) -> Any:
        return kept[unpack(data, offset)[0] - low]

    return encode, decode_kept


def _multi_discrete(space: Any, where: str, offset: int) -> tuple[Encode, Decode]:
    shape = tuple(int(side) for side in space.shape)
    count = _count(shape)
    wire, own = np.dtype(np.int64), np.dtype(space.dtype)
    low = np.asarray(space.start, wire)
    high = low + np.asarray(space.nvec, wire) - 1

    def encode(value: Any) -> bytes:
        array = as_array(value, wire, shape, where)
        outside = (array < low) | (array > high)
        if outside.any():
            at = int(np.argmax(outside.reshape(-1)))
            given, least, most = (int(one.reshape(-1)[at]) for one in (array, low, high))
            raise Mismatch(f"{where}: {given} in element {at}, wanted an integer from {least} to {most}")
        return array.tobytes()

    def decode(data: bytes) -> Any:
        return np.frombuffer(data, wire, count, offset).reshape(shape).astype(own)

    return encode, decode


def _multi_binary(space: Any, where: str, offset: int) -> tuple[Encode, Decode]:
    shape = tuple(int(side) for side in space.shape)
    count = _count(shape)
    dtype = np.dtype(np.int8)

    def encode(value: Any) -> bytes:
        array = as_array(value, dtype, shape, where)
        if ((array != 0) & (array != 1)).any():
            raise Mismatch(f"{where}: a value that is neither 0 nor 1")
        return array.tobytes()

    def decode(data: bytes) -> Any:
        return np.frombuffer(data, dtype, count, offset).reshape(shape).copy()

    return encode, decode


def _text(space: spaces.Text, where: str, offset: int) -> tuple[Encode, Decode]:
    least, most = space.min_length, space.max_length
    allowed = None if isinstance(space, Text) else frozenset(space.character_set)
    room = 4 * most
    begin = struct.Struct("<I")

    def encode(value: Any) -> bytes:
        if not isinstance(value, str):
            raise Mismatch(f"{where}: {_kind(value)}, wanted a text")
        if not least <= len(value) <= most:
            longer = "; set the length in `[tool.rollcage.text-length]`" if len(value) > most else ""
            raise Mismatch(f"{where}: a text of {len(value)} characters, wanted {least} to {most}{longer}")
        if allowed is not None and not allowed.issuperset(value):
            odd = next(one for one in value if one not in allowed)
            raise Mismatch(f"{where}: the character {odd!r} is not in the charset")
        try:
            data = value.encode()
        except UnicodeEncodeError as error:
            raise Mismatch(f"{where}: {error}") from None
        return begin.pack(len(data)) + data + bytes(room - len(data))

    def decode(data: bytes) -> Any:
        (length,) = begin.unpack_from(data, offset)
        return data[offset + 4 : offset + 4 + length].decode()

    return encode, decode
