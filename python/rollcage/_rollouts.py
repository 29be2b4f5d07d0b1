"""What was played in the workers, as numpy's arrays; and the forms in which a policy is given."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rollcage._spaces import Values
from rollcage._types import Flags, Reals
from rollcage.errors import Fault, UsageError

#: A policy's file, or what `export_policy` makes one of.
PolicyLike = str | os.PathLike[str] | Any


@dataclass(frozen=True)
class EnvRollout:
    """What one env played: a row for each answered step.

    Attributes
    ----------
    observations : batched observations, or None
        The observation on which each action was chosen; for a Box of shape *s* an array of shape (steps, *s*). None, as every
        column, where only returns were kept.
    actions : batched actions
        The actions.
    rewards : ndarray of float64, shape (steps,)
        The rewards.
    terminations, truncations : ndarray of bool, shape (steps,)
        Whether the task ended the episode with this step; whether the env, the time limit, or a fault in the step after it cut
        the episode off here.
    extras : dict of str to ndarray of float32, shape (steps,)
        What the policy added, such as ``log_prob`` and ``value``.
    action_masks : ndarray of int8, shape (steps, choices), or None
        The masks on which the actions were chosen, if the env has masks.
    final_observations : batched observations
        The last observation of each episode that ended, in order: one for each row that is terminated or truncated.
    last_observation : batched observations of one row
        The observation after the last row.
    returns : ndarray of float64, shape (episodes,)
        Returns of the episodes that ended by themselves or by their time limit.
    lengths : ndarray of int64, shape (episodes,)
        Their lengths in steps.
    steps : int
        Answered steps.
    faults : list of Fault
        Faults that the env met.

    """

    observations: Any
    actions: Any
    rewards: Reals
    terminations: Flags
    truncations: Flags
    extras: dict[str, npt.NDArray[np.float32]]
    action_masks: npt.NDArray[np.int8] | None
    final_observations: Any
    last_observation: Any
    returns: Reals
    lengths: npt.NDArray[np.int64]
    steps: int
    faults: list[Fault]


@dataclass(frozen=True)
class Rollout:
    """What envs played by themselves.

    The columns of all envs together are arrays of shape (steps, num_envs, …), where the envs took equally many steps; each
    env's own are in `envs`.

    Attributes
    ----------
    envs : list of EnvRollout
        What each env played.

    """

    envs: list[EnvRollout]

    @property
    def returns(self) -> Reals:
        """Returns of all episodes that ended, env by env, of shape (episodes,)."""
        return np.concatenate([env.returns for env in self.envs])

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Lengths of all episodes that ended, env by env, of shape (episodes,)."""
        return np.concatenate([env.lengths for env in self.envs])

    @property
    def steps(self) -> int:
        """Answered steps of all envs."""
        return sum(env.steps for env in self.envs)

    @property
    def faults(self) -> list[Fault]:
        """Faults of all envs."""
        return [fault for env in self.envs for fault in env.faults]

    @property
    def observations(self) -> Any:
        """Observations on which the actions were chosen: (steps, num_envs, …)."""
        return self._stacked("observations")

    @property
    def actions(self) -> Any:
        """Actions: (steps, num_envs, …)."""
        return self._stacked("actions")

    @property
    def rewards(self) -> Reals:
        """Rewards: float64 of shape (steps, num_envs)."""
        stacked: Reals = self._stacked("rewards")
        return stacked

    @property
    def terminations(self) -> Flags:
        """Whether a step ended its episode by the task's rules: bool of shape (steps, num_envs)."""
        stacked: Flags = self._stacked("terminations")
        return stacked

    @property
    def truncations(self) -> Flags:
        """Whether a step's episode was cut off: bool of shape (steps, num_envs)."""
        stacked: Flags = self._stacked("truncations")
        return stacked

    @property
    def action_masks(self) -> npt.NDArray[np.int8] | None:
        """Masks on which the actions were chosen: int8 of shape (steps, num_envs, choices); None without masks."""
        return None if self.envs[0].action_masks is None else self._stacked("action_masks")

    @property
    def extras(self) -> dict[str, npt.NDArray[np.float32]]:
        """What the policy added: float32 of shape (steps, num_envs) for each name."""
        self._check_even()
        names = self.envs[0].extras
        return {name: np.stack([env.extras[name] for env in self.envs], axis=1) for name in names}

    @property
    def last_observations(self) -> Any:
        """The observation of each env after its last step: (num_envs, …)."""
        return _joined([env.last_observation for env in self.envs], lambda parts: np.concatenate(parts))

    def _stacked(self, column: str) -> Any:
        self._check_even()
        return _joined([getattr(env, column) for env in self.envs], lambda parts: np.stack(parts, axis=1))

    def _check_even(self) -> None:
        if self.envs[0].observations is None:
            raise UsageError("this rollout kept returns alone; leave out returns_only=True")
        counts = {len(env.rewards) for env in self.envs}
        if len(counts) > 1:
            raise UsageError(
                f"the envs took different numbers of steps, {min(counts)} to {max(counts)}; "
                "each env's columns are in `rollout.envs`"
            )


def _joined(parts: Sequence[Any], join: Any) -> Any:
    """Batched values of several envs, joined leaf by leaf."""
    first = parts[0]
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts], join) for key in first}
    if isinstance(first, tuple) and first and isinstance(first[0], str):
        # Texts have no array.
        return list(zip(*parts, strict=True))
    if isinstance(first, tuple):
        return tuple(_joined([part[at] for part in parts], join) for at in range(len(first)))
    return join(parts)


def played(
    names: Sequence[str], envs: Sequence[dict[str, Any]], observations: Values, actions: Values, *, kept: bool
) -> Rollout:
    """What the extension returns of a rollout, as arrays."""
    return Rollout([_env(names, env, observations, actions, kept=kept) for env in envs])


def _env(names: Sequence[str], env: dict[str, Any], observations: Values, actions: Values, *, kept: bool) -> EnvRollout:
    rows = len(env["rewards"])
    masks = env["action_masks"]
    extras = env["extras"].reshape(rows, len(names))
    none = None
    return EnvRollout(
        observations=observations.read(env["observations"]) if kept else none,
        actions=actions.read(env["actions"]) if kept else none,
        rewards=env["rewards"],
        terminations=env["terminations"],
        truncations=env["truncations"],
        extras={name: np.ascontiguousarray(extras[:, at]) for at, name in enumerate(names)},
        action_masks=masks.view(np.int8).reshape(rows, -1) if len(masks) else none,
        final_observations=observations.read(env["final_observations"]) if kept else none,
        last_observation=observations.read(env["last_observation"]) if kept else none,
        returns=env["returns"],
        lengths=env["lengths"],
        steps=env["steps"],
        faults=env["faults"],
    )


@contextlib.contextmanager
def policy_file(policy: PolicyLike) -> Iterator[str]:
    """The file of a policy. A model is written to one that lasts as long as the context."""
    if isinstance(policy, str) and policy == "random":
        raise UsageError("policy: 'random' needs no policy beside the envs: `envs.rollout('random', steps)`")
    if isinstance(policy, (str, os.PathLike)):
        yield os.fspath(policy)
        return
    if isinstance(policy, (bool, int, float, bytes, dict, list, tuple)):
        raise TypeError(
            "policy: the path of a .wasm or .onnx, a model of Stable-Baselines3's or a torch.nn.Module is expected, "
            f"got {policy!r}"
        )
    from rollcage.export import export_policy

    with tempfile.TemporaryDirectory(prefix="rollcage-policy-") as folder:
        file = Path(folder) / f"{type(policy).__name__}.onnx"
        export_policy(policy, file)
        yield str(file)
