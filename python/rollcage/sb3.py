"""Stable-Baselines3's `VecEnv` over rollcage: a drop-in for `SubprocVecEnv`.

::

    from stable_baselines3 import PPO
    from rollcage.sb3 import make_vec_env

    model = PPO("MlpPolicy", make_vec_env("cartpole", n_envs=8, seed=7))
    model.learn(total_timesteps=100_000)
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import base_vec_env

from rollcage import _arguments as arguments
from rollcage import _rollcage as native
from rollcage import _sources as sources
from rollcage._names import STABLE_BASELINES3, answered
from rollcage._sources import PluginLike
from rollcage._types import Row
from rollcage.errors import UnsupportedError, UsageError
from rollcage.vector import VectorEnv

__all__ = ["VecEnv", "make_vec_env"]

Indices = base_vec_env.VecEnvIndices
Stepped = tuple[Any, npt.NDArray[np.float32], npt.NDArray[np.bool_], list[dict[str, Any]]]


class VecEnv(base_vec_env.VecEnv):
    """Envs of one plugin, each in a sandboxed process of its own, as Stable-Baselines3's `VecEnv`.

    `SubprocVecEnv` takes functions that make Python envs; this class takes a plugin, or a list of one class
    (``VecEnv([MyEnv] * 8)``), and a config. Everything else is the same. After an episode's end comes the next episode's
    first observation. ``info["terminal_observation"]`` has the last observation, ``info["TimeLimit.truncated"]`` says
    whether the episode was cut off, and ``info["episode"]`` (``r``, ``l``, ``t``) has what `Monitor` puts there. A fault
    cuts an episode off, with ``info["fault"]`` and ``info["fault_message"]``.

    Parameters
    ----------
    plugin : str, path, class or EnvSpec; or a list of one class
        The name of a shipped plugin, the path of a ``.wasm`` file or of an env's folder, an env's class, or an id of Gymnasium's
        registry or its `EnvSpec`: see `rollcage.VectorEnv`. A list has as many envs as entries.
    n_envs : int, optional
        How many envs: 1 by default, or as many as the list has.
    seed : int, optional
        The seed of the first reset: env *i* gets ``seed + i``. Drawn if None.
    render_mode : str, optional
        ``rgb_array`` or ``ansi``, where the env has it.
    **kwargs
        Arguments of `rollcage.VectorEnv`: ``config``, ``grants``, ``limits``, ``max_episode_steps``, ``on_fault``,
        ``clip_actions``, ``require_sandbox`` and others.

    Raises
    ------
    UsageError
        The plugin cannot be run, or an argument is wrong: nothing has started.

    """

    @answered(STABLE_BASELINES3, passed_to=VectorEnv.__init__)
    def __init__(
        self,
        plugin: PluginLike | Sequence[PluginLike],
        n_envs: int | None = None,
        *,
        seed: int | None = None,
        render_mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        plugin, n_envs = _one_for_all(plugin, n_envs)
        if render_mode is not None and render_mode.endswith("_list"):
            raise UsageError(
                f"render_mode: {render_mode!r}; Stable-Baselines3 has one picture at a time, as by 'rgb_array'"
            )
        self.vector_env = VectorEnv(
            plugin, n_envs, seed=seed, render_mode=render_mode, autoreset_mode=AutoresetMode.SAME_STEP, **kwargs
        )
        self._native = self.vector_env._native
        self._write = self.vector_env._actions.write
        self._leaf = not isinstance(
            self.vector_env.single_action_space, (gymnasium.spaces.Dict, gymnasium.spaces.Tuple)
        )
        self._item = self.vector_env._observations.node.item
        self._infos = self.vector_env._infos
        self._made = time.time()
        super().__init__(
            self.vector_env.num_envs, self.vector_env.single_observation_space, self.vector_env.single_action_space
        )
        self.metadata = self.vector_env.metadata

    # ── Reset and step ──────────────────────────────────────────────────────────────────────────────────────────────

    def reset(self) -> Any:
        """Resets every env, with the seeds and options that were set since the last one.

        Returns
        -------
        batched observations
            For a Box of shape *s* an array of shape (n_envs, *s*); for a Dict a dict and for a Tuple a tuple of such.

        """
        # As JSON: what is in them may be arrays, which cannot be compared by `==`.
        texts = [arguments.to_json(one) if one else None for one in self._options]
        for_all = texts[0] if len(set(texts)) == 1 else None
        if len(set(texts)) > 1:
            for env, text in enumerate(texts):
                self._native.set_reset_options(env, text)
        observations, _, _, _, events = self._native.reset(None, self._seeds, for_all)
        self.reset_infos = self._infos.each(self.num_envs, events)
        self.vector_env._seeded(self._seeds)
        self._reset_seeds()
        self._reset_options()
        return self.vector_env._observe(observations)

    def step_async(self, actions: Any) -> None:
        """Begins a step of every env: `actions` has one for each, an array of shape (n_envs, …) or a list."""
        self._native.step_async(self._write(self._batched(actions)))

    def step_wait(self) -> Stepped:
        """Waits for the step that was begun.

        Returns
        -------
        observations : batched observations
        rewards : ndarray of float32, shape (n_envs,)
        dones : ndarray of bool, shape (n_envs,)
        infos : list of dict
            One for each env.

        Raises
        ------
        FaultError
            An env's fault, with ``on_fault="raise"`` or when its budget of restarts is spent.

        """
        return self._stepped(self._native.step_wait())

    def step(self, actions: Any) -> Stepped:
        """Steps every env: see `step_async` and `step_wait`."""
        return self._stepped(self._native.step(self._write(self._batched(actions))))

    def _batched(self, actions: Any) -> Any:
        """A list of Dict's or Tuple's values, one for each env, in Gymnasium's batched form."""
        if self._leaf or not isinstance(actions, (list, np.ndarray)):
            return actions
        if len(actions) != self.num_envs:
            raise UsageError(f"actions: {len(actions)} for {self.num_envs} envs")
        return self.vector_env._actions.node.batch(list(actions))

    def _stepped(self, row: Row) -> Stepped:
        observations, rewards, terminated, truncated, events = row
        infos = self._infos.each(self.num_envs, events)
        if events & native.FINAL:
            self._ended(infos, events)
        for info in infos:
            info["TimeLimit.truncated"] = False
        for env in np.flatnonzero(truncated & ~terminated).tolist():
            infos[env]["TimeLimit.truncated"] = True
        return self.vector_env._observe(observations), rewards.astype(np.float32), terminated | truncated, infos

    def _ended(self, infos: list[dict[str, Any]], events: int) -> None:
        """Where an episode ended: the info is that of its last step, the one of the reset is in `reset_infos`."""
        finals = self._native.finals()
        batch = self.vector_env._observations.read(finals[1])
        for env, last in self._infos.final_each(finals, events).items():
            last["terminal_observation"] = self._item(batch, env)
            self.reset_infos[env], infos[env] = infos[env], last
        if events & native.EPISODE:
            elapsed = round(time.time() - self._made, 6)
            for env, total, length in self._native.episodes():
                infos[env]["episode"] = {"r": round(total, 6), "l": length, "t": elapsed}

    # ── Methods and attributes ──────────────────────────────────────────────────────────────────────────────────────

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Calls a method of some envs: see `rollcage.VectorEnv.call`. Methods of Gymnasium's wrappers work as well."""
        envs = self._targets(indices)
        if method_name == "get_wrapper_attr":
            return [self.vector_env.get_env_attr(env, *method_args) for env in envs]
        if method_name == "has_wrapper_attr":
            return [self._has(env, *method_args) for env in envs]
        if method_name == "set_wrapper_attr":
            for env in envs:
                self.vector_env.set_env_attr(env, *method_args)
            return [True for _ in envs]
        if method_name == "action_masks":
            return list(self.vector_env.action_masks()[envs])
        if method_name == "compute_reward" and len(method_args) == 3 and np.ndim(method_args[0]) > 1:
            return [self._compute_reward(env, *method_args) for env in envs]
        return [self.vector_env.call_env(env, method_name, *method_args, **method_kwargs) for env in envs]

    def _compute_reward(self, env: int, achieved_goal: Any, desired_goal: Any, infos: Any) -> npt.NDArray[np.float32]:
        """`compute_reward` of goals: `HerReplayBuffer` calls it, and calculates with the answer."""
        given = arguments.to_json({"args": [achieved_goal, desired_goal, infos]})
        many = len(achieved_goal)
        if len(given) > arguments.CALL_MAX and many > 1:
            # Too many for one call: each goal has a reward of its own.
            half = many // 2
            halves = [
                self._compute_reward(env, achieved_goal[part], desired_goal[part], infos[part])
                for part in (slice(half), slice(half, None))
            ]
            return np.concatenate(halves)
        try:
            answer = json.loads(self._native.call(env, "compute_reward", given))
        except UnsupportedError:
            raise UnsupportedError(
                f"HerReplayBuffer asks the env for the rewards of other goals, and {self.vector_env.plugin} has no method "
                "`compute_reward`",
                [
                    "the env's `call` must answer it, given args: [achieved goals, desired goals, infos], by a list with a "
                    "reward for each goal; without it, use the replay buffer that Stable-Baselines3 has for its policy"
                ],
            ) from None
        rewards = np.array(answer, np.float32) if isinstance(answer, list) else None
        if rewards is None or rewards.shape != (many,):
            raise UsageError(
                f"compute_reward of {self.vector_env.plugin} answered {answer!r:.200} for {many} goals: a list with a number "
                "for each is expected"
            )
        return rewards

    def has_attr(self, attr_name: str) -> bool:
        """Whether every env has an attribute; envs with masks have ``action_masks``."""
        return all(self._has(env, attr_name) for env in range(self.num_envs))

    def _has(self, env: int, name: str) -> bool:
        try:
            self.vector_env.get_env_attr(env, name)
        except UnsupportedError:
            return False
        return True

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """An attribute of some envs: see `rollcage.VectorEnv.get_attr`."""
        if attr_name == "reset_infos":
            return [self.reset_infos[env] for env in self._targets(indices)]
        return [self.vector_env.get_env_attr(env, attr_name) for env in self._targets(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Sets an attribute of some envs, to one value for all: see `rollcage.VectorEnv.set_attr`."""
        for env in self._targets(indices):
            self.vector_env.set_env_attr(env, attr_name, value)

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: Indices = None
    ) -> list[bool]:
        """Whether envs are wrapped: True for `Monitor`, since ``info["episode"]`` is always there."""
        wrapped = isinstance(wrapper_class, type) and issubclass(wrapper_class, Monitor)
        return [wrapped for _ in self._targets(indices)]

    def _targets(self, indices: Indices) -> list[int]:
        targets = [indices] if isinstance(indices, (int, np.integer)) else self._get_indices(indices)
        return [range(self.num_envs)[env] for env in targets]

    # ── Pictures, seeds, the end ────────────────────────────────────────────────────────────────────────────────────

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """A picture of each env: uint8, shape (height, width, 3)."""
        if self.render_mode != "rgb_array":
            warnings.warn(f"the render mode is {self.render_mode}: there are no pictures", stacklevel=2)
            return [None for _ in range(self.num_envs)]
        return [self.vector_env.render_env(env) for env in range(self.num_envs)]

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Sets the seeds of the next reset: env *i* gets ``seed + i``. Drawn if None."""
        first = arguments.count("seed", arguments.seed(seed), 0, arguments.SEED_MAX - self.num_envs + 1)
        self._seeds = [first + env for env in range(self.num_envs)]
        return self._seeds

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """Sets options of the next reset: one dict for all envs, or a list with one for each."""
        each = list(options) if isinstance(options, (list, tuple)) else [options] * self.num_envs
        if len(each) != self.num_envs:
            raise UsageError(f"set_options: {len(each)} options for {self.num_envs} envs")
        for one in each:
            if one is not None and not isinstance(one, dict):
                raise TypeError(f"set_options: a dict, or a list with a dict for each env, is expected, got {one!r}")
        super().set_options([one or {} for one in each])

    def close(self) -> None:
        """Ends every env and its worker. May be called again."""
        self.vector_env.close()

    def __repr__(self) -> str:
        return f"rollcage.sb3.VecEnv({self.vector_env.plugin}, n_envs={self.num_envs})"

    def __reduce__(self) -> Any:
        raise arguments.not_copied(repr(self), "vector_env.")


def _one_for_all(given: PluginLike | Sequence[PluginLike], n_envs: int | None) -> tuple[PluginLike, int]:
    """The plugin of a list of one class, as `SubprocVecEnv` takes functions, and how many envs there are."""
    if isinstance(given, (str, os.PathLike)) or callable(given) or not isinstance(given, Iterable):
        return given, 1 if n_envs is None else n_envs
    given = list(given)
    if all(getattr(one, "__module__", "").startswith("stable_baselines3.") for one in given) and given:
        raise TypeError(
            "rollcage.sb3.VecEnv was given functions of Stable-Baselines3's make_vec_env (vec_env_cls=): use "
            "rollcage.sb3.make_vec_env(plugin, n_envs) instead, with an env's class or id, the name of a shipped plugin, or the "
            "path of a .wasm file or of an env's folder"
        )
    if n_envs is not None and n_envs != len(given):
        raise UsageError(f"n_envs: {n_envs}; the list has {len(given)} entries, one for each env")
    return sources.one_for_all(given), len(given)


@answered(STABLE_BASELINES3, passed_to=VectorEnv.__init__)
def make_vec_env(
    plugin: PluginLike,
    n_envs: int = 1,
    seed: int | None = None,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> VecEnv:
    """Makes envs of a plugin; replaces Stable-Baselines3's function of this name.

    Parameters
    ----------
    plugin : str, path, class or EnvSpec
        As for `rollcage.VectorEnv`: a shipped plugin's name, a path, an env's class, an id or its spec.
    n_envs : int
        How many envs.
    seed : int, optional
        The seed of the first reset: env *i* gets ``seed + i``. Drawn if None.
    env_kwargs : mapping, optional
        The keys of the config, and arguments of `VecEnv` such as ``render_mode`` or ``max_episode_steps``. A name that is
        both is the argument. ``config`` has keys of the config only, and overrides these.
    **kwargs
        Arguments of `VecEnv`; ``render_mode`` defaults to ``rgb_array`` where the env has it.

    """
    if env_kwargs is not None:
        given, keys = arguments.split(env_kwargs)
        kwargs["config"] = arguments.over(keys, arguments.over(given.pop("config", None) or {}, kwargs.get("config")))
        kwargs = {**given, **kwargs}
        inner = kwargs.pop("seed", None)
        seed = inner if seed is None else seed
    envs = VecEnv(plugin, n_envs, seed=seed, **kwargs)
    if "render_mode" not in kwargs and "rgb_array" in envs.metadata["render_modes"]:
        envs.render_mode = envs.vector_env.render_mode = "rgb_array"
    return envs
