"""Gymnasium's spaces as the interface's flat nodes, and refusals in words for those that it does not have."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from wit_world.imports import types as t

from rollcage_guest.faults import InWords

#: The dtypes of a Box, by numpy's name.
DTYPES = {
    np.dtype(name): getattr(t.Dtype, "BOOLEAN" if name == "bool" else name.upper())
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64"),
    )
}

#: Samples taken of a space of the author's own, to see what its values are and how long.
SAMPLES = 64

#: The least length that samples lead to: some spaces sample a shorter text than their envs give (BabyAI's missions).
LENGTH_MIN = 256

_REFUSED = {
    "Sequence": "its values have no fixed size; use a Box or MultiBinary of the greatest length, with a Discrete that counts",
    "Graph": "its values have no fixed size; use a Dict of Boxes for nodes and edges, padded to the greatest number",
    "OneOf": "its values have no fixed form; use a Dict of all forms, with a Discrete that says which one counts",
}


class UnusableSpace(InWords):
    """A space that rollcage does not have. The text says what to do."""


def child(path: str, key: str | int) -> str:
    """Path of a Dict's or Tuple's child: ``camera.rgb``, ``[0].x``."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else str(key)


def named(what: str, path: str) -> str:
    """Name of a part of a value, for messages: ``observation``, or ``observation `camera.rgb` ``."""
    return f"{what} `{path}`" if path else what


class Text(spaces.Text):
    """A space of the author's own whose values are texts: every character is allowed."""

    def __init__(self, max_length: int) -> None:
        super().__init__(max_length, min_length=0, charset="")


def plain(space: Any, what: str, lengths: Mapping[str, int], path: str = "") -> spaces.Space[Any]:
    """The space with texts of the author's own spaces bounded.

    Parameters
    ----------
    space
        Space of the env.
    what
        Name of the space in messages: ``observation``, ``action``, ``info``.
    lengths
        The longest text of a leaf, by its dotted path or its last key, as given in `rollcage.json`.

    Raises
    ------
    UnusableSpace
        rollcage has no such space.

    """
    where = named(what, path)
    length = lengths.get(path, lengths.get(path.rpartition(".")[2])) if path else lengths.get("")
    match space:
        case spaces.Dict():
            children = {key: plain(one, what, lengths, child(path, key)) for key, one in space.spaces.items()}
            if not children:
                raise UnusableSpace(f"{where}: a Dict without keys has no values")
            odd = next((key for key in children if not isinstance(key, str)), None)
            if odd is not None:
                raise UnusableSpace(f"{where}: the key {odd!r} is not a text")
            return spaces.Dict(children, sort_keys=False)
        case spaces.Tuple():
            if not space.spaces:
                raise UnusableSpace(f"{where}: a Tuple without parts has no values")
            return spaces.Tuple([plain(one, what, lengths, child(path, at)) for at, one in enumerate(space.spaces)])
        case spaces.Box():
            if space.dtype not in DTYPES:
                raise UnusableSpace(f"{where}: a Box of dtype {space.dtype}; use float64 or float32")
        case spaces.Discrete() | spaces.MultiDiscrete() | spaces.MultiBinary():
            pass
        case Text():
            pass
        case spaces.Text():
            if length is not None and length != space.max_length:
                return spaces.Text(
                    length, min_length=min(space.min_length, length), charset="".join(space.character_list)
                )
        case spaces.Space():
            return Text(_longest(space, where) if length is None else length)
        case _:
            raise UnusableSpace(f"{where}: {_article(type(space).__name__)} where a gymnasium.spaces.Space is expected")
    if 0 in (space.shape or ()):
        raise UnusableSpace(f"{where}: shape {space.shape} has no elements")
    return space


def _longest(space: spaces.Space[Any], where: str) -> int:
    """The greatest length to allow for a space whose samples are texts: twice that of 64 samples, and at least 256.

    The samples are taken from a copy, so that the author's space draws what it would draw natively.
    """
    kind = type(space).__name__
    if kind in _REFUSED:
        raise UnusableSpace(f"{where}: a {kind} space, which rollcage does not have: {_REFUSED[kind]}")
    try:
        samples = copy.deepcopy(space)
        samples.seed(0)
        texts = [samples.sample() for _ in range(SAMPLES)]
    except Exception as error:
        raise UnusableSpace(
            f"{where}: the space {kind} cannot be sampled ({type(error).__name__}: {error}); "
            "use Box, Discrete, MultiDiscrete, MultiBinary, Text, Dict or Tuple"
        ) from error
    if not all(isinstance(text, str) for text in texts):
        raise UnusableSpace(
            f"{where}: the space {kind} of {type(texts[0]).__name__} values, which rollcage does not have; "
            "use Box, Discrete, MultiDiscrete, MultiBinary, Text, Dict or Tuple"
        )
    return max(LENGTH_MIN, 2 * max(len(text) for text in texts))


def _article(name: str) -> str:
    return ("an " if name[:1] in "AEIOUaeiou" else "a ") + name


def tree(space: spaces.Space[Any]) -> "t.Space":
    """The nodes of a plain space, in depth-first order; node 0 is the root."""
    nodes: list[Any] = []
    _append(space, nodes)
    return t.Space(nodes)


def _append(space: spaces.Space[Any], nodes: list[Any]) -> int:
    index = len(nodes)
    nodes.append(None)
    node: Any
    match space:
        case spaces.Box():
            low, high = (_bound(bound, space.dtype) for bound in (space.low, space.high))
            node = t.SpaceNode_Box(t.BoxSpace(DTYPES[space.dtype], list(space.shape), low, high))
        case spaces.Discrete():
            node = t.SpaceNode_Discrete(t.DiscreteSpace(int(space.n), int(space.start)))
        case spaces.MultiDiscrete():
            start = [int(one) for one in space.start.flat]
            nvec = [int(one) for one in space.nvec.flat]
            node = t.SpaceNode_MultiDiscrete(t.MultiDiscreteSpace(list(space.shape), nvec, start if any(start) else []))
        case spaces.MultiBinary():
            node = t.SpaceNode_MultiBinary(t.MultiBinarySpace(list(space.shape)))
        case Text():
            node = t.SpaceNode_Text(t.TextSpace(0, space.max_length, None))
        case spaces.Text():
            charset = "".join(space.character_list)
            node = t.SpaceNode_Text(t.TextSpace(space.min_length, space.max_length, charset))
        case spaces.Dict():
            children = [_append(one, nodes) for one in space.spaces.values()]
            node = t.SpaceNode_Dict(t.DictSpace(list(space.spaces), children))
        case spaces.Tuple():
            node = t.SpaceNode_Tuple(t.TupleSpace([_append(one, nodes) for one in space.spaces]))
        case _:
            raise UnusableSpace(f"a {type(space).__name__} space has no node")
    nodes[index] = node
    return index


def _bound(bound: Any, dtype: np.dtype[Any]) -> bytes:
    """Bytes of a Box's bound: one element if it holds for all."""
    elements = np.ascontiguousarray(bound, dtype)
    if elements.size and (elements == elements.flat[0]).all():
        elements = elements.reshape(-1)[:1]
    return elements.tobytes()
