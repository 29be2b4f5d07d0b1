"""Bad authors: each mistake ends in words that name the author's file and line, and what to do."""

import inspect
import sys
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Err, Plugin, minimal, t

RETURN = "return np.zeros(2, np.float32), 1.0, False, False, {}"


def step_with(body: str) -> str:
    return minimal(step=body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero (my_env.py, line 23, in step)"),
        ("raise ValueError('two\\nlines  here')", "ValueError: two lines here (my_env.py, line 23, in step)"),
        ("raise ValueError('x' * 5000)", "ValueError: " + "x" * 1000 + "… (my_env.py, line 23, in step)"),
        (
            "class Odd(Exception):\n    __str__ = None\nraise Odd",
            "Odd: (its text cannot be made: TypeError) (my_env.py, line 25, in step)",
        ),
        ("assert action > 9", "AssertionError (my_env.py, line 23, in step)"),
        ("np.linalg.inv(np.zeros((2, 2)))", "LinAlgError: Singular matrix (my_env.py, line 23, in step)"),
        ("import sys; sys.exit(3)", "sys.exit(3) was called (my_env.py, line 23, in step)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt (my_env.py, line 23, in step)"),
        ("def f(): f()\nf()", "RecursionError: maximum recursion depth exceeded (my_env.py, line 23, in f)"),
        ("self.spped", "AttributeError: 'MyEnv' object has no attribute 'spped' (my_env.py, line 23, in step)"),
        (
            "import nowhere",
            "ModuleNotFoundError: No module named 'nowhere' (my_env.py, line 23, in step): if `nowhere` is a package, list it",
        ),
        (
            "import cv2.aruco",
            "ModuleNotFoundError: No module named 'cv2' (my_env.py, line 23, in step): `cv2` has native code, which",
        ),
        (
            "open('/etc/no/such').read()",
            "FileNotFoundError: [Errno 2] No such file or directory: '/etc/no/such' (my_env.py, line 23, in step): "
            "the env sees its own files (below /site) and granted folders (`--grant dir=FOLDER:/etc/no`)",
        ),
        (
            "open('levels/no.txt').read()",
            "FileNotFoundError: [Errno 2] No such file or directory: 'levels/no.txt' (my_env.py, line 23, in step): the plugin has "
            "no such file; `assets` of [tool.rollcage] in pyproject.toml puts files into it",
        ),
        (
            'raise RuntimeError("can\'t start new thread")',
            "RuntimeError: can't start new thread (my_env.py, line 23, in step): the cage has no threads",
        ),
        (
            "raise OSError(58, 'wasi does not support processes.')",
            "OSError: [Errno 58] wasi does not support processes. (my_env.py, line 23, in step): the cage starts no programs",
        ),
        (
            "import os\nos.forkk()",
            "AttributeError: module 'os' has no attribute 'forkk' (my_env.py, line 24, in step): the cage has no other "
            "processes, so `os.forkk` does not exist",
        ),
        (
            "import signal\nsignal.alarmed(3)",
            "AttributeError: module 'signal' has no attribute 'alarmed' (my_env.py, line 24, in step): the cage has no signals",
        ),
        (
            "import urllib.error\ntry:\n    raise PermissionError(2, 'Permission denied')\n"
            "except OSError as error:\n    raise urllib.error.URLError(error)",
            "URLError: <urlopen error [Errno 2] Permission denied> (my_env.py, line 27, in step): it is not granted",
        ),
        (
            "raise ValueError('array is too big; `arr.size * arr.dtype.itemsize` is larger than the maximum possible size.')",
            "ValueError: array is too big; `arr.size * arr.dtype.itemsize` is larger than the maximum possible size. "
            "(my_env.py, line 23, in step): an env has at most 4 GiB of memory",
        ),
        ("raise MemoryError", "MemoryError (my_env.py, line 23, in step): the env's memory limit is reached"),
        (
            "breakpoint()",
            "breakpoint(): the cage has no terminal, so nobody can type. Step through the env natively: python -i -c",
        ),
        ("input('name? ')", "input(): the cage has no terminal"),
        ("import sys; sys.stdin.readline()", "sys.stdin: the cage has no terminal"),
        ("import sys; list(sys.stdin)", "sys.stdin: the cage has no terminal"),
        (
            "return np.zeros(2, np.float32), 1.0, False, {}",
            "step returned a tuple of 4, wanted (observation, reward, terminated, truncated, info)",
        ),
        ("return None", "step returned None, wanted (observation"),
        ("return np.zeros(3), 1.0, False, False, {}", "step returned a wrong observation: shape (3,), wanted (2,)"),
        ("return [0, float('nan')], 1.0, False, False, {}", "step returned a wrong observation: NaN in element [1]"),
        ("return [0, 0], float('nan'), False, False, {}", "step returned a reward that is NaN"),
        ("return [0, 0], np.ones(2), False, False, {}", "step returned a reward with shape (2,), wanted one number"),
        ("return [0, 0], 'a', False, False, {}", "step returned a reward that is a str, wanted a number"),
        ("return [0, 0], None, False, False, {}", "step returned a reward that is a NoneType, wanted a number"),
        ("return [0, 0], 1.0, False, False, None", "step returned an info that is a NoneType, wanted a dict"),
        ("return [0, 0], 1.0, np.zeros(2), False, {}", "ValueError: The truth value of an array"),
    ],
)
def test_a_step_that_fails(serve: Callable[..., Plugin], refused: Callable[..., str], body: str, words: str) -> None:
    plugin = serve(step_with(body))
    plugin.create()
    plugin.reset()
    assert refused("EnvError_Failed", plugin.step).startswith(words)
    refused("EnvError_NeedsReset", plugin.step)


@pytest.mark.parametrize("body", ["os.pth", "{}[os.name]"])
def test_no_advice_where_the_cage_is_not_the_cause(
    serve: Callable[..., Plugin], refused: Callable[..., str], body: str
) -> None:
    plugin = serve(step_with(f"import os\n{body}"))
    plugin.create()
    plugin.reset()
    assert refused("EnvError_Failed", plugin.step).endswith("(my_env.py, line 24, in step)")


@pytest.mark.parametrize("reward", ["1", "np.float32(1)", "np.array([1.0])", "np.array(1)", "True", "1.0"])
def test_rewards_of_every_kind_are_numbers(serve: Callable[..., Plugin], reward: str) -> None:
    plugin = serve(step_with(f"return [0, 0], {reward}, np.bool_(False), 0, {{}}"))
    plugin.create()
    plugin.reset()
    step = plugin.step()
    assert step.reward == 1.0 and type(step.reward) is float
    assert step.terminated is False and step.truncated is False


def test_the_traceback_is_in_the_log(serve: Callable[..., Plugin], refused: Callable[..., str], capfd: Any) -> None:
    """Source lines come from the assets; frames of the SDK are left out."""
    plugin = serve(
        step_with("self.help()")
        + "\n    def help(self):\n        try:\n            1 / 0\n        except ZeroDivisionError as e:\n            raise ValueError('two') from e\n"
    )
    plugin.create()
    plugin.reset()
    refused("EnvError_Failed", plugin.step)
    log = capfd.readouterr().err
    assert log.count("Traceback (most recent call last):") == 2
    assert '  File "/site/my_env.py", line 23, in step\n    self.help()\n' in log
    assert "    1 / 0\n" in log and log.endswith("ValueError: two\n")
    assert "rollcage_guest" not in log


def test_a_deep_recursion_is_told_at_once(
    serve: Callable[..., Plugin], refused: Callable[..., str], capfd: Any
) -> None:
    """In a guest, a traceback of a million frames took longer than a step may take."""
    from rollcage_guest import faults

    plugin = serve(step_with("def f(n):\n    return f(n - 1) if n else 1 / 0\nf(5000)"))
    plugin.create()
    plugin.reset()
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        words = refused("EnvError_Failed", plugin.step)
    finally:
        sys.setrecursionlimit(before)
    assert words == "ZeroDivisionError: division by zero (my_env.py, line 24, in f)"
    assert f"[Previous line repeated {faults.FRAMES_MAX - 3} more times]" in capfd.readouterr().err


def test_the_authors_own_package_is_named_before_its_dependencies(
    serve: Callable[..., Plugin], refused: Callable[..., str]
) -> None:
    sources = {
        "pack/__init__.py": "",
        "pack/env.py": minimal(step="import dep\ndep.fail()"),
        "dep.py": "def fail():\n    raise KeyError('gone')\n",
    }
    plugin = serve(sources, env="pack.env:MyEnv")
    plugin.create()
    plugin.reset()
    assert refused("EnvError_Failed", plugin.step) == "KeyError: 'gone' (pack/env.py, line 24, in step)"


def test_os_exit_names_its_caller_first(
    serve: Callable[..., Plugin], monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    import os

    class Ended(BaseException):
        pass

    def real(status: int) -> None:
        raise Ended(status)

    monkeypatch.setattr(os, "_exit", real)
    plugin = serve(step_with("import os; os._exit(3)"))
    plugin.create()
    plugin.reset()
    with pytest.raises(Err) as caught:
        plugin.step()
    assert "Ended: 3" in caught.value.value.value
    assert "os._exit(3) was called (my_env.py, line 23, in step): it ends the env" in capfd.readouterr().err


def test_pdb_asks_nobody(serve: Callable[..., Plugin], refused: Callable[..., str]) -> None:
    plugin = serve(step_with("import pdb; pdb.set_trace()\nx = 1"))
    plugin.create()
    plugin.reset()
    before = sys.gettrace()
    try:
        words = refused("EnvError_Failed", plugin.step)
    finally:
        sys.settrace(before)
    assert "the cage has no terminal" in words and "from my_env import MyEnv; env = MyEnv()" in words


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import nowhere\n",
            "ModuleNotFoundError: No module named 'nowhere' (my_env.py, line 1): if `nowhere` is a package, list it under `dep",
        ),
        ("class MyEnv(:\n", "SyntaxError: invalid syntax (my_env.py, line 1)"),
        ("x = 1\n1 / 0\n", "ZeroDivisionError: division by zero (my_env.py, line 2)"),
        (
            "class MyEnvv: pass\n",
            "`env = 'my_env:MyEnv'` in [tool.rollcage]: my_env has no `MyEnv`; did you mean `MyEnvv`?",
        ),
        ("MyEnv = 3\n", "`env = 'my_env:MyEnv'` in [tool.rollcage]: it is a int, not a class"),
        ("import sys; sys.exit(2)\n", "sys.exit(2) was called (my_env.py, line 1)"),
        (
            "from my_other import x\n",
            "ModuleNotFoundError: No module named 'my_other' (my_env.py, line 1): if `my_other` is a package",
        ),
        ("from math import sinn\n", "ImportError: cannot import name 'sinn' from 'math'"),
    ],
)
def test_an_env_that_cannot_be_imported(serve: Callable[..., Plugin], source: str, words: str) -> None:
    plugin = serve(source)
    with pytest.raises(ImportError) as caught:
        plugin.describe()
    assert str(caught.value).startswith("the env cannot be imported: " + words)


def test_an_id_that_is_not_registered(serve: Callable[..., Plugin]) -> None:
    plugin = serve({}, id="CartPol-v1")
    with pytest.raises(
        ImportError, match=r"`id = 'CartPol-v1'` in \[tool.rollcage\]: .*CartPole.*`imports` names the modules"
    ):
        plugin.describe()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "self.observation_space = spaces.Sequence(spaces.Discrete(2))",
            "observation: a Sequence space, which rollcage does not have",
        ),
        ("self.observation_space = None", "MyEnv has no `observation_space`: set it in __init__"),
    ],
)
def test_spaces_are_refused_at_create(
    serve: Callable[..., Plugin], refused: Callable[..., str], line: str, words: str
) -> None:
    source = minimal().replace("self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)", line)
    assert refused("CreateError_Failed", serve(source).create).startswith(words)


def test_a_class_that_is_no_env(serve: Callable[..., Plugin], refused: Callable[..., str]) -> None:
    plugin = serve("class MyEnv: pass\n")
    assert refused("CreateError_Failed", plugin.create) == "MyEnv made a MyEnv, which has no `reset`"


def test_print_reaches_the_log_when_the_call_returns(serve: Callable[..., Plugin], capfd: Any) -> None:
    plugin = serve(step_with("print('part', end='')"))
    plugin.create()
    plugin.reset()
    plugin.step()
    assert capfd.readouterr().out == "part"


def test_steps_outside_an_episode(serve: Callable[..., Plugin], refused: Callable[..., str]) -> None:
    plugin = serve(step_with("return [0, 0], 1.0, True, False, {}"))
    plugin.create()
    refused("EnvError_NeedsReset", plugin.step)
    plugin.reset()
    assert plugin.step().terminated is True
    refused("EnvError_NeedsReset", plugin.step)
    plugin.reset(None)
    assert refused("EnvError_InvalidAction", plugin.step, b"1234") == "4 bytes where the space has 8"


def test_options_that_the_env_refuses(serve: Callable[..., Plugin], refused: Callable[..., str]) -> None:
    plugin = serve(minimal(reset="if options and options['low'] > 1:\n    raise ValueError('low is too high')"))
    plugin.create()
    assert (
        refused("EnvError_InvalidOptions", plugin.reset, 0, {"low": 2})
        == "ValueError: low is too high (my_env.py, line 20, in reset)"
    )
    refused("EnvError_NeedsReset", plugin.step)
    refused("EnvError_InvalidOptions", plugin.reset, 0, {"high": 2})
    plugin.reset(0, {"low": 0})
    plugin.step()


def plugin_lines(plugin: Plugin) -> list[str]:
    return inspect.getsource(sys.modules["my_env"]).splitlines()


def test_an_old_reset(serve: Callable[..., Plugin], refused: Callable[..., str]) -> None:
    for returned, words in (
        ("np.zeros(2, np.float32)", "an ndarray"),
        ("[0, 0], {}, 0", "a tuple of 3"),
        ("None", "None"),
    ):
        plugin = serve(minimal(reset=f"return {returned}"))
        plugin.create()
        # With the line where it begins.
        place = next(i for i, line in enumerate(plugin_lines(plugin), 1) if "def reset" in line)
        said = f"reset returned {words}, wanted (observation, info) (my_env.py, line {place}, in reset)"
        assert refused("EnvError_Failed", plugin.reset) == said


def test_step_many_is_many_steps(serve: Callable[..., Plugin]) -> None:
    import struct

    plugin = serve(
        minimal(
            init="self.n = 0",
            step="self.n += 1\nif self.n == 5: 1 / 0\nreturn [0, 0], self.n, self.n == 3, False, {'n': self.n} if self.n == 2 else {}",
        )
    )
    plugin.create()
    plugin.reset()
    taken = plugin.environment.step_many(struct.pack("<4q", 0, 0, 0, 0), 4)
    assert (taken.taken, taken.rewards, taken.terminated, taken.error) == (3, [1.0, 2.0, 3.0], True, None)
    assert taken.infos_extra == ["", '{"n":2}', ""] and len(taken.observations) == 24
    plugin.reset(None)
    taken = plugin.environment.step_many(struct.pack("<3q", 0, 0, 0), 3)
    assert taken.taken == 1 and isinstance(taken.error, t.EnvError_Failed) and taken.infos_extra == []
    assert isinstance(plugin.environment.step_many(b"123", 3).error, t.EnvError_InvalidAction)
