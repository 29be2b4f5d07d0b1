"""What people say of envs, and what they are told where it cannot be done: hints that can be typed, errors with numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rollcage


def test_a_hint_on_grants_is_what_python_takes() -> None:
    """Not the option of the command line; and given as it says, it is not the same error again."""
    with pytest.raises(rollcage.UsageError, match="needs a TCP connection") as needs:
        rollcage.make_vec("go")
    assert needs.value.hints == ("`grants='go'` gives all that it wants: the file ships with rollcage",)
    try:
        rollcage.make_vec("go", grants="go").close()
    except rollcage.RollcageError as error:  # this machine has no GNU Go
        assert "service `gnugo`" in str(error)  # noqa: PT017
    with pytest.raises(rollcage.UsageError, match="is no port of a lease") as leased:
        rollcage.make_vec("cartpole", grants=["tcp-connect=127.0.0.1:{gtp}"])
    assert "`grants=['lease=NAME:LO-HI']`" in leased.value.hints[0]


def test_a_name_may_mean_a_private_address_if_the_grant_says_so() -> None:
    grant = "tcp-connect=simulator:3100,private"
    with rollcage.make_vec("cartpole", grants=[grant]) as envs:
        envs.reset(seed=1)
    with pytest.raises(rollcage.UsageError, match="an address says itself what it means") as address:
        rollcage.make_vec("cartpole", grants=["tcp-connect=10.0.0.1:3100,private"])
    assert address.value.hints == ("write `tcp-connect=10.0.0.1:3100`",)


def test_what_an_operator_does_not_allow_is_refused_by_file_and_line(tmp_path: Path) -> None:
    trust = tmp_path / "rollcage/trust.toml"
    trust.parent.mkdir()
    trust.write_text("# ours\ngrants = []\n\n[all-runs]\nenvs = 6\n")
    script = """
import rollcage
def refused(**keywords):
    try:
        rollcage.make_vec("cartpole", **{"num_envs": 2, "seed": 1, **keywords}).close()
    except rollcage.UsageError as error:
        return str(error).splitlines()[0]
print(refused(grants=["clock=real"]))
with rollcage.make_vec("cartpole", 4, seed=1) as envs:
    envs.reset()
    print(refused(num_envs=3))
    print(refused(num_envs=2))
    try:
        envs.branch(0, 3)
    except rollcage.UsageError as error:
        print(str(error).splitlines()[0])
    envs.branch(0, 2).close()
print(refused(num_envs=6))
"""
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=60, check=True
    )
    grant, run, fits, branch, after = told.stdout.strip().split("\n")
    assert grant.startswith(f"the grant `clock=real`: `{trust}:2` does not allow it")
    assert run.startswith("a run of 3 envs beside 4 of this user's other runs (process ") and f"`{trust}:5`" in run
    assert branch.startswith("a run of 3 envs beside 4 of")
    assert fits == after == "None"


def test_a_full_disk_has_its_errno_and_its_file(tmp_path: Path) -> None:
    """In a mount namespace of its own, where one can be had: a disk of 64 KiB."""
    mounts = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    disk = 'mount -t tmpfs -o size=64k none "$0"'
    if subprocess.run([*mounts, disk, str(tmp_path)], capture_output=True, check=False).returncode != 0:
        pytest.skip("no mount namespaces here")
    script = """
import errno, sys, rollcage
envs = rollcage.make_vec("cartpole", 2, seed=1, record=sys.argv[1] + "/first")
envs.reset()
try:
    for _ in range(100_000):
        envs.step(envs.action_space.sample())
    envs.finish_recording()
except rollcage.HostError as error:
    assert error.errno == errno.ENOSPC, error
    assert error.filename == sys.argv[1] + "/first", error
    assert error.strerror == "writing a recording: No space left on device", error
    print(error)
"""
    told = subprocess.run(
        [*mounts, disk + ' && exec "$@"', str(tmp_path), sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert told.returncode == 0 and told.stdout.startswith("[Errno 28] writing a recording"), told


def test_the_sandbox_has_levels() -> None:
    for level in (True, False, "strict", "full", "seccomp"):
        with rollcage.make_vec("cartpole", 1, require_sandbox=level) as envs:
            envs.reset(seed=1)
    with pytest.raises(rollcage.UsageError, match="`seccomp`, `full` and `strict` are possible"):
        rollcage.make_vec("cartpole", 1, require_sandbox="most")


def test_the_package_is_a_program() -> None:
    ran = subprocess.run([sys.executable, "-m", "rollcage", "list"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and "cartpole" in ran.stdout, ran
