"""Three Ray nodes on this machine, each in a network namespace of its own: digests, killed nodes, and what a step costs.

`cargo xtask clusters` runs this, as root, in a network and mount namespace that ends with it: nothing of it can be reached from
outside, and nothing stays. The head and the driver are on one address, each node on another, over a bridge.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

# For Ray's programs and for this one: no statistics to others, and no tokens in a network that nobody else is in.
os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled")

import ray  # noqa: E402
from busy_env import Busy  # noqa: E402

import rollcage  # noqa: E402
import rollcage.ray  # noqa: E402
from rollcage._host import Columns, Outcome  # noqa: E402
from rollcage._nodes import Link, Nodes  # noqa: E402

#: The head's address, and a node's by its number.
HEAD, PORT = "10.77.0.1", 6379
NODES = 3
STORE_BYTES = 200 << 20


#: What was said, for a page: what Ray prints is not in it.
SAID: list[str] = []


def say(text: str) -> None:
    print(text, flush=True)
    SAID.append(text)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class Node:
    """A raylet in a network namespace of its own."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number, self.name, self.address = number, f"node{number}", f"10.77.0.{10 + number}"
        self.cache = folder / f"cache-{number}"
        self.raylet: subprocess.Popen[bytes] | None = None
        ip("netns", "add", self.name)
        ip("link", "add", f"veth{number}", "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("link", "set", f"veth{number}", "master", "bridge0", "up")
        ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", self.name, "link", "set", device, "up")

    def start(self) -> None:
        """Starts the raylet, and waits until Ray knows it."""
        command = ["ip", "netns", "exec", self.name, *ray_start(f"--address={HEAD}:{PORT}", self.address, cpus=1)]
        self.raylet = started(command, {"ROLLCAGE_CACHE": str(self.cache)})
        wait_for(f"node {self.name}", 60, lambda: self.address in addresses())

    def kill(self) -> None:
        """Ends everything that runs in the node, as a power cut does."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.raylet is not None:
            self.raylet.wait()
        self.raylet = None

    def cut(self) -> None:
        """Takes the node off the network: its processes go on."""
        ip("link", "set", f"veth{self.number}", "down")

    def join(self) -> None:
        """Puts the node back on the network."""
        ip("link", "set", f"veth{self.number}", "up")

    def pids(self) -> list[int]:
        listed = subprocess.run(["ip", "netns", "pids", self.name], check=True, capture_output=True, text=True)
        return [int(pid) for pid in listed.stdout.split()]


def ray_start(where: str, address: str, cpus: int) -> list[str]:
    program = str(Path(sys.executable).parent / "ray")
    words = ["start", where, f"--node-ip-address={address}", f"--num-cpus={cpus}", "--block", "--disable-usage-stats"]
    return [program, *words, "--include-log-monitor=false", f"--object-store-memory={STORE_BYTES}"]


def started(command: list[str], more: dict[str, str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **more}
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env=environment, start_new_session=True)


def addresses() -> set[str]:
    """The nodes that are alive."""
    return {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}


def is_open(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def wait_for(what: str, seconds: float, holds: Any) -> None:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[list[Node]]:
    """A head without CPUs, and three nodes of one CPU."""
    # The namespaces' names are files here, in a mount of this process alone.
    os.makedirs("/run/netns", exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/netns"], check=True)
    ip("link", "set", "lo", "up")
    ip("link", "add", "bridge0", "type", "bridge")
    ip("addr", "add", f"{HEAD}/24", "dev", "bridge0")
    ip("link", "set", "bridge0", "up")
    head = started([*ray_start("--head", HEAD, cpus=0), f"--port={PORT}", "--include-dashboard=false"], {})
    nodes: list[Node] = []
    try:
        wait_for("Ray's head", 60, lambda: is_open(HEAD, PORT))
        ray.init(f"{HEAD}:{PORT}", log_to_driver=False, configure_logging=False, _node_ip_address=HEAD)
        for number in range(1, NODES + 1):
            node = Node(number, folder)
            nodes.append(node)
            node.start()
        yield nodes
    finally:
        ray.shutdown()
        for node in nodes:
            node.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)
        head.wait()


# ── One run, whatever the shares ────────────────────────────────────────────────────────────────────────────────────


def digests() -> None:
    """The digest on one node and on three, in uneven shares, beside that of one host."""
    say("\n| plugin | envs | shares | digest of the run | as on one host |\n|---|--:|---|---|---|")
    for plugin, envs in (("cartpole", 7), ("blackjack", 7), ("CartPole-v1", 4)):
        with rollcage.make_vec(plugin, envs, seed=7) as here:
            here.reset()
            here.rollout("random", 200)
            one_host = here.digest
        for nodes in ([envs], [envs - 3, 2, 1]):
            with rollcage.ray.make_vec(plugin, envs, nodes=nodes, seed=7) as there:
                there.reset()
                there.rollout("random", 200)
                same = "yes" if there.digest == one_host else "**no**"
                say(f"| {plugin} | {envs} | {nodes} | {str(there.digest)[:16]}… | {same} |")
                assert there.digest == one_host


# ── Nodes that die ──────────────────────────────────────────────────────────────────────────────────────────────────


def kills(nodes: list[Node], times: int, cuts: int) -> None:
    """Kills a node in the middle of a run, again and again. The other envs' digests are those of a run without it."""
    envs_in_all, steps = 7, 120
    actions = np.random.default_rng(1).integers(2, size=(steps, envs_in_all))
    with rollcage.make_vec("cartpole", envs_in_all, seed=7) as here:
        here.reset()
        for action in actions:
            here.step(action)
        expected = here.digests
    chosen = random.Random(3)
    told: dict[str, list[float]] = {"killed": [], "off the network": []}
    for turn in range(times + cuts):
        how = "killed" if turn < times else "off the network"
        at = chosen.randrange(10, steps - 20)
        with rollcage.ray.make_vec("cartpole", envs_in_all, nodes=3, seed=7) as envs:
            envs.reset()
            victim = chosen.choice(nodes)
            lost: set[int] = set()
            for step, action in enumerate(actions):
                if step == at:
                    victim.kill() if how == "killed" else victim.cut()
                begun = time.monotonic()
                infos = envs.step(action)[4]
                if "fault" in infos:
                    seconds = time.monotonic() - begun
                    told[how].append(seconds)
                    lost = set(np.flatnonzero(infos["_fault"]).tolist())
                    assert set(infos["fault"][sorted(lost)].tolist()) == {"node_lost"}
                    assert seconds < 30, seconds
            assert lost, "the loss was not told"
            for env, digest in enumerate(envs.digests):
                assert digest == (None if env in lost else expected[env]), (turn, env)
            assert envs.digest is None
        if how == "off the network":
            victim.kill()
            victim.join()
        wait_for("that Ray sees the loss", 120, lambda victim=victim: victim.address not in addresses())
        victim.start()
    say(
        "\n| a node is | times | hung | other envs with another digest | told within, median | at most |\n|---|--:|--:|--:|--:|--:|"
    )
    for how, seconds in told.items():
        if seconds:
            middle, most = statistics.median(seconds), max(seconds)
            say(f"| {how} | {len(seconds)} | 0 | 0 | {middle:.1f} s | {most:.1f} s |")


# ── What a step costs ───────────────────────────────────────────────────────────────────────────────────────────────


def speed(make: Any, actions: Any, seconds: float) -> tuple[float, float]:
    """Seconds of a step of all envs, the median of single steps; and seconds of this process's processor time for each."""
    with make() as envs:
        envs.reset(seed=1)
        for _ in range(5):
            envs.step(actions)
        taken: list[float] = []
        processor = time.process_time()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until or len(taken) < 5:
            begun = time.perf_counter()
            envs.step(actions)
            taken.append(time.perf_counter() - begun)
        return statistics.median(taken), (time.process_time() - processor) / len(taken)


def a_millisecond() -> dict[str, int]:
    """The config with which a step of `Busy` takes a millisecond on this machine."""
    turns = 10_000
    make = functools.partial(rollcage.make_vec, Busy, 1, config={"turns": turns})
    return {"turns": round(turns * 1e-3 / speed(make, np.zeros(1, np.int64), 1.0)[0])}


def costs(seconds: float) -> None:
    """Steps a second by nodes, and the parts that a step is made of."""
    say("\n| env | envs in all | one host | 1 node | 2 nodes | 3 nodes |\n|---|--:|--:|--:|--:|--:|")
    measured: list[tuple[int, int, tuple[float, float]]] = []
    for title, plugin, config, many in (
        ("cheap: cartpole", "cartpole", None, (6, 60, 600)),
        ("1 ms of a core", Busy, a_millisecond(), (6, 24)),
    ):
        for envs in many:
            actions = np.zeros(envs, np.int64)
            given: dict[str, Any] = {"config": config, "envs_per_worker": "auto" if config is None else 1}
            cells = [speed(functools.partial(rollcage.make_vec, plugin, envs, **given), actions, seconds)[0]]
            for nodes in (1, 2, 3):
                make = functools.partial(rollcage.ray.make_vec, plugin, envs, nodes=nodes, **given)
                step = speed(make, actions, seconds)
                cells.append(step[0])
                if config is None:
                    measured.append((nodes, envs, step))
            say(f"| {title} | {envs} | " + " | ".join(f"{envs / one:,.0f}" for one in cells) + " |")
    # Least squares: a step is a fixed part, a part for each node, and a part for each env.
    design = np.array([[1.0, nodes, envs] for nodes, envs, _ in measured])
    fits = np.linalg.lstsq(design, np.array([step for *_, step in measured]), rcond=None)[0]
    (fixed, of_this), (node, node_of_this), (env, _) = np.maximum(fits, 0.0).tolist()
    say(
        f"\nA step of cartpole takes {fixed * 1e6:,.0f} µs, {node * 1e6:,.0f} µs for each node, and {env * 1e6:.2f} µs for each "
        "env. "
        f"Of the trainer's own processor time it takes {of_this * 1e6:,.0f} µs, and {node_of_this * 1e6:,.0f} µs for each node: "
        "the rest of a node's part is work of the nodes, which here share the two cores."
    )
    scaling(fixed + node - node_of_this, node_of_this, env)


# ── Further than this machine goes ──────────────────────────────────────────────────────────────────────────────────


class Late:
    """An engine of nodes that are not there: each answers when a node of the model would, and Ray's work is waited out.

    Parameters
    ----------
    ask, take : float
        Seconds of this process for a call, and for its answer.
    share : float
        Seconds that a node's envs take.
    late : random.Random or None
        Every answer is late by 0.2 ms on average (exponential), and one of 200 by 10 ms more, as a busy machine's.

    """

    def __init__(self, answer: Columns, ask: float, take: float, share: float, late: random.Random | None) -> None:
        self._answer, self._ask, self._take, self._share, self._late = Outcome(answer), ask, take, share, late
        self._due: dict[int, float] = {}

    def ask(self, *_: Any) -> int:
        spin(self._ask)
        token = len(self._due)
        self._due[token] = time.perf_counter() + self._share + (0.0 if self._late is None else lateness(self._late))
        return token

    def wait(self, tokens: list[int], many: int, timeout: float | None) -> list[int]:
        due = sorted(self._due[token] for token in tokens)[many - 1]
        time.sleep(max(0.0, due - time.perf_counter()))
        now = time.perf_counter()
        return [token for token in tokens if self._due[token] <= now]

    def take(self, token: int) -> Outcome:
        spin(self._take)
        return self._answer

    def close(self) -> None:
        pass


def lateness(late: random.Random) -> float:
    return late.expovariate(1 / 0.2e-3) + (10e-3 if late.random() < 1 / 200 else 0)


def spin(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def step_of(engine: Late, nodes: int, share: int, known: dict[str, Any]) -> float:
    """Seconds of a step over so many nodes of the engine: the median of some."""
    links = [Link(at * share, share, at, f"node {at}", is_reset=True) for at in range(nodes)]
    many = Nodes(engine, links, known, mode="next-step", on_fault="restart", losses=0)  # type: ignore[arg-type]
    many._unreset[:] = many._over[:] = False
    taken = []
    for _ in range(9):
        begun = time.perf_counter()
        many.step(np.zeros(nodes * share * known["action_space"]["stride"], np.uint8))
        taken.append(time.perf_counter() - begun)
        engine._due.clear()
    return statistics.median(taken)


def scaling(fixed: float, node: float, env: float) -> None:
    """A step of the model beside one of the simulation, in which the code that joins nodes is the real one."""
    share = 60
    with rollcage.make_vec("cartpole", share, seed=7) as envs:
        envs.reset()
        known, row = envs._native.known(), envs._native.step(envs._actions.write(np.zeros(share, np.int64)))
    answer = Columns(*row)
    # What of a node's part is spent in joining: the simulation does that itself.
    own = min(node, step_of(Late(answer, 0, 0, 0, None), 100, share, known) / 100)
    say(
        f"\n{share} envs on each node; the env's own time as measured (cheap), and with 1 ms more for each step of a node with as "
        "many cores as envs.\n"
    )
    say(
        "| nodes | envs | cheap: model, ms | simulated, ms | of the speed of all "
        "| 1 ms: model, ms | simulated, ms | of the speed of all |"
    )
    say("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for nodes in (1, 3, 10, 30, 100, 300, 1000):
        cells = []
        for extra in (0.0, 1e-3):
            alone = fixed + node + env * share + extra
            late = random.Random(5)
            # The last of so many answers.
            last = statistics.fmean(max(lateness(late) for _ in range(nodes)) for _ in range(200))
            model = fixed + node * nodes + env * share + extra + last
            engine = Late(answer, (node - own) / 2, (node - own) / 2, env * share + extra, random.Random(6))
            simulated = fixed + step_of(engine, nodes, share, known)
            cells += [f"{model * 1e3:,.1f}", f"{simulated * 1e3:,.1f}", f"{100 * alone / simulated:.0f} %"]
        say(f"| {nodes:,} | {nodes * share:,} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how often a node is killed in the middle of a run")
    parser.add_argument("--cuts", type=int, default=2, help="how often a node is taken off the network")
    parser.add_argument("--seconds", type=float, default=3.0, help="of stepping for each figure; 0: no figures")
    parser.add_argument("--report", type=Path, help="a file for the tables alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rollcage-clusters-") as folder, cluster(Path(folder)) as nodes:
        digests()
        if arguments.kills or arguments.cuts:
            kills(nodes, arguments.kills, arguments.cuts)
        if arguments.seconds:
            costs(arguments.seconds)
    if arguments.report:
        arguments.report.write_text("\n".join(SAID).strip() + "\n")


if __name__ == "__main__":
    main()
