"""`rollcage check` over envs in Python: what only Python can do wrong, and the native class beside the env in the cage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from on_base import base, needs_base, project

from rollcage import _program

ENV = '''
import gymnasium
import numpy as np


class Walk(gymnasium.Env):
    """Walk to one of some cells."""

    metadata = {"render_modes": ["ansi"]}
    observation_space = gymnasium.spaces.Box(-1, 30, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, size: int = 8, render_mode=None):
        self.size = size
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.rng = self.np_random
        RESET
        self.at = int(self.rng.integers(0, 3))
        self.steps = 0
        return self._view(), {}

    def _view(self):
        cells = {"north", "south", "east", "west", "here", "there"}
        ORDER
        return np.array([self.at, len(self.first)], np.float32)

    def step(self, action):
        self.at += int(action)
        self.steps += 1
        reward = float(self.rng.random())
        STEP
        return self._view(), reward, self.at >= self.size, self.steps >= 25, {}

    def render(self):
        return f"{self.at} of {self.size}"
'''

SOUND = {"RESET": "pass", "ORDER": "self.first = sorted(cells)[0]", "STEP": "pass"}


def walk(folder: Path, **defects: str) -> Path:
    text = ENV
    for place, line in {**SOUND, **defects}.items():
        text = text.replace(place, line)
    return project(folder, "walk", "Walk", text)


def check(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    command = [str(_program.path()), "check", *map(str, arguments), "--json"]
    environment = {
        **os.environ,
        "ROLLCAGE_PYTHON_BASE": str(base()),
        "VIRTUAL_ENV": str(Path(sys.executable).parents[1]),
    }
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert run.returncode in (0, 1), run.stderr
    return run.returncode, json.loads(run.stdout)


def found(report: dict[str, Any]) -> list[str]:
    return [rule["rule"] for rule in report["rules"] if rule["outcome"] == "found"]


@needs_base
def test_a_sound_env_passes(tmp_path: Path) -> None:
    folder = walk(tmp_path / "walk")
    status, report = check(folder, "--native", "walk:Walk")
    assert (found(report), status) == ([], 0), report
    looked_at = {rule["rule"] for rule in report["rules"] if rule["outcome"] == "passed"}
    assert {"hash-order", "native-agrees", "reset-continues", "branch-agrees", "config-matters"} <= looked_at, report


@needs_base
@pytest.mark.parametrize(
    ("defects", "rule"),
    [
        ({"ORDER": "self.first = 'x' * list(cells).index('here')"}, "hash-order"),
        ({"RESET": "self.rng = np.random.default_rng(seed or 0)"}, "reset-continues"),
        ({"RESET": "self.rng = np.random.default_rng(5)"}, "seed-matters"),
        ({"STEP": "if self.steps == 3: reward = float('nan')"}, "reward-finite"),
        ({"STEP": "if self.steps == 3: self.at = 99"}, "observation-in-space"),
    ],
)
def test_what_python_does_wrong_is_found(defects: dict[str, str], rule: str, tmp_path: Path) -> None:
    # Of these only one needs the interpreter's time, and the second base.
    quick = [] if rule == "hash-order" else ["--quick"]
    status, report = check(walk(tmp_path / "walk", **defects), *quick)
    assert (found(report), status) == ([rule], 1), report


@needs_base
def test_an_end_of_a_range_that_cannot_be_played_is_found(tmp_path: Path) -> None:
    folder = walk(tmp_path / "walk", STEP="reward /= 9 - self.size")
    module = folder / "walk.py"
    hint = 'typing.Annotated[int, {"minimum": 1, "maximum": 9}]'
    module.write_text("import typing\n" + module.read_text().replace("size: int", f"size: {hint}"))
    status, report = check(folder, "--quick")
    assert (found(report), status) == (["config-accepted"], 1), report
    [finding] = next(rule["findings"] for rule in report["rules"] if rule["rule"] == "config-accepted")
    assert finding["seen"].startswith("size = 9: step 1: guest_failed: ZeroDivisionError: "), finding


@needs_base
def test_a_want_that_nobody_needs_is_found(tmp_path: Path) -> None:
    folder = walk(tmp_path / "walk")
    with (folder / "pyproject.toml").open("a") as file:
        file.write(
            '\n[[tool.rollcage.wants]]\nkind = "tcp-connect"\nexample = "127.0.0.1:80"\nreason = "none"\nrequired = false\n'
        )
    status, report = check(folder, "--quick")
    assert (found(report), status) == (["wants-used"], 1), report
    left_out = next(rule["skipped"] for rule in report["rules"] if rule["rule"] == "hash-order")
    assert left_out == "left out by --quick"


@needs_base
def test_the_first_difference_of_the_native_class_is_named(tmp_path: Path) -> None:
    folder = walk(tmp_path / "walk")
    other = walk(tmp_path / "other", STEP="reward += self.steps == 5")
    (other / "walk.py").rename(folder / "other_walk.py")
    status, report = check(folder, "--quick", "--native", "other_walk:Walk")
    assert (found(report), status) == (["native-agrees"], 1), report
    [finding] = report["rules"][-1]["findings"]
    assert finding["step"] == 5 and finding["seed"] == 0 and finding["seen"].startswith("the reward is "), finding


def test_a_plugin_in_rust_is_compared_with_gymnasiums_class() -> None:
    status, report = check("cartpole", "--quick", "--native", "gymnasium.envs.classic_control.cartpole:CartPoleEnv")
    assert (found(report), status) == ([], 0), report
    status, report = check("cartpole", "--quick", "--native", "gymnasium.envs.classic_control.acrobot:AcrobotEnv")
    assert (found(report), status) == (["native-agrees"], 1), report
