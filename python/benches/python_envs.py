"""Envs in Python in the cage, beside the same classes in Stable-Baselines3's SubprocVecEnv and Gymnasium's AsyncVectorEnv.

    python python/benches/python_envs.py [--envs 1 8 32] [--busy 0 2] [--rounds 3] [--seconds 1.5] [--chart FILE.png] [--json FILE]
    python python/benches/python_envs.py --parts

Two classes: CartPole in Python without numpy in its step (`pure_cartpole.py`), and Gymnasium's own, which computes with numpy.
The figures of a class and a peer are measured in a fresh process, peer after peer beside the same busy processes, and the
round begins anew with another peer. `--busy 2` means two processes for each core that compute and never sleep. The tables
have medians over the rounds; ratios are of figures of one round.

* steps/s: all envs together, resets included; actions drawn beforehand.
* CPU: of the process and everything below it, for one step of one env, microseconds. It hardly depends on what else runs.

`--parts` measures where the time of a step goes, with envs that do less and less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pure_cartpole
from load import busy, ratio

CLASSES = ("pure", "numpy")
PEERS = ("rollcage (SB3)", "SB3 SubprocVecEnv", "Gymnasium AsyncVectorEnv")
TITLES = {"pure": "CartPole without numpy in its step", "numpy": "Gymnasium's CartPole"}

#: figures[class][busy processes a core][envs][peer] is steps/s and CPU of a step, for each round.
Figures = dict[str, dict[int, dict[int, dict[str, list[tuple[float, float]]]]]]


def made(kind: str, peer: str, envs: int) -> Any:
    """The vector env."""
    import gymnasium
    from gymnasium.envs.classic_control.cartpole import CartPoleEnv
    from gymnasium.wrappers import TimeLimit

    def one() -> Any:
        return pure_cartpole.PureCartPole() if kind == "pure" else TimeLimit(CartPoleEnv(), 500)

    if peer == PEERS[0]:
        from rollcage.sb3 import VecEnv

        return VecEnv(pure_cartpole.PureCartPole if kind == "pure" else "CartPole-v1", envs, seed=7)
    if peer == PEERS[1]:
        from stable_baselines3.common.vec_env import SubprocVecEnv

        return SubprocVecEnv([one] * envs, start_method="fork")
    return gymnasium.vector.AsyncVectorEnv([one] * envs, context="fork")


def used() -> float:
    """Seconds of CPU of this process and everything below it that lives."""
    parents: dict[int, int] = {}
    times: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat[1])
            times[int(entry.name)] = int(stat[11]) + int(stat[12])
    total, todo = 0, [os.getpid()]
    while todo:
        process = todo.pop()
        todo += [child for child, parent in parents.items() if parent == process]
        total += times.get(process, 0)
    return total / os.sysconf("SC_CLK_TCK")


def measure(kind: str, peer: str, envs: int, seconds: float) -> tuple[float, float]:
    """Steps a second and microseconds of CPU for a step, in this process."""
    actions = np.random.default_rng(7).integers(0, 2, (512, envs))
    vector = made(kind, peer, envs)
    vector.reset()

    def play(seconds: float) -> tuple[int, float]:
        calls, begun = 0, time.perf_counter()
        while True:
            for _ in range(10):
                vector.step(actions[calls % 512])
                calls += 1
            elapsed = time.perf_counter() - begun
            if elapsed >= seconds:
                return calls, elapsed

    play(0.3)
    before = used()
    calls, elapsed = play(seconds)
    cpu = used() - before
    vector.close()
    return calls * envs / elapsed, cpu / calls / envs * 1e6


def one(kind: str, peer: str, envs: list[int], seconds: float) -> list[tuple[float, float]]:
    """A figure for each number of envs, in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", kind, peer, "--seconds", str(seconds)]
    run = subprocess.run([*command, "--envs", *map(str, envs)], capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"\n{kind}, {peer}, {envs} envs:\n{run.stderr}")
    return [(speed, cpu) for speed, cpu in json.loads(run.stdout.splitlines()[-1])]


def all_of(given: argparse.Namespace) -> Figures:
    """Every figure."""
    figures: Figures = {
        kind: {load: {envs: {peer: [] for peer in PEERS} for envs in given.envs} for load in given.busy}
        for kind in CLASSES
    }
    cores = len(os.sched_getaffinity(0))
    total, done = given.rounds * len(given.busy) * len(CLASSES) * len(PEERS), 0
    for turn in range(given.rounds):
        for load in given.busy:
            with busy(load * cores):
                for kind in CLASSES:
                    first = turn % len(PEERS)
                    for peer in PEERS[first:] + PEERS[:first]:
                        values = one(kind, peer, given.envs, given.seconds)
                        for envs, value in zip(given.envs, values, strict=True):
                            figures[kind][load][envs][peer].append(value)
                        done += 1
                        print(f"\r{done} of {total}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return figures


def table(kind: str, figures: Figures) -> None:
    """Markdown."""
    print(
        f"\n| {TITLES[kind]}: busy processes a core | envs | {' | '.join(PEERS)} | of SubprocVecEnv | of AsyncVectorEnv |"
    )
    print("|--:|--:|" + "--:|" * (len(PEERS) + 2))
    for load, by_envs in figures[kind].items():
        for envs, by_peer in by_envs.items():
            speeds = {peer: [speed for speed, _ in by_peer[peer]] for peer in PEERS}
            cells = [
                f"{statistics.median(speeds[peer]) / 1e3:,.1f} k, {statistics.median(cpu for _, cpu in by_peer[peer]):,.0f} µs"
                for peer in PEERS
            ]
            ratios = [f"{ratio(speeds[PEERS[0]], speeds[peer]):.2f}" for peer in PEERS[1:]]
            print(f"| {load} | {envs} | {' | '.join(cells)} | {' | '.join(ratios)} |")


def chart(figures: Figures, file: Path) -> None:
    """Steps a second over the number of envs; one panel for each class."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(CLASSES), figsize=(10, 4.2), sharey=True)
    for axes, kind in zip(panels, CLASSES, strict=True):
        for number, peer in enumerate(PEERS):
            for load, by_envs in figures[kind].items():
                speeds = [statistics.median(speed for speed, _ in by_envs[envs][peer]) for envs in by_envs]
                label = peer + (f", {load} busy a core" if load else "")
                style, width = (":" if load else "-"), (2.5 if number == 0 else 1.5)
                axes.plot(list(by_envs), speeds, style, marker="o", linewidth=width, color=f"C{number}", label=label)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        counts = list(next(iter(figures[kind].values())))
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set_xlabel("envs")
        axes.set_title(TITLES[kind], fontsize=10)
        axes.grid(True, which="major", alpha=0.3)
    panels[0].set_ylabel("steps a second, all envs")
    panels[-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


# ── Where the time of a step goes ───────────────────────────────────────────────────────────────────────────────────

#: What one env does in a step, each more than the one before.
PARTS = {
    "the same, in Rust (the plugin `cartpole`)": "",
    "nothing: the host, the call into the guest, and a number back": """
    observation_space = spaces.Discrete(2)
    answer = 0
""",
    "four floats of a list into a Box": """
    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    answer = [0.1, 0.2, 0.3, 0.4]
""",
    "an array of four into a Box": """
    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    answer = np.zeros(4, np.float32)
""",
    "and ten operations of numpy on four floats": """
    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)

    @property
    def answer(self):
        a = np.zeros(4, np.float32)
        for _ in range(10):
            a = a + 1
        return a
""",
    "and ten sines of one float by numpy": """
    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)

    @property
    def answer(self):
        for _ in range(10):
            np.sin(0.5)
        return np.zeros(4, np.float32)
""",
    "and a picture of 84 by 84 by 3": """
    observation_space = spaces.Box(0, 255, (84, 84, 3), np.uint8)
    answer = np.zeros((84, 84, 3), np.uint8)
""",
}
HEAD = """
import gymnasium
import numpy as np
from gymnasium import spaces


class Part(gymnasium.Env):
    action_space = spaces.Discrete(2)
"""
TAIL = """
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.answer, {}

    def step(self, action):
        return self.answer, 1.0, False, False, {}
"""


def part(source: str, calls: int) -> tuple[float, float]:
    """Microseconds of CPU for a step, in the cage and natively; the native one is the class alone, without processes."""
    import importlib
    import tempfile

    import rollcage

    folder = tempfile.mkdtemp()
    Path(folder, "part_env.py").write_text(HEAD + source + TAIL)
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    sys.modules.pop("part_env", None)
    made_by = importlib.import_module("part_env").Part if source else None
    envs = rollcage.make_vec(made_by or "cartpole", 8, seed=7)
    envs.reset()
    actions = np.zeros(8, np.int64)
    for _ in range(100):
        envs.step(actions)
    before = used()
    for _ in range(calls):
        envs.step(actions)
    caged = (used() - before) / calls / 8 * 1e6
    envs.close()
    sys.path.remove(folder)
    if made_by is None:
        return caged, float("nan")
    env = made_by()
    env.reset()
    before = time.process_time()
    for _ in range(8 * calls):
        env.step(0)
    return caged, (time.process_time() - before) / calls / 8 * 1e6


def parts() -> None:
    """Prints where the time of a step goes."""
    print("| a step does | CPU in the cage, µs | of that the class alone, natively, µs |")
    print("|---|--:|--:|")
    runs: dict[str, list[tuple[float, float]]] = {what: [] for what in PARTS}
    for _ in range(5):
        for what, source in PARTS.items():
            runs[what].append(part(source, 1_500))
    for what, values in runs.items():
        # The least: whatever else runs adds to it.
        caged, native = (min(value) for value in zip(*values, strict=True))
        print(f"| {what} | {caged:.1f} | {'' if native != native else f'{native:.1f}'} |", flush=True)


def main() -> None:
    """Measures all in turn and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 2], help="busy processes for each core")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="of stepping, for one figure")
    parser.add_argument("--chart", type=Path, help="draw steps/s here")
    parser.add_argument("--json", type=Path, help="write every single figure here")
    parser.add_argument("--parts", action="store_true", help="where the time of a step goes, and nothing else")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        kind, peer = given.one
        print(json.dumps([measure(kind, peer, envs, given.seconds) for envs in given.envs]))
        return
    if given.parts:
        parts()
        return

    # So that no figure holds the compilation of a plugin.
    for kind in CLASSES:
        one(kind, PEERS[0], [1], 0.1)
    figures = all_of(given)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))
    print(f"{len(os.sched_getaffinity(0))} cores, Linux {os.uname().release}, load {os.getloadavg()[0]:.1f}")
    for kind in CLASSES:
        table(kind, figures)
    if given.chart:
        chart(figures, given.chart)


if __name__ == "__main__":
    main()
