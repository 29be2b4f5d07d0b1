"""Stand-ins: importable, and refused by name when they are used."""

import copy
from collections.abc import Callable

import pytest
from conftest import Plugin, minimal, t

from rollcage_guest import stubs

TOP = """
import fakegame
import fakegame.freetype as ft
from fakegame import gfxdraw, Surface
from fakegame.locals import *
from fakegame.sprite import Sprite
import fakejit, typing, warnings

FONT = fakegame.font.Font(None, 20)          # kept, not refused
fakegame.init()
SIZE = 2 * fakegame.WIDTH
KEYS = {fakegame.K_LEFT: 0, fakegame.K_RIGHT: 1}
FLAGS = fakegame.A | fakegame.B
if fakejit.cuda.is_available():
    raise AssertionError
warnings.filterwarnings("ignore", category=fakejit.NumbaWarning)
fakegame.rcParams["a"] = 1
fakegame.flag = True

class Ball(Sprite):
    def __init__(self):
        super().__init__()

class Both(fakegame.sprite.Sprite, dict):
    pass

def draw(surface: "fakegame.Surface | None" = None, other: fakegame.Surface | None = None, o: typing.Optional[Surface] = None) -> list[Surface]:
    return isinstance(surface, fakegame.Surface), isinstance(surface, (int, Surface)), issubclass(dict, Surface)

@fakejit.njit
def fast(x):
    return x

@fakejit.njit(cache=True)
def faster(x):
    return x

def guarded():
    try:
        raise KeyError("x")
    except (fakegame.error, fakejit.TypingError):
        return "theirs"
    except KeyError:
        return "mine"

def fallback():
    try:
        return fakejit.njit(len)
    except ImportError:
        return len
"""


@pytest.fixture
def plugin(serve: Callable[..., Plugin]) -> Plugin:
    made = serve(TOP + minimal(step="return eval(self.code)", init="self.code = ''"), stubs=["fakegame", "fakejit"])
    made.describe()
    return made


def test_a_module_that_uses_them_at_its_top_is_imported(plugin: Plugin) -> None:
    module = __import__("my_env")
    assert module.draw(3) == (False, True, False)
    assert module.guarded() == "mine" and module.fallback() is len
    assert module.Ball.__mro__[1].__name__ == "Sprite" and issubclass(module.Both, dict)
    assert module.FLAGS is not None and len(module.KEYS) == 2 and module.SIZE is not None
    assert repr(module.FONT) == "<fakegame.font.Font(), which is not in the cage>"
    plugin.create()
    plugin.reset()


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("fakegame.init()", "fakegame.init"),
        ("fakegame.display.set_mode((3, 4))", "fakegame.display.set_mode"),
        ("gfxdraw.filled_circle(1, 2)", "fakegame.gfxdraw.filled_circle"),
        ("FONT.render('x')", "fakegame.font.Font().render"),
        ("fast(3)", "fakejit.njit()"),
        ("faster(3)", "fakejit.njit()"),
        ("Ball()", "fakegame.sprite.Sprite"),
        ("Both()", "fakegame.sprite.Sprite"),
        ("SIZE + 1", "fakegame.WIDTH"),
        ("fakegame.K_LEFT < 3", "fakegame.K_LEFT"),
        ("list(fakegame.event)", "fakegame.event"),
        ("len(FONT)", "fakegame.font.Font()"),
        ("float(fakegame.WIDTH)", "fakegame.WIDTH"),
        ("ft.Font()", "fakegame.freetype.Font"),
        ("setattr(FONT, 'size', 3)", "fakegame.font.Font()"),
    ],
)
def test_their_use_is_refused_by_name(plugin: Plugin, refused: Callable[..., str], code: str, name: str) -> None:
    plugin.create()
    plugin.reset()
    plugin.env.code = code
    top = name.partition(".")[0]
    assert refused("EnvError_Failed", plugin.step).startswith(
        f"NotInCage: {top} is not in the cage: it has native code, which does not run here (`{name}` was used) (my_env.py, line "
    )


def test_a_picture_that_needs_one_leaves_the_env_running(
    serve: Callable[..., Plugin], refused: Callable[..., str]
) -> None:
    source = "import fakegame\n" + minimal().replace('"render_modes": []', '"render_modes": ["rgb_array"]')
    plugin = serve(source + "\n    def render(self):\n        return fakegame.Surface((3, 4))\n", stubs=["fakegame"])
    plugin.create()
    plugin.reset()
    assert "fakegame is not in the cage" in refused(
        "EnvError_Unsupported", plugin.environment.render, t.RenderMode.RGB_ARRAY
    )
    plugin.step()


def test_a_late_import_is_an_import(serve: Callable[..., Plugin], refused: Callable[..., str]) -> None:
    sources = {
        "my_env.py": minimal(step="import late\nlate.draw()"),
        "late.py": "import fakegame\nfakegame.init()\ndef draw():\n    fakegame.draw()\n",
    }
    plugin = serve(sources, stubs=["fakegame"])
    plugin.create()
    plugin.reset()
    assert "(`fakegame.draw` was used)" in refused("EnvError_Failed", plugin.step)


def test_a_real_module_is_preferred(serve: Callable[..., Plugin]) -> None:
    plugin = serve({"my_env.py": "import fakegame\n" + minimal(), "fakegame.py": "X = 3\n"}, stubs=["fakegame"])
    plugin.describe()
    assert __import__("fakegame").X == 3


def test_gymnasiums_own_words_for_pygame(
    serve: Callable[..., Plugin], refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CartPole draws with pygame, which is not declared by anybody there."""
    monkeypatch.setitem(__import__("sys").modules, "pygame", None)
    plugin = serve({}, id="CartPole-v1")
    plugin.create()
    plugin.reset()
    words = refused("EnvError_Unsupported", plugin.environment.render, t.RenderMode.RGB_ARRAY)
    assert words.endswith("`pygame` has native code, which does not run in the cage"), words
    plugin.step()


def test_stand_ins_are_copied_as_they_are() -> None:
    """Tables that are read at the top of a module are put into `kwargs` of a registration as copies, by some packages."""
    stub = stubs.StandIn("fakegame.table")
    assert copy.copy(stub) is stub and copy.deepcopy({"a": [stub]})["a"][0] is stub
    name = "anything"
    # One that nobody has filled, as `pickle` and `copy` make it, has an end.
    with pytest.raises(AttributeError):
        getattr(stubs.StandIn.__new__(stubs.StandIn), name)
