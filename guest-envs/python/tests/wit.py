"""The modules that componentize-py makes from `wit/0.1.0/`, for native tests: the same names, made from the same file.

A record becomes a dataclass (`t.BoxSpace`), an enum an `Enum` (`t.Dtype.FLOAT32`), each case of a variant a dataclass
(`t.SpaceNode_Box`, with `value` if it has one).
"""

import dataclasses
import enum
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

WIT = Path(__file__).parents[3] / "wit" / "0.1.0" / "types.wit"

E = TypeVar("E")


@dataclasses.dataclass(frozen=True)
class Err(Generic[E], Exception):  # noqa: N818  (componentize-py's name)
    """The failure of a call, as `componentize_py_types` has it."""

    value: E


def camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.lstrip("%").split("-"))


def snake(name: str) -> str:
    return name.lstrip("%").replace("-", "_")


def types_of(text: str) -> dict[str, Any]:
    """The classes of a WIT interface's types."""
    text = re.sub(r"//[^\n]*", "", text)
    made: dict[str, Any] = {}
    for kind, name, body in re.findall(r"\b(record|enum|variant) ([\w-]+) \{([^}]*)\}", text):
        entries = [entry.strip() for entry in _split(body) if entry.strip()]
        if kind == "enum":
            made[camel(name)] = enum.Enum(camel(name), {snake(one).upper(): at for at, one in enumerate(entries)})
        elif kind == "record":
            fields = [snake(entry.partition(":")[0].strip()) for entry in entries]
            made[camel(name)] = dataclasses.make_dataclass(camel(name), fields)
        else:
            for entry in entries:
                case, _, value = entry.partition("(")
                cls = f"{camel(name)}_{camel(case)}"
                made[cls] = dataclasses.make_dataclass(cls, ["value"] if value else [])
    return made


def _split(body: str) -> list[str]:
    """Splits at commas outside of angle brackets."""
    parts, depth = [""], 0
    for character in body:
        depth += (character == "<") - (character == ">")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


class Assets:
    """`wit_world.imports.assets` over a dict: set `files` before a plugin is loaded."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.reads: list[str] = []

    def list(self) -> list[str]:
        return sorted(self.files, key=str.encode)

    def size(self, path: str) -> int | None:
        return len(self.files[path]) if path in self.files else None

    def read(self, path: str, offset: int, length: int) -> bytes | None:
        self.reads.append(path)
        if path not in self.files:
            return None
        # Fewer bytes than asked for do not mean the end.
        return self.files[path][offset : offset + min(length, 1 << 12)]


def install() -> Assets:
    """Puts the modules in place of componentize-py's."""
    found = sys.modules.get("wit_world.imports.assets")
    if found is not None:
        return found.fake
    types = ModuleType("wit_world.imports.types")
    vars(types).update(types_of(WIT.read_text()))
    fake = Assets()
    assets = ModuleType("wit_world.imports.assets")
    vars(assets).update(fake=fake, list=fake.list, size=fake.size, read=fake.read)
    imports = ModuleType("wit_world.imports")
    vars(imports).update(types=types, assets=assets)
    world = ModuleType("wit_world")
    vars(world).update(imports=imports)
    err = ModuleType("componentize_py_types")
    vars(err).update(Err=Err)
    for module in (types, assets, imports, world, err):
        sys.modules[module.__name__] = module
    return fake
