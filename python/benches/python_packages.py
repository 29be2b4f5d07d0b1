"""Public packages with environments, tried in the cage one after the other; writes the table of docs/python-envs.md.

    python python/benches/python_packages.py [--only NAME…] [--steps 200] [--page docs/python-envs.md | --no-page]

Each package is the one dependency of an otherwise empty folder, as an author would write it: `rollcage run` gets its wheels
from PyPI, bundles them, and plays random steps. `rollcage` is the program on the path, or `--rollcage`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/python-envs.md"
BEGIN, END = "<!-- packages -->", "<!-- /packages -->"


@dataclass
class Tried:
    """A package, and one of its envs."""

    #: As pip knows it.
    package: str
    #: What the table calls the env that is played.
    env: str
    #: `[tool.rollcage] env`: an id, `module:id` or `module:Class`. Empty: `source` has a function `make`.
    entry: str = ""
    #: `my_env.py`, where a line or two are needed.
    source: str = ""
    leave_out: tuple[str, ...] = ()
    #: What else an author has to know, in a few words.
    note: str = ""
    more: tuple[str, ...] = field(default=())
    #: At most so many steps.
    steps: int = 1_000_000


def made(body: str, imports: str = "") -> str:
    """A module with a function that makes an env."""
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    return f"import gymnasium\nimport numpy as np\n{imports}\n\ndef make():\n{indented}\n"


TRIED = [
    Tried("gymnasium", "`CartPole-v1`", "CartPole-v1"),
    Tried("minigrid", "`MiniGrid-DoorKey-8x8-v0`", "minigrid:MiniGrid-DoorKey-8x8-v0"),
    Tried(
        "minatar",
        "`MinAtar/Breakout-v1`",
        source=made("return gymnasium.make('MinAtar/Breakout-v1')", "import minatar.gym\nminatar.gym.register_envs()"),
        note="registers when a function is called",
    ),
    Tried(
        "mo-gymnasium",
        "`deep-sea-treasure-v0`",
        source=made(
            "return LinearReward(mo.make('deep-sea-treasure-v0'), np.array([0.7, 0.3]))",
            "import mo_gymnasium as mo\nfrom mo_gymnasium.wrappers import LinearReward",
        ),
        note="with `LinearReward`: vector rewards are refused",
    ),
    Tried("gym-simplegrid", "`SimpleGrid-8x8-v0`", "gym_simplegrid:SimpleGrid-8x8-v0"),
    Tried("highway-env", "`highway-v0`", "highway_env:highway-v0"),
    Tried(
        "highway-env",
        "`highway-v0`, times to collision",
        source=made(
            "seen = {'type': 'TimeToCollision', 'horizon': 5}\nreturn gymnasium.make('highway-v0', config={'observation': seen})",
            "import highway_env",
        ),
        note="its default observation needs pandas; slow: 20 steps were played",
        steps=20,
    ),
    Tried("popgym", "`RepeatPreviousEasy`", "popgym.envs.repeat_previous:RepeatPreviousEasy"),
    Tried(
        "reasoning-gym",
        "`leg_counting`, one question an episode",
        source="""import string

import gymnasium
import reasoning_gym
from gymnasium import spaces

TEXT = string.printable


class Question(gymnasium.Env):
    observation_space = spaces.Text(2000, min_length=0, charset=TEXT)
    action_space = spaces.Text(20, min_length=0, charset=TEXT)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.data = reasoning_gym.create_dataset("leg_counting", size=1, seed=int(self.np_random.integers(2**31)))
        return self.data[0]["question"], {}

    def step(self, action):
        return "", self.data.score_answer(answer=action, entry=self.data[0]), True, False, {}


make = Question
""",
        note="datasets, no env: an adapter of ten lines, and `python-dateutil`, which it needs and does not declare",
        more=("python-dateutil",),
    ),
    Tried(
        "textarena",
        "`GuessTheNumber-v0`",
        source=(Path(__file__).resolve().parents[1] / "tests/public/guess_the_number.py").read_text()
        + "\n\nmake = GuessTheNumber\n",
        leave_out=("openai", "nltk"),
        note="an adapter of ten lines, and `openai` and `nltk` in `leave-out`; it imports `ssl`, which the adapter stands in for",
    ),
    Tried("gym-anytrading", "`stocks-v0`", "gym_anytrading:stocks-v0"),
    Tried("gymnasium-robotics", "`PointMaze_UMaze-v3`", "gymnasium_robotics:PointMaze_UMaze-v3"),
    Tried("ale-py", "`ALE/Pong-v5`", "ale_py:ALE/Pong-v5"),
    Tried("procgen", "`procgen-coinrun-v0`", "procgen:ProcgenGym3Env"),
    Tried("miniworld", "`MiniWorld-OneRoom-v0`", "miniworld:MiniWorld-OneRoom-v0"),
    Tried("crafter", "`Env`", "crafter:Env"),
    Tried("bsuite", "`catch/0`", "bsuite.environments.catch:Catch"),
    Tried("pettingzoo", "`tictactoe_v3`", "pettingzoo.classic.tictactoe_v3:env"),
    Tried("gym-minigrid", "`MiniGrid-Empty-8x8-v0`", "gym_minigrid:MiniGrid-Empty-8x8-v0"),
    Tried("arcle", "`ARCLE/O2ARCv2Env-v0`", "arcle:ARCLE/O2ARCv2Env-v0"),
    Tried("gym-sokoban", "`Sokoban-v0`", "gym_sokoban.envs:SokobanEnv"),
]


def tried(one: Tried, rollcage: str, steps: int, seconds: float) -> tuple[bool, str]:
    """Whether it plays, and what the program says otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "tried")
        place.mkdir()
        if one.source:
            (place / "my_env.py").write_text(one.source)
        quoted = ", ".join(f'"{name}"' for name in one.leave_out)
        needs = ", ".join(f'"{name}"' for name in (one.package, *one.more))
        (place / "pyproject.toml").write_text(
            f'[project]\nname = "tried"\nversion = "1"\ndependencies = [{needs}]\n'
            f'[tool.rollcage]\nenv = "{one.entry or "my_env:make"}"\nleave-out = [{quoted}]\n'
        )
        command = [
            rollcage,
            "run",
            str(place),
            "--envs",
            "2",
            "--steps",
            str(min(steps, one.steps)),
            "--seed",
            "7",
            "--max-episode-steps",
        ]
        try:
            run = subprocess.run([*command, "100"], capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return False, f"nothing within {seconds:.0f} s"
    said = run.stdout + run.stderr
    if run.returncode == 0 and re.search(r"^\s*faults\s+none", said, re.MULTILINE):
        return True, ""
    return False, reason(said, one.package)


def reason(said: str, package: str) -> str:
    """The program's own words, in one cell of a table."""
    if re.search(rf"^warning: {re.escape(package)} \S+ has native code", said, re.MULTILINE):
        return "it is native code itself"
    if re.search(
        rf"^warning: {re.escape(package)} .*no wheel|there is neither `{re.escape(package)}.py` nor a package",
        said,
        re.MULTILINE,
    ):
        return "there is no wheel of it"
    lines = [line for line in said.splitlines() if line.startswith("error:")][-1:]
    lines += [line for line in said.splitlines() if line.startswith("fault:")]
    line = re.sub("^(error|fault): ", "", (lines or said.strip().splitlines() or ["nothing was said"])[0])
    line = re.sub(r"plugin `[^`]*`: ", "", line)
    line = re.sub(r"^(not all was played: )?env \d+ \(instance \d+\), episode \d+, step \d+: ", "", line)
    line = re.sub(r" \(the restart budget is spent.*\)$", "", line)
    line = re.sub(r"`?/tmp/\S*/tried/?(pyproject\.toml)?`?:? ?", "", line)
    line = re.sub(
        r"^(`describe` failed \(exited\)|guest_failed|create_failed): (the env cannot be imported: )?", "", line
    )
    line = re.sub(r"; if it is a file, put it beside the env$|: if `\w+` is a package, list it.*$", "", line)
    return line.replace("|", "\\|")[:240]


def main() -> None:
    """Tries all in turn and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="packages; the rows of others stay")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=180, help="for one package, downloads included")
    parser.add_argument("--rollcage", default=shutil.which("rollcage") or str(Path(sys.executable).parent / "rollcage"))
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--no-page", action="store_true", help="print alone")
    given = parser.parse_args()
    page = given.page.read_text()
    if BEGIN not in page:
        raise SystemExit(f"{given.page} has no {BEGIN}")
    before, after = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
    # Rows of other packages stay, if some are tried alone.
    kept = [row for row in page[len(before) : -len(after)].splitlines() if row.startswith("| ") and given.only]
    rows = {tuple(row.split(" | ")[:2]): row for row in kept if not row.startswith("| package")}
    for one in TRIED:
        if given.only and one.package not in given.only:
            continue
        plays, said = tried(one, given.rollcage, given.steps, given.seconds)
        rows[f"| {one.package}", one.env] = (
            f"| {one.package} | {one.env} | {'yes' if plays else 'no'} | {one.note if plays else said} |"
        )
        print(rows[f"| {one.package}", one.env], file=sys.stderr, flush=True)
    ordered = sorted(rows.values(), key=lambda row: "| no |" in row)
    table = "\n".join(["| package | env | runs | |", "|---|---|---|---|", *ordered])
    print(table)
    if not given.no_page:
        given.page.write_text(f"{before}\n{table}\n{after}")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    main()
