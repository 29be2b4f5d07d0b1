"""Envs of public packages, unchanged, in the cage and natively: the same seeds and actions give the same answers.

The short half takes what the venv has, and some seconds. The long half (`-m long`) takes 2,000 steps and three seeds of
each env, and gets the packages from PyPI once, without what they depend on: `rollcage_guest.stubs` stands in for that
natively, as it does in the cage. Where PyPI cannot be had, those tests are skipped.
"""

from __future__ import annotations

import copy
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import TARGET
from gymnasium.envs.registration import WrapperSpec
from on_base import base, needs_base

import rollcage
from rollcage import _program

#: What the long half gets from PyPI.
PACKAGES = (
    "minigrid==3.2.0",
    "minatar==1.0.15",
    "mo-gymnasium==1.3.2",
    "textarena==0.7.4",
    "rich==15.0.0",
    "urllib3==2.8.0",
)
#: What those import and what is not installed beside them.
NATIVE = (
    *(
        "cv2",
        "dotenv",
        "matplotlib",
        "moviepy",
        "mpl_toolkits",
        "nltk",
        "openai",
        "pandas",
        "pygame",
        "pymoo",
        "requests",
    ),
    *("scipy", "seaborn", "websockets"),
)
#: What stands in for those natively, as in the cage.
STAND_INS = Path(__file__).resolve().parents[2] / "guest-envs/python"

SEEDS = [1, 2, 3]
#: Of an observation and of a reward, where a function of the C library is called.
LAST_BITS = 1e-6


pytestmark = needs_base


@pytest.fixture(autouse=True)
def real_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLCAGE_PYTHON_BASE", str(base()))


# ── Packages of PyPI ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def installed() -> Path:
    """A folder with the packages, made once, and again when their versions change."""
    folder = TARGET / "pythons/public-envs/site-packages"
    made, wanted = folder.with_name("made"), " ".join(PACKAGES)
    if not made.exists() or made.read_text() != wanted:
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.mkdir(parents=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--target"]
        run = subprocess.run([*pip, str(folder), *PACKAGES], capture_output=True, text=True)
        if run.returncode != 0:
            pytest.skip(f"PyPI cannot be had: {run.stderr.strip().splitlines()[-1]}")
        made.write_text(wanted)
    return folder


@pytest.fixture
def packages(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """A block in which the packages and what stands in for their dependencies can be imported."""
    for folder in (STAND_INS, installed, Path(__file__).parent / "public"):
        monkeypatch.syspath_prepend(str(folder))
    from rollcage_guest import stubs

    # A module of the tests has the name of a package, too.
    monkeypatch.delitem(sys.modules, "rich", raising=False)
    registry, modules = dict(gymnasium.registry), set(sys.modules)
    stubs.install(NATIVE)
    try:
        yield stubs.importing
    finally:
        stubs.uninstall()
        gymnasium.registry.clear()
        gymnasium.registry.update(registry)
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if file.startswith((str(installed), str(Path(__file__).parent / "public"))):
                del sys.modules[name]


# ── The same game twice ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Difference:
    """What was found between an env in the cage and the native one."""

    steps: int = 0
    episodes: int = 0
    #: The largest difference of two floating-point numbers.
    worst: float = 0.0
    #: Where the answers came apart.
    apart: str | None = None


def distance(ours: Any, theirs: Any) -> float:
    """The largest difference of two answers; infinite where they are not of one form or differ in a whole number."""
    if isinstance(theirs, dict):
        if set(ours) != set(theirs):
            return float("inf")
        return max((distance(ours[key], theirs[key]) for key in theirs), default=0.0)
    if isinstance(theirs, tuple):
        if len(ours) != len(theirs):
            return float("inf")
        return max((distance(one, other) for one, other in zip(ours, theirs, strict=True)), default=0.0)
    if isinstance(theirs, str):
        return 0.0 if ours == theirs else float("inf")
    theirs, ours = np.asarray(theirs), np.asarray(ours)
    if ours.shape != theirs.shape:
        return float("inf")
    if theirs.dtype.kind == "f":
        return float(np.max(np.abs(ours.astype(theirs.dtype) - theirs), initial=0.0))
    return 0.0 if np.array_equal(ours, theirs) else float("inf")


def one_of(batch: Any, env: int) -> Any:
    """An env's part of the observations of all."""
    if isinstance(batch, dict):
        return {key: one_of(value, env) for key, value in batch.items()}
    if isinstance(batch, tuple) and not any(isinstance(part, str) for part in batch):
        return tuple(one_of(part, env) for part in batch)
    return batch[env]


def compared(
    caged: Any, make: Callable[[], Any], steps: int, draw: Callable[[Any], Any] | None = None
) -> list[Difference]:
    """Plays the envs of `caged` and one native env for each, with the same seeds and actions.

    An env whose answers come apart by more than the last bits is not looked at any longer.
    """
    rng = np.random.default_rng(11)
    caged.action_space.seed(11)
    natives, found, ended = [make() for _ in SEEDS], [Difference() for _ in SEEDS], [False for _ in SEEDS]
    observations, _ = caged.reset(seed=SEEDS)

    def look(env: int, ours: Any, theirs: Any, what: str) -> None:
        away = distance(ours, theirs)
        if away > LAST_BITS:
            if isinstance(theirs, str):
                # Of long texts, what follows where they come apart.
                where = max(0, len(os.path.commonprefix([ours, theirs])) - 60)
                ours, theirs = ours[where:], theirs[where:]
            said = f"{what} of step {found[env].steps}: {ours!r:.300}, natively {theirs!r:.300}"
            found[env].apart = found[env].apart or said
        else:
            found[env].worst = max(found[env].worst, away)

    for env, (native, seed) in enumerate(zip(natives, SEEDS, strict=True)):
        look(env, one_of(observations, env), native.reset(seed=seed)[0], "the reset")
    for _ in range(steps):
        actions = caged.action_space.sample() if draw is None else tuple(draw(rng) for _ in SEEDS)
        observations, rewards, terminations, truncations, _ = caged.step(actions)
        for env, native in enumerate(natives):
            if found[env].apart:
                continue
            if ended[env]:
                # The vector env resets it at its next step, without a seed.
                found[env].episodes += 1
                ended[env] = False
                look(env, one_of(observations, env), native.reset()[0], "the observation")
                continue
            found[env].steps += 1
            observation, reward, terminated, truncated, _ = native.step(
                one_of(actions, env) if draw is None else actions[env]
            )
            look(env, one_of(observations, env), observation, "the observation")
            look(env, float(rewards[env]), float(reward), "the reward")
            look(env, (bool(terminations[env]), bool(truncations[env])), (bool(terminated), bool(truncated)), "the end")
            ended[env] = bool(terminated or truncated)
    caged.close()
    return found


def check(name: str, found: list[Difference], steps: int, exact: bool) -> None:
    for one, seed in zip(found, SEEDS, strict=True):
        assert one.apart is None, f"{name}, seed {seed}: {one.apart}"
        assert one.steps > steps // 3 and one.steps + one.episodes == steps, (name, one)
        if exact:
            assert one.worst == 0, f"{name}, seed {seed}: {one.worst} away"


def check_id(name: str, steps: int, exact: bool, spec: Any = None) -> None:
    spec = copy.deepcopy(spec or gymnasium.spec(name))
    caged = rollcage.make_vec(spec, len(SEEDS), on_fault="raise")
    check(name, compared(caged, lambda: gymnasium.make(spec, disable_env_checker=True), steps), steps, exact)


# ── Gymnasium's ─────────────────────────────────────────────────────────────────────────────────────────────────────

#: And whether it is the same bit for bit: no function of the C library is called that may differ in the last.
GYMNASIUMS = {
    "CartPole-v1": False,
    "MountainCar-v0": False,
    "MountainCarContinuous-v0": False,
    "Pendulum-v1": False,
    "FrozenLake-v1": True,
    "Taxi-v4": True,
    "CliffWalking-v1": True,
    "Blackjack-v1": True,
}


@pytest.mark.parametrize("name", ["CartPole-v1", "FrozenLake-v1", "Pendulum-v1"])
def test_gymnasiums_envs_are_the_native_ones_for_a_while(name: str) -> None:
    check_id(name, 200, GYMNASIUMS[name])


@pytest.mark.long
@pytest.mark.parametrize("name", list(GYMNASIUMS))
def test_gymnasiums_envs_are_the_native_ones(name: str) -> None:
    check_id(name, 2_000, GYMNASIUMS[name])


#: Numbers of one call: its arguments are JSON of at most a megabyte.
CALLED_MAX = 5_000


def test_acrobot_is_the_native_one_until_a_sine_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is chaotic: a difference in the last bit doubles every few steps (docs/sdk.md).

    The native env tells which sines, cosines and squares it computed in each step. Another env computes those in the cage. Up to
    the first of them that differs, the two episodes are one, bit for bit.
    """
    from gymnasium.envs.classic_control import acrobot

    asked: list[tuple[str, float, float]] = []

    def told(name: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def tell(x: Any) -> Any:
            result = function(x)
            asked.append((name, float(x), float(result)))
            return result

        return tell

    square, dsdt = told("square", lambda x: x**2), acrobot.AcrobotEnv._dsdt

    def derivative(self: Any, state: Any) -> Any:
        # What it squares: both velocities, and a factor of theirs.
        for x in (state[2], state[3], 1.25 + 0.5 * np.cos(state[1])):
            square(np.float64(x))
        return dsdt(self, state)

    monkeypatch.setattr(acrobot, "sin", told("sin", np.sin))
    monkeypatch.setattr(acrobot, "cos", told("cos", np.cos))
    monkeypatch.setattr(acrobot.AcrobotEnv, "_dsdt", derivative)
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "public"))

    caged = rollcage.make_vec("Acrobot-v1", len(SEEDS), on_fault="raise")
    caged.action_space.seed(11)
    natives = [gymnasium.make("Acrobot-v1", disable_env_checker=True) for _ in SEEDS]
    # Of each env, for the reset and each step: the answers, and what was computed for them.
    played: list[list[tuple[Any, Any, list[tuple[str, float, float]]]]] = [[] for _ in SEEDS]

    def native(env: int, ours: Any, play: Callable[[], Any]) -> bool:
        asked.clear()
        result = play()
        played[env].append((ours.tobytes(), np.asarray(result[0], np.float32).tobytes(), asked.copy()))
        return len(result) == 5 and bool(result[2] or result[3])

    observations, _ = caged.reset(seed=SEEDS)
    for env, seed in enumerate(SEEDS):
        native(env, observations[env], lambda env=env, seed=seed: natives[env].reset(seed=seed))  # type: ignore[misc]
    ended = [False for _ in SEEDS]
    for _ in range(500):
        actions = caged.action_space.sample()
        observations = caged.step(actions)[0]
        for env, one in enumerate(natives):
            if not ended[env]:
                action = actions[env]
                ended[env] = native(env, observations[env], lambda one=one, action=action: one.step(action))  # type: ignore[misc]
    caged.close()

    differing = []
    with_calculator = rollcage.make_vec("calculator:Calculator", 1, on_fault="raise")
    with_calculator.reset(seed=0)
    for env, steps in enumerate(played):
        first = len(steps)
        for at, (_, _, computed) in enumerate(steps):
            for begin in range(0, len(computed), CALLED_MAX):
                some = computed[begin : begin + CALLED_MAX]
                (values,) = with_calculator.call("values", [(name, x.hex()) for name, x, _ in some])
                if values != [result.hex() for _, _, result in some]:
                    first = min(first, at)
            if first == at:
                break
        differing.append(first)
        for at, (ours, theirs, _) in enumerate(steps[:first]):
            assert ours == theirs, f"seed {SEEDS[env]}, step {at}; the first differing function is of step {first}"
        # And for a while after that: of the shipped plugin one episode in thirty comes apart before its end.
        for at, (ours, theirs, _) in enumerate(steps[:100]):
            away = np.abs(np.frombuffer(ours, np.float32) - np.frombuffer(theirs, np.float32)).max()
            assert away <= LAST_BITS, f"seed {SEEDS[env]}, step {at}: {away} away"
    with_calculator.close()
    # Three sines in a hundred differ in their last bit, and a step takes dozens: else nothing would have been looked at.
    assert all(len(steps) > 50 for steps in played), [len(steps) for steps in played]
    assert any(first < len(steps) for first, steps in zip(differing, played, strict=True)), differing


def test_cartpole_has_the_digest_of_the_plugin_in_rust(tmp_path: Path) -> None:
    """Gymnasium's own file on numpy: states, resets and ends are those of the port, to the last bit."""
    folder = tmp_path / "pole"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        "[project]\nname = 'pole'\nversion = '1'\n[tool.rollcage]\nenv = 'CartPole-v1'\n"
    )
    digests = [digest("cartpole"), digest(str(folder))]
    assert digests[0] == digests[1] == "3a0f0990a950ae6c8225807c6ec9a244538cc1017437b327fd13ce7f44e66a1d"


def digest(plugin: str) -> str:
    """Of the run that the README shows."""
    command = [str(_program.path()), "run", plugin, "--envs", "8", "--episodes", "200", "--seed", "7"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"digest\s+([0-9a-f]{64})", run.stdout + run.stderr)
    assert found, run.stdout
    return found[1]


def test_a_step_leaves_no_memory_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as many bytes of pictures as the env has memory."""
    (tmp_path / "picture_env.py").write_text(
        "import gymnasium\nimport numpy as np\nfrom gymnasium import spaces\n"
        "class Picture(gymnasium.Env):\n"
        "    action_space = spaces.Discrete(2)\n"
        "    observation_space = spaces.Box(0, 255, (200, 200, 3), np.uint8)\n"
        "    seen = np.zeros((200, 200, 3), np.uint8)\n"
        "    def reset(self, *, seed=None, options=None):\n"
        "        return self.seen, {}\n"
        "    def step(self, action):\n"
        "        return self.seen, 0.0, False, False, {}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    made_by = importlib.import_module("picture_env").Picture
    envs = rollcage.make_vec(made_by, 1, seed=1, limits={"memory_bytes": 64 << 20}, on_fault="raise")
    try:
        envs.reset()
        for _ in range(2 * (64 << 20) // (200 * 200 * 3)):
            envs.step([0])
    finally:
        envs.close()
        del sys.modules["picture_env"]


# ── Those of other packages ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        "MiniGrid-DoorKey-8x8-v0",
        "MiniGrid-Dynamic-Obstacles-8x8-v0",
        "MiniGrid-MultiRoom-N6-v0",
        "MiniGrid-Fetch-6x6-N2-v0",
        "BabyAI-GoToLocal-v0",
    ],
)
def test_minigrids_levels_are_the_native_ones(name: str, packages: Callable[[], Any]) -> None:
    with packages():
        importlib.import_module("minigrid")
    check_id(name, 2_000, True)


@pytest.mark.long
@pytest.mark.parametrize("game", ["Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders"])
def test_minatars_games_are_the_native_ones(game: str, packages: Callable[[], Any]) -> None:
    with packages():
        importlib.import_module("minatar.gym").register_envs()
    check_id(f"MinAtar/{game}-v1", 2_000, True)


@pytest.mark.long
def test_a_vector_reward_is_made_a_number_by_a_wrapper(packages: Callable[[], Any]) -> None:
    with packages():
        importlib.import_module("mo_gymnasium")
        importlib.import_module("mo_gymnasium.wrappers")
    spec = copy.deepcopy(gymnasium.spec("deep-sea-treasure-v0"))
    weighted = WrapperSpec("LinearReward", "mo_gymnasium.wrappers:LinearReward", {})
    spec.additional_wrappers = (weighted,)
    check_id(spec.id, 2_000, True, spec)


@pytest.mark.long
def test_a_vector_reward_is_refused_in_words(packages: Callable[[], Any]) -> None:
    with packages():
        importlib.import_module("mo_gymnasium")
    envs = rollcage.make_vec("deep-sea-treasure-v0", 1, on_fault="raise")
    envs.reset(seed=1)
    with pytest.raises(rollcage.RollcageError, match=r"a reward with shape \(2,\), wanted one number"):
        envs.step([1])
    envs.close()


@pytest.mark.long
def test_a_game_of_texts_is_the_native_one(packages: Callable[[], Any]) -> None:
    with packages():
        made_by = importlib.import_module("guess_the_number").GuessTheNumber

    def guess(rng: np.random.Generator) -> str:
        return f"[{rng.integers(1, 21)}]"

    # Its numbers are of `random`, which all native envs of one process share: each plays by itself.
    class Apart:
        state: Any = None

        def __init__(self) -> None:
            self.env = made_by()

        def __getattr__(self, name: str) -> Any:
            import random

            def call(*arguments: Any, **keywords: Any) -> Any:
                before = random.getstate()
                if self.state is not None:
                    random.setstate(self.state)
                answer = getattr(self.env, name)(*arguments, **keywords)
                self.state = random.getstate()
                random.setstate(before)
                return answer

            return call

    found = compared(rollcage.make_vec(made_by, len(SEEDS), on_fault="raise"), Apart, 2_000, guess)
    check("GuessTheNumber-v0", found, 2_000, True)
    assert all(one.episodes > 20 for one in found)
