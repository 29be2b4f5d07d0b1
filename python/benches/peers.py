"""rollcage beside Stable-Baselines3's, Gymnasium's and EnvPool's vector envs on CartPole, side by side in one run.

    python python/benches/peers.py [--envs 1 8 32 128] [--rounds 3] [--seconds 1.5] [--chart FILE.png] [--json FILE]

Every figure is measured in a fresh process, peer after peer, and the round begins anew with another peer: a machine that
slows down meanwhile slows all of them. The table has medians over the rounds. Actions are random and drawn before the clock runs;
workers are started by fork, the fastest of the peers' ways. Needs what `pip install './python[sb3]' envpool matplotlib` brings.

* steps/s: all envs together, resets included.
* step: the median time of one call of `step`, microseconds; of EnvPool's asynchronous mode, of half of the envs.
* start: from the constructor's call to the first reset's answer, milliseconds; nothing compiled meanwhile.
* memory: proportional set size of the process and all its children, less that of the process before it made the envs, for
  each env, MB.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Actions that are drawn beforehand.
DRAWN = 512

#: How each peer's envs are made, and whether each env has a process of its own.
PEERS: dict[str, tuple[str, bool]] = {
    "rollcage (SB3)": ("rollcage_sb3", True),
    "rollcage (Gymnasium)": ("rollcage_gymnasium", True),
    "rollcage, a worker a core": ("rollcage_auto", False),
    "rollcage, one worker": ("rollcage_packed", False),
    "SB3 SubprocVecEnv": ("subproc", True),
    "Gymnasium AsyncVectorEnv": ("async_", True),
    "SB3 DummyVecEnv": ("dummy", False),
    "Gymnasium SyncVectorEnv": ("sync", False),
    "EnvPool (C++, threads)": ("envpool", False),
    "EnvPool, asynchronous": ("envpool_async", False),
}


def rollcage_sb3() -> Callable[[int], Any]:
    from rollcage.sb3 import VecEnv

    return lambda envs: VecEnv("cartpole", envs, seed=7)


def rollcage_gymnasium() -> Callable[[int], Any]:
    import rollcage

    return lambda envs: rollcage.make_vec("cartpole", envs, seed=7)


def rollcage_auto() -> Callable[[int], Any]:
    import rollcage

    return lambda envs: rollcage.make_vec("cartpole", envs, seed=7, envs_per_worker="auto", copy=False)


def rollcage_packed() -> Callable[[int], Any]:
    import rollcage

    return lambda envs: rollcage.make_vec("cartpole", envs, seed=7, envs_per_worker=envs, copy=False)


def subproc() -> Callable[[int], Any]:
    from stable_baselines3.common.vec_env import SubprocVecEnv

    return lambda envs: SubprocVecEnv([cartpole] * envs, start_method="fork")


def dummy() -> Callable[[int], Any]:
    from stable_baselines3.common.vec_env import DummyVecEnv

    return lambda envs: DummyVecEnv([cartpole] * envs)


def async_() -> Callable[[int], Any]:
    from gymnasium.vector import AsyncVectorEnv

    return lambda envs: AsyncVectorEnv([cartpole] * envs, context="fork")


def sync() -> Callable[[int], Any]:
    from gymnasium.vector import SyncVectorEnv

    return lambda envs: SyncVectorEnv([cartpole] * envs)


def envpool() -> Callable[[int], Any]:
    import envpool

    threads = os.cpu_count() or 1
    return lambda envs: envpool.make(
        "CartPole-v1", env_type="gymnasium", num_envs=envs, num_threads=min(threads, envs), seed=7
    )


class Asynchronous:
    """EnvPool's own loop for a policy that need not wait for all envs: each call takes half of them, whichever are done."""

    def __init__(self, envs: int) -> None:
        import envpool

        threads = os.cpu_count() or 1
        self.per_call = max(1, envs // 2)
        self.pool = envpool.make(
            "CartPole-v1",
            env_type="gymnasium",
            num_envs=envs,
            batch_size=self.per_call,
            num_threads=min(threads, self.per_call),
            seed=7,
        )
        self.close = self.pool.close

    def reset(self) -> None:
        self.pool.async_reset()
        self.ready = self.pool.recv()[-1]["env_id"]

    def step(self, actions: Any) -> None:
        self.pool.send(actions[: self.per_call], self.ready)
        self.ready = self.pool.recv()[-1]["env_id"]


def envpool_async() -> Callable[[int], Any]:
    import envpool  # noqa: F401 - imported before the memory is measured

    return Asynchronous


def cartpole() -> Any:
    import gymnasium

    return gymnasium.make("CartPole-v1")


def measure(peer: str, envs: int, seconds: float) -> dict[str, float]:
    """One peer's figures, in this process."""
    import numpy as np

    dtype = np.int32 if peer.startswith("envpool") else np.int64
    actions = np.random.default_rng(7).integers(0, 2, (DRAWN, envs)).astype(dtype)
    make = globals()[peer]()
    before = memory()
    begun = time.perf_counter()
    made = make(envs)
    made.reset()
    start = time.perf_counter() - begun
    step, clock = made.step, time.perf_counter
    per_call = getattr(made, "per_call", envs)

    def play(seconds: float) -> tuple[int, float]:
        calls, begun = 0, clock()
        while True:
            for _ in range(10):
                step(actions[calls % DRAWN])
                calls += 1
            elapsed = clock() - begun
            if elapsed >= seconds:
                return calls, elapsed

    play(0.3)
    calls, elapsed = play(seconds)
    times = []
    for number in range(2_000 if envs < 32 else 500):
        begun = clock()
        step(actions[number % DRAWN])
        times.append(clock() - begun)
    used = memory() - before
    made.close()
    return {
        "steps_per_second": calls * per_call / elapsed,
        "step_us": statistics.median(times) * 1e6,
        "start_ms": start * 1e3,
        "memory_mb": used / envs / 1e6,
    }


def memory() -> int:
    """Proportional set size of this process and everything below it, in bytes."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
    total, todo = 0, [os.getpid()]
    while todo:
        process = todo.pop()
        todo += [child for child, parent in parents.items() if parent == process]
        try:
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


def main() -> None:
    """Measures all in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="of stepping, for one figure")
    parser.add_argument("--chart", type=Path, help="draw steps/s here")
    parser.add_argument("--json", type=Path, help="write every single figure here")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one[0], int(given.one[1]), given.seconds)))
        return

    figures: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in PEERS}
    # So that no figure holds the compilation of a plugin.
    one("rollcage_gymnasium", 1, 0.1)
    total = given.rounds * len(given.envs) * len(PEERS)
    done = 0
    for turn in range(given.rounds):
        for envs in given.envs:
            names = list(PEERS)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                figures[name].setdefault(str(envs), []).append(one(PEERS[name][0], envs, given.seconds))
                done += 1
                print(f"\r{done} of {total}: {name}, {envs} envs{' ' * 20}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))
    table(figures, given.envs)
    if given.chart:
        chart(figures, given.envs, given.chart)


def one(peer: str, envs: int, seconds: float) -> dict[str, float]:
    """One peer's figures, in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", peer, str(envs), "--seconds", str(seconds)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"\n{peer}, {envs} envs:\n{run.stderr}")
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def median(figures: dict[str, list[dict[str, float]]], envs: int, key: str) -> float:
    """Over the rounds."""
    return statistics.median(found[key] for found in figures[str(envs)])


def table(figures: dict[str, dict[str, list[dict[str, float]]]], envs: list[int]) -> None:
    """Markdown; the best of each column in bold."""
    columns = [
        ("steps_per_second", "steps/s", max, lambda value: f"{value / 1e3:,.1f} k"),
        ("step_us", "step, µs", min, lambda value: f"{value:,.0f}"),
        ("start_ms", "start, ms", min, lambda value: f"{value:,.0f}"),
        ("memory_mb", "MB per env", min, lambda value: f"{value:.1f}"),
    ]
    for key, title, best, show in columns:
        print(
            f"\n| {title} | "
            + " | ".join(f"{count} env{'s' * (count > 1)}" for count in envs)
            + " | a process per env |"
        )
        print("|---|" + "--:|" * len(envs) + "---|")
        finest = {count: best(median(figures[name], count, key) for name in figures) for count in envs}
        for name, (_, apart) in PEERS.items():
            cells = []
            for count in envs:
                value = median(figures[name], count, key)
                text = show(value)
                cells.append(f"**{text}**" if value == finest[count] else text)
            print(f"| {name} | " + " | ".join(cells) + f" | {'yes' if apart else 'no'} |")
    print(
        "\n| rollcage (SB3) in steps/s, times | "
        + " | ".join(f"{count} env{'s' * (count > 1)}" for count in envs)
        + " |"
    )
    print("|---|" + "--:|" * len(envs))
    for name in ("SB3 SubprocVecEnv", "Gymnasium AsyncVectorEnv"):
        ratios = []
        for count in envs:
            # Of the figures of one round, which were measured next to each other.
            pairs = zip(figures["rollcage (SB3)"][str(count)], figures[name][str(count)], strict=True)
            ratios.append(
                statistics.median(ours["steps_per_second"] / theirs["steps_per_second"] for ours, theirs in pairs)
            )
        print(f"| {name} | " + " | ".join(f"{ratio:.1f}" for ratio in ratios) + " |")


def chart(figures: dict[str, dict[str, list[dict[str, float]]]], envs: list[int], file: Path) -> None:
    """Steps a second over the number of envs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for name, (_, apart) in PEERS.items():
        speeds = [median(figures[name], count, "steps_per_second") for count in envs]
        ours = name.startswith("rollcage")
        style = "-" if apart else ":"
        axes.plot(envs, speeds, style, marker="o", linewidth=2.5 if ours else 1.5, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(envs, [str(count) for count in envs])
    axes.set_xlabel("envs")
    axes.set_ylabel("steps a second, all envs")
    axes.set_title("CartPole on two cores (dotted: without a process per env)", fontsize=10)
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
