"""The env that rollcage began with, in Python: a robot against a soccer simulator behind a socket, eight of them at once."""

from __future__ import annotations

import importlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from on_base import base, needs_base

import rollcage
from rollcage import _program

FOLDER = Path(__file__).resolve().parents[1] / "examples/short_kick"
#: What the grants file of the example starts for each env.
SIMULATOR = "toy_soccer.py"


@pytest.fixture(autouse=True)
def on_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLCAGE_PYTHON_BASE", str(base()))


@pytest.fixture
def params() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / "param.yaml").read_text())
    return loaded


@pytest.fixture
def grants(tmp_path: Path) -> str:
    """The example's grants, with ports that are the test's own."""
    text = (FOLDER / "grants.toml").read_text()
    assert "47800-47899" in text and 'workdir = "."' in text
    text = text.replace("47800-47899", "47900-47999").replace('workdir = "."', f'workdir = "{FOLDER}"')
    (tmp_path / "grants.toml").write_text(text)
    return str(tmp_path / "grants.toml")


@pytest.fixture
def simulator() -> Iterator[int]:
    """A simulator that somebody else has started."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen([sys.executable, FOLDER / SIMULATOR, "--port", str(port)]) as process:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield port
        process.kill()


def simulators() -> set[int]:
    """The ports of the simulators that run, of this test's range."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if SIMULATOR in words and 47900 <= int(words[words.index("--port") + 1]) < 48000:
            found.add(int(words[words.index("--port") + 1]))
    return found


def kicks(envs: int, step: int) -> np.ndarray[Any, Any]:
    """The hip goes back and then forwards with the knee, each env a little slower than the one before."""
    action = np.zeros((envs, 6), np.float32)
    action[:, 2] = (-1.5 if step < 8 else 6) * (1 - np.arange(envs) / 20)
    return action


@needs_base
def test_eight_robots_have_eight_simulators(params: dict[str, Any], grants: str) -> None:
    with rollcage.make_vec(str(FOLDER), 8, seed=1, config=params, grants=grants) as envs:
        assert envs.started_by == "fork", "connections are not copied"
        ports = {config["server_port"] for config in envs.configs}
        assert len(ports) == 8 and simulators() == ports
        observations, infos = envs.reset()
        assert infos["play_mode"].tolist() == ["BeforeKickOff"] * 8
        # Each sees the ball 0.2 m before its feet.
        np.testing.assert_allclose(observations[:, 6], [np.hypot(np.hypot(0.2, 0.05), 0.498)] * 8, atol=1e-3)
        ended = np.zeros(8, bool)
        moved = np.zeros(8)
        for step in range(40):
            _, rewards, terminations, _, infos = envs.step(kicks(8, step))
            moved = np.where(ended, moved, moved + rewards)
            ended |= terminations
        assert not envs.faults
        assert ended.all(), "every ball was kicked"
        assert (moved > 0.5).all() and len(set(moved)) == 8, "each by the robot of its own game"
    assert simulators() == set()


@needs_base
def test_the_program_runs_it_from_a_file_of_parameters(grants: str) -> None:
    command = [_program.path(), "run", FOLDER, "--envs", 2, "--steps", 60, "--seed", 1, "--grants", grants]
    command += ["--config-file", FOLDER / "param.yaml"]
    ran = subprocess.run([*map(str, command)], capture_output=True, text=True, env=dict(os.environ), check=False)
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"steps +60\n", ran.stdout) and re.search(r"faults +none\n", ran.stdout), ran.stdout
    assert simulators() == set()


@needs_base
def test_caged_it_does_what_it_does_natively(
    params: dict[str, Any], simulator: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    importlib.invalidate_caches()
    short_kick = importlib.import_module("short_kick")
    config = {**params, "server_port": simulator}

    def played(env: Any) -> list[Any]:
        seen = [np.asarray(env.reset(seed=3)[0]).reshape(-1)]
        for step in range(20):
            observation, reward, terminated, truncated, _ = env.step(kicks(1, step).reshape(env.action_space.shape))
            ends = bool(np.all(terminated)), bool(np.all(truncated))
            seen.append([np.asarray(observation).reshape(-1), np.asarray(reward).item(), *ends])
            if any(ends):
                break
        env.close()
        return seen

    native = played(short_kick.ShortKick(**config))
    caged = played(
        rollcage.make_vec(short_kick.ShortKick, 1, config=config, grants=[f"tcp-connect=127.0.0.1:{simulator}"])
    )
    assert len(native) == len(caged) and len(native) > 5
    np.testing.assert_array_equal(native[0], caged[0])
    for one, other in zip(native[1:], caged[1:], strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        # A sine of the C library may differ in the last bit.
        assert one[1] == pytest.approx(other[1], abs=1e-12) and one[2:] == other[2:]


@needs_base
def test_what_stands_in_the_way_is_told(params: dict[str, Any], simulator: int) -> None:
    config = {**params, "server_port": simulator}
    other = simulator + 1 if simulator < 65535 else simulator - 1
    with (
        pytest.raises(rollcage.FaultError, match="PermissionError") as raised,
        rollcage.make_vec(str(FOLDER), 1, config=config, grants=[f"tcp-connect=127.0.0.1:{other}"]) as envs,
    ):
        envs.reset()
    assert "short_kick.py, line" in str(raised.value)
    with pytest.raises(rollcage.UsageError, match="server_port"):
        rollcage.make_vec(str(FOLDER), 1, grants=[f"tcp-connect=127.0.0.1:{simulator}"])
    with pytest.raises(rollcage.UsageError, match="leg"):
        rollcage.make_vec(
            str(FOLDER), 1, config={**config, "leg": "middle"}, grants=[f"tcp-connect=127.0.0.1:{simulator}"]
        )
    with pytest.raises(rollcage.UsageError, match="TCP connection"):
        rollcage.make_vec(str(FOLDER), 1, config=config)


@needs_base
def test_a_simulator_that_ends_is_a_fault_and_a_new_one_comes(params: dict[str, Any], grants: str) -> None:
    with rollcage.make_vec(str(FOLDER), 2, seed=1, config=params, grants=grants) as envs:
        envs.reset()
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if SIMULATOR in words and str(envs.configs[1]["server_port"]) in words:
                os.kill(int(entry.name), 9)
        still = np.zeros((2, 6), np.float32)
        *_, truncated, infos = envs.step(still)
        assert truncated.tolist() == [False, True]
        assert "the simulator has closed the connection (short_kick.py, line" in infos["fault_message"][1]
        for _ in range(5):
            assert not envs.step(still)[3].any()
        assert len(simulators()) == 2
    assert simulators() == set()


def trained(steps: int) -> float:
    """The mean return of the last episodes, by the example's own script."""
    pytest.importorskip("stable_baselines3")
    pytest.importorskip("yaml")
    command = [sys.executable, "-W", "ignore", FOLDER / "train.py", str(steps)]
    ran = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    ports, learned, faults = ran.stdout.splitlines()
    assert len(set(ports.split()[1:])) == 8
    said = re.fullmatch(r"(\d+) steps; mean return of the last \d+ episodes: (-?\d+\.\d+)", learned)
    assert said is not None and int(said[1]) >= steps, learned
    assert faults == "faults 0"
    return float(said[2])


@needs_base
def test_ppo_takes_some_hundred_steps_over_eight_robots() -> None:
    assert trained(1024) >= -1


@needs_base
@pytest.mark.long
def test_ppo_learns_to_kick() -> None:
    """Random kicks return less than nothing, since the robot falls; the ball goes half a metre at the end of an episode."""
    assert trained(30_000) > 0.4
