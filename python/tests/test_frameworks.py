"""The scripts in `docs/frameworks.md`, run as they stand there, in the environment of each framework.

`cargo xtask pythons frameworks` and `cargo xtask pythons rllib` make the environments, and name the framework in
``ROLLCAGE_FRAMEWORK``.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs/frameworks.md").read_text()

#: The script below each heading.
SCRIPTS = {
    heading.lower(): re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for heading, section in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
}

FRAMEWORKS = ["torchrl", "tianshou", "skrl", "cleanrl", "rllib"]


def versions(framework: str) -> dict[str, str]:
    """The versions that the page's table names."""
    [row] = re.findall(rf"^\| \[\w+\]\(#{framework}\) \|.*", PAGE, re.MULTILINE)
    return dict(re.findall(r"([a-z]+) (\d+\.\d+\.\d+)", row.split("|")[3]))


def test_each_framework_has_a_script() -> None:
    assert all(len(SCRIPTS[name]) == 1 for name in FRAMEWORKS)
    assert sum(map(len, SCRIPTS.values())) == len(FRAMEWORKS) == PAGE.count("```python")


@pytest.mark.long
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_script_on_the_page_trains(framework: str, tmp_path: Path) -> None:
    if os.environ.get("ROLLCAGE_FRAMEWORK") != framework:
        pytest.skip("it is run in an environment of its own, by `cargo xtask pythons`")
    [script] = SCRIPTS[framework]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    print(done.stdout)


@pytest.mark.long
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_versions_on_the_page_are_those_installed(framework: str) -> None:
    if os.environ.get("ROLLCAGE_FRAMEWORK") != framework:
        pytest.skip("it is run in an environment of its own, by `cargo xtask pythons`")
    said = versions(framework)
    assert {"torch", "gymnasium"} <= set(said)
    assert said == {name: importlib.metadata.version(name).partition("+")[0] for name in said}
