"""The store: all modules of the base in one file, which `inside/rollcage_store.py` reads."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path

MAGIC = b"rollcage store 1\n"


class Writer:
    """A store that is being written."""

    def __init__(self) -> None:
        self._content = bytearray()
        # As `Record` in `inside/rollcage_store.py`.
        self._modules: dict[str, tuple[str, bool, str | None, int, int, int, int]] = {}
        self._distributions: dict[str, dict[str, str]] = {}

    def _add(self, content: bytes) -> tuple[int, int]:
        compressed = zlib.compress(content, 9)
        place = len(self._content)
        self._content += compressed
        return place, len(compressed)

    def tree(self, root: Path, inside: str, code: Path | None, left_out: set[str]) -> None:
        """Adds the Python files below a folder, which is `inside` in the guest; and their code, where there is code of that path
        and source. A module that is there already stays."""
        for file in sorted(root.rglob("*.py"), key=lambda file: file.as_posix()):
            relative = file.relative_to(root)
            if left_out.intersection(relative.parts):
                continue
            parts = list(relative.with_suffix("").parts)
            package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if package else parts)
            path = f"{inside}/{relative.as_posix()}"
            if not name or name in self._modules:
                continue
            source = file.read_bytes()
            compiled = code / code_name(path, source) if code else None
            known = compiled is not None and compiled.exists()
            places = (*self._add(source), *(self._add(compiled.read_bytes()) if compiled and known else (0, 0)))
            self._modules[name] = (path, package, None, *places)

    def extension(self, name: str, path: str) -> None:
        """Adds an extension module, whose library is at a path in the guest."""
        self._modules[name] = (path, False, path, 0, 0, 0, 0)

    def distribution(self, folder: Path) -> None:
        """Adds the metadata of a package: its folder `.dist-info`."""
        files = ("METADATA", "entry_points.txt", "top_level.txt")
        texts = {name: (folder / name).read_text() for name in files if (folder / name).exists()}
        self._distributions[folder.name.split("-")[0].lower().replace("_", "-")] = texts

    def text_distribution(self, name: str, version: str) -> None:
        """Adds the metadata of a package that has no folder of its own."""
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        self._distributions[name] = {"METADATA": text}

    def write(self, file: Path) -> None:
        """Writes the store."""
        known = {"modules": self._modules, "distributions": self._distributions}
        index = json.dumps(known, separators=(",", ":")).encode()
        file.write_bytes(MAGIC + len(index).to_bytes(4, "little") + index + self._content)


def code_name(path: str, source: bytes) -> str:
    """Returns the name of the file that holds the code of a source at a path, as `inside/export.py` writes it."""
    return hashlib.sha256(path.encode() + b"\0" + source).hexdigest()
