"""Draws steps/s over the number of envs, a line a gear. Reads `{"gear": {"envs": steps/s}}` from stdin."""

from __future__ import annotations

import json
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

figures: dict[str, dict[str, float]] = json.load(sys.stdin)
figure, axes = pyplot.subplots(figsize=(8, 4.5))
for gear, speeds in figures.items():
    points = sorted((int(envs), speed) for envs, speed in speeds.items())
    axes.plot(
        [envs for envs, _ in points],
        [speed for _, speed in points],
        marker="o",
        linewidth=2,
        label=gear,
    )
axes.set_xscale("log", base=2)
axes.set_yscale("log")
ticks = sorted({int(envs) for speeds in figures.values() for envs in speeds})
axes.set_xticks(ticks, [f"{envs:,}" for envs in ticks])
axes.set_xlabel("envs")
axes.set_ylabel("steps a second, all envs")
axes.set_title("CartPole from Rust on two cores", fontsize=10)
axes.grid(True, which="major", alpha=0.3)
axes.legend(fontsize=8)
figure.tight_layout()
figure.savefig(sys.argv[1], dpi=110)
