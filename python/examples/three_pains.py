"""The three pains of `SubprocVecEnv` from which rollcage began, each beside what happens here.

    python python/examples/three_pains.py

Needs stable-baselines3 for the one side. Its workers are spawned; under fork the first would hang in the constructor.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from soccer import ReadsConf, Soccer, conf


class CountsPorts(Soccer):
    """Counts in a class variable, of which every process has its own."""

    next_port = 47710

    def __init__(self) -> None:
        self.port = CountsPorts.next_port
        CountsPorts.next_port += 1
        self.server = socket.create_server(("127.0.0.1", self.port))


class HoldsASocket(Soccer):
    """Is given to another process, socket and all."""

    def __init__(self) -> None:
        self.socket = socket.socket()


def theirs(factories: list[Any]) -> str:
    """What `SubprocVecEnv` makes of it: the exception that comes, or what the worker printed before it was gone."""
    from stable_baselines3.common.vec_env import SubprocVecEnv

    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as printed:
        os.dup2(printed.fileno(), 2)
        try:
            SubprocVecEnv(factories, start_method="spawn").close()
            raised = "works"
        except Exception as error:
            raised = f"{type(error).__name__}: {error}"
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        printed.seek(0)
        lines = [
            line for line in printed.read().decode(errors="replace").splitlines() if "Error" in line and line[0] != " "
        ]
    return f"{raised}; a worker said: {lines[0]}" if lines else raised


def ports() -> str:
    """Each env gets a port that nobody else on the machine has."""
    import rollcage

    envs = rollcage.make_vec("mirror", 2, grants=["lease=agent:47710-47799"], config={"port": {"lease": "agent"}})
    taken = [config["port"] for config in envs.configs]
    envs.close()
    return f"the envs have the ports {taken[0]} and {taken[1]}"


def connections() -> str:
    """An env is a file and a config; what it connects to is granted, and opened by the host."""
    import rollcage

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        envs = rollcage.make_vec("mirror", 2, grants=[f"tcp-connect=127.0.0.1:{port}"], config={"port": port})
        envs.reset()
        envs.close()
    return f"two envs run, and may connect to 127.0.0.1:{port} and to nothing else"


def settings() -> str:
    """The config is one value, given to every env."""
    import rollcage

    envs = rollcage.make_vec("mirror", 2, config={"note": conf.server_ip})
    envs.reset()
    seen = [answer["config"]["note"] for answer in envs.call("see")]
    envs.close()
    return f"the envs see {seen[0]!r} and {seen[1]!r}"


def main() -> None:
    """Prints the three, theirs and ours."""
    conf.setup("10.0.0.7")
    pains: list[tuple[str, list[Any], Callable[[], str]]] = [
        ("a class variable counts the ports", [CountsPorts, CountsPorts], ports),
        ("envs that hold sockets", [HoldsASocket(), HoldsASocket()], connections),
        ("a setting of the main program", [ReadsConf, ReadsConf], settings),
    ]
    for number, (pain, factories, ours) in enumerate(pains, 1):
        print(f"{number}. {pain}")
        print(f"   SubprocVecEnv  {theirs(factories)}")
        print(f"   rollcage       {ours()}", flush=True)


if __name__ == "__main__":
    main()
