"""Spaces as nodes, and values as bytes: the layout of `wit/0.1.0/types.wit`, and mistakes in words."""

import math
import struct
from typing import Any

import numpy as np
import pytest
from conftest import t
from gymnasium import spaces

from rollcage_guest.codec import Codec, Mismatch
from rollcage_guest.spaces import UnusableSpace, plain, tree


def codec(space: spaces.Space[Any]) -> Codec:
    return Codec(plain(space, "observation", {}), "observation")


def mismatch(space: spaces.Space[Any], value: Any) -> str:
    with pytest.raises(Mismatch) as caught:
        codec(space).encode(value)
    return str(caught.value)


ROBOT = spaces.Dict(
    {
        "ready": spaces.MultiBinary(3),
        "arm": spaces.Dict(
            {"grip": spaces.Discrete(3, start=-1), "joint": spaces.Box(-1.0, 1.0, (), np.float32)}, sort_keys=False
        ),
        "last word": spaces.Text(2, min_length=0, charset="éa"),
        "type": spaces.MultiDiscrete([2, 3]),
    },
    sort_keys=False,
)


def test_a_tree_has_its_keys_in_order() -> None:
    nodes = tree(plain(ROBOT, "observation", {})).nodes
    assert nodes[0] == t.SpaceNode_Dict(t.DictSpace(["ready", "arm", "last word", "type"], [1, 2, 5, 6]))
    assert nodes[2] == t.SpaceNode_Dict(t.DictSpace(["grip", "joint"], [3, 4]))
    assert nodes[3] == t.SpaceNode_Discrete(t.DiscreteSpace(3, -1))
    one = struct.pack("<f", 1.0)
    assert nodes[4] == t.SpaceNode_Box(t.BoxSpace(t.Dtype.FLOAT32, [], struct.pack("<f", -1.0), one))
    assert nodes[5] == t.SpaceNode_Text(t.TextSpace(0, 2, "éa"))
    assert nodes[6] == t.SpaceNode_MultiDiscrete(t.MultiDiscreteSpace([2], [2, 3], []))


def test_leaves_are_aligned_and_the_value_padded() -> None:
    """The same bytes as in the Rust SDK's test of the same space."""
    value = {"ready": [1, 0, 1], "arm": {"grip": -1, "joint": 1.0}, "last word": "é", "type": [1, 2]}
    expected = bytes([1, 0, 1, 0, 0, 0, 0, 0]) + struct.pack("<q", -1) + struct.pack("<f", 1.0)
    expected += bytes([2, 0, 0, 0, 0xC3, 0xA9, 0, 0, 0, 0, 0, 0]) + struct.pack("<qq", 1, 2)
    robot = codec(ROBOT)
    assert robot.encode(value) == expected and robot.size == len(expected)
    assert robot.encode(value) == expected, "nothing is left of the value before"
    back = robot.decode(expected)
    assert back["ready"].tolist() == [1, 0, 1] and back["ready"].dtype == np.int8
    assert back["arm"]["grip"] == -1 and type(back["arm"]["grip"]) is np.int64
    assert back["arm"]["joint"].shape == () and back["last word"] == "é" and back["type"].tolist() == [1, 2]


def test_small_elements_share_eight_bytes() -> None:
    def byte(value: int) -> spaces.Box:
        return spaces.Box(0, 9, (value,), np.uint8)

    assert codec(byte(3)).encode(np.array([1, 2, 3], np.uint8)) == bytes([1, 2, 3, 0, 0, 0, 0, 0])
    mixed = spaces.Tuple([byte(1), spaces.Box(0, 9, (1,), np.int16), spaces.Box(0, 1, (1,), np.bool_)])
    assert codec(mixed).encode(([7], [8], [True])) == bytes([7, 0, 8, 0, 1, 0, 0, 0])
    nested = spaces.Tuple([byte(1), spaces.Tuple([byte(1)])])
    assert codec(nested).encode(([1], ([2],))) == bytes([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    "name", ["bool", "int8", "int64", "uint8", "uint16", "uint64", "float16", "float32", "float64"]
)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (5, 40)])
def test_every_dtype_and_shape_comes_back(name: str, shape: tuple[int, ...]) -> None:
    space = spaces.Box(0, 1, shape, np.dtype(name))
    space.seed(1)
    value = space.sample()
    both = codec(space)
    data = both.encode(value)
    assert len(data) == both.size and both.size % 8 == 0
    back = both.decode(data)
    assert back.dtype == space.dtype and back.shape == shape and (back == value).all()
    if shape:
        back[...] = 0  # the author may write into it


def test_everything_that_gymnasium_samples_fits() -> None:
    space = spaces.Dict(
        image=spaces.Box(0, 255, (7, 7, 3), np.uint8),
        depth=spaces.Box(-math.inf, math.inf, (2,), np.float64),
        say=spaces.Text(20),
        bits=spaces.MultiBinary([2, 2]),
        many=spaces.MultiDiscrete([[3, 4], [5, 6]], start=[[1, 1], [0, -2]]),
        parts=spaces.Tuple([spaces.Discrete(5), spaces.Dict(x=spaces.Box(-1, 1, (1,), np.float16))]),
    )
    space.seed(4)
    both = codec(space)
    for _ in range(50):
        value = space.sample()
        data = both.encode(value)
        assert both.encode(both.decode(data)) == data
        assert space.contains(both.decode(data))


def test_bounds_are_one_element_if_one_holds_for_all() -> None:
    node = tree(spaces.Box(np.array([0, 1]), np.array([5, 5]), dtype=np.int16)).nodes[0].value
    assert (node.shape, node.low, node.high) == ([2], struct.pack("<hh", 0, 1), struct.pack("<h", 5))


def test_values_are_cast_as_gymnasium_casts_them() -> None:
    box = spaces.Box(-1.0, 1.0, (2,), np.float32)
    expected = struct.pack("<ff", 0.5, 1.0)
    for value in (
        np.array([0.5, 1.0]),
        [0.5, 1],
        (0.5, 1.0),
        np.array([0.5, 1.0], ">f4"),
        np.array([[0.5, 9], [1, 9]], np.float32)[:, 0],
    ):
        assert codec(box).encode(value) == expected
    pixels = spaces.Box(0, 255, (2,), np.uint8)
    assert codec(pixels).encode(np.array([7, 255])) == bytes([7, 255, 0, 0, 0, 0, 0, 0])
    assert codec(pixels).encode([1.0, 2.0])[:2] == bytes([1, 2])
    assert codec(box).encode([math.inf, -math.inf]) == struct.pack("<ff", math.inf, -math.inf), "infinities pass"


@pytest.mark.parametrize("value", [2, np.int32(2), np.int64(2), np.uint8(2), np.array(2), True + 1])
def test_a_discrete_takes_every_integer(value: Any) -> None:
    assert codec(spaces.Discrete(3)).encode(value) == struct.pack("<q", 2)


BOX = spaces.Box(-1.0, 1.0, (4,), np.float32)


@pytest.mark.parametrize(
    ("space", "value", "words"),
    [
        (BOX, np.zeros(3, np.float32), "observation: shape (3,), wanted (4,)"),
        (BOX, np.zeros((4, 1)), "observation: shape (4, 1), wanted (4,)"),
        (BOX, None, "observation: shape (), wanted (4,)"),
        (BOX, [1, 2, [3], 4], "observation: a list of 4 is not an array of shape (4,)"),
        (BOX, ["a", "b", "c", "d"], "observation: a list of 4, wanted an array of float32 with shape (4,)"),
        (BOX, np.array([0, 0, math.nan, 0], np.float32), "observation: NaN in element [2]"),
        (spaces.Box(-1.0, 1.0, (20, 5)), np.full((20, 5), math.nan), "observation: NaN in element [0, 0]"),
        (spaces.Box(-1.0, 1.0, ()), math.nan, "observation: NaN"),
        (
            spaces.Box(0, 255, (2,), np.uint8),
            np.array([0.5, 1]),
            "observation: values of float64 that uint8 does not hold, such as 0.5",
        ),
        (
            spaces.Box(0, 255, (1,), np.uint8),
            np.array([256]),
            "observation: values of int64 that uint8 does not hold, such as 256",
        ),
        (spaces.Discrete(3), 3, "observation: 3, wanted an integer from 0 to 2"),
        (spaces.Discrete(3, start=5), 4, "observation: 4, wanted an integer from 5 to 7"),
        (spaces.Discrete(3), 1.0, "observation: float 1.0, wanted an integer from 0 to 2"),
        (spaces.Discrete(3), None, "observation: None, wanted an integer from 0 to 2"),
        (spaces.MultiDiscrete([2, 3]), [1, 3], "observation: 3 in element 1, wanted an integer from 0 to 2"),
        (spaces.MultiBinary(2), [1, 2], "observation: a value that is neither 0 nor 1"),
        (
            spaces.Text(3),
            "no good",
            "observation: a text of 7 characters, wanted 1 to 3; set the length in `[tool.rollcage.text-length]`",
        ),
        (spaces.Text(9), "a b", "observation: the character ' ' is not in the charset"),
        (spaces.Text(9), 4, "observation: int 4, wanted a text"),
        (
            spaces.Dict(a=BOX, b=spaces.Discrete(2)),
            {"a": np.zeros(4)},
            "observation: the key `b` is missing (given: `a`)",
        ),
        (spaces.Dict(a=BOX), np.zeros(4), "observation: an array of float64 with shape (4,), wanted a dict with `a`"),
        (spaces.Dict(a=spaces.Dict(x=BOX)), {"a": {"x": [1]}}, "observation `a.x`: shape (1,), wanted (4,)"),
        (spaces.Dict(a=spaces.Tuple([BOX])), {"a": ([1],)}, "observation `a[0]`: shape (1,), wanted (4,)"),
        (spaces.Tuple([BOX, BOX]), (1,), "observation: a tuple of 1, wanted 2"),
        (spaces.Tuple([BOX]), BOX, "observation: Box Box(-1.0, 1.0, (4,), float32), wanted a tuple of 1"),
    ],
)
def test_what_does_not_fit_is_named(space: spaces.Space[Any], value: Any, words: str) -> None:
    assert mismatch(space, value).startswith(words)


class Mission(spaces.Space[str]):
    """Texts of 209 to 213 characters; MiniGrid's missions are such a space."""

    def __init__(self) -> None:
        super().__init__(dtype=str)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        return "x" * int(self.np_random.integers(209, 214))

    def contains(self, x: Any) -> bool:
        return True


class Odd(spaces.Space[Any]):
    def sample(self, mask: Any = None, probability: Any = None) -> Any:
        return object()


def test_a_space_of_texts_becomes_a_text() -> None:
    mission = Mission()
    space = plain(spaces.Dict(mission=mission), "observation", {})
    assert tree(space).nodes[1] == t.SpaceNode_Text(t.TextSpace(0, 426, None)), "twice the longest of 64 samples"
    assert mission._np_random is None, "the author's own generator is untouched"
    assert codec(space).encode({"mission": "fetch ü!"})[:4] == struct.pack("<I", 9)
    assert mismatch(space, {"mission": "x" * 427}).startswith(
        "observation `mission`: a text of 427 characters, wanted 0 to 426"
    )
    mission.sample = lambda: "go"  # type: ignore[method-assign]
    assert tree(plain(mission, "observation", {})).nodes[0].value.max_length == 256, "at least"
    told = plain(spaces.Dict(mission=mission), "observation", {"mission": 100})
    assert tree(told).nodes[1].value.max_length == 100
    deep = plain(spaces.Dict(a=spaces.Dict(mission=mission)), "observation", {"a.mission": 50, "mission": 9})
    assert tree(deep).nodes[2].value.max_length == 50


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (
            spaces.Sequence(BOX),
            "observation: a Sequence space, which rollcage does not have: its values have no fixed size",
        ),
        (spaces.Dict(g=spaces.Graph(BOX, None)), "observation `g`: a Graph space"),
        (spaces.OneOf([BOX]), "observation: a OneOf space"),
        (Odd(), "observation: the space Odd of object values, which rollcage does not have"),
        (spaces.Tuple([]), "observation: a Tuple without parts has no values"),
        (spaces.Box(0, 1, (0,)), "observation: shape (0,) has no elements"),
        ("Box", "observation: a str where a gymnasium.spaces.Space is expected"),
    ],
)
def test_spaces_that_rollcage_does_not_have_are_refused(space: Any, words: str) -> None:
    with pytest.raises(UnusableSpace) as caught:
        plain(space, "observation", {})
    assert str(caught.value).startswith(words)
