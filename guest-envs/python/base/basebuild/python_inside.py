"""What componentize-py carries: the standard library of the CPython inside, and what that CPython knows of its build. And code
compiled by that very CPython, so that nothing is compiled when the base starts.

componentize-py runs an app while it makes a component, with the standard library and the app's folder as files. Here an app of
our own writes what it finds into its folder, and makes no component.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from basebuild.packages import numpy_source, pure_packages, tools, zig, zig_environment
from basebuild.stages import BASE, CROSS, EPOCH, BuildError, hash_of, pins, run, stage

# Where the standard library and the packages are, as tracebacks and `__file__` in a guest say.
LIBRARY, PACKAGES = "/python", "/python/site-packages"

# Folders that no env imports; and ctypes, for which there is a stand-in.
LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "pydoc_data", "venv", "lib-dynload"}
LEFT_OUT |= {"ctypes", "__pycache__", "site-packages", "distutils", "_pyinstaller", "__phello__"}
# Tools of numpy's build.
LEFT_OUT |= {"_build_utils", "_examples", "doc", "lapack_lite"}


class Inside(NamedTuple):
    """What an app that componentize-py ran has written."""

    folder: Path
    key: str

    @property
    def library(self) -> Path:
        """Sources of the standard library."""
        return self.folder / "library"

    @property
    def code(self) -> Path:
        """Compiled code: a file `SHA256` for each source of that hash, marshalled."""
        return self.folder / "code"

    @property
    def sysconfig_data(self) -> Path:
        """How CPython was built."""
        return self.library / "_sysconfigdata__wasi_wasm32-wasi.py"


def inside() -> Inside:
    """Returns what is in componentize-py, with the code of the standard library and of the packages."""
    roots = [(numpy_source(), "numpy"), (pure_packages(), "")]
    carried = [pins()["tools"]["componentize-py"], pins()["packages"], pins()["numpy"]]
    key = hash_of(*carried, BASE / "inside/export.py", sorted(LEFT_OUT))

    def make(folder: Path) -> None:
        staged = folder / "app"
        staged.mkdir()
        shutil.copy(BASE / "inside/export.py", staged)
        work = []
        for number, (root, inner) in enumerate(roots):
            for file in sorted((root / inner).rglob("*.py")):
                relative = file.relative_to(root)
                if not LEFT_OUT.intersection(relative.parts):
                    target = staged / f"packages-{number}" / relative
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file, target)
                    work.append([f"packages-{number}/{relative}", f"{PACKAGES}/{relative}"])
        (staged / "work.json").write_text(
            json.dumps({"packages": work, "left_out": sorted(LEFT_OUT), "library": LIBRARY})
        )
        output = componentize("export", [staged], folder / "none.wasm")
        if not (staged / "done").exists():
            raise BuildError(f"componentize-py did not run our app:\n{output[-6000:]}")
        for name in ("library", "code"):
            (staged / name).rename(folder / name)
        shutil.rmtree(staged)

    return Inside(stage("inside", [key], make), key)


def steady() -> Path:
    """Returns the library that makes what componentize-py sees of this machine constant."""

    def make(folder: Path) -> None:
        flags: list[str | Path] = ["-target", "x86_64-linux-gnu.2.28", "-shared", "-fPIC", "-O2", "-g0"]
        command = [zig(), "cc", *flags, CROSS / "steady.c", "-o", folder / "steady.so"]
        run(command, env=zig_environment(folder / "cache"))
        shutil.rmtree(folder / "cache")

    return stage("steady", [CROSS / "steady.c", pins()["tools"]["ziglang"]], make) / "steady.so"


def componentize(app: str, paths: list[Path], output: Path, *, secret: int = 0) -> str:
    """Runs componentize-py over an app, and returns what it wrote: there is a component if `output` exists. Its environment is
    fixed, so that nothing of this machine gets into the component. `secret` chooses the secret of Python's hashes."""
    for path in paths:
        for folder, _, files in os.walk(path):
            for name in [*(os.path.join(folder, file) for file in files), folder]:
                os.utime(name, (EPOCH, EPOCH))
    wit = BASE.parents[2] / "wit/0.1.0"
    command = [tools() / "bin/python", CROSS / "componentize.py", "-d", wit, "-w", "plugin", "componentize", app]
    for path in paths:
        command += ["-p", path]
    # No Python or pipenv on the path: componentize-py would ask it for its packages, and add them.
    environment = {"PATH": "/nonexistent", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "LD_PRELOAD": str(steady())}
    if secret:
        # A number would be the secret itself.
        environment |= {"PYTHONHASHSEED": "random", "ROLLCAGE_STEADY": str(secret)}
    done = subprocess.run(
        [*(str(word) for word in command), "-o", str(output)],
        cwd=output.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    return done.stdout + done.stderr
