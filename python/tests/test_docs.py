"""The pages for authors, run: their blocks are files, changes of files, commands, scripts, and what these print.

| a block's first line | |
|---|---|
| `python maze/maze.py` | a file: it is written |
| `python maze/maze.py changed` | functions, methods and assignments that replace those of the same name in the file, or are added |
| `diff lanes/src/lib.rs` | lines of the file: those that begin with `-` become those that begin with `+` |
| `sh` | commands, run by the shell; `sh fails`: the exit status is not 0 |
| `python` | a script, run in this Python |
| `text`, `python printed` | what the block before printed, where `…` stands for any text |
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import TARGET
from on_base import base, needs_base

from rollcage import _program

ROOT = Path(__file__).resolve().parents[2]

#: What a page needs beside the base.
PAGES: dict[str, list[str]] = {
    "first-env.md": [],
    "grid-env.md": ["sb3_contrib"],
    "porting.md": ["cargo"],
    "debugging.md": ["cargo"],
    "wrappers.md": ["stable_baselines3"],
}


def page(name: str) -> str:
    text = (ROOT / "docs" / name).read_text()
    # What is in Rust is run by tests/tests/first_env.rs.
    return text.split("\n## In Rust\n")[0] if name == "first-env.md" else text


def blocks(text: str) -> list[tuple[list[str], str]]:
    return [(first.split(), body) for first, body in re.findall(r"^```(.+)\n((?:.*\n)*?)```$", text, re.MULTILINE)]


class Reader:
    """Somebody who does what a page says, in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: What the last command wrote: to stdout, and to stderr and then to stdout.
        self.results = self.printed = ""

    def reads(self, first: list[str], body: str) -> None:
        match first:
            case ["sh", *fails]:
                self.runs(["sh", "-e", "-c", body], fails != [])
            case ["python"]:
                self.runs([sys.executable, "-c", body], False)
            case ["text"] | [_, "printed"]:
                seen = fits(body, self.results) or fits(body, self.printed)
                assert seen, f"the page says\n{body}\nand the command printed\n{self.printed}"
            case ["diff", name]:
                file, lines = self.folder / name, body.splitlines(True)
                old, new = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
                assert file.read_text().count(old) == 1, f"{name} does not have once\n{old}"
                file.write_text(file.read_text().replace(old, new))
            case [_, name, "changed"]:
                file = self.folder / name
                file.write_text(changed(file.read_text(), body))
            case [_, name]:
                (self.folder / name).parent.mkdir(exist_ok=True, parents=True)
                (self.folder / name).write_text(body)
            case _:
                pytest.fail(f"a block of {first}, which nothing tests")

    def runs(self, command: list[str], fails: bool) -> None:
        programs = [str(_program.path().parent), str(Path(sys.executable).parent), os.environ["PATH"]]
        environment = {
            **os.environ,
            "PATH": os.pathsep.join(programs),
            "ROLLCAGE": str(ROOT),
            "ROLLCAGE_PYTHON_BASE": str(base()),
            "VIRTUAL_ENV": str(Path(sys.executable).parents[1]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "RUST_BACKTRACE": "0",
            # One folder of build products for all crates: the SDK is compiled once.
            "CARGO_TARGET_DIR": str(TARGET.absolute() / "new-crates"),
        }
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            stdin=subprocess.DEVNULL,
        )
        self.results, self.printed = done.stdout, done.stderr + done.stdout
        assert (done.returncode != 0) == fails, f"{command[-1]}: {done.returncode}\n{self.printed}"


def fits(expected: str, printed: str) -> bool:
    """Whether what was printed is what is expected, where `…` stands for any text, and alone in a line for any lines.

    Blanks at a line's end are not seen.
    """
    expected, printed = (
        re.sub(r" +$", "", text, flags=re.MULTILINE).strip("\n") + "\n" for text in (expected, printed)
    )
    lines = ["(?:.*\n)*?" if line == "…\n" else re.escape(line) for line in expected.splitlines(True)]
    return re.fullmatch("".join(lines).replace("…", "(?:.|\n)*?"), printed) is not None


def pieces(nodes: list[ast.stmt], begin: int) -> dict[str, tuple[int, int]]:
    """The lines of each definition and assignment, with the comments and blank lines before it."""
    found = {}
    for node in nodes:
        names = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
        name = getattr(node, "name", None) or next(iter(names), ast.unparse(node))
        assert node.end_lineno is not None
        found[name] = (begin, node.end_lineno)
        begin = node.end_lineno
    return found


def changed(text: str, body: str) -> str:
    """A file with some of its functions, methods and assignments replaced, or more of them."""
    inner = body.startswith(" ")
    body = textwrap.dedent(body)
    for name, (start, end) in pieces(ast.parse(body).body, 0).items():
        piece = "\n" + "\n".join(body.splitlines()[start:end]).strip("\n")
        module = ast.parse(text)
        [owner] = [node for node in module.body if isinstance(node, ast.ClassDef)]
        nodes = owner.body if inner else module.body
        there = pieces(nodes, owner.lineno if inner else 0)
        node = ast.parse(piece).body[0]
        # A new import stands after the docstring, a new method last, and the rest before the first method or the class.
        if name in there:
            start, end = there[name]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            start = end = nodes[0].end_lineno or 0
        elif inner and isinstance(node, ast.FunctionDef):
            start = end = nodes[-1].end_lineno or 0
        elif inner:
            start = end = next(node for node in nodes if isinstance(node, ast.FunctionDef)).lineno - 2
        else:
            start = end = owner.lineno - 1
        new = textwrap.indent(piece, "    ") if inner else piece
        lines = text.splitlines()
        text = "\n".join([*lines[:start], *new.splitlines(), *lines[end:]]) + "\n"
    return text


@needs_base
@pytest.mark.parametrize("name", PAGES)
def test_a_page_runs(name: str, tmp_path: Path) -> None:
    for need in PAGES[name]:
        if need == "cargo":
            assert shutil.which("cargo"), "the page builds a crate"
        else:
            pytest.importorskip(need)
    reader = Reader(tmp_path)
    read = blocks(page(name))
    assert len(read) > 5 and page(name).count("\n```") == 2 * len(read)
    for first, body in read:
        reader.reads(first, body)


@needs_base
def test_the_grid_page_ends_at_the_template(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    for first, body in blocks(page("grid-env.md")):
        if first[0] not in ("sh", "text") and len(first) > 1 and first[1] != "printed":
            reader.reads(first, body)
    (tmp_path / "template").mkdir()
    reader.runs(["sh", "-c", "cd template && rollcage new maze --template grid"], False)

    def meaning(folder: Path) -> list[str]:
        module = ast.parse((folder / "maze.py").read_text())
        [env] = [node for node in module.body if isinstance(node, ast.ClassDef)]
        env.body.sort(key=ast.unparse)
        return sorted(ast.unparse(node) for node in module.body[1:])

    ours, theirs = tmp_path / "maze", tmp_path / "template/maze"
    assert meaning(ours) == meaning(theirs)
    assert (ours / "levels/first.txt").read_text() == (theirs / "levels/first.txt").read_text()
    # The page adds the line by `echo`.
    line = 'assets = ["levels/*.txt"]'
    assert line in page("grid-env.md") and line in (theirs / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    "file", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda file: file.name
)
def test_links_lead_somewhere(file: Path) -> None:
    for target, _, anchor in re.findall(r"\]\(([^)#\s:]*)(#([^)]*))?\)", file.read_text()):
        linked = file.parent / target if target else file
        assert linked.exists(), target
        if not anchor:
            continue
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        anchors |= set(re.findall(r'<a id="([^"]*)">', linked.read_text()))
        assert anchor in anchors, f"{target}#{anchor}"


def test_an_ellipsis_stands_for_anything() -> None:
    assert (
        fits("a\n…\nc\n", "a\nb\nb\nc\n")
        and fits("…\na\n…", "a")
        and fits("speed …\nend", "speed 7\nend")
        and fits("a", "a\n")
    )
    assert not fits("a\n…\nc", "a\nb\n") and not fits("a", "a\nb") and not fits("a\nc", "a\nb\nc")
