"""The example of `docs/python-envs.md`, and the line that it tells for a debugger."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from conftest import Plugin, t

PAGE = (Path(__file__).parents[3] / "docs" / "python-envs.md").read_text()
(SOURCE,) = re.findall(r"```python\n(\"\"\"my_env.py\"\"\".*?)```", PAGE, re.DOTALL)


def test_the_example_is_served(serve: Callable[..., Plugin]) -> None:
    plugin = serve(SOURCE)
    description = plugin.describe()
    assert description.summary == "Walk to the right end of a corridor."
    assert plugin.schema["properties"] == {
        "size": {"type": "integer", "minimum": 3, "maximum": 100, "default": 9, "description": "Number of cells."},
        "slip": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "default": 0.1,
            "description": "Probability that a step goes the other way.",
        },
    }
    plugin.create(size=4, slip=0)
    plugin.reset(1)
    assert [plugin.step(1).terminated for _ in range(3)] == [False, False, True]
    assert plugin.environment.render(t.RenderMode.ANSI) == t.Frame_Text("...x")


def test_the_line_for_a_debugger_runs(serve: Callable[..., Plugin], tmp_path: Path) -> None:
    from rollcage_guest.manifest import Manifest
    from rollcage_guest.refusals import native_line

    line = native_line(Manifest("my-env", "0.1.0", "", "my_env:MyEnv", None))
    assert f"    {line}\n" in PAGE
    (tmp_path / "my_env.py").write_text(SOURCE)
    lines = [line]
    for name in ("register", "module"):
        (tmp_path / f"{name}.py").write_text(
            "import my_env\n\ndef register():\n    pass\n\nclass Outer:\n    MyEnv = my_env.MyEnv\n"
        )
    lines.append(native_line(Manifest("my-env", "0.1.0", "", "module:Outer.MyEnv", None)))
    lines.append(native_line(Manifest("my-env", "0.1.0", "", None, "CartPole-v1", ("module", "register:register"))))
    for one in lines:
        program, interactive, *rest = shlex.split(one)
        assert (program, interactive) == ("python", "-i")
        subprocess.run([sys.executable, *rest], cwd=tmp_path, check=True, timeout=60)
