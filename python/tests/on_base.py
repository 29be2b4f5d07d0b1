"""What tests on the real base plugin share: where it is, and folders of envs made from a text."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest
from conftest import TARGET

from rollcage import _sources as sources


def base() -> Path | None:
    """The base plugin with CPython in it, if there is one. A name for none is a mistake: nothing is skipped for it."""
    named = os.environ.get("ROLLCAGE_PYTHON_BASE")
    if named and not Path(named).is_file():
        raise FileNotFoundError(f"ROLLCAGE_PYTHON_BASE names {named}, which is no file: `cargo xtask python-base`")
    place = Path(named or sources._base() or TARGET / "python-base/python-base.wasm")
    return place if place.is_file() else None


# Whoever runs one file of tests may have no base. `cargo xtask` builds it and names it, and skips nothing.
needs_base = pytest.mark.skipif(base() is None, reason="the base is not built: `cargo xtask python-base`")


def project(folder: Path, module: str, name: str, text: str) -> Path:
    """An author's folder: one module and its `pyproject.toml`."""
    folder.mkdir()
    (folder / f"{module}.py").write_text(textwrap.dedent(text))
    plugin = module.replace("_", "-")
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{plugin}"\nversion = "0.1.0"\n\n[tool.rollcage]\nenv = "{module}:{name}"\n'
    )
    return folder
