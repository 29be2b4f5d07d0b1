"""The wheel `rollcage-python-base`: the base component as package data, and a function that says where it is."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

from basebuild.stages import pins

PACKAGE = '''\
"""The base plugin of rollcage for Python environments: CPython, numpy and gymnasium in one WebAssembly component."""

from pathlib import Path

__version__ = "{version}"


def path() -> Path:
    """Returns the path of `python-base.wasm`."""
    return Path(__file__).with_name("python-base.wasm")
'''

METADATA = """\
Metadata-Version: 2.1
Name: rollcage-python-base
Version: {version}
Summary: CPython, numpy and gymnasium in one WebAssembly component: the base of rollcage's Python environments
License: MIT OR Apache-2.0
Requires-Python: >=3.10
Description-Content-Type: text/markdown

The base plugin of rollcage for Python environments, made by `cargo xtask python-base`. It holds CPython {python} (PSF licence),
numpy {numpy} (BSD) and gymnasium {gymnasium} (MIT), compiled by componentize-py {componentize} (Apache 2.0).

    import rollcage_python_base
    rollcage_python_base.path()
"""

WHEEL = """\
Wheel-Version: 1.0
Generator: rollcage
Root-Is-Purelib: true
Tag: py3-none-any
"""


def make(component: Path, folder: Path) -> Path:
    """Writes the wheel into a folder, which then holds no other version of it."""
    pinned = pins()
    version = pinned["version"]
    words = {
        "version": version,
        "python": pinned["python"],
        "numpy": pinned["numpy"]["version"],
        "gymnasium": pinned["packages"]["gymnasium"]["version"],
        "componentize": pinned["tools"]["componentize-py"]["version"],
    }
    info = f"rollcage_python_base-{version}.dist-info"
    files = {
        "rollcage_python_base/__init__.py": PACKAGE.format(**words).encode(),
        "rollcage_python_base/py.typed": b"",
        "rollcage_python_base/python-base.wasm": component.read_bytes(),
        f"{info}/METADATA": METADATA.format(**words).encode(),
        f"{info}/WHEEL": WHEEL.encode(),
    }
    record = "".join(f"{name},sha256={digest(content)},{len(content)}\n" for name, content in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()

    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("rollcage_python_base-*.whl"):
        old.unlink()
    path = folder / f"rollcage_python_base-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as wheel:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, content)
    return path


def digest(content: bytes) -> str:
    """Returns the hash of a file as RECORD has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
