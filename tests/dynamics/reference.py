"""Plays gymnasium's own environments and writes down what they did, for rollcage to do again.

    python reference.py [--steps N] [--only PLUGIN] > reference.jsonl

Needs `gymnasium==1.4.0`, which it checks. The output is the same with every run.

Format: JSON Lines, runs one after the other. A run is a header, then its rows in the order of the calls.

    header  {"run": NAME, "env": ID, "plugin": PLUGIN, "config": {…}, "seed": SEED, "steps": N,
             "max_episode_steps": LIMIT or null, "reward_threshold": NUMBER or null,
             "observation_space": REPR, "action_space": REPR}
    reset   {"reset": {"seed": SEED or null, "options": {…} or null}, "observation": O, "info": {…}}
    step    {"action": A, "observation": O, "reward": R, "terminated": B, "truncated": B, "info": {…}}
            and `"ansi": TEXT`, in reset and step alike, where the environment renders text

`config` is what the plugin is created with: the keyword arguments of `gymnasium.make(ID, …)`, and what ID itself stands
for (`{"map_name": "8x8"}` for FrozenLake8x8-v1). `repr` of a space is Gymnasium's. A Box is a list of numbers, each the
shortest text that gives the same double again; for a float32 that is the double of the same value. A Discrete is an integer, a
Tuple a list. Some are outside the bounds of their Box: both environments that have one clip by themselves. `truncated` is that of the time limit, which wraps the environment as `gymnasium.make` does it.

The first row of a run resets with its seed. A step that ends an episode is followed by a reset without a seed, as an
automatic reset is, mostly without options. Some runs also reset in the middle of an episode, with and without a seed.
The N steps do not count resets. Actions are drawn uniformly from a generator of their own.
"""

import argparse
import json
import random
import sys

import gymnasium
import numpy as np

VERSION = "1.4.0"
STEPS = 2000

LAKE_10 = [
    "SFFFHFFFFF",
    "FFFFFFFFHF",
    "FHFFFFHFFF",
    "FFFFHFFFFS",
    "FFFFFFFFFF",
    "HFFFFFGFFF",
]

NEAR_THE_FLAG = [
    None,
    {},
    {"low": -1.2, "high": 0.6},
    {"low": 0.3, "high": 0.44},
    {"low": -0.45},
    {"low": -1.15, "high": -1.1},
    {"low": 0.7, "high": 0.9},
]

# name, id, plugin, config, keyword arguments, seeds, reset options
RUNS = [
    ("cartpole", "CartPole-v1", "cartpole", {}, {}, [0, 7, 2**32 - 1, 2**32 + 5, 2**64 - 1], [None]),
    ("cartpole-sutton-barto", "CartPole-v1", "cartpole", None, {"sutton_barto_reward": True}, [1, 123], [None]),
    (
        "cartpole-options",
        "CartPole-v1",
        "cartpole",
        {},
        {},
        [2, 99],
        [None, {}, {"low": -0.1, "high": 0.1}, {"low": 0.0}, {"high": 0.2}, {"low": 0.01, "high": 0.01}],
    ),
    ("mountaincar", "MountainCar-v0", "mountaincar", {}, {}, [0, 7, 2**32 + 1], [None]),
    ("mountaincar-goal", "MountainCar-v0", "mountaincar", None, {"goal_velocity": 0.02}, [1], NEAR_THE_FLAG),
    ("mountaincar-options", "MountainCar-v0", "mountaincar", {}, {}, [2, 5], NEAR_THE_FLAG),
    ("mountaincar-continuous", "MountainCarContinuous-v0", "mountaincar-continuous", {}, {}, [0, 7, 2**63], [None]),
    (
        "mountaincar-continuous-goal",
        "MountainCarContinuous-v0",
        "mountaincar-continuous",
        None,
        {"goal_velocity": 0.02},
        [1],
        NEAR_THE_FLAG,
    ),
    (
        "mountaincar-continuous-options",
        "MountainCarContinuous-v0",
        "mountaincar-continuous",
        {},
        {},
        [2, 5],
        NEAR_THE_FLAG,
    ),
    ("acrobot", "Acrobot-v1", "acrobot", {}, {}, [0, 7, 123, 2**40 + 1], [None]),
    (
        "acrobot-options",
        "Acrobot-v1",
        "acrobot",
        {},
        {},
        [1, 2],
        [None, {}, {"low": -1.0, "high": 1.0}, {"low": 3.0, "high": 3.1}, {"high": 0.5}, {"low": 0.1}],
    ),
    ("pendulum", "Pendulum-v1", "pendulum", {}, {}, [0, 7, 2**32 + 3], [None]),
    ("pendulum-moon", "Pendulum-v1", "pendulum", None, {"g": 1.62}, [1], [None]),
    ("pendulum-jupiter", "Pendulum-v1", "pendulum", None, {"g": 24.79}, [2], [None]),
    (
        "pendulum-options",
        "Pendulum-v1",
        "pendulum",
        {},
        {},
        [3, 4],
        [None, {}, {"x_init": 0.0, "y_init": 0.0}, {"x_init": 20.0}, {"y_init": 8.0}, {"x_init": 1.5, "y_init": 0.5}],
    ),
    ("frozenlake", "FrozenLake-v1", "frozenlake", {}, {}, [0, 7, 2**40 + 1], [None]),
    ("frozenlake-8x8", "FrozenLake8x8-v1", "frozenlake", {"map_name": "8x8"}, {}, [0, 11], [None]),
    ("frozenlake-firm", "FrozenLake-v1", "frozenlake", None, {"is_slippery": False}, [3], [None]),
    ("frozenlake-success-rate", "FrozenLake-v1", "frozenlake", None, {"success_rate": 0.75}, [4], [None]),
    ("frozenlake-sure", "FrozenLake-v1", "frozenlake", None, {"success_rate": 1.0}, [5], [None]),
    (
        "frozenlake-rewards",
        "FrozenLake-v1",
        "frozenlake",
        None,
        {"reward_schedule": [10, -5.5, -0.1]},
        [6],
        [None],
    ),
    (
        "frozenlake-desc",
        "FrozenLake-v1",
        "frozenlake",
        None,
        {"desc": LAKE_10, "success_rate": 0.9, "reward_schedule": [2, -1, 0.125]},
        [8, 9],
        [None, {}],
    ),
    ("frozenlake-desc-firm", "FrozenLake-v1", "frozenlake", None, {"desc": ["FSF", "FFF"], "is_slippery": False}, [1], [None]),
    ("taxi", "Taxi-v4", "taxi", {}, {}, [0, 7, 2**32 + 9], [None, {}]),
    ("taxi-rainy", "Taxi-v4", "taxi", None, {"is_rainy": True}, [1, 2], [None]),
    ("taxi-fickle", "Taxi-v4", "taxi", None, {"fickle_passenger": True}, [3, 4], [None]),
    ("taxi-capricious", "Taxi-v4", "taxi", None, {"fickle_passenger": True, "fickle_probability": 1.0}, [11], [None]),
    (
        "taxi-both",
        "Taxi-v4",
        "taxi",
        None,
        {"is_rainy": True, "fickle_passenger": True, "rainy_probability": 0.45, "fickle_probability": 0.9},
        [5, 6],
        [None],
    ),
    ("cliffwalking", "CliffWalking-v1", "cliffwalking", {}, {}, [0, 7, 2**50], [None, {}]),
    ("cliffwalking-slippery", "CliffWalkingSlippery-v1", "cliffwalking", {"is_slippery": True}, {}, [1, 2], [None]),
    ("blackjack", "Blackjack-v1", "blackjack", {}, {}, [0, 7, 2**33], [None, {}]),
    ("blackjack-natural", "Blackjack-v1", "blackjack", None, {"natural": True, "sab": False}, [1, 2], [None]),
    ("blackjack-plain", "Blackjack-v1", "blackjack", None, {"sab": False}, [3], [None]),
    ("blackjack-both", "Blackjack-v1", "blackjack", None, {"natural": True, "sab": True}, [4], [None]),
]


def plain(value):
    """numpy's and Gymnasium's values as JSON has them, nothing rounded."""
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def draw(space, actions):
    """An action: of a Box one in three is a bound, which is where clipping begins, and one in six is beyond it."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return actions.randrange(int(space.n))
    bounds = zip(space.low.tolist(), space.high.tolist(), strict=True)
    numbers = [number(low, high, actions) for low, high in bounds]
    return np.array(numbers, dtype=space.dtype)


def number(low, high, actions):
    """An element of a Box."""
    kind = actions.random()
    if kind < 1 / 3:
        return actions.choice([low, high, 0.0])
    if kind < 1 / 2:
        beyond = actions.choice([1e-7, 1e-6, 0.015, 0.5, 3.0, 1e3, 1e18])
        return actions.choice([low * (1 + beyond), high * (1 + beyond)])
    return actions.uniform(low, high)


def write(row):
    """One line, in ASCII."""
    print(json.dumps(row, allow_nan=False))


def play(name, env_id, plugin, config, kwargs, seed, options, steps):
    """One run: the header, then resets and steps."""
    ansi = plugin in ("cliffwalking", "frozenlake", "taxi")
    env = gymnasium.make(env_id, **kwargs, **({"render_mode": "ansi"} if ansi else {}))
    write(
        {
            "run": f"{name}/{seed}",
            "env": env_id,
            "plugin": plugin,
            "config": kwargs if config is None else config,
            "seed": seed,
            "steps": steps,
            "max_episode_steps": env.spec.max_episode_steps,
            "reward_threshold": env.spec.reward_threshold,
            "observation_space": repr(env.observation_space),
            "action_space": repr(env.action_space),
        }
    )
    actions = random.Random(f"actions of {name}/{seed}")
    picture = lambda: {"ansi": env.render()} if ansi else {}

    def reset(seed):
        chosen = actions.choice(options)
        observation, info = env.reset(seed=seed, options=chosen)
        call = {"seed": seed, "options": chosen}
        write({"reset": call, "observation": plain(observation), "info": plain(info), **picture()})

    reset(seed)
    for step in range(steps):
        action = draw(env.action_space, actions)
        observation, reward, terminated, truncated, info = env.step(action)
        write(
            {
                "action": plain(action),
                "observation": plain(observation),
                "reward": float(reward),
                "terminated": bool(terminated),
                "truncated": bool(truncated),
                "info": plain(info),
                **picture(),
            }
        )
        if terminated or truncated:
            reset(None)
        elif seed % 2 == 1 and step % 500 == 250:
            reset(seed + 1 if step % 1000 == 250 and seed < 2**64 - 1 else None)
    env.close()


def main():
    """All runs, or those of one plugin."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of each run")
    parser.add_argument("--only", metavar="PLUGIN", help="the runs of this plugin alone")
    arguments = parser.parse_args()
    if gymnasium.__version__ != VERSION:
        sys.exit(f"gymnasium {gymnasium.__version__}: expected {VERSION}")
    for name, env_id, plugin, config, kwargs, seeds, options in RUNS:
        for seed in seeds if arguments.only in (None, plugin) else []:
            play(name, env_id, plugin, config, kwargs, seed, options, arguments.steps)


if __name__ == "__main__":
    main()
