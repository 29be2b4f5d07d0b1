"""Tianshou's `BaseVectorEnv` over rollcage: `VectorEnv`, for its collectors.

::

    from rollcage.tianshou import VectorEnv
    from tianshou.data import Collector, VectorReplayBuffer

    train_envs = VectorEnv("cartpole", 8, seed=7)
    collector = Collector(algorithm, train_envs, VectorReplayBuffer(20_000, 8))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from tianshou.env import BaseVectorEnv

from rollcage import _arguments as arguments
from rollcage import vector
from rollcage._names import GYMNASIUM, answered
from rollcage._sources import PluginLike
from rollcage.errors import UnsupportedError, UsageError

__all__ = ["VectorEnv"]

Indices = int | Iterable[int] | None


class VectorEnv(BaseVectorEnv):
    """Envs of one plugin, each in a sandboxed process of its own, as Tianshou's `BaseVectorEnv`.

    It steps all envs in one call of `rollcage.VectorEnv`, which `envs` holds, with autoreset disabled: Tianshou's collectors reset
    the envs whose episodes are over. One thread at a time may use it. It is synchronous: there is no `wait_num`.

    A fault truncates the episode of its env, with ``fault`` and ``fault_message`` in its info.

    Parameters
    ----------
    plugin : str, path, class or EnvSpec
        As for `rollcage.VectorEnv`.
    num_envs : int
        How many envs.
    **kwargs
        Arguments of `rollcage.VectorEnv`: ``config``, ``seed``, ``grants``, ``limits``, ``max_episode_steps``, ``on_fault``,
        ``clip_actions``, ``require_sandbox`` and others.

    Attributes
    ----------
    envs : rollcage.VectorEnv
        The envs.

    Raises
    ------
    UsageError
        The plugin cannot be run, or an argument is wrong: nothing has started.
    UnsupportedError
        The observations are a Tuple, which Tianshou has no form for.

    """

    # BaseVectorEnv's __init__ is not called: it makes a worker for each env, as VectorEnvWrapper does not either.
    @answered(GYMNASIUM, passed_to=vector.VectorEnv.__init__)
    def __init__(self, plugin: PluginLike, num_envs: int = 1, **kwargs: Any) -> None:
        if kwargs.pop("autoreset_mode", None) is not None:
            raise UsageError("autoreset_mode: leave it out: Tianshou's collectors reset envs by themselves")
        if kwargs.pop("copy", True) is not True:
            raise UsageError("copy=False: leave it out: Tianshou keeps observations, so each call gives new ones")
        self.envs = vector.VectorEnv(plugin, num_envs, autoreset_mode=AutoresetMode.DISABLED, **kwargs)
        seen, done = self.envs.single_observation_space, self.envs.single_action_space
        if isinstance(seen, gymnasium.spaces.Tuple):
            self.envs.close()
            raise UnsupportedError(
                "Tianshou takes no observations that are a Tuple", ["a wrapper in the sandbox can make a Dict of them"]
            )
        self.env_num = self.envs.num_envs
        self.is_async = self.is_closed = False
        self.waiting_id: list[int] = []
        self.ready_id = list(range(self.env_num))
        #: The seeds of each env's next reset.
        self._seeds: list[int | None] = [None] * self.env_num
        self._flat_observations = not isinstance(seen, (gymnasium.spaces.Dict, gymnasium.spaces.Text))
        self._flat_actions = not isinstance(done, (gymnasium.spaces.Dict, gymnasium.spaces.Tuple))

    def reset(
        self, env_id: Indices = None, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.object_]]:
        """Resets all envs, or some.

        Parameters
        ----------
        env_id : int or sequence of int, optional
            The envs, none twice. All by default.
        seed : int, optional
            Env *i* gets ``seed + i``.
        options : mapping, optional
            The env's reset options.

        Returns
        -------
        observations : ndarray, shape (len(env_id), …)
            For a Dict an array of dicts.
        infos : ndarray of dict, shape (len(env_id),)

        """
        ids = self._ids(env_id)
        if seed is not None:
            self.seed(seed)
        mask = np.zeros(self.env_num, np.bool_)
        mask[ids] = True
        seeds = [one if reset else None for one, reset in zip(self._seeds, mask.tolist(), strict=True)]
        given = dict(options or {}) if mask.all() else {**(options or {}), "reset_mask": mask}
        (data, _, _, _, events), _ = self.envs._begin(
            None if all(one is None for one in seeds) else seeds, given or None
        )
        self._seeds = [None if reset else one for one, reset in zip(self._seeds, mask.tolist(), strict=True)]
        infos = self.envs._infos.each(self.env_num, events)
        return self._seen(self.envs._observe(data), ids), self._told(infos, ids, ids)

    def step(
        self, action: Any, id: Indices = None
    ) -> tuple[
        npt.NDArray[Any],
        npt.NDArray[np.float64],
        npt.NDArray[np.bool_],
        npt.NDArray[np.bool_],
        npt.NDArray[np.object_],
    ]:
        """Steps all envs, or some, at the same time.

        Parameters
        ----------
        action : array
            One for each entry of `id`, in order.
        id : int or sequence of int, optional
            The envs, none twice. All by default.

        Returns
        -------
        observations : ndarray, shape (len(id), …)
            For a Dict an array of dicts.
        rewards : ndarray of float64, shape (len(id),)
        terminated, truncated : ndarray of bool, shape (len(id),)
        infos : ndarray of dict, shape (len(id),)
            Each has the env's own, and ``env_id``.

        Raises
        ------
        UsageError
            An action is not in the space, or an env's episode is over.
        FaultError
            An env's fault, with ``on_fault="raise"`` or when its budget of restarts is spent.

        """
        ids = self._ids(id)
        given = action if self._flat_actions else self.envs._actions.node.batch(list(action))
        native, write = self.envs._native, self.envs._actions.write
        if ids == self.ready_id:
            answered, row = ids, native.step(write(given))
        else:
            native.send(write(given, len(ids)), ids)
            answered, row = native.recv(len(ids), None)
        data, rewards, terminated, truncated, events = row
        infos = self.envs._infos.each(len(answered), events)
        # Answers come in the order of the envs.
        rows = [answered.index(env) for env in ids]
        seen = self._seen(self.envs._observe(data), rows)
        return seen, rewards[rows], terminated[rows], truncated[rows], self._told(infos, rows, ids)

    def seed(self, seed: int | Sequence[int | None] | None = None) -> list[list[int] | None]:
        """Sets the seeds of the next reset: env *i* gets ``seed + i``; a list has one for each.

        Returns
        -------
        list of (list of int, or None)
            The seeds of each env.

        """
        if seed is not None:
            self._seeds = list(arguments.seeds(seed, self.env_num) or self._seeds)
        return [None if one is None else [one] for one in self._seeds]

    def get_env_attr(self, key: str, id: Indices = None) -> list[Any]:
        """An attribute of some envs: see `rollcage.VectorEnv.get_attr`."""
        return [self.envs.get_env_attr(env, key) for env in self._ids(id)]

    def set_env_attr(self, key: str, value: Any, id: Indices = None) -> None:
        """Sets an attribute of some envs, to one value for all: see `rollcage.VectorEnv.set_attr`."""
        for env in self._ids(id):
            self.envs.set_env_attr(env, key, value)

    def render(self, **_: Any) -> list[Any]:
        """A picture of each env, in the render mode that was given."""
        return list(self.envs.render())

    def close(self) -> None:
        """Ends every env and its worker. May be called again."""
        self.is_closed = True
        self.envs.close()

    def __len__(self) -> int:
        return self.env_num

    def __repr__(self) -> str:
        return f"rollcage.tianshou.VectorEnv({self.envs.plugin}, num_envs={self.env_num})"

    def __reduce__(self) -> Any:
        raise arguments.not_copied(repr(self), "envs.")

    def _ids(self, given: Indices) -> list[int]:
        if given is None:
            return list(range(self.env_num))
        ids = [given] if isinstance(given, (int, np.integer)) else list(given)
        return [arguments.count("id", env, 0, self.env_num - 1) for env in ids]

    def _seen(self, observations: Any, rows: Sequence[int]) -> npt.NDArray[Any]:
        if self._flat_observations:
            seen: npt.NDArray[Any] = observations[list(rows)]
            return seen
        item = self.envs._observations.node.item
        return _objects([item(observations, row) for row in rows])

    def _told(self, infos: list[dict[str, Any]], rows: Sequence[int], ids: Sequence[int]) -> npt.NDArray[np.object_]:
        return _objects([{**infos[row], "env_id": env} for row, env in zip(rows, ids, strict=True)])


def _objects(values: Sequence[Any]) -> npt.NDArray[np.object_]:
    array = np.empty(len(values), dtype=object)
    for at, value in enumerate(values):
        array[at] = value
    return array
