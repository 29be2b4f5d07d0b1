"""Bad authors: what is said of each mistake in an env written in Python, in the words its author needs."""

from __future__ import annotations

import re
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from on_base import base, needs_base, project

import rollcage

ENV = '''
import gymnasium
import numpy as np
{imports}


class BadEnv(gymnasium.Env):
    """An env with a mistake."""

    observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self):
        {init}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        {reset}
        return np.zeros(2, np.float32), {{}}

    def step(self, action):
        {step}
        return np.zeros(2, np.float32), 0.0, False, False, {{}}
'''


@dataclass
class Author:
    """A mistake, the fault that it is, and what is said; `LINE` stands for the mistake's own line."""

    kind: str
    message: str
    #: What the env's log has, if the message does not say it all.
    log: str = ""
    init: str = "pass"
    reset: str = "pass"
    step: str = "pass"
    imports: str = ""

    @property
    def source(self) -> str:
        return ENV.format(imports=self.imports, init=self.init, reset=self.reset, step=self.step)

    @property
    def line(self) -> int:
        """The line of the mistake, which is the only one that is not in every env."""
        mistake = next(text for text in (self.init, self.reset, self.step, self.imports) if text != "pass")
        return 1 + textwrap.dedent(self.source).splitlines().index(
            next(line for line in self.source.splitlines() if line.strip() == mistake)
        )


ZEROS = "np.zeros(2, np.float32)"
AUTHORS = {
    "an exception in __init__": Author(
        "create_failed",
        r"ZeroDivisionError: division by zero \(bad_env\.py, line LINE, in __init__\)",
        log="1 / 0",
        init="1 / 0",
    ),
    "an exception in reset": Author(
        "guest_failed",
        r"IndexError: list index out of range \(bad_env\.py, line LINE, in reset\)",
        log="[][3]",
        reset="[][3]",
    ),
    "an exception in step": Author(
        "guest_failed",
        r"KeyError: 'speed' \(bad_env\.py, line LINE, in step\)",
        log='File "/site/bad_env.py", line LINE, in step',
        step="{}['speed']",
    ),
    "a wrong shape": Author(
        "guest_failed",
        r"step returned a wrong observation: shape \(3,\), wanted \(2,\) \(bad_env\.py, line \d+, in step\)",
        step="return np.zeros(3, np.float32), 0.0, False, False, {}",
    ),
    "NaN in an observation": Author(
        "guest_failed",
        r"step returned a wrong observation: NaN in element \[1\] \(bad_env\.py, line \d+, in step\)",
        step="return np.array([0, np.nan], np.float32), 0.0, False, False, {}",
    ),
    "NaN as a reward": Author(
        "guest_failed",
        r"step returned a reward that is NaN \(bad_env\.py, line \d+, in step\)",
        step=f"return {ZEROS}, np.nan, False, False, {{}}",
    ),
    "an endless loop": Author("step_timeout", "the step did not answer within 1 s", step="while True: pass"),
    "a list of 1 GB": Author(
        "guest_failed",
        r"MemoryError \(bad_env\.py, line LINE, in step\): the env's memory limit is reached; `--memory` raises it",
        step="self.all = [0.0] * (1 << 28)",
    ),
    "os._exit": Author(
        "exited",
        "the guest called exit",
        log="os._exit(3) was called (bad_env.py, line LINE, in step): it ends the env",
        imports="import os",
        step="os._exit(3)",
    ),
    "sys.exit": Author(
        "guest_failed",
        r"sys\.exit\(3\) was called \(bad_env\.py, line LINE, in step\)",
        imports="import sys",
        step="sys.exit(3)",
    ),
    "a thread": Author(
        "guest_failed",
        r"RuntimeError: can't start new thread \(bad_env\.py, line LINE, in step\): the cage has no threads; call the "
        "function directly",
        imports="import threading",
        step="threading.Thread(target=print).start()",
    ),
    "a file of the machine": Author(
        "guest_failed",
        r"FileNotFoundError: .*'/etc/passwd' \(bad_env\.py, line LINE, in step\): the env sees its own files \(below "
        r"/site\) and granted folders",
        step='open("/etc/passwd")',
    ),
    "TLS": Author(
        "guest_failed",
        r"ssl is not in the cage: it has native code, which does not run here \(`ssl\.create_default_context` was used\)",
        imports="import asyncio, bz2, curses.ascii, ssl, sqlite3, termios, tkinter.ttk, urllib.request",
        step="ssl.create_default_context()",
    ),
    "a library of the machine": Author(
        "guest_failed",
        r"OSError: ctypes\.LibraryLoader\.LoadLibrary does not work in a rollcage guest.* \(bad_env\.py, line LINE, in step\)",
        imports="import ctypes",
        step='ctypes.cdll.LoadLibrary("libGL.so")',
    ),
    "a program": Author(
        "guest_failed",
        r"OSError: .*does not support processes.* \(bad_env\.py, line LINE, in step\): the cage starts no programs; run "
        r"it on the host \(`--grant service=…`\), and connect to it",
        imports="import subprocess",
        step='subprocess.run(["ls"])',
    ),
}


@pytest.fixture(autouse=True)
def on_the_base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROLLCAGE_PYTHON_BASE", str(base()))
    # Compiled, if it is not yet: the tests' own times hold no compilation.
    rollcage.make_vec(str(project(tmp_path / "good", "good_env", "BadEnv", Author("", "").source)), 1).close()


@needs_base
@pytest.mark.parametrize("name", AUTHORS)
def test_a_mistake_is_told_with_its_line(name: str, tmp_path: Path) -> None:
    author = AUTHORS[name]
    folder = project(tmp_path / "bad", "bad_env", "BadEnv", author.source)
    begun = time.monotonic()
    try:
        with rollcage.make_vec(str(folder), 1, seed=1, limits={"step_timeout": 1}, on_fault="raise") as envs:
            envs.reset()
            envs.step([0])
    except rollcage.FaultError as error:
        fault, said = error.fault, str(error)
    else:
        pytest.fail("no fault")
    assert fault.kind == author.kind, fault
    assert re.search(author.message.replace("LINE", str(author.line)), fault.message), fault.message
    assert author.log.replace("LINE", str(author.line)) in fault.log, fault.log
    # Who sees the exception alone has it all.
    assert fault.message.partition("\n")[0] in said
    if fault.log and author.log.startswith("File"):
        assert f"\n    {author.log.replace('LINE', str(author.line))}\n" in said, "a traceback, indented"
    assert time.monotonic() - begun < 15


@needs_base
def test_the_mistake_of_one_env_is_not_anothers(tmp_path: Path) -> None:
    """Of four envs one divides by zero; it is started anew, and the others play on."""
    text = ENV.format(imports="", init="pass", reset="self.t = 0", step="self.t += 1").replace(
        "def __init__(self):", "def __init__(self, fails_at: int = -1):\n        self.fails_at = fails_at"
    )
    text = text.replace("self.t += 1", "self.t += 1\n        1 / (self.t - self.fails_at)")
    folder = project(tmp_path / "bad", "bad_env", "BadEnv", text)
    with rollcage.make_vec(str(folder), 4, seed=1, config=[{}, {}, {"fails_at": 2}, {}]) as envs:
        envs.reset()
        truncated = [envs.step([0] * 4)[3].tolist() for _ in range(2)]
        assert truncated == [[False] * 4, [False, False, True, False]]
        envs.step([0] * 4)
        assert envs.instances == [0, 0, 1, 0]
        [fault] = envs.faults
        assert (fault.env, fault.kind) == (2, "guest_failed")
        assert "ZeroDivisionError" in fault.message


@needs_base
def test_a_module_that_is_missing_is_refused_by_name(tmp_path: Path) -> None:
    author = Author("", "", imports="import missing_module")
    folder = project(tmp_path / "bad", "bad_env", "BadEnv", author.source)
    with pytest.raises(rollcage.UsageError, match="No module named 'missing_module'") as raised:
        rollcage.make_vec(str(folder), 2)
    said = str(raised.value)
    assert f"bad_env.py, line {author.line}" in said
    assert "list it under `dependencies` in pyproject.toml" in said


@needs_base
def test_a_directory_that_is_lacking_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLCAGE_PYTHON_BASE", str(base()))
    author = Author("create_failed", "", imports="import os", init="self.levels = os.listdir('/levels')")
    folder = project(tmp_path / "lacking", "bad_env", "BadEnv", author.source)
    with (folder / "pyproject.toml").open("a") as file:
        file.write(
            '\n[[tool.rollcage.wants]]\nkind = "directory"\nexample = "levels:/levels:ro"\n'
            'reason = "more levels"\nrequired = false\n'
        )
    with pytest.raises(rollcage.FaultError) as raised:
        rollcage.make_vec(str(folder), 1, on_fault="raise").reset()
    said = str(raised.value)
    assert "it wants a directory that was not granted (`--grant dir=levels:/levels:ro`): more levels" in said, said
    (tmp_path / "levels").mkdir()
    rollcage.make_vec(str(folder), 1, grants=[f"dir={tmp_path}/levels:/levels:ro"]).close()
