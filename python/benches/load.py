"""rollcage beside Stable-Baselines3's SubprocVecEnv and DummyVecEnv while other processes want the cores, in one run.

    python python/benches/load.py [--envs 1 8 32 128] [--busy 0 1 2 4] [--rounds 3] [--seconds 1.5] [--json FILE]
                                  [--no-learn | --no-steps]

A busy process computes and never sleeps; `--busy 2` means two of them for each core. Every figure is measured in a fresh process,
peer after peer beside the same busy processes, and the round begins anew with another peer. The tables have medians over the
rounds; ratios are of figures of one round, which were measured next to each other.

* steps/s: all envs together through Stable-Baselines3's interface, resets included, actions drawn beforehand.
* learn: seconds that PPO's whole `learn` takes for 30,000 steps, torch with its own default of threads.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import peers

PEERS = ("rollcage (SB3)", "SB3 SubprocVecEnv", "SB3 DummyVecEnv")

#: Steps of one `learn`, and how many envs take them.
LEARN_STEPS = 30_000
LEARN_ENVS = (8, 32)

#: figures[busy processes a core][envs][peer] is a value for each round.
Figures = dict[int, dict[int, dict[str, list[float]]]]


def learn(peer: str, envs: int) -> float:
    """Seconds of PPO's `learn` over one peer's envs, in this process."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecMonitor

    made = getattr(peers, peers.PEERS[peer][0])()(envs)
    # The peers' envs are bare; ours count their episodes by themselves.
    model = PPO(
        "MlpPolicy", made if peer == PEERS[0] else VecMonitor(made), n_steps=4096 // envs, batch_size=256, seed=7
    )
    # What torch does at its first use is no part of it.
    model.learn(4096)
    begun = time.perf_counter()
    model.learn(LEARN_STEPS)
    took = time.perf_counter() - begun
    made.close()
    return took


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Processes that compute until the block ends."""
    # They end by themselves, should nobody be left to end them.
    code = "import time; until = time.monotonic() + 900\nwhile time.monotonic() < until: sum(range(20_000))"
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(processes)]
    try:
        if started:
            time.sleep(0.5)
        yield
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def one(what: str, peer: str, envs: int, seconds: float) -> float:
    """One figure, in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", what, peer, str(envs), "--seconds", str(seconds)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"\n{peer}, {envs} envs:\n{run.stderr}")
    return float(run.stdout.splitlines()[-1])


def measure(what: str, given: argparse.Namespace, loads: list[int], envs: list[int]) -> Figures:
    """Every figure of one kind."""
    figures: Figures = {load: {count: {peer: [] for peer in PEERS} for count in envs} for load in loads}
    cores = len(os.sched_getaffinity(0))
    total, done = given.rounds * len(loads) * len(envs) * len(PEERS), 0
    for turn in range(given.rounds):
        for load in loads:
            with busy(load * cores):
                for count in envs:
                    first = turn % len(PEERS)
                    for peer in PEERS[first:] + PEERS[:first]:
                        figures[load][count][peer].append(one(what, peer, count, given.seconds))
                        done += 1
                        print(f"\r{what}: {done} of {total}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return figures


def ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def table(what: str, figures: Figures) -> None:
    """Markdown."""
    learning = what == "learn"
    print(f"\n| busy processes a core | envs | {' | '.join(PEERS)} | of SubprocVecEnv | of DummyVecEnv |")
    print("|--:|--:|" + "--:|" * (len(PEERS) + 2))
    for load, by_envs in figures.items():
        for envs, by_peer in by_envs.items():
            values = [statistics.median(by_peer[peer]) for peer in PEERS]
            shown = [f"{value:.1f} s" if learning else f"{value / 1e3:,.1f} k" for value in values]
            ours = by_peer[PEERS[0]]
            # A speed both times: seconds are turned round.
            ratios = [ratio(by_peer[peer], ours) if learning else ratio(ours, by_peer[peer]) for peer in PEERS[1:]]
            print(f"| {load} | {envs} | {' | '.join(shown)} | {' | '.join(f'{value:.2f}' for value in ratios)} |")


def main() -> None:
    """Measures all in turn and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2, 4], help="busy processes for each core")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="of stepping, for one figure")
    parser.add_argument("--json", type=Path, help="write every single figure here")
    parser.add_argument("--no-learn", action="store_true", help="leave PPO out")
    parser.add_argument("--no-steps", action="store_true", help="PPO alone")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        what, peer, envs = given.one
        if what == "learn":
            print(learn(peer, int(envs)))
        else:
            print(peers.measure(peers.PEERS[peer][0], int(envs), given.seconds)["steps_per_second"])
        return

    # So that no figure holds the compilation of a plugin.
    one("steps", PEERS[0], 1, 0.1)
    found: dict[str, Figures] = {}
    if not given.no_steps:
        found["steps"] = measure("steps", given, given.busy, given.envs)
    if not given.no_learn:
        found["learn"] = measure("learn", given, [load for load in given.busy if load <= 1], list(LEARN_ENVS))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))
    print(f"{len(os.sched_getaffinity(0))} cores, Linux {os.uname().release}")
    for what, figures in found.items():
        print("\nPPO, `learn`:" if what == "learn" else "\nCartPole, steps/s:")
        table(what, figures)


if __name__ == "__main__":
    main()
