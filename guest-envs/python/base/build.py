#!/usr/bin/env python3
"""Builds the base plugin for Python environments: CPython, numpy, gymnasium and the guest's side of the SDK, in one component.

    build.py [--target FOLDER] [--sdk FOLDER] [--names]
    build.py numpy-tests [--target FOLDER] [FILE…]

Run by `cargo xtask python-base`. Everything comes from registries (PyPI, Debian), as `pins.toml` says. Each stage is kept in
`$ROLLCAGE_PYTHON_BUILD` (`~/.cache/rollcage-python-base`), so that a build from nothing takes minutes and every other one
seconds.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

if sys.version_info < (3, 11, 4):
    sys.exit("python-base: the build needs Python 3.11.4 or newer: put one first on PATH")

from basebuild import component, numpy_tests, wheel
from basebuild.stages import BASE, BuildError, cpu_seconds, sha256


# Any number but 0 chooses another secret of Python's hashes.
OTHER_SECRET = 1


def build(options: argparse.Namespace) -> None:
    """Builds the component and its wheel, and tells what they are."""
    begun = time.monotonic()
    made = component.base(options.sdk, names=options.names)
    output = options.target / "python-base/python-base.wasm"
    component.place(made, output)
    # The same with another secret: `rollcage check` compares the two.
    other = options.target / "python-base/python-base-other-secret.wasm"
    component.place(component.base(options.sdk, names=options.names, secret=OTHER_SECRET), other)
    package = wheel.make(output, options.target / "wheels")
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, SHA-256 {sha256(output)}")
    print(f"{package}: {package.stat().st_size / 1e6:.1f} MB")
    print(f"{time.monotonic() - begun:.1f} s, {cpu_seconds():.1f} s of CPU time")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Builds the base plugin for Python environments.")
    parser.add_argument("--target", type=Path, default=BASE.parents[2] / "target", help="folder of what is built")
    sdk = os.environ.get("ROLLCAGE_GUEST_SDK", BASE.parent / "rollcage_guest")
    parser.add_argument("--sdk", type=Path, default=Path(sdk), help="folder of the package rollcage_guest")
    parser.add_argument("--names", action="store_true", help="keep the names of functions, for backtraces of traps")
    parser.add_argument("verb", nargs="?", choices=["build", "numpy-tests"], default="build")
    parser.add_argument("files", nargs="*", help="for numpy-tests: files of tests, such as linalg/tests/test_linalg.py")
    options = parser.parse_args()
    try:
        if options.verb == "numpy-tests":
            program = os.environ.get("ROLLCAGE_PROGRAM", options.target / "release/rollcage")
            numpy_tests.run_all(Path(program), options.sdk, options.target, options.files)
        else:
            build(options)
    except BuildError as error:
        sys.exit(f"python-base: {error}")


if __name__ == "__main__":
    main()
