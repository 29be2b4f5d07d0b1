"""Config: schemas from parameters and docstrings, and arguments from configs."""

from collections.abc import Callable
from typing import Any

import pytest
from conftest import Plugin, minimal, t

from rollcage_guest import docstrings
from rollcage_guest.hints import KEYWORDS, fits

#: What the host's schema reader takes (`docs/config.md`).
ALLOWED = KEYWORDS | {
    "type",
    "default",
    "items",
    "prefixItems",
    "properties",
    "additionalProperties",
    "required",
    "anyOf",
}

HEAD = """
import collections.abc, dataclasses, enum, math, pathlib, typing
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict, Union
import numpy as np
"""


def keep(parameters: str, before: str = "") -> str:
    """An env that keeps its arguments."""
    return (
        HEAD
        + before
        + minimal(parameters, init="self.given = {k: v for k, v in locals().items() if k not in ('self', '__class__')}")
    )


def check(schema: Any) -> None:
    """Only keywords that the host takes, closed objects, defaults that fit."""
    if isinstance(schema, bool):
        return
    assert set(schema) <= ALLOWED, set(schema) - ALLOWED
    if "default" in schema:
        assert fits(schema, schema["default"]), schema
    for one in [*schema.get("properties", {}).values(), *schema.get("prefixItems", []), *schema.get("anyOf", [])]:
        check(one)
    for key in ("items", "additionalProperties"):
        check(schema.get(key, True))


CASES: list[tuple[str, dict[str, Any], Any, Any]] = [
    # parameter, schema, value in a config, argument
    ("x: int = 3", {"type": "integer", "default": 3}, 4, 4),
    ("x: float = 3.0", {"type": "number", "default": 3}, 4, 4.0),
    ("x: bool = True", {"type": "boolean", "default": True}, False, False),
    ("x: str = 'a'", {"type": "string", "default": "a"}, "b", "b"),
    ("x=3", {"type": "number", "default": 3}, 0.5, 0.5),
    ("x=9.8", {"type": "number", "default": 9.8}, 9, 9.0),
    ("x='a'", {"type": "string", "default": "a"}, "b", "b"),
    ("x=None", {"default": None}, [1], [1]),
    ("x=(4, 5)", {"type": "array", "default": [4, 5]}, [1], (1,)),
    ("x: int = None", {"type": ["integer", "null"], "default": None}, 4, 4),
    ("x: int = 0.5", {"type": ["integer", "number"], "default": 0.5}, 0.25, 0.25),
    ("x: Optional[int] = 3", {"type": ["integer", "null"], "default": 3}, None, None),
    ("x: 'int | None' = None", {"type": ["integer", "null"], "default": None}, 4, 4),
    ("x: int | str = 3", {"type": ["integer", "string"], "default": 3}, "b", "b"),
    ("x: float | None = None", {"type": ["number", "null"], "default": None}, 4, 4.0),
    ("x: int | float = 1", {"type": ["integer", "number"], "default": 1}, 2, 2),
    ("x: Literal['4x4', '8x8'] | None = '4x4'", {"enum": ["4x4", "8x8", None], "default": "4x4"}, "8x8", "8x8"),
    ("x: Literal[1, 2] = 1", {"enum": [1, 2], "default": 1}, 2, 2),
    ("x: list[float] = []", {"type": "array", "items": {"type": "number"}, "default": []}, [1], [1.0]),
    (
        "x: tuple[int, int] = (1, 2)",
        {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2, "default": [1, 2]},
        [3, 4],
        (3, 4),
    ),
    (
        "x: tuple[int, str] = (1, 'a')",
        {
            "type": "array",
            "prefixItems": [{"type": "integer"}, {"type": "string"}],
            "minItems": 2,
            "maxItems": 2,
            "default": [1, "a"],
        },
        [3, "b"],
        (3, "b"),
    ),
    ("x: tuple[float, ...] = ()", {"type": "array", "items": {"type": "number"}, "default": []}, [3], (3.0,)),
    (
        "x: dict[str, float] = {}",
        {"type": "object", "additionalProperties": {"type": "number"}, "default": {}},
        {"a": 1},
        {"a": 1.0},
    ),
    (
        "x: dict[int, str] = {1: 'a'}",
        {"type": "object", "additionalProperties": {"type": "string"}, "default": {"1": "a"}},
        {"2": "b"},
        {2: "b"},
    ),
    (
        "x: set[str] = frozenset()",
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "default": []},
        ["a"],
        {"a"},
    ),
    (
        "x: collections.abc.Sequence[int] = (1,)",
        {"type": "array", "items": {"type": "integer"}, "default": [1]},
        [2],
        [2],
    ),
    (
        "x: Annotated[int, range(3, 21), 'Side'] = 5",
        {"type": "integer", "minimum": 3, "maximum": 20, "description": "Side", "default": 5},
        6,
        6,
    ),
    (
        "x: Annotated[float, {'exclusiveMinimum': 0}] = 1.5",
        {"type": "number", "exclusiveMinimum": 0, "default": 1.5},
        2,
        2.0,
    ),
    ("x: np.float32 = np.float32(0.5)", {"type": "number", "default": 0.5}, 1, 1.0),
    ("x: np.uint8 = 3", {"type": "integer", "minimum": 0, "maximum": 255, "default": 3}, 4, 4),
    ("x: pathlib.Path = pathlib.Path('a')", {"type": "string", "default": "a"}, "b", __import__("pathlib").Path("b")),
    ("x: Any = 4", {"default": 4}, {"y": [None]}, {"y": [None]}),
    ("x: float = math.inf", {"type": "number", "description": "default: inf"}, 4, 4.0),
    ("x: int", {"type": "integer"}, 4, 4),
    ("x", {}, [1, "a"], [1, "a"]),
    ("*, x: str | pathlib.Path = 'a'", {"type": "string", "default": "a"}, "b", "b"),
]


@pytest.mark.parametrize(("parameter", "schema", "value", "argument"), CASES)
def test_a_parameter_is_a_key(
    serve: Callable[..., Plugin], parameter: str, schema: dict[str, Any], value: Any, argument: Any
) -> None:
    plugin = serve(keep(parameter))
    whole = plugin.schema
    assert whole["properties"] == {"x": schema}
    assert whole.get("required", []) == ([] if "=" in parameter else ["x"])
    check(whole)
    assert fits(whole, {"x": value})
    plugin.create(x=value)
    assert plugin.env.given == {"x": argument} and type(plugin.env.given["x"]) is type(argument) or "np." in parameter


def test_defaults_are_not_passed(serve: Callable[..., Plugin]) -> None:
    """So the author's own objects remain: here a list that is not the schema's copy."""
    plugin = serve(keep("x=LIST, y: float = 2.0, z=math.inf, f=len", "LIST = [1, 2]\n"))
    assert list(plugin.schema["properties"]) == ["x", "y", "z"], "a function has no JSON form"
    plugin.create(y=2.0, x=[1, 2])
    assert plugin.env.given["x"] is __import__("my_env").LIST
    assert plugin.env.given["z"] == float("inf") and plugin.env.given["f"] is len


def test_an_array_by_default(serve: Callable[..., Plugin]) -> None:
    plugin = serve(keep("x: np.ndarray = np.zeros(3, np.float32), y: 'np.typing.NDArray[np.int8]' = None"))
    assert plugin.schema["properties"]["x"] == {"type": "array", "default": [0, 0, 0]}
    plugin.create(x=[1, 2], y=[3])
    assert plugin.env.given["x"].tolist() == [1, 2] and plugin.env.given["y"].dtype == "int8"


def test_enums_go_by_value_or_name(serve: Callable[..., Plugin]) -> None:
    before = "Mode = enum.Enum('Mode', {'EASY': 'easy', 'HARD': 'hard'})\nTurn = enum.Enum('Turn', 'LEFT RIGHT')\n"
    plugin = serve(keep("m: Mode = Mode.EASY, t: Turn = Turn.LEFT", before))
    assert plugin.schema["properties"] == {
        "m": {"enum": ["easy", "hard"], "default": "easy"},
        "t": {"enum": ["LEFT", 1, "RIGHT", 2], "default": "LEFT"},
    }
    plugin.create(m="hard", t=2)
    module = __import__("my_env")
    assert plugin.env.given == {"m": module.Mode.HARD, "t": module.Turn.RIGHT}


def test_one_dataclass_is_the_config_itself(serve: Callable[..., Plugin]) -> None:
    before = '''
@dataclass
class Wind:
    strength: float = 1.0

@dataclass
class Config:
    """A config.

    Attributes:
        size: Side of the grid.
    """
    size: int = 5
    wind: Wind = field(default_factory=Wind)
    goals: tuple[int, ...] = (1,)
'''
    for parameter in ("config: Config = Config(size=9)", "config: Config", "config: Optional[Config] = None"):
        plugin = serve(keep(parameter, before))
        default = 9 if "9" in parameter else 5
        assert plugin.schema["properties"]["size"] == {
            "type": "integer",
            "default": default,
            "description": "Side of the grid.",
        }
        wind = plugin.schema["properties"]["wind"]
        assert wind["properties"] == {"strength": {"type": "number", "default": 1}} and wind["default"] == {
            "strength": 1
        }
        check(plugin.schema)
        plugin.create(wind={"strength": 2})
        given = plugin.env.given["config"]
        assert (given.size, given.wind.strength, type(given.wind.strength), given.goals) == (default, 2.0, float, (1,))
    plugin.create()
    assert plugin.env.given["config"] is None
    plugin = serve(keep("config: Config = Config(), render_mode=None, seed: int = 3", before))
    assert list(plugin.schema["properties"]) == ["config", "seed"], "with other parameters it is a key"
    plugin.create(config={"size": 7})
    assert plugin.env.given["config"].size == 7


def test_typed_dicts_and_named_tuples(serve: Callable[..., Plugin]) -> None:
    before = "class Options(TypedDict, total=False):\n    size: int\n    name: str\nclass Point(NamedTuple):\n    x: float\n    y: float = 0.0\n"
    plugin = serve(keep("options: Options", before))
    assert plugin.schema["properties"] == {"size": {"type": "integer"}, "name": {"type": "string"}}
    assert "required" not in plugin.schema
    plugin.create(size=4)
    assert plugin.env.given["options"] == {"size": 4}
    plugin = serve(keep("at: Point = Point(1, 2), n: int = 0", before))
    check(plugin.schema)
    plugin.create(at={"x": 3, "y": 4})
    assert plugin.env.given["at"] == (3.0, 4.0) and type(plugin.env.given["at"]).__name__ == "Point"


def test_bounds_of_annotated_types(serve: Callable[..., Plugin]) -> None:
    before = "from annotated_types import Ge, Le, Len, Interval, MultipleOf\n"
    plugin = serve(
        keep(
            "a: Annotated[int, Ge(3), Le(9)] = 5, b: Annotated[float, Interval(gt=0, lt=1)] = 0.5, c: Annotated[list[int], Len(1, 3)] = [1]",
            before,
        )
    )
    keys = plugin.schema["properties"]
    assert keys["a"] == {"type": "integer", "minimum": 3, "maximum": 9, "default": 5}
    assert keys["b"] == {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "default": 0.5}
    assert keys["c"] == {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3, "default": [1]}


def test_docstrings_give_descriptions_choices_and_ranges(serve: Callable[..., Plugin]) -> None:
    google = '''"""Makes it.

Args:
    size (int, 3 to 20): Side of the grid,
        in cells.
    mode ({easy, hard}): How hard.
    rate (float in [0, 1)): A rate.
    speed: Metres a second: with a colon.
    unknown: Not a parameter.

Returns:
    nothing: at all
"""
pass'''
    plugin = serve(HEAD + minimal("size: int = 5, mode: str = 'easy', rate: float = 0.5, speed=1.0", init=google))
    assert plugin.schema["properties"] == {
        "size": {
            "type": "integer",
            "minimum": 3,
            "maximum": 20,
            "default": 5,
            "description": "Side of the grid, in cells.",
        },
        "mode": {"type": "string", "enum": ["easy", "hard"], "default": "easy", "description": "How hard."},
        "rate": {"type": "number", "minimum": 0, "exclusiveMaximum": 1, "default": 0.5, "description": "A rate."},
        "speed": {"type": "number", "default": 1, "description": "Metres a second: with a colon."},
    }


def test_numpy_docstrings() -> None:
    text = """Does it.

    Parameters
    ----------
    size : int, 3 to 20
        Side of the grid.

        Two paragraphs.
    mode : {'easy', None}, default 'easy'
    low, high : float, > 0
        Bounds.
    name
        Without a type.

    Returns
    -------
    x : int
    """
    found = docstrings.parameters(text)
    assert list(found) == ["size", "mode", "low", "high", "name"]
    assert found["size"] == docstrings.Doc("Side of the grid. Two paragraphs.", {"minimum": 3, "maximum": 20})
    assert found["mode"].rules == {"enum": ["easy", None]}
    assert found["high"] == docstrings.Doc("Bounds.", {"exclusiveMinimum": 0})


def test_a_docstring_that_contradicts_the_default_is_not_believed(serve: Callable[..., Plugin]) -> None:
    doc = '"""Args:\n    x (int, 1 to 4): A number.\n    y ({a, b}): A letter.\n    s (shape (3, 4)): A text.\n"""'
    plugin = serve(HEAD + minimal("x: int = 9, y: str = 'c', s: str = 'd'", init=doc))
    keys = plugin.schema["properties"]
    assert keys["x"] == {"type": "integer", "default": 9, "description": "A number."}
    check(plugin.schema)
    assert "enum" not in keys["y"] and "minimum" not in keys["s"]


def test_keywords_behind_kwargs_come_from_the_base_class(serve: Callable[..., Plugin]) -> None:
    base = minimal(
        "mission, grid: int = 3, see: bool = False, render_mode=None", init="self.given = (mission, grid, see)"
    ).replace("class MyEnv", "class Base")
    source = (
        HEAD
        + base
        + "class MyEnv(Base):\n    def __init__(self, size: int = 5, **kwargs):\n        super().__init__('go', grid=size, **kwargs)\n"
    )
    plugin = serve(source)
    assert list(plugin.schema["properties"]) == ["size", "grid", "see"]
    plugin.create(see=True)
    assert plugin.env.given == ("go", 5, True), "defaults are not passed on: grid would be given twice"
    with pytest.raises(Exception) as caught:
        plugin.create(grid=4)
    (error,) = caught.value.value.value
    assert error.path == "grid" and "multiple values for keyword argument 'grid'" in error.message


def test_a_function_makes_envs(serve: Callable[..., Plugin]) -> None:
    source = (
        HEAD
        + keep("size: int = 3, render_mode: str | None = None")
        + '''
MyEnv.metadata = {"render_modes": ["human", "ansi"], "render_fps": 12}
def make(n: int = 2, render_mode: str | None = None) -> MyEnv:
    """Makes an env of n times n.

    Args:
        n: A number.
    """
    return MyEnv(size=n * n, render_mode=render_mode)
'''
    )
    plugin = serve(source, env="my_env:make")
    description = plugin.describe()
    assert description.summary == "Makes an env of n times n." and description.render_fps == 12
    assert description.render_modes == [t.RenderMode.ANSI]
    assert (
        plugin.schema["properties"] == {"n": {"type": "number", "default": 2, "description": "A number."}}
        or plugin.schema["properties"]["n"]["type"] == "integer"
    )
    plugin.create(n=5)
    assert plugin.env.given == {"size": 25, "render_mode": "ansi"}


def test_kwargs_of_the_manifest_lie_under_the_config(serve: Callable[..., Plugin]) -> None:
    plugin = serve(keep("size: int, name: str = 'a'"), kwargs={"size": 7})
    assert plugin.schema["properties"]["size"] == {"type": "integer", "default": 7} and "required" not in plugin.schema
    plugin.create()
    assert plugin.env.given == {"size": 7, "name": "a"}
    plugin.create(size=8)
    assert plugin.env.given["size"] == 8


def test_a_parameter_that_no_config_can_hold_is_refused(serve: Callable[..., Plugin]) -> None:
    plugin = serve(keep("rule: 'collections.abc.Callable[[int], int]'"))
    with pytest.raises(ImportError, match="the parameter `rule` cannot come from a config.*give it a default"):
        plugin.describe()


def test_hints_that_cannot_be_resolved_leave_the_others(serve: Callable[..., Plugin]) -> None:
    plugin = serve(
        "from __future__ import annotations\n" + keep("x: Missing = 3, y: int = 4, z: 'pygame.Surface | None' = None")
    )
    assert plugin.schema["properties"] == {
        "x": {"type": "number", "default": 3},
        "y": {"type": "integer", "default": 4},
        "z": {"default": None},
    }


def test_names_for_type_checkers_alone(serve: Callable[..., Plugin]) -> None:
    before = """
if typing.TYPE_CHECKING:
    from nowhere import Thing

@dataclass
class Base:
    size: int = 3
    thing: "Thing | None" = None

@dataclass
class Config(Base):
    rate: float = 0.5
    other: "typing.Optional[Thing]" = None
"""
    plugin = serve(keep("config: Config = Config()", before))
    assert plugin.schema["properties"] == {
        "size": {"type": "integer", "default": 3},
        "thing": {"default": None},
        "rate": {"type": "number", "default": 0.5},
        "other": {"default": None},
    }
    plugin.create(size=4, rate=1)
    assert plugin.env.given["config"].size == 4


WRONG = """
if size % 2 == 0:
    raise ValueError(f"The size must be odd, not {size}.")
assert size < 100, "too large"
if size == 77:
    1 / 0
if size == 79:
    int("seven")
{}[size] if size == 81 else None
"""


@pytest.mark.parametrize(
    ("size", "path", "message"),
    [
        (4, "size", "the size must be odd, not 4"),
        (101, "size", "too large"),
        (79, "size", "invalid literal for int() with base 10: 'seven'"),
        (81, "size", "81"),
    ],
)
def test_a_value_that_init_refuses_is_a_config_error(
    serve: Callable[..., Plugin], size: int, path: str, message: str
) -> None:
    plugin = serve(minimal("size: int = 5, other: int = 1", init=WRONG))
    with pytest.raises(Exception) as caught:
        plugin.create(size=size)
    assert caught.value.value == t.CreateError_Config([t.ConfigError(path, message)])


def test_other_errors_of_init_are_failures(
    serve: Callable[..., Plugin], refused: Callable[..., str], capfd: Any
) -> None:
    plugin = serve(minimal("size: int = 5, other: int = 1", init=WRONG))
    words = refused("CreateError_Failed", plugin.create, size=77)
    assert words == "ZeroDivisionError: division by zero (my_env.py, line 18, in __init__)"
    assert "    1 / 0" in capfd.readouterr().err
    plugin = serve(minimal("size: int = 4", init=WRONG))
    words = refused("CreateError_Failed", plugin.create)
    assert words.startswith("ValueError: The size must be odd, not 4. (my_env.py, line 15, in __init__)"), (
        "no config was given"
    )
