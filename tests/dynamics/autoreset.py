"""Steps gymnasium's own `SyncVectorEnv` in its three autoreset modes and writes down what it did, for rollcage to do again.

    python autoreset.py [--steps N] [--only MODE] > autoreset.jsonl

Needs `gymnasium==1.4.0`, which it checks. The output is the same with every run.

Format: JSON Lines, runs one after the other. A run is a header, then its rows in the order of the calls.

    header  {"run": NAME, "plugin": PLUGIN, "config": {…}, "mode": MODE, "envs": N, "seed": SEED, "steps": STEPS,
             "max_episode_steps": LIMIT}
    reset   {"reset": {"seed": SEED or null, "seeds": [SEED or null, …] or null, "mask": [B, …] or null,
             "options": {…} or null}, "observations": [O, …], "infos": [{…} or null, …]}
    step    {"actions": [A, …], "observations": [O, …], "rewards": [R, …], "terminated": [B, …], "truncated": [B, …],
             "resets": [B, …], "infos": [{…}, …], "final_observations": [O or null, …],
             "final_infos": [{…} or null, …], "episodes": [{"return": R, "length": L} or null, …]}

A list has an entry per env. `mode` is `next-step`, `same-step` or `disabled`. `infos` are Gymnasium's `infos` of the whole
vector, taken apart by their masks (`_prob` for `prob`): null for an env that a masked reset left alone. `final_observations`
and `final_infos` are its `final_obs` and `final_info`, null where `_final_obs` and `_final_info` are false; `episodes` is
what its `RecordEpisodeStatistics` put into `info` or `final_info`. `resets` is the flag by which `SyncVectorEnv` knows
that this step ignores the action and resets. Values are written as `reference.py` writes them.

The first row resets all envs, by the one seed of the header. Some rows further down reset again: by a mask, with seeds
and options for some; all envs, without a seed; all envs, with one seed. In mode `disabled` the envs that ended are
reset by a mask, as the caller has to do it there. Actions come from a generator of their own.

`prob` of FrozenLake is made a float, which it is but for resets: Gymnasium gives the column of a vector the type of the
first env's value, and after an integer 1 it would cut the others' probabilities to 0.
"""

import argparse
import random
import sys

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics
from reference import VERSION, plain, write

STEPS = 400
ENVS = 3
MODES = {
    "next-step": AutoresetMode.NEXT_STEP,
    "same-step": AutoresetMode.SAME_STEP,
    "disabled": AutoresetMode.DISABLED,
}
BOUNDS = [None, {}, {"low": -0.1, "high": 0.1}, {"low": 0.02, "high": 0.02}]

# plugin, id, config, time limit (none: the env's own), seed, reset options
RUNS = [
    ("cartpole", "CartPole-v1", {}, None, 7, BOUNDS),
    ("cartpole", "CartPole-v1", {"sutton_barto_reward": True}, 12, 2**40, BOUNDS),
    ("frozenlake", "FrozenLake-v1", {"success_rate": 0.8, "reward_schedule": [1, -0.5, 0.125]}, 9, 3, [None, {}]),
    ("blackjack", "Blackjack-v1", {}, 2, 11, [None, {}]),
]


class Floats(gymnasium.Wrapper):
    """Infos without integers."""

    def reset(self, **kwargs):
        observation, info = self.env.reset(**kwargs)
        return observation, {key: float(value) for key, value in info.items()}

    def step(self, action):
        *answer, info = self.env.step(action)
        return *answer, {key: float(value) for key, value in info.items()}


def of_env(infos, env):
    """The infos of one env, from those of the vector."""
    return {
        key: of_env(value, env) if isinstance(value, dict) else plain(value[env])
        for key, value in infos.items()
        if not key.startswith("_") and infos[f"_{key}"][env]
    }


def play(plugin, env_id, config, limit, seed, options, mode, steps):
    """One run: the header, then resets and steps."""
    limited = {} if limit is None else {"max_episode_steps": limit}
    make = lambda: RecordEpisodeStatistics(Floats(gymnasium.make(env_id, **config, **limited)))
    envs = SyncVectorEnv([make] * ENVS, autoreset_mode=MODES[mode])
    write(
        {
            "run": f"{mode}/{plugin}/{seed}",
            "plugin": plugin,
            "config": config,
            "mode": mode,
            "envs": ENVS,
            "seed": seed,
            "steps": steps,
            "max_episode_steps": envs.envs[0].spec.max_episode_steps,
        }
    )
    chance = random.Random(f"actions and resets of {mode}/{plugin}/{seed}")

    def observed(observations):
        columns = observations if isinstance(observations, tuple) else None
        return [plain(tuple(c[env] for c in columns) if columns else observations[env]) for env in range(ENVS)]

    def reset(seed=None, seeds=None, mask=None, chosen=None):
        given = chosen if mask is None else {**(chosen or {}), "reset_mask": np.array(mask)}
        observations, infos = envs.reset(seed=seeds if seed is None else seed, options=given)
        reset_envs = [True] * ENVS if mask is None else mask
        write(
            {
                "reset": {"seed": seed, "seeds": seeds, "mask": mask, "options": chosen},
                "observations": observed(observations),
                "infos": [of_env(infos, env) if reset_envs[env] else None for env in range(ENVS)],
            }
        )

    reset(seed=seed)
    for step in range(steps):
        resets = envs._autoreset_envs if mode == "next-step" else np.zeros(ENVS, dtype=bool)
        resets = resets.tolist()
        actions = [chance.randrange(int(envs.single_action_space.n)) for _ in range(ENVS)]
        observations, rewards, terminated, truncated, infos = envs.step(np.array(actions))
        each = [of_env(infos, env) for env in range(ENVS)]
        finals = [info.pop("final_obs", None) for info in each]
        final_infos = [info.pop("final_info", None) for info in each]
        episodes = [(final or info).pop("episode", None) for info, final in zip(each, final_infos, strict=True)]
        write(
            {
                "actions": actions,
                "observations": observed(observations),
                "rewards": plain(rewards),
                "terminated": plain(terminated),
                "truncated": plain(truncated),
                "resets": resets,
                "infos": each,
                "final_observations": finals,
                "final_infos": final_infos,
                "episodes": [e and {"return": float(e["r"]), "length": int(e["l"])} for e in episodes],
            }
        )
        ended = (terminated | truncated).tolist()
        if mode == "disabled" and any(ended):
            reset(mask=ended, chosen=chance.choice(options))
        if step % 37 == 20:
            mask = [chance.random() < 0.5 for _ in range(ENVS)]
            mask[step % ENVS] = True
            seeds = [chance.choice([None, 5, 2**64 - 1]) for _ in range(ENVS)] if step % 2 else None
            reset(seeds=seeds, mask=mask, chosen=chance.choice(options))
        if step % 150 == 149:
            reset(seed=None if step == 149 else 99)
    envs.close()


def main():
    """All runs, or those of one mode."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of each run")
    parser.add_argument("--only", choices=MODES, help="the runs of this mode alone")
    arguments = parser.parse_args()
    if gymnasium.__version__ != VERSION:
        sys.exit(f"gymnasium {gymnasium.__version__}: expected {VERSION}")
    for mode in MODES:
        for run in RUNS if arguments.only in (None, mode) else []:
            play(*run, mode, arguments.steps)


if __name__ == "__main__":
    main()
