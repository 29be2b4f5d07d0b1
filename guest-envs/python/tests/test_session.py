"""Seeds, info, masks, calls, attributes and pictures of one env."""

import json
import math
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import Err, Plugin, minimal, t

DRAWS = """
import os, random, secrets
import numpy as np
import gymnasium as gym
from gymnasium import spaces

class MyEnv(gym.Env):
    def __init__(self, seeded: bool = False):
        self.observation_space = spaces.Box(-1.0, 1.0, (1,))
        self.action_space = spaces.Discrete(1000, seed=5 if seeded else None)
        self.other = spaces.Discrete(1000)

    def reset(self, *, seed=None, options=None):
        if not (options or {}).get("ignore"):
            super().reset(seed=seed)
        self.drawn = self.draw()
        return [0.0], {}

    def draw(self):
        return [float(self.np_random.random()), random.random(), float(np.random.random()), int(self.action_space.sample())]

    def step(self, action):
        self.drawn = self.draw()
        return [0.0], 0.0, False, False, {}

    def legacy(self, seed):
        np.random.seed(seed)
        return [float(np.random.random()), float(np.random.RandomState(seed).random())]
"""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """The host's stream: begun anew by each seed, as the worker does before the guest's call."""
    import os

    import numpy.random.bit_generator as bits

    stream = random.Random(0)

    def urandom(count: int) -> bytes:
        return stream.randbytes(count)

    monkeypatch.setattr(os, "urandom", urandom)
    monkeypatch.setattr(bits, "randbits", stream.getrandbits, raising=False)
    return stream.seed


def test_generators_follow_the_seeds(serve: Callable[..., Plugin], host: Callable[[int], None]) -> None:
    def draws(seed: int, before: int = 0, options: Any = None) -> list[list[float]]:
        host(99)
        plugin = serve(DRAWS)
        plugin.create()
        if before:
            host(before)
            plugin.reset(before)
        host(seed)
        plugin.reset(seed, options)
        drawn = [plugin.env.drawn]
        plugin.step()
        drawn.append(plugin.env.drawn)
        host(seed + 1)
        plugin.environment.reseed(seed + 1)
        plugin.step()
        drawn.append(plugin.env.drawn)
        return drawn

    first = draws(7)
    assert first == draws(7) == draws(7, before=8), "all four begin anew"
    other = draws(8)
    assert all(one != two for mine, its in zip(first, other, strict=True) for one, two in zip(mine, its, strict=True))
    assert first[2][:3] == other[0][:3], "a reseed begins the streams of a reset with that seed"
    assert draws(7, options={"ignore": True})[0][0] == first[0][0], "though the author does not call super().reset"
    native = np.random.Generator(np.random.PCG64(np.random.SeedSequence(7)))
    assert first[0][0] == native.random()
    assert first[0][1] == random.Random(7).random() and first[0][2] == np.random.RandomState(7).random()
    assert draws(2**63 + 5) != draws(5), "all 64 bits count"


def test_a_reset_without_a_seed_goes_on(serve: Callable[..., Plugin], host: Callable[[int], None]) -> None:
    plugin = serve(DRAWS)
    plugin.create()
    plugin.reset(7)
    plugin.reset(None)
    native = np.random.Generator(np.random.PCG64(np.random.SeedSequence(7)))
    assert [native.random(), native.random()][1] == plugin.env.drawn[0]


def test_a_space_that_the_author_seeds_keeps_its_stream(serve: Callable[..., Plugin]) -> None:
    from gymnasium import spaces

    native = spaces.Discrete(1000, seed=5)
    plugin = serve(DRAWS)
    plugin.create(seeded=True)
    for seed in (1, 2):
        plugin.reset(seed)
        assert plugin.env.drawn[3] == native.sample()


def test_numpys_legacy_generators_take_64_bits(serve: Callable[..., Plugin]) -> None:
    before = np.random.RandomState(3)
    plugin = serve(DRAWS)
    plugin.create()
    plugin.reset(2**63 + 3)
    assert isinstance(before, np.random.RandomState) and isinstance(np.random.RandomState(1), type(before))
    small, large = plugin.call("legacy", seed=3), plugin.call("legacy", seed=2**63 + 3)
    assert small == [before.random()] * 2 and large[0] == large[1] != small[0]
    assert np.random.RandomState(np.uint64(2**63 + 3)).random() == large[1]
    with pytest.raises(Err) as caught:
        plugin.call("legacy", seed=-1)
    assert "Seed must be between" in caught.value.value.value


def test_what_is_drawn_for_a_picture_changes_nothing(serve: Callable[..., Plugin]) -> None:
    source = DRAWS.replace(
        "    def draw(self)",
        "    metadata = {'render_modes': ['ansi']}\n    def render(self):\n        return str(self.draw())\n\n    @property\n    def luck(self):\n        return self.draw()\n\n    def draw(self)",
    )
    plugin = serve(source)
    plugin.create(seeded=True)
    plugin.reset(7)
    frame = plugin.environment.render(t.RenderMode.ANSI)
    again = plugin.environment.render(t.RenderMode.ANSI)
    assert json.loads(frame.value)[:3] == json.loads(again.value)[:3] == plugin.get("luck")[:3]
    plugin.step()
    assert plugin.env.drawn[:3] == json.loads(frame.value)[:3]


# Info.

INFO = minimal(
    init="self.info = {}\nself.info_space = SPACE",
    step="return [0, 0], 1.0, False, False, self.info",
)


def served(serve: Callable[..., Plugin], space: str = "None") -> Plugin:
    plugin = serve(
        "import math, enum, dataclasses, collections, pathlib\nfrom gymnasium import spaces\nimport numpy as np\nSPACE = "
        + space
        + "\n"
        + INFO
    )
    plugin.create()
    plugin.reset()
    return plugin


@pytest.mark.parametrize(
    ("info", "written"),
    [
        ({}, None),
        ({"a": 1, "b": 0.5, "c": True, "d": None, "e": "é\n"}, {"a": 1, "b": 0.5, "c": True, "d": None, "e": "é\n"}),
        (
            {"a": np.float32(0.5), "b": np.int8(3), "c": np.bool_(True), "d": np.arange(3)},
            {"a": 0.5, "b": 3, "c": True, "d": [0, 1, 2]},
        ),
        (
            {"a": math.nan, "b": [math.inf, 1.0], "c": np.array([math.nan, 2])},
            {"a": None, "b": [None, 1.0], "c": [None, 2.0]},
        ),
        (
            {"a": (1, 2), "b": {3, 1}, "c": {1: {"x": (np.int64(4),)}}},
            {"a": [1, 2], "b": [1, 3], "c": {"1": {"x": [4]}}},
        ),
        ({1: "one", (2, 3): "pair"}, {"1": "one", "(2, 3)": "pair"}),
        ({"a": "half \ud800 pair"}, {"a": "half ? pair"}),
        ({"a": 2**70}, {"a": 2**70}),
        ({"a": b"bytes"}, {"a": "bytes"}),
    ],
)
def test_info_without_a_field_is_json(serve: Callable[..., Plugin], info: Any, written: Any) -> None:
    plugin = served(serve)
    plugin.env.info = info
    view = plugin.step().view
    assert view.info == b"" and view.action_mask == b""
    if written is None:
        assert view.info_extra == ""
    else:
        assert json.loads(view.info_extra, parse_constant=pytest.fail) == written


def test_info_without_a_json_form_is_left_out_and_named_once(serve: Callable[..., Plugin], capfd: Any) -> None:
    plugin = served(serve)
    deep: Any = []
    for _ in range(70):
        deep = [deep]
    plugin.env.info = {
        "a": 1,
        "odd": object(),
        "deep": deep,
        "huge": 1 << 1100,
        "frame": np.zeros((84, 84, 4), np.uint8),
    }
    size = len(json.dumps({"frame": plugin.env.info["frame"].tolist()}, separators=(",", ":")))
    for _ in range(2):
        assert json.loads(plugin.step().view.info_extra) == {"a": 1}
    log = capfd.readouterr().err.splitlines()
    assert log == [
        "rollcage: info `odd` is left out: it has no JSON form (object)",
        "rollcage: info `deep` is left out: it has no JSON form (a value nested more than 64 deep)",
        "rollcage: info `huge` is left out: it has no JSON form (an integer of more than 1,023 bits)",
        f"rollcage: info `frame` is left out: {size} bytes as JSON; declare it in `info_space`",
    ]


def test_declared_info_travels_as_bytes(serve: Callable[..., Plugin], refused: Callable[..., str]) -> None:
    """The same bytes as in the Rust SDK's test."""
    plugin = served(
        serve, "spaces.Dict({'near': spaces.MultiBinary(3), 'odds': spaces.Box(-1, 1, ())}, sort_keys=False)"
    )
    assert [field.name for field in plugin.create().info_fields] == ["near", "odds"]
    plugin.reset()
    plugin.env.info = {"near": [1, 0, 1], "odds": 1.0, "more": 4}
    view = plugin.step().view
    assert (
        view.info == bytes([1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0x80, 0x3F]) and view.info_extra == '{"more":4}'
    )
    plugin.env.info = {"odds": 1.0}
    assert plugin.step().view.info == bytes([0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x3F])
    plugin.env.info = {}
    assert plugin.step().view.info == bytes(16)
    plugin.env.info = {"near": [1, 0]}
    said = refused("EnvError_Failed", plugin.step)
    assert said.startswith("step returned a wrong info `near`: shape (2,), wanted (3,) (my_env.py, line ")


def test_nested_fields_are_as_in_a_dict(serve: Callable[..., Plugin]) -> None:
    plugin = served(
        serve,
        "{'a': spaces.Box(0, 9, (1,), np.uint8), 'b': spaces.Box(0, 9, (1,), np.uint8), 'c': spaces.Dict(x=spaces.Discrete(3))}",
    )
    plugin.env.info = {"a": [1], "b": [2], "c": {"x": 2}}
    assert plugin.step().view.info == bytes([1, 1, 1, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0]) + struct.pack("<q", 2)


# Masks.


def test_masks_by_a_method(serve: Callable[..., Plugin], refused: Callable[..., str]) -> None:
    plugin = serve(
        minimal(init="self.mask = [True, False, True]") + "\n    def action_masks(self):\n        return self.mask\n"
    )
    assert plugin.create().action_masked is True
    assert plugin.reset().action_mask == bytes([1, 0, 1])
    for mask in (np.array([0, 1, 0]), np.array([False, True, False]), (0, 1, 0), [np.int8(0), 1, False]):
        plugin.env.mask = mask
        assert plugin.step().view.action_mask == bytes([0, 1, 0])
    plugin.env.mask = [1, 0]
    said = refused("EnvError_Failed", plugin.step)
    assert said.startswith(
        "step returned a wrong action mask: 2 values, wanted 3: one for each choice (my_env.py, line "
    )


def test_masks_of_several_leaves(serve: Callable[..., Plugin]) -> None:
    source = minimal(init="self.mask = (np.array([1, 0]), (np.array([0, 1, 1]), np.array([1, 1])))").replace(
        "spaces.Discrete(3)", "spaces.Tuple([spaces.Discrete(2), spaces.MultiDiscrete([3, 2]), spaces.Box(0, 1)])"
    )
    plugin = serve(source + "\n    def action_masks(self):\n        return self.mask\n")
    plugin.create()
    assert plugin.reset().action_mask == bytes([1, 0, 0, 1, 1, 1, 1])


def test_masks_in_the_info(serve: Callable[..., Plugin], refused: Callable[..., str]) -> None:
    plugin = serve(
        "from gymnasium import spaces\nSPACE = {'action_mask': spaces.MultiBinary(3), 'x': spaces.Discrete(4)}\n"
        + minimal(
            init="self.info_space = SPACE", reset="return [0, 0], {'action_mask': np.array([1, 1, 0], np.int8), 'x': 3}"
        )
    )
    spec = plugin.create()
    assert spec.action_masked is True and [field.name for field in spec.info_fields] == ["x"]
    view = plugin.reset()
    assert (view.action_mask, view.info[8], view.info_extra) == (bytes([1, 1, 0]), 3, "")
    assert "`action_mask` is missing" in refused("EnvError_Failed", plugin.step)


# Calls, attributes, wrappers.

CALLS = (
    minimal(init="self.speed = 2.0\nself.at = np.zeros(2, np.float32)\nself.pair = (1, 2)\nself.odd = object()")
    + '''
    def add(self, a, b=1, *, c=0):
        """Adds."""
        return np.int64(a + b + c)

    def fail(self):
        raise KeyError("gone")

    @property
    def broken(self):
        raise ValueError("not now")

    @property
    def fixed(self):
        return 3


class Loud(gym.Wrapper):
    volume = 11

    def shout(self):
        return "!" * self.volume
'''
)


@pytest.fixture
def calls(serve: Callable[..., Plugin]) -> Plugin:
    plugin = serve(CALLS, wrappers=[{"name": "Loud", "entry_point": "my_env:Loud", "kwargs": {}}])
    plugin.create()
    plugin.reset()
    return plugin


def test_methods_are_called(calls: Plugin, refused: Callable[..., str]) -> None:
    assert calls.call("add", 2) == 3 and calls.call("add", 2, 3, c=4) == 9 and calls.call("add", a=1) == 2
    assert calls.call("shout") == "!" * 11, "a wrapper's own"
    call = calls.environment.call
    assert refused("EnvError_Unsupported", call, "ad", "{}") == "MyEnv has no method `ad`; did you mean `add`?"
    assert refused("EnvError_Unsupported", call, "add", "{}") == "`add`: missing a required argument: 'a'"
    assert (
        refused("EnvError_Unsupported", call, "speed", "{}") == "`speed` of MyEnv is no method; read it as an attribute"
    )
    assert refused("EnvError_Unsupported", call, "step", "{}").startswith("`step` is called by its own function")
    assert refused("EnvError_Failed", call, "fail", "{}").startswith("KeyError: 'gone' (my_env.py, line ")


def test_goals_are_arrays(serve: Callable[..., Plugin]) -> None:
    """What HER asks for: rewards of many goals at once."""
    goal = "spaces.Box(-1.0, 1.0, (2,), np.float32)"
    source = minimal().replace(
        "self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)",
        f"self.observation_space = spaces.Dict(achieved_goal={goal}, desired_goal={goal})",
    )
    plugin = serve(
        source
        + """
    def compute_reward(self, achieved, desired, infos):
        assert achieved.dtype == np.float32 and len(infos) == len(achieved)
        return -np.linalg.norm(achieved - desired, axis=-1)
"""
    )
    plugin.create()
    assert plugin.call("compute_reward", [[0, 0], [0.5, 0]], [[0, 1], [0.5, 0]], [{}, {}]) == [-1.0, 0.0]


def test_attributes(calls: Plugin, refused: Callable[..., str]) -> None:
    environment = calls.environment
    assert (calls.get("speed"), calls.get("at"), calls.get("pair"), calls.get("volume")) == (
        2.0,
        [0.0, 0.0],
        [1, 2],
        11,
    )
    for name, value in (("speed", "3"), ("at", "[1, 2]"), ("pair", "[3]"), ("volume", "2")):
        environment.set_attribute(name, value)
    inner = calls.env.unwrapped
    assert inner.speed == 3.0 and type(inner.speed) is float and inner.at.dtype == np.float32 and inner.pair == (3,)
    assert calls.call("shout") == "!!"
    assert (
        refused("EnvError_Unsupported", environment.get_attribute, "sped")
        == "MyEnv has no attribute `sped`; did you mean `speed`?"
    )
    assert (
        refused("EnvError_Unsupported", environment.get_attribute, "odd")
        == "the attribute `odd` has no JSON form (object)"
    )
    assert "ValueError: not now" in refused("EnvError_Unsupported", environment.get_attribute, "broken")
    assert refused("EnvError_Unsupported", environment.set_attribute, "sped", "1").startswith(
        "MyEnv has no attribute `sped`"
    )
    assert refused("EnvError_Unsupported", environment.set_attribute, "fixed", "1").startswith(
        "the attribute `fixed`: AttributeError"
    )
    calls.step()


# Pictures.

DRAWN = (
    minimal(parameters="render_mode=None", init="self.render_mode = render_mode\nself.frame = None").replace(
        '"render_modes": []', '"render_modes": ["human", "rgb_array", "ansi"], "render_fps": 30'
    )
    + "\n    def render(self):\n        return self.frame\n"
)


@pytest.fixture
def drawn(serve: Callable[..., Plugin]) -> Plugin:
    plugin = serve(DRAWN)
    plugin.create()
    return plugin


def test_pixels(drawn: Plugin, refused: Callable[..., str]) -> None:
    render = drawn.environment.render
    refused("EnvError_NeedsReset", render, t.RenderMode.RGB_ARRAY)
    drawn.reset()
    assert drawn.env.render_mode == "rgb_array"
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    alpha = np.concatenate([picture, np.full((2, 4, 1), 255, np.uint8)], axis=2)
    for given in (
        picture,
        picture.astype(np.int64),
        picture.astype(float),
        [picture * 0, picture],
        alpha,
        picture.tolist(),
    ):
        drawn.env.frame = given
        assert render(t.RenderMode.RGB_ARRAY) == t.Frame_Rgb(t.Image(4, 2, bytes(range(24)))), type(given)
    drawn.env.frame = np.full((2, 2), 7, np.uint8)
    assert render(t.RenderMode.RGB_ARRAY).value.pixels == bytes([7] * 12)
    for given, words in (
        (None, "render returned None, wanted an array: is `render_mode` stored in __init__?"),
        (np.zeros((3, 2, 2)), "render returned an array with shape (3, 2, 2), wanted (height, width, 3)"),
        (np.full((2, 2, 3), 0.5) * 600, "render returned an array of float64, wanted uint8"),
    ):
        drawn.env.frame = given
        assert refused("EnvError_Unsupported", render, t.RenderMode.RGB_ARRAY) == words
    drawn.step()


def test_text(drawn: Plugin, refused: Callable[..., str]) -> None:
    import io

    drawn.reset()
    for given in ("#é", io.StringIO("#é")):
        drawn.env.frame = given
        assert drawn.environment.render(t.RenderMode.ANSI) == t.Frame_Text("#é")
    drawn.env.frame = 3
    assert (
        refused("EnvError_Unsupported", drawn.environment.render, t.RenderMode.ANSI)
        == "render returned an int, wanted a text"
    )


def test_a_mode_that_there_is_not(serve: Callable[..., Plugin], refused: Callable[..., str]) -> None:
    plugin = serve(minimal())
    plugin.create()
    plugin.reset()
    assert (
        refused("EnvError_Unsupported", plugin.environment.render, t.RenderMode.ANSI)
        == "MyEnv has no render mode `ansi`"
    )


def test_close_is_passed_on(serve: Callable[..., Plugin], capfd: Any) -> None:
    plugin = serve(minimal() + "\n    def close(self):\n        print('bye'); 1 / 0\n")
    plugin.environment.close()
    plugin.create()
    plugin.environment.close()
    out = capfd.readouterr()
    assert out.out == "bye\n" and "ZeroDivisionError" in out.err


def test_there_is_one_object(serve: Callable[..., Plugin]) -> None:
    """componentize-py makes an object for each exported function."""
    from rollcage_guest.plugin import Environment

    plugin = serve(minimal())
    plugin.create()
    assert Environment() is plugin.environment and Environment().reset(1, None) is not None


def test_wants_are_passed_on(serve: Callable[..., Plugin]) -> None:
    want = {"kind": "tcp-connect", "example": "127.0.0.1:5555", "reason": "the server", "required": True}
    plugin = serve(minimal(), wants=[want], summary="Mine.")
    description = plugin.describe()
    assert description.wants == [t.Want(t.WantKind.TCP_CONNECT, "127.0.0.1:5555", "the server", True)]
    assert description.summary == "Mine."
    assert serve(minimal()).describe().summary == "Counts its steps."
    with pytest.raises(Exception, match="a want of kind 'telepathy'"):
        serve(minimal(), wants=[{**want, "kind": "telepathy"}]).describe()
