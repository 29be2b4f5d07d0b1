"""Envs in Python as plugins: classes, folders, ids, specs, lists and names, and what is refused.

The first half looks at what is bundled, over a stand-in of the base (the component of another guest, which says that it
is a base), so that it needs no CPython in WebAssembly. The second half plays on the real base, and is skipped where
none is built.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import TARGET, twin
from gymnasium.envs.registration import WrapperSpec
from on_base import base, needs_base

import rollcage
from rollcage import _rollcage as native
from rollcage import _sources as sources

FACTS = {"version": "0.1.0", "python": "3.14.0", "distributions": {"gymnasium": "1.4.0", "numpy": "2.4.6"}}


def with_assets(component: bytes, files: dict[str, bytes]) -> bytes:
    """A component with an assets section, as `docs/assets.md` has it."""
    index = b"".join(
        len(path.encode()).to_bytes(2, "little") + path.encode() + len(content).to_bytes(8, "little")
        for path, content in sorted(files.items())
    )
    name = b"rollcage:assets"
    body = bytes([len(name)]) + name + b"".join(content for _, content in sorted(files.items())) + index
    body += len(index).to_bytes(4, "little")
    rest, size = len(body) + 16, b""
    while True:
        size += bytes([rest & 0x7F | (0x80 if rest > 0x7F else 0)])
        rest >>= 7
        if not rest:
            break
    whole = 1 + len(size) + len(body) + 16
    return component + b"\0" + size + body + whole.to_bytes(8, "little") + b"rcassets"


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base that is another guest."""
    base = tmp_path / "python-base.wasm"
    base.write_bytes(with_assets(twin("custom_box").read_bytes(), {"base.json": json.dumps(FACTS).encode()}))
    monkeypatch.setenv("ROLLCAGE_PYTHON_BASE", str(base))
    return base


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with modules, on Python's path."""
    folder = tmp_path / "project"
    (folder / "deep").mkdir(parents=True)
    for name, text in {
        "grid_env.py": """
            from __future__ import annotations
            import json, typing
            import gymnasium
            from deep.maze import Maze
            if typing.TYPE_CHECKING:
                import torch
            class GridEnv(gymnasium.Env):
                def __init__(self, size: int = 5):
                    import helpers
            def make(size: int = 5):
                return GridEnv(size)
            def outer():
                class Inner(gymnasium.Env): ...
                return Inner
            renamed = make
            if __name__ == "__main__":
                import stable_baselines3
            """,
        "deep/__init__.py": "",
        "deep/maze.py": "from .parts import wall\nclass Maze: ...",
        "deep/parts.py": "wall = 1",
        "deep/train.py": "import stable_baselines3",
        "helpers.py": "import numpy",
        "unused.py": "",
    }.items():
        (folder / name).write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] in ("grid_env", "deep", "helpers")]:
        del sys.modules[name]


@pytest.fixture
def bundled(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was given to the host's bundler, call by call."""
    given: list[dict[str, Any]] = []
    whole = native.bundle

    def bundle(one: Any, options: Any, find: Any) -> native.Plugin:
        given.append(dict(one))
        return whole(one, options, find)

    monkeypatch.setattr(native, "bundle", bundle)
    return given


# ── What is bundled ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_class_comes_with_what_its_module_imports(project: Path, bundled: list[dict[str, Any]]) -> None:
    grid_env = importlib.import_module("grid_env")
    plugin = sources.opened(grid_env.GridEnv)
    assert isinstance(plugin, native.Plugin) and plugin.name == "grid_env:GridEnv"
    [one] = bundled
    assert (one["env"], one["name"], one["project"]) == ("grid_env:GridEnv", "grid-env", None)
    # Siblings that it reaches, inside of functions too; not what a type checker, a script or a trainer imports.
    assert one["code"] == [(str(project), ["deep", "grid_env", "helpers"])]
    assert one["requirements"] == ["gymnasium", "numpy"]
    sources.opened(grid_env.make)
    assert bundled[1]["env"] == "grid_env:make"
    assert sources.opened("grid_env:GridEnv").sha256 == plugin.sha256
    # Another file is another plugin.
    (project / "helpers.py").write_text("import numpy\nchanged = 1")
    assert sources.opened(grid_env.GridEnv).sha256 != plugin.sha256


def test_a_project_beside_the_class_counts(project: Path, bundled: list[dict[str, Any]]) -> None:
    (project / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    grid_env = importlib.import_module("grid_env")
    sources.opened(grid_env.GridEnv)
    assert bundled[0]["project"] is None, "a file that describes no project"
    (project / "pyproject.toml").write_text("[project]\nname = 'grid'\nversion = '1.0'\ndependencies = ['numpy<2']\n")
    with pytest.raises(rollcage.UsageError, match=r"pyproject.toml`: .*asks for numpy <2; the base has numpy 2\.4\.6"):
        sources.opened(grid_env.GridEnv)
    (project / "pyproject.toml").write_text("[project]\nname = 'grid'\n[tool.rollcage]\nasset = ['x']\n")
    with pytest.raises(rollcage.UsageError, match=r"`tool\.rollcage\.asset` is no key"):
        sources.opened(grid_env.GridEnv)
    (project / "pyproject.toml").write_text("[project]\nname = 'grid'\n[tool.rollcage]\nassets = ['*.txt']\n")
    (project / "level.txt").write_text("#####")
    sources.opened(grid_env.GridEnv)
    assert (bundled[-1]["project"], bundled[-1]["code"]) == (str(project), [])


def test_an_id_comes_with_limit_arguments_and_wrappers(bundled: list[dict[str, Any]]) -> None:
    sources.opened("FrozenLake8x8-v1")
    [one] = bundled
    assert (one["shown"], one["env"]) == ("FrozenLake8x8-v1", "gymnasium.envs.toy_text.frozen_lake:FrozenLakeEnv")
    assert (one["max_episode_steps"], one["reward_threshold"], one["code"]) == (200, 0.85, [])
    assert (json.loads(one["kwargs"]), one["requirements"]) == ({"map_name": "8x8"}, ["gymnasium"])
    spec = copy.deepcopy(gymnasium.spec("CartPole-v1"))
    spec.max_episode_steps = 40
    spec.kwargs = {"sutton_barto_reward": np.bool_(True), "render_mode": "rgb_array"}
    spec.additional_wrappers = (
        WrapperSpec("FlattenObservation", "gymnasium.wrappers:FlattenObservation", {}),
        WrapperSpec("TransformReward", "gymnasium.wrappers:TransformReward", None),
    )
    with pytest.raises(rollcage.UsageError, match="its wrapper TransformReward did not record its arguments"):
        sources.opened(spec)
    spec.additional_wrappers = spec.additional_wrappers[:1]
    sources.opened(spec)
    one = bundled[-1]
    assert (one["max_episode_steps"], json.loads(one["kwargs"])) == (40, {"sutton_barto_reward": True})
    assert json.loads(one["wrappers"])[0]["entry_point"] == "gymnasium.wrappers:FlattenObservation"
    spec.kwargs = {"policy": object()}
    with pytest.raises(rollcage.UsageError, match="its arguments: not JSON"):
        sources.opened(spec)


def test_shipped_names_come_first_and_ids_that_are_not_known_are_said(stand_in: Path) -> None:
    assert sources.opened("cartpole") == "cartpole"
    assert sources.opened("rollcage/CartPole-v1") == "cartpole"
    with pytest.raises(rollcage.UsageError, match="stands for a plugin and a config") as raised:
        sources.opened("rollcage/FrozenLake8x8-v1")
    assert "config={'map_name': '8x8'}" in raised.value.hints[0]
    with pytest.raises(rollcage.UsageError, match="CartPoleX-v1") as raised:
        rollcage.make_vec("CartPoleX-v1")
    assert any("import the package that registers" in hint for hint in raised.value.hints)
    with pytest.raises(rollcage.UsageError, match="nowhere_at_all"):
        rollcage.make_vec("nowhere_at_all:Env-v0")
    with pytest.raises(rollcage.UsageError, match="module 'grid_none'|No module named 'grid_none'"):
        rollcage.make_vec("grid_none:GridEnv")


def test_what_cannot_be_found_by_name_is_refused_with_the_cure(project: Path, stand_in: Path) -> None:
    grid_env = importlib.import_module("grid_env")
    own = type("Own", (gymnasium.Env,), {"__module__": "__main__"})
    refused: list[tuple[Any, str, str]] = [
        (lambda: grid_env.GridEnv(9), "a lambda cannot be bundled", "config={'size': 9}"),
        (grid_env.outer(), r"outer\.<locals>\.Inner is inside a function", "move Inner to the top of its module"),
        (own, r"Own is of .*; it can be bundled only from a module of its own", "from my_env import Own"),
        (grid_env.GridEnv(), "an object of GridEnv cannot be bundled", r"make_vec(GridEnv, 8)"),
        (
            gymnasium.wrappers.TimeLimit(grid_env.GridEnv(), 9),
            "an object of TimeLimit cannot be bundled",
            "write a function of a module, def make(): return TimeLimit(GridEnv()), and pass it",
        ),
    ]
    for given, said, cure in refused:
        with pytest.raises(rollcage.UsageError, match=said) as raised:
            rollcage.make_vec(given, 2)
        assert any(cure in hint for hint in raised.value.hints), raised.value.hints
    grid_env.GridEnv.__qualname__ = "Elsewhere"
    with pytest.raises(rollcage.UsageError, match="is not what was passed"):
        sources.opened(grid_env.GridEnv)


def test_a_class_of_the_running_script_is_refused_with_the_file_to_make(stand_in: Path) -> None:
    script = """
        import gymnasium, rollcage
        class MyEnv(gymnasium.Env): ...
        try:
            rollcage.make_vec(MyEnv, 2)
        except rollcage.UsageError as error:
            print(error, *error.hints)
        """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert "MyEnv is of a notebook or an interactive session" in ran.stdout
    assert "put MyEnv and what it uses into my_env.py beside it, and write: from my_env import MyEnv" in ran.stdout


def test_without_a_base_the_error_says_how_to_get_one(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid_env = importlib.import_module("grid_env")
    monkeypatch.setenv("ROLLCAGE_PYTHON_BASE", str(tmp_path / "nowhere.wasm"))
    with pytest.raises(rollcage.UsageError, match="python base `.*nowhere.wasm`: No such file"):
        rollcage.make_vec(grid_env.GridEnv)
    monkeypatch.delenv("ROLLCAGE_PYTHON_BASE")
    monkeypatch.setenv("ROLLCAGE_CACHE", str(tmp_path / "empty"))
    if sources._base() is None and not (TARGET / "python-base/python-base.wasm").exists():
        with pytest.raises(rollcage.UsageError, match="runs on a base plugin") as raised:
            rollcage.make_vec(grid_env.GridEnv)
        assert any("cargo xtask python-base" in hint for hint in raised.value.hints)


def test_a_list_of_one_class_is_many_envs(project: Path, stand_in: Path) -> None:
    from rollcage.sb3 import VecEnv, make_vec_env

    grid_env = importlib.import_module("grid_env")
    envs = VecEnv([grid_env.GridEnv] * 3)
    assert (envs.num_envs, envs.vector_env.sha256) == (3, sources.opened(grid_env.GridEnv).sha256)
    envs.close()
    make_vec_env(grid_env.GridEnv, 2).close()
    with pytest.raises(rollcage.UsageError, match="n_envs: 4; the list has 3 entries"):
        VecEnv([grid_env.GridEnv] * 3, 4)
    with pytest.raises(rollcage.UsageError, match="a list of different envs"):
        VecEnv([grid_env.GridEnv, grid_env.make])


def test_a_folder_is_a_plugin_and_has_a_name(
    project: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (project / "pyproject.toml").write_text("[project]\nname = 'grid'\n[tool.rollcage]\nenv = 'grid_env:GridEnv'\n")
    monkeypatch.chdir(project.parent)
    envs = rollcage.make_vec("./project", 2)
    whole = envs.sha256
    envs.close()
    rollcage.register("test_python_envs/Grid-v0", "./project")
    try:
        monkeypatch.chdir(tmp_path / "project")
        env = gymnasium.make("test_python_envs/Grid-v0")
        assert env.unwrapped.envs.sha256 == whole
        env.close()
        many = gymnasium.make_vec("test_python_envs/Grid-v0", 2)
        assert many.unwrapped.sha256 == whole
        many.close()
    finally:
        del gymnasium.registry["test_python_envs/Grid-v0"]
    with pytest.raises(TypeError, match="an id and a plugin are expected"):
        rollcage.register("test_python_envs/Grid-v0")


@pytest.mark.parametrize("manifest", ["Cargo.toml", "package.json", "rollcage.toml"])
def test_a_folder_in_another_language_is_what_was_built_in_it(
    manifest: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "walk"
    (folder / "dist").mkdir(parents=True)
    (folder / manifest).touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(rollcage.UsageError, match="plugin `walk`: the folder is not built") as refused:
        rollcage.make_vec("walk", 2)
    assert "`rollcage build walk` builds it" in str(refused.value)
    (folder / "dist/walk.wasm").write_bytes(twin("custom_box").read_bytes())
    for given in ("walk", "./walk", folder):
        envs = rollcage.make_vec(given, 2)
        assert envs.sha256 == hashlib.sha256(twin("custom_box").read_bytes()).hexdigest()
        envs.reset(seed=3)
        envs.close()


# ── On the real base ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLCAGE_PYTHON_BASE", str(base()))


def played(envs: Any, steps: int) -> list[Any]:
    """What envs answer to a fixed choice of actions."""
    observations, _ = envs.reset()
    answers = [np.asarray(observations)]
    for step in range(steps):
        actions = np.array([(step + env) % 2 for env in range(envs.num_envs)])
        observations, rewards, terminations, truncations, _ = envs.step(actions)
        answers += [np.asarray(observations), rewards, terminations, truncations]
    envs.close()
    return answers


@needs_base
@pytest.mark.usefixtures("real")
def test_an_id_plays_as_gymnasiums_own() -> None:
    caged = played(rollcage.make_vec("CartPole-v1", 3, seed=5), 100)
    fns = [lambda: gymnasium.make("CartPole-v1")] * 3
    plain = gymnasium.vector.SyncVectorEnv(fns)
    plain.reset(seed=5)
    reset = plain.reset
    plain.reset = lambda: reset(seed=5)  # type: ignore[method-assign, assignment]
    for one, other in zip(caged, played(plain, 100), strict=True):
        np.testing.assert_array_equal(one, other)


@needs_base
@pytest.mark.usefixtures("real")
def test_a_class_with_siblings_and_assets_plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "walk"
    folder.mkdir()
    (folder / "walk_env.py").write_text(
        textwrap.dedent(
            """
            import pathlib
            import gymnasium
            import numpy as np
            from walk_parts import STEP

            class WalkEnv(gymnasium.Env):
                '''A walk.'''

                def __init__(self, size: int = 5):
                    self.size = size
                    self.level = (pathlib.Path(__file__).parent / "level.txt").read_text()
                    self.observation_space = gymnasium.spaces.Box(0, 100, (2,), np.float32)
                    self.action_space = gymnasium.spaces.Discrete(2)

                def reset(self, *, seed=None, options=None):
                    super().reset(seed=seed)
                    self.at = 0
                    return np.array([self.at, len(self.level)], np.float32), {}

                def step(self, action):
                    self.at += STEP * int(action)
                    return np.array([self.at, self.size], np.float32), float(self.at), self.at >= self.size, False, {}
            """
        )
    )
    (folder / "walk_parts.py").write_text("STEP = 2\n")
    (folder / "level.txt").write_text("#######")
    (folder / "pyproject.toml").write_text(
        "[project]\nname = 'walk'\nversion = '1.0'\n[tool.rollcage]\nenv = 'walk_env:WalkEnv'\nassets = ['*.txt']\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    walk_env = importlib.import_module("walk_env")
    by_folder = rollcage.make_vec(str(folder), 2, seed=1, config={"size": 4})
    by_class = rollcage.make_vec(walk_env.WalkEnv, 2, seed=1, config=lambda env: {"size": 4 + env})
    for envs, sizes in ((by_folder, [4, 4]), (by_class, [4, 5])):
        observations, _ = envs.reset()
        assert observations.tolist() == [[0, 7], [0, 7]]
        observations, rewards, terminations, _, _ = envs.step([1, 1])
        assert (observations.tolist(), rewards.tolist()) == ([[2, sizes[0]], [2, sizes[1]]], [2.0, 2.0])
        _, _, terminations, _, _ = envs.step([1, 1])
        assert terminations.tolist() == [True, sizes[1] == 4]
        envs.close()
    del sys.modules["walk_env"]
