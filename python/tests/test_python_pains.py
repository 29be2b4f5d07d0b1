"""The three pains of `SubprocVecEnv` with envs in Python: those of `python/examples/three_pains.py`, one test for each."""

from __future__ import annotations

import importlib
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from on_base import base, needs_base

import rollcage

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

pytestmark = needs_base


@pytest.fixture
def pains(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example as a module, and the envs that it imports."""
    monkeypatch.setenv("ROLLCAGE_PYTHON_BASE", str(base()))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    importlib.invalidate_caches()
    return importlib.import_module("three_pains")


def test_a_class_variable_that_counts_ports(pains: Any) -> None:
    # Unchanged, every env counts from the start here too: each is a process. What is not granted is not listened on.
    with pytest.raises(rollcage.FaultError, match="PermissionError") as raised:
        rollcage.make_vec(pains.CountsPorts, 2, on_fault="raise").reset()
    assert raised.value.fault.kind == "create_failed"
    assert "soccer.py, line" in str(raised.value) and "`tcp-listen=" in str(raised.value)
    # With a port by the config each has its own, and a client gets through to it.
    said = re.fullmatch(r"two Python envs listen on (\d+) and (\d+)", pains.python_ports())
    assert said is not None and said[1] != said[2]


def test_an_env_that_holds_a_socket(pains: Any) -> None:
    env = pains.HoldsASocket()
    with env.socket, pytest.raises(TypeError, match="cannot pickle 'socket' object"):
        pickle.dumps(env)
    # An object is refused with what to write; the class makes its socket where the env runs.
    with pytest.raises(rollcage.UsageError, match="an object of HoldsASocket cannot be bundled") as raised:
        rollcage.make_vec(env, 2)
    assert "make_vec(HoldsASocket, 8)" in raised.value.hints[0]
    with rollcage.make_vec(pains.HoldsASocket, 2, grants=["tcp-connect=127.0.0.1:9"]) as envs:
        envs.reset()
        assert not envs.faults
    assert pains.python_connections() == "two Python envs hold a socket each, and were answered 10 and 11"


def test_a_setting_under_main(pains: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pains.conf, "server_ip", raising=False)
    # Set in this process only, it is missing in the env, which says so.
    pains.conf.setup("10.0.0.7")
    with pytest.raises(rollcage.FaultError, match="'Conf' object has no attribute 'server_ip'") as raised:
        rollcage.make_vec(pains.ReadsConf, 2, on_fault="raise").reset()
    assert "soccer.py, line" in str(raised.value)
    # As an argument it is in every env, and in what the run says of itself.
    assert pains.python_settings() == "two Python envs see '10.0.0.7' and '10.0.0.7'"
    with rollcage.make_vec(pains.set_up, 2, config=lambda env: {"server_ip": f"10.0.0.{env}"}) as envs:
        envs.reset()
        assert envs.get_attr("address") == ("10.0.0.0", "10.0.0.1")
        assert [config["server_ip"] for config in envs.configs] == ["10.0.0.0", "10.0.0.1"]
    with pytest.raises(rollcage.UsageError, match="config `server_ip`: missing"):
        rollcage.make_vec(pains.set_up, 2)
