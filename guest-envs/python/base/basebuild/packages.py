"""What the base is made from, downloaded by the registries' own clients and checked against `pins.toml`."""

from __future__ import annotations

import platform
import sys
import tarfile
from pathlib import Path
from typing import Any

from basebuild.stages import BuildError, pins, run, say, sha256, stage

# Pip asks the build backend of a source archive for metadata, and numpy's would run its whole configuration for that. This
# one answers with what is pinned, so that pip only downloads.
METADATA_ONLY = """
import os

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    name = "numpy-{version}.dist-info"
    os.mkdir(os.path.join(metadata_directory, name))
    with open(os.path.join(metadata_directory, name, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: numpy\\nVersion: {version}\\n")
    return name
"""


def requirements(pinned: dict[str, Any]) -> str:
    """Returns the lines of a requirements file, with hashes."""
    lines = []
    for name, pin in pinned.items():
        hashes = " ".join(f"--hash=sha256:{digest}" for digest in pin["sha256"])
        lines.append(f"{name}=={pin['version']} {hashes}\n")
    return "".join(lines)


def pip_options(file: Path) -> list[str | Path]:
    """Returns the options of pip that hold it to the pins."""
    return ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--requirement", file]


def tools() -> Path:
    """Returns a venv with the tools of the build."""
    wanted = requirements(pins()["tools"])

    def make(folder: Path) -> None:
        if sys.platform != "linux" or platform.machine() != "x86_64":
            raise BuildError("the base is built on x86-64 Linux: elsewhere install the wheel rollcage-python-base")
        run([sys.executable, "-m", "venv", folder / "venv"])
        file = folder / "requirements.txt"
        file.write_text(wanted)
        run([folder / "venv/bin/python", "-m", "pip", "install", "--only-binary=:all:", *pip_options(file)])

    return stage("tools", [wanted, sys.version_info[:2]], make) / "venv"


def zig() -> Path:
    """Returns the program `zig` of the tools."""
    (program,) = tools().glob("lib/python3*/site-packages/ziglang/zig")
    return program


def zig_environment(cache: Path) -> dict[str, str]:
    """Returns the variables that keep zig's cache in a folder."""
    return {"ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)}


def pure_packages(kind: str = "packages") -> Path:
    """Returns a folder with the pure Python packages that the base holds; or with the `tests`' packages."""
    wanted = requirements(pins()[kind])

    def make(folder: Path) -> None:
        file = folder.parent / f"{kind}.requirements.txt"
        file.write_text(wanted)
        command: list[str | Path] = [tools() / "bin/python", "-m", "pip", "install", "--only-binary=:all:"]
        run([*command, "--no-compile", "--target", folder, *pip_options(file)])
        file.unlink()

    return stage(kind, [wanted], make)


def numpy_source() -> Path:
    """Returns the folder of numpy's unpacked source."""
    pin = pins()["numpy"]
    wanted = requirements({"numpy": pin})

    def make(folder: Path) -> None:
        file = folder / "requirements.txt"
        file.write_text(wanted)
        backend = folder / "backend"
        backend.mkdir()
        (backend / "mesonpy.py").write_text(METADATA_ONLY.format(version=pin["version"]))
        command: list[str | Path] = [tools() / "bin/python", "-m", "pip", "download", "--no-build-isolation"]
        options: list[str | Path] = ["--no-binary=:all:", "--dest", folder, *pip_options(file)]
        run([*command, *options], env={"PYTHONPATH": str(backend)})
        (archive,) = folder.glob("numpy-*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        archive.unlink()

    return stage("numpy-source", [wanted], make) / f"numpy-{pin['version']}"


def headers() -> Path:
    """Returns the folder of CPython's headers, unpacked from Debian's package; nothing is installed."""
    pin = pins()["headers"]

    def make(folder: Path) -> None:
        apt = folder / "apt"
        for name in ("lists/partial", "archives/partial", "state"):
            (apt / name).mkdir(parents=True)
        (apt / "status").touch()
        keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
        if not keyring.exists():
            raise BuildError(
                f"CPython's headers are Debian's, and {keyring} is not there: install debian-archive-keyring"
            )
        (apt / "sources.list").write_text(
            f"deb [signed-by={keyring}] http://deb.debian.org/debian {pin['suite']} main\n"
        )
        own = [
            f"Dir::Etc::sourcelist={apt}/sources.list",
            "Dir::Etc::sourceparts=/dev/null",
            f"Dir::State={apt}/state",
            f"Dir::State::lists={apt}/lists",
            f"Dir::State::status={apt}/status",
            f"Dir::Cache={apt}",
            # A mirror that stands still is older than its signature is valid.
            "Acquire::Check-Valid-Until=false",
            "Acquire::Languages=none",
            "APT::Sandbox::User=root",
        ]
        options = [word for setting in own for word in ("-o", setting)]
        run(["apt-get", *options, "update"])
        run(["apt-get", *options, "download", f"{pin['package']}:amd64"], cwd=folder)
        (package,) = folder.glob("*.deb")
        found = sha256(package)
        if found != pin["sha256"]:
            say(
                f"note: {package.name} is there and not {pin['version']}, so the base will differ in its bytes ({found})"
            )
        run(["dpkg", "-x", package, folder / "unpacked"])
        run(["rm", "-r", package, apt])

    (include,) = (stage("headers", [pin], make) / "unpacked/usr/include").glob("python3.*")
    return include
