"""The wheel, as a user gets it: built by `pip wheel`, installed into a clean venv."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from test_learning import ROOT, snippet

#: Built by `cargo xtask python`; else it is built here.
WHEELS = os.environ.get("ROLLCAGE_WHEELS")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(WHEELS) if WHEELS else tmp_path_factory.mktemp("wheels")
    if not WHEELS:
        pip("wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT / "python"))
    (wheel,) = folder.glob("rollcage-*.whl")
    return wheel


def pip(*arguments: str, python: str | Path = sys.executable) -> None:
    done = subprocess.run(
        [str(python), "-m", "pip", "--disable-pip-version-check", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def venv(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return folder / "bin/python"


def test_one_wheel_for_every_python(wheel: Path) -> None:
    assert "-cp310-abi3-" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        mode = archive.getinfo("rollcage/_program/rollcage").external_attr >> 16
    assert "rollcage/py.typed" in names and "rollcage/_rollcage.pyi" in names and "rollcage/_rollcage.abi3.so" in names
    assert mode & 0o111, "the program can be started"
    assert not [name for name in names if "tests" in name or "guests" in name]


def test_pip_takes_it_beside_rllib_and_refuses_what_is_not_tested(wheel: Path) -> None:
    """RLlib wants Gymnasium 1.2.2; `cargo xtask pythons` tests each minor version that the wheel takes."""
    from packaging.requirements import Requirement

    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    wanted = [
        Requirement(line.partition(": ")[2]) for line in metadata.splitlines() if line.startswith("Requires-Dist")
    ]
    (gymnasium,) = (one.specifier for one in wanted if one.name == "gymnasium")
    assert list(gymnasium.filter(["1.1.1", "1.2.0", "1.2.2", "1.3.0", "1.4.0", "2.0.0"])) == [
        "1.2.0",
        "1.2.2",
        "1.3.0",
        "1.4.0",
    ]


def test_a_clean_venv(wheel: Path, tmp_path: Path) -> None:
    python = venv(tmp_path / "venv")
    pip("install", "--quiet", str(wheel), python=python)
    script = """
import rollcage, gymnasium
envs = gymnasium.make_vec("rollcage/CartPole-v1", num_envs=3, seed=7)
envs.reset()
print(envs.step([0, 1, 0])[1].sum(), rollcage.__file__)
envs.close()
"""
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    run = subprocess.run([python, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert run.returncode == 0 and run.stdout.startswith("3.0 " + str(tmp_path)), run.stderr
    listed = subprocess.run([tmp_path / "venv/bin/rollcage", "list"], capture_output=True, text=True, env=environment)
    assert listed.returncode == 0 and "cartpole" in listed.stdout, listed.stderr
    # Without stable-baselines3 its glue says so, and nothing else misses it.
    run = subprocess.run([python, "-c", "import rollcage.sb3"], capture_output=True, text=True, env=environment)
    assert "No module named 'stable_baselines3'" in run.stderr


@pytest.mark.long
def test_the_readme_as_a_user(wheel: Path, tmp_path: Path) -> None:
    """`pip install './python[sb3]'` into a clean venv, then the README's example: some gigabytes, for torch."""
    python = venv(tmp_path / "venv")
    pip("install", "--quiet", f"rollcage[sb3] @ {wheel.as_uri()}", python=python)
    text = snippet(ROOT / "python/README.md").replace("100_000", "2_000")
    run = subprocess.run([python, "-W", "ignore", "-c", text], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0 and run.stdout.startswith("mean return of 20 episodes: "), run.stderr
    shutil.rmtree(tmp_path / "venv")


def test_a_folder_without_the_workspace_says_so(tmp_path: Path) -> None:
    """What a source distribution would be: this folder alone."""
    ignored = shutil.ignore_patterns("target", "_program", "*.so", "__pycache__", "guests")
    shutil.copytree(ROOT / "python", tmp_path / "python", ignore=ignored)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(tmp_path / "python"),
    ]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode != 0 and "the rollcage workspace is not around" in run.stdout + run.stderr, (
        run.stdout + run.stderr
    )
    sdist = "import sys; sys.path.insert(0, 'backend'); import rollcage_build; rollcage_build.build_sdist('.')"
    run = subprocess.run([sys.executable, "-c", sdist], capture_output=True, text=True, cwd=ROOT / "python")
    assert run.returncode != 0 and "has no source distribution" in run.stderr
