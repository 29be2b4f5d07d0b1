"""What docstrings say of parameters: Google's ``Args:`` and numpy's ``Parameters``.

Choices and ranges are read from the place of the type, where they are no prose: ``mode ({easy, hard}): …`` or
``size : int, 3 to 20``.
"""

import ast
import inspect
import re
from dataclasses import dataclass, field
from typing import Any

_GOOGLE = re.compile(r"^(Args|Arguments|Parameters|Keyword Args|Keyword Arguments|Attributes):\s*$")
_SECTION = re.compile(r"^[A-Z][A-Za-z ]*:\s*$")
_NUMPY = re.compile(r"^(Parameters|Other Parameters|Attributes)\s*$")
_NAMES = re.compile(r"^(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?:\((.*?)\))?\s*:\s?(.*)$")
_NUMPY_NAMES = re.compile(r"^(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::\s*(.*))?$")

_NUMBER = r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TO = re.compile(rf"({_NUMBER})\s*(?:to|\.\.\.?|–|-)\s*({_NUMBER})(?![\w.])")
_WITHIN = re.compile(rf"([\[(])\s*({_NUMBER})\s*,\s*({_NUMBER})\s*([\])])")
_COMPARED = re.compile(rf"(>=|<=|>|<|≥|≤)\s*({_NUMBER})")
_CHOICES = re.compile(r"\{([^{}]*)\}")

_COMPARISONS = {
    ">=": "minimum",
    "≥": "minimum",
    "<=": "maximum",
    "≤": "maximum",
    ">": "exclusiveMinimum",
    "<": "exclusiveMaximum",
}


@dataclass
class Doc:
    """What a docstring says of one parameter."""

    description: str = ""
    #: Keywords of JSON Schema: `enum`, `minimum`, …
    rules: dict[str, Any] = field(default_factory=dict)


def summary(text: str | None) -> str:
    """The first paragraph of a docstring that is no heading, on one line."""
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        lines = [line.strip() for line in paragraph.splitlines() if not line.startswith("#")]
        if any(lines):
            return " ".join(" ".join(lines).split())
    return ""


def parameters(text: str | None) -> dict[str, Doc]:
    """Each parameter that a docstring describes."""
    lines = inspect.cleandoc(text or "").splitlines()
    found: dict[str, Doc] = {}
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if _GOOGLE.match(line):
            found |= _google(lines[number + 1 :], is_first=number == 0)
        elif _NUMPY.match(line) and following.startswith("---"):
            found |= _numpy(lines[number + 2 :])
    return found


def _google(lines: list[str], is_first: bool) -> dict[str, Doc]:
    # `inspect.cleandoc` takes the indentation of the entries away where the section begins in the first line.
    found: dict[str, Doc] = {}
    indent: int | None = None
    current: list[Doc] = []
    for line in lines:
        if not line.strip():
            continue
        depth = len(line) - len(line.lstrip())
        if depth == 0 and (not is_first or _SECTION.match(line)):
            break
        indent = depth if indent is None else indent
        entry = _NAMES.match(line.strip()) if depth <= indent else None
        if entry:
            names, kind, words = entry.groups()
            current = _enter(found, names, kind, words)
        else:
            _continue(current, line)
    return found


def _numpy(lines: list[str]) -> dict[str, Doc]:
    found: dict[str, Doc] = {}
    current: list[Doc] = []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        if line[0] != " ":
            if number + 1 < len(lines) and lines[number + 1].startswith("---"):
                break
            entry = _NUMPY_NAMES.match(line)
            if not entry:
                break
            current = _enter(found, entry[1], entry[2], "")
        else:
            _continue(current, line)
    return found


def _enter(found: dict[str, Doc], names: str, kind: str | None, words: str) -> list[Doc]:
    entered = []
    for name in names.split(","):
        doc = found[name.strip().lstrip("*")] = Doc(words.strip(), rules(kind or ""))
        entered.append(doc)
    return entered


def _continue(current: list[Doc], line: str) -> None:
    for doc in current:
        doc.description = f"{doc.description} {line.strip()}".strip()


def rules(kind: str) -> dict[str, Any]:
    """Choices and range in the place of a type: ``{'a', 'b'}``, ``3 to 20``, ``[0, 1)``, ``> 0``."""
    choices = _CHOICES.search(kind)
    if choices:
        return {"enum": [_choice(one) for one in choices[1].split(",") if one.strip()]} if choices[1].strip() else {}
    within = _WITHIN.search(kind)
    if within and "[" not in kind[: within.start()]:
        opened, low, high, closed = within.groups()
        return {
            "minimum" if opened == "[" else "exclusiveMinimum": _number(low),
            "maximum" if closed == "]" else "exclusiveMaximum": _number(high),
        }
    to = _TO.search(kind)
    if to:
        return {"minimum": _number(to[1]), "maximum": _number(to[2])}
    return {_COMPARISONS[sign]: _number(number) for sign, number in _COMPARED.findall(kind)}


def _choice(text: str) -> Any:
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text.strip()
    return value if value is None or isinstance(value, (bool, int, float, str)) else text.strip()


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"[-+]?\d[\d_]*", text) else float(text)
