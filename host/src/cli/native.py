"""Plays a native Gymnasium class beside what was played in the cage, and prints the first difference as JSON, or null.

Reads one JSON object from its standard input: `class` (``module:Class``), `folder`, `config` (its keyword arguments), and
`plays`: for each a `seed`, the `actions` and the answers (`rows`).
"""

import importlib
import json
import math
import sys

import gymnasium
import numpy as np

#: Functions of the C library may differ in the last bit, and a few steps carry that on.
TOLERANCE = 1e-6


def action_of(space, given):
    """An action as the space's own samples are."""
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: action_of(one, given[key]) for key, one in space.spaces.items()}
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(action_of(one, part) for one, part in zip(space.spaces, given))
    if isinstance(space, gymnasium.spaces.Text):
        return given
    if isinstance(space, gymnasium.spaces.Discrete):
        return space.dtype.type(given)
    return np.asarray(numbers(given), dtype=space.dtype).reshape(space.shape)


def numbers(given):
    """Floats that JSON does not have are words."""
    if isinstance(given, list):
        return [numbers(one) for one in given]
    return float(given.replace("Infinity", "inf")) if isinstance(given, str) else given


def difference(ours, theirs, name="the observation"):
    """What differs, in words; None if nothing does."""
    if isinstance(theirs, dict):
        for key, value in theirs.items():
            if key not in ours:
                return f"{name} has {key!r} natively"
            found = difference(ours[key], value, f"{name}[{key!r}]")
            if found:
                return found
        return None
    if isinstance(theirs, tuple):
        for index, (one, two) in enumerate(zip(ours, theirs)):
            found = difference(one, two, f"{name}[{index}]")
            if found:
                return found
        return None
    if isinstance(theirs, str):
        return None if ours == theirs else f"{name} is {ours!r:.100}, natively {theirs!r:.100}"
    theirs = np.asarray(theirs)
    try:
        ours = np.asarray(numbers(ours), dtype=theirs.dtype)
    except (TypeError, ValueError, OverflowError):
        return f"{name} is {ours!r:.100}, natively {theirs!r:.100}"
    if ours.shape != theirs.shape:
        return f"{name} has shape {ours.shape}, natively {theirs.shape}"
    exact = theirs.dtype.kind != "f"
    same = ours == theirs if exact else np.isclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    if np.all(same):
        return None
    at = tuple(int(index) for index in np.argwhere(~np.atleast_1d(same))[0]) if theirs.shape else ()
    where = f"{name}{list(at) if at else ''}"
    return f"{where} is {ours[at]}, natively {theirs[at]}"


def first_difference(env, play):
    """The first difference of one play; None if there is none."""
    actions = iter(play["actions"])
    for step, row in enumerate(play["rows"]):
        if row["reset"]:
            observation, _ = env.reset(seed=play["seed"] if step == 0 else None)
            found = difference(row["observation"], observation)
        else:
            observation, reward, terminated, truncated, _ = env.step(action_of(env.action_space, next(actions)))
            found = difference(row["observation"], observation)
            ours = numbers(row["reward"])
            if not found and not (math.isclose(ours, float(reward), rel_tol=TOLERANCE, abs_tol=TOLERANCE) or ours == reward):
                found = f"the reward is {ours}, natively {float(reward)}"
            if not found and row["terminated"] != bool(terminated):
                found = f"terminated is {row['terminated']}, natively {bool(terminated)}"
            # The host's time limit truncates too.
            if not found and bool(truncated) and not row["truncated"]:
                found = "truncated is False, natively True"
        if found:
            return {"seen": found, "seed": play["seed"], "step": step}
    return None


def main():
    asked = json.load(sys.stdin)
    sys.path.insert(0, asked["folder"])
    module, _, name = asked["class"].partition(":")
    made_by = importlib.import_module(module)
    for part in name.split("."):
        made_by = getattr(made_by, part)
    env = made_by(**asked["config"])
    found = None
    for play in asked["plays"]:
        found = first_difference(env, play)
        if found:
            break
    print(json.dumps(found))


main()
