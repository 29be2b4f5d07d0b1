"""The three pains of `SubprocVecEnv` from which rollcage began, each beside what happens here.

    python python/examples/three_pains.py

Needs stable-baselines3 for the one side. Its workers are spawned; under fork the first would hang in the constructor.
The other side is shown twice: with a shipped env, and with the Python envs of `soccer.py`, which need the base plugin.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any

from soccer import Connects, CountsPorts, HasAPort, HoldsASocket, ReadsConf, conf, set_up


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


def python_ports() -> str:
    """A Python env listens on the port that was leased for it."""
    import rollcage

    grants = ["lease=agent:47700-47709", "tcp-listen=127.0.0.1:{agent}"]
    with rollcage.make_vec(HasAPort, 2, grants=grants, config={"port": {"lease": "agent"}}) as envs:
        envs.reset()
        taken = [config["port"] for config in envs.configs]
        for port in taken:
            socket.create_connection(("127.0.0.1", port)).close()
    return f"two Python envs listen on {taken[0]} and {taken[1]}"


def python_connections() -> str:
    """A Python env makes its socket in its own process, and keeps it."""
    import rollcage

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        threading.Thread(target=echo, args=(server, 2), daemon=True).start()
        with rollcage.make_vec(Connects, 2, grants=[f"tcp-connect=127.0.0.1:{port}"], config={"port": port}) as envs:
            envs.reset()
            answers = envs.step([0, 1])[0]
    return f"two Python envs hold a socket each, and were answered {answers[0, 0]:g} and {answers[1, 0]:g}"


def echo(server: socket.socket, many: int) -> None:
    """A server whose answer to a byte is that byte and ten."""

    def answer(client: socket.socket) -> None:
        with client:
            while asked := client.recv(1):
                client.sendall(bytes([asked[0] + 10]))

    for _ in range(many):
        threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()


def python_settings() -> str:
    """What the main program said is an argument of the function that makes the env."""
    import rollcage

    with rollcage.make_vec(set_up, 2, config={"server_ip": conf.server_ip}) as envs:
        envs.reset()
        seen = envs.get_attr("address")
    return f"two Python envs see {seen[0]!r} and {seen[1]!r}"


def in_python(shown: Callable[[], str]) -> str:
    """One of the three, or why it cannot be shown here."""
    import rollcage

    try:
        return shown()
    except rollcage.UsageError as error:
        return str(error).partition("\n")[0]


def main() -> None:
    """Prints the three, theirs and ours."""
    conf.setup("10.0.0.7")
    pains: list[tuple[str, list[Any], Callable[[], str], Callable[[], str]]] = [
        ("a class variable counts the ports", [CountsPorts, CountsPorts], ports, python_ports),
        ("envs that hold sockets", [HoldsASocket(), HoldsASocket()], connections, python_connections),
        ("a setting of the main program", [ReadsConf, ReadsConf], settings, python_settings),
    ]
    for number, (pain, factories, ours, ours_in_python) in enumerate(pains, 1):
        print(f"{number}. {pain}")
        print(f"   SubprocVecEnv  {theirs(factories)}")
        print(f"   rollcage       {ours()}")
        print(f"   in Python      {in_python(ours_in_python)}", flush=True)


if __name__ == "__main__":
    main()
