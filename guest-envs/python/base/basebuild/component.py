"""The base component: the modules, packed; CPython, initialised by componentize-py with them; and `base.json` attached, by which
the bundler knows what the base holds."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from basebuild import lists, wasm
from basebuild.numpy_wasm import MODULES, SUFFIX, numpy_for_wasi
from basebuild.packages import pure_packages
from basebuild.python_inside import LEFT_OUT, LIBRARY, PACKAGES, Inside, componentize, inside
from basebuild.stages import BASE, CROSS, EPOCH, BuildError, pins, stage
from basebuild.store import Writer

INSIDE = BASE / "inside"

# Modules of the standard library that are stand-ins in the base.
ABSENT = ["_multiprocessing", "_posixshmem", "ctypes", "mmap"]


def base(sdk: Path, *, names: bool = False, secret: int = 0) -> Path:
    """Returns the base component. With another secret, Python's hashes of strings are others, and so is the order of its sets."""
    if not (sdk / "plugin.py").exists():
        raise BuildError(f"{sdk} is not the package rollcage_guest: it has no plugin.py. Name it by ROLLCAGE_GUEST_SDK")
    return made(sdk, MODULES, app=BASE / "app.py", names=names, secret=secret)


def made(sdk: Path, modules: list[str], *, app: Path, names: bool, secret: int = 0) -> Path:
    """Returns a component of an app, with these extension modules of numpy."""
    numpy, found = numpy_for_wasi(), inside()
    wit = BASE.parents[2] / "wit/0.1.0"
    inputs = [pins(), names, app.read_text(), sdk, INSIDE, wit, numpy.name, found.key, modules]
    code = [
        BASE / "basebuild" / file for file in ("component.py", "lists.py", "store.py", "wasm.py", "python_inside.py")
    ]
    code.append(CROSS / "steady.c")
    if secret:
        inputs.append(secret)

    def make(folder: Path) -> None:
        staged = folder / "app"
        staged.mkdir()
        shutil.copy(app, staged / "rollcage_base.py")
        shutil.copy(INSIDE / "rollcage_store.py", staged)
        pack(sdk, numpy, modules, found).write(staged / "modules.store")
        for module in modules:
            library = f"numpy/{module}{SUFFIX}"
            (staged / library).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(numpy / "modules" / library, staged / library)
        whole = folder / "whole.wasm"
        output = componentize("rollcage_base", [staged], whole, secret=secret)
        if not whole.exists():
            raise BuildError(f"componentize-py made no component:\n{output[-6000:]}")
        component = whole.read_bytes()
        component = lists.freed(component if names else wasm.stripped(component))
        (folder / "python-base.wasm").write_bytes(wasm.with_assets(component, {"base.json": base_json()}))
        whole.unlink()
        shutil.rmtree(staged)

    return stage("component", [*inputs, *code], make) / "python-base.wasm"


def pack(sdk: Path, numpy: Path, modules: list[str], found: Inside) -> Writer:
    """Returns the store of all modules."""
    store = Writer()
    store.tree(found.library, LIBRARY, found.code, LEFT_OUT)
    for root in (numpy / "python", pure_packages()):
        store.tree(root, PACKAGES, found.code, LEFT_OUT)
    store.tree(INSIDE, PACKAGES, None, {"export.py", "rollcage_store.py"})
    store.tree(sdk.parent, PACKAGES, None, {name for name in os.listdir(sdk.parent) if name != sdk.name})
    for module in modules:
        store.extension(f"numpy.{module.replace('/', '.')}", f"/0/numpy/{module}{SUFFIX}")
    for folder in sorted(pure_packages().glob("*.dist-info")):
        store.distribution(folder)
    store.text_distribution("numpy", pins()["numpy"]["version"])
    return store


def base_json() -> bytes:
    """Returns what the base holds, for the bundler."""
    pinned = pins()
    distributions = {name: pin["version"] for name, pin in pinned["packages"].items()}
    distributions["numpy"] = pinned["numpy"]["version"]
    holds = {
        "format": 1,
        "version": pinned["version"],
        "python": pinned["python"],
        "distributions": dict(sorted(distributions.items())),
        "absent": ABSENT,
    }
    return json.dumps(holds, indent=1).encode()


def place(made: Path, output: Path) -> None:
    """Puts the base where it is wanted, at once."""
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    shutil.copyfile(made, unfinished)
    os.utime(unfinished, (EPOCH, EPOCH))
    unfinished.rename(output)
