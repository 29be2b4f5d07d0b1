"""Evaluation of a policy: many episodes in the workers, in one call."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rollcage._rollouts import PolicyLike
from rollcage._sources import PluginLike
from rollcage._types import Reals
from rollcage.vector import VectorEnv, make_vec

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """The episodes of an evaluation; `str` makes a table of them.

    Attributes
    ----------
    returns : ndarray of float64, shape (episodes,)
        The return of each episode, env by env.
    lengths : ndarray of int64, shape (episodes,)
        The length of each, in steps.
    digest : str
        The run's digest: equal where every episode was equal.
    record : str or None
        The folder of the recording, if there is one.

    """

    returns: Reals
    lengths: npt.NDArray[np.int64]
    digest: str
    record: str | None

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Standard deviation of the returns (of the sample, not of the mean)."""
        return float(self.returns.std(ddof=1)) if len(self.returns) > 1 else 0.0

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("", "mean", "std", "min", "25 %", "median", "75 %", "max")]
        for name, values in (("return", self.returns), ("length", self.lengths)):
            quarters = np.quantile(values, [0.0, 0.25, 0.5, 0.75, 1.0])
            spread = values.std(ddof=1) if len(values) > 1 else 0.0
            rows.append((name, *(f"{value:.6g}" for value in (values.mean(), spread, *quarters))))
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([f"{len(self.returns)} episodes", *lines])


def evaluate(
    model: PolicyLike,
    env: PluginLike | VectorEnv,
    episodes: int = 100,
    *,
    seed: int = 0,
    num_envs: int | None = None,
    record: str | os.PathLike[str] | None = None,
    deterministic: bool | None = None,
    **arguments: Any,
) -> Evaluation:
    """Plays episodes of a policy in the envs' workers.

    Parameters
    ----------
    model : path, model or Module
        The policy: the path of a policy component (``.wasm``) or a network (``.onnx``), a model of Stable-Baselines3's, or a
        `torch.nn.Module`; ``"random"`` for samples of the action space.
    env : str, path, class or EnvSpec; or VectorEnv
        The env, as `make_vec` takes it. A `VectorEnv` is reset with `seed`, and stays open.
    episodes : int
        Episodes of all envs together, in even shares: which episodes are played depends on nothing but `seed` and `num_envs`.
    seed : int
        Env *i* begins from ``seed + i``.
    num_envs : int, optional
        How many envs, if `env` is none; two for each core by default, and at most one for each episode.
    record : path, optional
        A folder into which every step is recorded: `rollcage verify` checks it, `rollcage replay` runs it again.
    deterministic : bool, optional
        Whether a network's policy takes its likeliest action or samples; what it was exported with by default.
    **arguments
        Further arguments of `make_vec`.

    Returns
    -------
    Evaluation
        Returns and lengths; print it for a table.

    Raises
    ------
    UsageError, FaultError
        As `make_vec` and `VectorEnv.rollout`.

    Examples
    --------
    >>> import rollcage
    >>> result = rollcage.evaluate("random", "cartpole", episodes=20, seed=7)
    >>> len(result.returns), bool(result.mean > 5)
    (20, True)

    """
    config: Mapping[str, Any] | None = None if deterministic is None else {"deterministic": deterministic}
    if isinstance(env, VectorEnv):
        env.reset(seed=seed)
        return _played(env, model, episodes, config, None)
    cores = len(os.sched_getaffinity(0))
    many = min(2 * cores, episodes) if num_envs is None else num_envs
    beside = None if isinstance(model, str) and model == "random" else model
    envs = make_vec(
        env,
        max(many, 1),
        seed=seed,
        record=record,
        policy=beside,
        policy_config=None if beside is None else config,
        **arguments,
    )
    try:
        return _played(envs, "random" if beside is None else None, episodes, None, record)
    finally:
        envs.close()


def _played(
    envs: VectorEnv,
    policy: PolicyLike | None,
    episodes: int,
    config: Mapping[str, Any] | None,
    record: str | os.PathLike[str] | None,
) -> Evaluation:
    rollout = envs.rollout(policy, episodes=episodes, returns_only=True, policy_config=config)
    digest = envs.digest
    return Evaluation(rollout.returns, rollout.lengths, digest, None if record is None else os.fspath(record))
