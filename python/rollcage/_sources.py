"""Python envs as plugins: what belongs to a class, an id of Gymnasium's registry or an `EnvSpec`.

This module finds files and distributions; the host makes the bundle of them. Nothing is imported that is not imported
already, but for the packages around an env's module: `importlib` finds those so.
"""

from __future__ import annotations

import importlib.metadata as metadata
import importlib.util
import inspect
import json
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

import gymnasium
from gymnasium.envs.registration import EnvSpec

from rollcage import _arguments as arguments
from rollcage import _program
from rollcage import _rollcage as native
from rollcage._imports import Code
from rollcage.errors import UsageError

__all__ = ["PluginLike", "opened"]

#: What a plugin is made of: the name of a shipped one, a path, an id of Gymnasium's registry or its spec, or a class.
PluginLike = Union[str, "os.PathLike[str]", EnvSpec, type, Callable[..., Any]]

#: An id of Gymnasium's registry, with the module that registers it.
_ID = re.compile(r"^(?:(?P<module>[\w.]+):)?(?P<id>(?:[\w:-]+/)?[\w:.-]+-v\d+)$", re.ASCII)
#: A class, as ``module:Class``.
_CLASS = re.compile(r"^(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)$")
#: The entry points of rollcage's own ids.
_OWN = ("rollcage.registration:", "rollcage.single:")
#: Tables of a ``pyproject.toml`` that describe a project.
_PROJECT = re.compile(r"^\s*\[\s*(project|tool\.rollcage)\s*[\].]", re.MULTILINE)


@dataclass
class _Env:
    """An env that is bundled, before its files are looked for."""

    #: What messages call it.
    shown: str
    name: str
    #: ``module:qualname``.
    entry: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    wrappers: list[dict[str, Any]] = field(default_factory=list)
    max_episode_steps: int | None = None
    reward_threshold: float | None = None

    @property
    def modules(self) -> list[str]:
        entries = [self.entry, *(one["entry_point"] for one in self.wrappers)]
        return [entry.partition(":")[0] for entry in entries]


def opened(plugin: PluginLike) -> str | native.Plugin:
    """The name or path of a plugin, or the plugin that a class, an id or a spec is bundled as.

    Raises
    ------
    UsageError
        The env cannot be bundled: the message says why, and the hint what to do.
    TypeError
        `plugin` is nothing of all that.

    """
    if isinstance(plugin, (str, os.PathLike)):
        text = os.fspath(plugin)
        if not isinstance(plugin, str) or text in native.shipped() or os.path.exists(text):
            return text
        if named := _CLASS.match(text):
            return _bundled(_of_class(_imported(named["module"], named["name"])))
        found = _registered(text)
        return text if found is None else opened(found)
    if isinstance(plugin, EnvSpec):
        if isinstance(plugin.entry_point, str) and plugin.entry_point.startswith(_OWN):
            return _own(plugin)
        return _bundled(_of_spec(plugin))
    if callable(plugin) or isinstance(plugin, gymnasium.Env):
        return _bundled(_of_class(plugin))
    raise TypeError(
        "plugin: expected the name of a shipped plugin, the path of a .wasm file or of an env's folder, an env's class, or an id "
        f"of Gymnasium's registry or its EnvSpec; got {plugin!r:.200}"
    )


def _own(spec: EnvSpec) -> str | native.Plugin:
    """What an id of rollcage's own means."""
    if len(spec.kwargs) > 1:
        config = {name: value for name, value in spec.kwargs.items() if name != "plugin"}
        raise UsageError(
            f"plugin {spec.id!r}: it stands for a plugin and a config",
            [f"write {spec.kwargs['plugin']!r} and config={config!r}, or gymnasium.make_vec({spec.id!r}, ...)"],
        )
    return opened(spec.kwargs["plugin"])


def _registered(text: str) -> EnvSpec | None:
    """The spec of an id; None for a text that is no id. An id that is not known is an error."""
    match = _ID.match(text)
    if match is None or text.endswith(".wasm"):
        return None
    if match["module"]:
        _imported(match["module"])
    known = gymnasium.registry.get(match["id"])
    if known is not None:
        return known
    # Without the version, or with a wrong one, Gymnasium knows better.
    try:
        return gymnasium.spec(match["id"])
    except gymnasium.error.Error as error:
        hints = [
            f"import the package that registers {match['id']} first, or write its module before the id, as in "
            f"'minigrid:{match['id']}'",
            f"the shipped plugins are {', '.join(native.shipped())}",
        ]
        raise UsageError(f"plugin {text!r}: {_one_line(str(error))}", hints) from None


def _imported(module: str, name: str | None = None) -> Any:
    try:
        found: Any = importlib.import_module(module)
        for part in name.split(".") if name else ():
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"plugin '{module}{':' + name if name else ''}': {error}") from error
    return found


# ── Classes and specs ───────────────────────────────────────────────────────────────────────────────────────────────


def _of_class(made_by: Any) -> _Env:
    """An env by its class, or by another callable of a module."""
    module, qualname = getattr(made_by, "__module__", None), getattr(made_by, "__qualname__", None)
    if isinstance(made_by, gymnasium.Env) or module is None or qualname is None:
        what = type(made_by).__name__
        hints = [
            "a wrapper is made where its env is: write a function of a module, def make(): return "
            f"{what}({type(made_by.unwrapped).__name__}()), and pass it"
            if isinstance(made_by, gymnasium.Wrapper)
            else f"an env is made in its own process: pass the class, as in make_vec({what}, 8), and its arguments as config="
            if isinstance(made_by, gymnasium.Env)
            else "pass a class or function of an importable module, as in make_vec(MyEnv, 8, config={'size': 9})"
        ]
        raise UsageError(f"plugin: an object of {what} cannot be bundled", hints)
    _check_is_named(made_by, module, qualname)
    return _Env(shown=f"{module}:{qualname}", name=_hyphened(qualname), entry=f"{module}:{qualname}")


def _check_is_named(made_by: Callable[..., Any], module: str, qualname: str) -> None:
    """Refuses what cannot be found by module and name in another process."""
    if "<lambda>" in qualname:
        raise UsageError(
            "plugin: a lambda cannot be bundled: what it does cannot be found by a name in another process",
            [
                "pass the class, and what the lambda gives it as config: in place of lambda: MyEnv(size=9) write "
                "MyEnv and config={'size': 9}; in place of lambda: gymnasium.make('CartPole-v1') write 'CartPole-v1'",
                "for wrappers, write a function of a module, def make(size: int = 9): return Wrapper(MyEnv(size)), and pass it",
            ],
        )
    if "<locals>" in qualname:
        inner = qualname.rpartition(".")[2]
        raise UsageError(
            f"plugin: {qualname} is inside a function, and cannot be found by a name in another process",
            [
                f"move {inner} to the top of its module and pass it; what it takes from the function around it becomes an "
                "argument, given by config="
            ],
        )
    if module == "__main__":
        file = "my_env.py"
        where = "a notebook or an interactive session" if _is_interactive() else "the script that is running (__main__)"
        raise UsageError(
            f"plugin: {qualname} is of {where}; it can be bundled only from a module of its own",
            [f"put {qualname} and what it uses into {file} beside it, and write: from my_env import {qualname}"],
        )
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if found is not made_by:
        raise UsageError(
            f"plugin: {module}:{qualname} is not what was passed, but {found!r:.80}",
            ["pass a class or function under the name by which its module has it"],
        )


def _is_interactive() -> bool:
    return not hasattr(sys.modules.get("__main__"), "__file__")


def _of_spec(spec: EnvSpec) -> _Env:
    """An env by its spec: its limit, arguments and wrappers come along."""
    made_by = spec.entry_point
    if made_by is None:
        raise UsageError(f"plugin {spec.id!r}: it has no entry point for one env, only for many")
    if isinstance(made_by, str):
        entry = made_by
        if not _CLASS.match(entry):
            raise UsageError(f"plugin {spec.id!r}: its entry point {entry!r} is no module:name")
    else:
        entry = _of_class(made_by).entry
    kwargs = {name: value for name, value in spec.kwargs.items() if name != "render_mode"}
    wrappers = []
    for wrapper in spec.additional_wrappers:
        if wrapper.kwargs is None:
            raise UsageError(
                f"plugin {spec.id!r}: its wrapper {wrapper.name} did not record its arguments, and cannot be made again",
                ["derive it from gymnasium.utils.RecordConstructorArgs too"],
            )
        wrappers.append(
            {
                "name": wrapper.name,
                "entry_point": wrapper.entry_point,
                "kwargs": _json(wrapper.kwargs, f"plugin {spec.id!r}: its wrapper {wrapper.name}"),
            }
        )
    return _Env(
        shown=spec.id,
        name=_hyphened(spec.id.rpartition("/")[2]),
        entry=entry,
        kwargs=_json(kwargs, f"plugin {spec.id!r}: its arguments"),
        wrappers=wrappers,
        max_episode_steps=spec.max_episode_steps,
        reward_threshold=spec.reward_threshold,
    )


def _json(value: dict[str, Any], what: str) -> Any:
    try:
        return json.loads(arguments.to_json(value))
    except UsageError as error:
        raise UsageError(
            f"{what}: {error}",
            ["write a function of a module that makes the env with them, and pass that function"],
        ) from None


def _hyphened(name: str) -> str:
    """A class's name as a plugin's: ``MyEnv`` is ``my-env``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name.rpartition(".")[2])
    words = re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-").lower()
    return words[:64].strip("-") or "env"


# ── Files and distributions ─────────────────────────────────────────────────────────────────────────────────────────


def _bundled(env: _Env) -> native.Plugin:
    code = Code(_site_folders())
    for module in env.modules:
        code.add(module)
    own = code.root_of(env.entry.partition(":")[0])
    project = None if own is None else _project_of(own)
    # The project's own packages are found by its file.
    roots = {root: names for root, names in code.roots.items() if project is None or root != own}
    sources = {
        "name": env.name,
        "shown": env.shown,
        "version": _version(code, project),
        "env": env.entry,
        "kwargs": json.dumps(env.kwargs),
        "wrappers": json.dumps(env.wrappers),
        "max_episode_steps": env.max_episode_steps,
        "reward_threshold": env.reward_threshold,
        "project": None if project is None else str(project),
        "code": [(str(root), sorted(names)) for root, names in sorted(roots.items())],
        "requirements": sorted(code.distributions),
    }
    return native.bundle(sources, options(), _installed)


def options() -> dict[str, Any]:
    """Where the host's bundler finds what it needs."""
    cache = arguments.cache_folder()
    return {
        "base": _base(),
        "cache": None if cache is None else str(cache),
        "python": sys.executable or None,
        "program": str(_program.path()),
    }


def _base() -> str | None:
    """The base plugin that an environment variable names, or that is installed as a package."""
    named = os.environ.get("ROLLCAGE_PYTHON_BASE")
    if named:
        return named
    spec = importlib.util.find_spec("rollcage_python_base")
    for folder in spec.submodule_search_locations or () if spec else ():
        file = Path(folder, "python-base.wasm")
        if file.is_file():
            return str(file)
    return None


def _project_of(root: Path) -> Path | None:
    """The folder whose ``pyproject.toml`` describes the project of which the modules lie in `root`."""
    for folder in (root, root.parent) if root.name == "src" else (root,):
        try:
            text = (folder / "pyproject.toml").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if _PROJECT.search(text):
            return folder
    return None


def _version(code: Code, project: Path | None) -> str:
    """The version of an installed env; that of a project is in its file."""
    for name in sorted(code.distributions) if not code.roots and project is None else ():
        return metadata.version(name)
    return "0"


def _site_folders() -> list[Path]:
    """The folders in which distributions are installed."""
    paths = sysconfig.get_paths()
    folders = {paths["purelib"], paths["platlib"]}
    folders.update(entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages"))
    return [Path(folder).resolve() for folder in sorted(folders)]


def _installed(name: str) -> dict[str, Any] | None:
    """An installed distribution, for the host; None if there is none of that name."""
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    root = Path(str(found.locate_file("")))
    files = [str(file) for file in found.files or ()]
    if not any(file.endswith(".py") or ".so" in file for file in files):
        # Installed as a link to its sources.
        root, more = _of_sources(name, found)
        files = [file for file in files if ".dist-info/" in file and root == Path(str(found.locate_file("")))] + more
    return {"version": found.version, "requires": list(found.requires or ()), "root": str(root), "files": files}


def _of_sources(name: str, found: metadata.Distribution) -> tuple[Path, list[str]]:
    tops = (found.read_text("top_level.txt") or name.replace("-", "_")).split()
    root, files = Path(str(found.locate_file(""))), []
    for top in tops:
        spec = importlib.util.find_spec(top)
        if spec is None or spec.origin is None:
            continue
        origin = Path(spec.origin)
        if spec.submodule_search_locations:
            root = origin.parent.parent
            files += [str(path.relative_to(root)) for path in _python_files(origin.parent)]
        else:
            root = origin.parent
            files.append(origin.name)
    return root, files


def _python_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.py")):
        if not path.is_symlink() and "__pycache__" not in path.parts:
            yield path


def _one_line(text: str) -> str:
    return " ".join(text.split())


def one_for_all(given: Sequence[Any]) -> Any:
    """The class of a list such as ``[MyEnv] * 8``.

    Raises
    ------
    UsageError
        The list is empty, or its entries differ.

    """
    if not given:
        raise UsageError("plugin: an empty list of classes", ["write [MyEnv] * 8"])
    if any(one is not given[0] and one != given[0] for one in given):
        if all(inspect.isfunction(one) for one in given):
            # Each is refused with the cure for functions.
            opened(given[0])
        raise UsageError(
            "plugin: a list of different envs; the envs of one call have one class",
            ["for different arguments write config=, with one config for each or a function of the env's index"],
        )
    return given[0]
