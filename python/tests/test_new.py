"""`rollcage new`: from an empty folder, a project in Python is made, tested, checked, built and run untouched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from on_base import base, needs_base

from rollcage import _program

TEMPLATES = ["discrete", "grid", "continuous", "pixels", "socket"]


def run(*arguments: str | Path, folder: Path, status: int = 0) -> str:
    command = [str(_program.path()), *map(str, arguments)]
    environment = {
        **os.environ,
        "ROLLCAGE_PYTHON_BASE": str(base()),
        "VIRTUAL_ENV": str(Path(sys.executable).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def goes(template: str, folder: Path) -> None:
    """Everything that an author does first."""
    made = run("new", "big_maze-2", "--template", template, folder=folder)
    project = folder / "big_maze-2"
    assert "AGENTS.md" in made and (project / ".gitignore").exists()
    for file in project.rglob("*"):
        if file.is_file():
            text = file.read_text()
            assert not [
                word for word in ("my_env", "my-env", "MyEnv", "@SUMMARY@", "SETTINGS", "MORE\n") if word in text
            ], file
    grants = ["--grants", "grants.toml"] if template == "socket" else []
    ruff = Path(sys.executable).with_name("ruff")
    # The order of imports depends on the name.
    rules = ["--isolated", "--select", "E,F", "--ignore", "E402", "--line-length", "140"]
    subprocess.run([ruff, "check", "--quiet", *rules, project], check=True)
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", project, "tests"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    tested = subprocess.run(tests, cwd=project, capture_output=True, text=True, env=environment)
    assert tested.returncode == 0, tested.stdout
    native = [] if template == "socket" else ["--native", "big_maze_2:BigMaze2"]
    report = json.loads(run("check", ".", "--json", *grants, *native, folder=project))
    assert report["findings"] == 0, report
    how = ["--envs", "2", "--episodes", "4", "--seed", "1", "--json", *grants]
    ran = json.loads(run("run", ".", *how, folder=project))
    assert ran["episodes"] == 4 and ran["faults_total"] == 0 and ran["oddities"] == [], ran
    run("build", ".", folder=project)
    again = json.loads(run("run", "dist/big_maze_2.wasm", *how, folder=project))
    if template != "socket":
        assert again["digest"] == ran["digest"]
    # What is there stays.
    run("new", "big_maze-2", folder=folder, status=2)


@needs_base
def test_a_project_goes_as_it_stands(tmp_path: Path) -> None:
    goes("grid", tmp_path)


@needs_base
@pytest.mark.long
@pytest.mark.parametrize("template", [template for template in TEMPLATES if template != "grid"])
def test_every_template_goes_as_it_stands(template: str, tmp_path: Path) -> None:
    goes(template, tmp_path)


def test_names_that_are_none_are_refused(tmp_path: Path) -> None:
    for name in ("2d", "a b", "numpy", "Maze"):
        run("new", name, folder=tmp_path, status=2)
    assert list(tmp_path.iterdir()) == []
