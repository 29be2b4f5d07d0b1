"""The build backend: maturin's, with the `rollcage` program built before and put into the package.

The program is built by cargo in the workspace that this folder is a part of, into `CARGO_TARGET_DIR` or the workspace's own
`target`, where the extension is built too, so that a second build is quick. A source distribution has no workspace around
it, and cannot be built: that is said.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import maturin

PACKAGE = Path(__file__).resolve().parent.parent
WORKSPACE = PACKAGE.parent
PROGRAM = PACKAGE / "rollcage" / "_program" / "rollcage"

get_requires_for_build_sdist = maturin.get_requires_for_build_sdist
get_requires_for_build_wheel = maturin.get_requires_for_build_wheel
get_requires_for_build_editable = maturin.get_requires_for_build_wheel


def build_wheel(
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    _build_program()
    return maturin.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    _build_program()
    return maturin.build_editable(wheel_directory, config_settings, metadata_directory)


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: dict[str, Any] | None = None) -> str:
    _check_workspace()
    return maturin.prepare_metadata_for_build_wheel(metadata_directory, config_settings)


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel


def build_sdist(sdist_directory: str, config_settings: dict[str, Any] | None = None) -> str:
    raise SystemExit(
        "rollcage has no source distribution: a build needs the whole repository, whose host, guest environments and "
        "interface lie beside this folder.\nBuild a wheel in a clone of it: pip wheel ./python"
    )


def _check_workspace() -> None:
    """Says what is missing before anything is compiled."""
    if not (WORKSPACE / "host" / "Cargo.toml").is_file() or not (WORKSPACE / "guest-envs" / "Cargo.toml").is_file():
        raise SystemExit(
            f"the rollcage workspace is not around {PACKAGE}: a build needs the whole repository, whose host, guest "
            "environments and interface lie beside this folder.\n"
            "Install a wheel, or clone the repository and run: pip install ./python"
        )
    if shutil.which("cargo") is None:
        raise SystemExit("rollcage is built by Rust's cargo, which is not there: install it by https://rustup.rs")


def _build_program() -> None:
    _check_workspace()
    # One folder for the program and the extension: what both depend on is built once.
    target = Path(os.environ.setdefault("CARGO_TARGET_DIR", str(WORKSPACE / "target")))
    if not target.is_absolute():
        # As cargo has it: beginning at where it was called, which is not where maturin calls it.
        target = Path.cwd() / target
        os.environ["CARGO_TARGET_DIR"] = str(target)
    command = ["cargo", "build", "--release", "--locked", "--package", "rollcage", "--bin", "rollcage"]
    print("rollcage:", " ".join(command), file=sys.stderr, flush=True)
    if subprocess.run(command, cwd=WORKSPACE, stdin=subprocess.DEVNULL).returncode != 0:
        raise SystemExit("the rollcage program does not build: cargo's words are above")
    PROGRAM.parent.mkdir(exist_ok=True)
    # A new file: the old one may be running, or be a link to somewhere else.
    fresh = PROGRAM.with_suffix(".new")
    shutil.copy2(target / "release" / "rollcage", fresh)
    fresh.replace(PROGRAM)
