"""numpy's own tests, run inside a guest behind every wall: each file of tests in an env of its own.

`tests/numpy_excluded.toml` names the tests that cannot pass there, with reasons. Any other test that fails, and every trap, is an
error.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from basebuild.component import made, place
from basebuild.numpy_wasm import MODULES, TEST_MODULES, numpy_for_wasi
from basebuild.packages import pure_packages
from basebuild.stages import BASE, BuildError, run, say

# Packages of numpy whose tests are run.
TESTED = ["_core", "random", "linalg", "fft", "ma"]

# What an env may take for one file of tests.
MEMORY, TIME = "3GiB", "3000s"


class Outcome(NamedTuple):
    """What became of the tests of one file."""

    file: str
    counts: Counter[str]
    failures: list[str]
    seconds: float


def run_all(rollcage: Path, sdk: Path, target: Path, files: list[str]) -> None:
    """Runs the named files of tests (`_core/tests/test_api.py`), or all, and tells what became of them."""
    if not rollcage.exists():
        raise BuildError(f"{rollcage} is not there: run `cargo build --release --package rollcage` first")
    app = BASE / "tests/numpy_tests_app.py"
    # Out of the cache, from which another build might remove it meanwhile.
    component = target / "python-base/numpy-tests.wasm"
    place(made(sdk, [*MODULES, *TEST_MODULES], app=app, names=True), component)
    numpy = numpy_for_wasi() / "python"
    # Compiled once, before several envs want it.
    run([rollcage, "inspect", component])
    groups = tomllib.loads((BASE / "tests/numpy_excluded.toml").read_text())["excluded"]
    excluded = [name for group in groups for name in group["tests"]]
    wanted = files or sorted(
        file.relative_to(numpy / "numpy").as_posix()
        for package in TESTED
        for file in (numpy / "numpy" / package / "tests").glob("test_*.py")
    )
    wanted = [file for file in wanted if f"numpy/{file}" not in excluded]
    counts: Counter[str] = Counter()
    failures = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for outcome in pool.map(lambda file: run_file(rollcage, component, numpy, file, excluded), wanted):
            counts += outcome.counts
            failures += outcome.failures
            told = ", ".join(f"{number} {name}" for name, number in sorted(outcome.counts.items()))
            say(f"numpy/{outcome.file}: {told or 'no test'} ({outcome.seconds:.0f} s)")
            for failure in outcome.failures:
                say(f"  {failure}")
    if not counts["passed"]:
        raise BuildError("no test of numpy has passed")
    print(f"{counts['passed']} passed, {len(failures)} failed, {counts['skipped']} skipped")
    print(f"numpy in a guest: {json.dumps(dict(sorted(counts.items())))}; {len(excluded)} tests or groups are excluded")
    if failures:
        raise BuildError(f"{len(failures)} of numpy's tests failed in a guest")


def run_file(rollcage: Path, component: Path, numpy: Path, file: str, excluded: list[str]) -> Outcome:
    """Runs one file of tests."""
    begun = time.monotonic()
    path = f"/python/site-packages/numpy/{file}"
    left_out = [f"--deselect={name}" for name in excluded if name.startswith(f"numpy/{file}")]
    with tempfile.TemporaryDirectory() as report:
        config = Path(report, "config.json")
        config.write_text(
            json.dumps(
                {"arguments": ["--rootdir=/python/site-packages", "--basetemp=/report/temporary", path, *left_out]}
            )
        )
        command: list[str | Path] = [
            rollcage,
            "run",
            component,
            "--envs",
            "1",
            "--episodes",
            "1",
            "--seed",
            "1",
            "--require-sandbox",
            "--logs",
        ]
        command += ["--memory", MEMORY, "--step-timeout", TIME, "--on-fault", "raise", "--config-file", config]
        for grant in (f"{report}:/report:rw", f"{pure_packages('tests')}:/packages", f"{numpy}:/python/site-packages"):
            command += ["--grant", f"dir={grant}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        lines = Path(report, "report.jsonl")
        told = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    counts = Counter(line["outcome"] for line in told if "outcome" in line)
    failures = [f"{line['test']}: {last_line(line['text'])}" for line in told if line.get("outcome") == "failed"]
    # Pytest's 5: all were excluded.
    if not told or told[-1].get("ended") not in (0, 1, 5):
        began = [line["began"] for line in told if "began" in line]
        output = (done.stdout + done.stderr)[-1500:]
        failures.append(f"numpy/{file}: ended in {began[-1] if began else 'its beginning'}:\n{output}")
    counts["failed"] = len(failures)
    return Outcome(file, counts, failures, time.monotonic() - begun)


def last_line(text: str) -> str:
    """Returns the last line of a traceback that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E ")]
    return (errors or lines or [""])[-1][:200]
