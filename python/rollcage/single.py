"""Gymnasium's `Env` over rollcage: one env, for `gymnasium.make`."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode

from rollcage import _arguments as arguments
from rollcage._names import ONE_ENV, answered
from rollcage._sources import PluginLike
from rollcage.errors import ActionError, UsageError
from rollcage.vector import VectorEnv

__all__ = ["Env"]


class Env(gymnasium.Env[Any, Any]):
    """One env of a plugin, in a sandboxed process of its own, as Gymnasium's `Env`.

    Parameters
    ----------
    plugin : str, path, class or EnvSpec
        The name of a shipped plugin, the path of a ``.wasm`` file or of an env's folder, an env's class, or an id of Gymnasium's
        registry or its `EnvSpec`: see `rollcage.VectorEnv`.
    render_mode : str, optional
        ``rgb_array`` or ``ansi``, where the env has it, or one of them with ``_list`` behind it: see `rollcage.VectorEnv`.
    **kwargs
        Arguments of `rollcage.VectorEnv`, except for ``num_envs``, ``autoreset_mode`` and ``episode_statistics``.

    """

    #: Every possible render mode; an env's own modes are known when it is made.
    metadata = {"render_modes": ["rgb_array", "ansi"]}  # noqa: RUF012

    @answered(ONE_ENV, passed_to=VectorEnv.__init__)
    def __init__(self, plugin: PluginLike, *, render_mode: str | None = None, **kwargs: Any) -> None:
        self.envs = VectorEnv(plugin, 1, render_mode=render_mode, autoreset_mode=AutoresetMode.DISABLED, **kwargs)
        self.observation_space = self.envs.single_observation_space
        self.action_space = self.envs.single_action_space
        self.metadata = {key: value for key, value in self.envs.metadata.items() if key != "autoreset_mode"}
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode. See `gymnasium.Env.reset`."""
        super().reset(seed=seed)
        if options and "reset_mask" in options:
            raise UsageError("options['reset_mask'] is for many envs: see rollcage.make_vec")
        (observations, _, _, _, events), _ = self.envs._begin(seed, options)
        self.envs._collect(anew=True)
        return self._observation(self.envs._observe(observations)), self._info(events)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes a step. A fault truncates the episode and is in the info. See `gymnasium.Env.step`."""
        envs = self.envs
        try:
            row = envs._native.step(envs._actions.write(envs._actions.node.batch([action])))
        except (UsageError, TypeError, LookupError, ValueError) as error:
            known = not isinstance(error, UsageError) or type(error) is UsageError
            if known and not self.action_space.contains(action):
                raise ActionError(f"{action!r} ({type(action)}) invalid: {error}") from None
            raise
        observations, rewards, terminations, truncations, events = row
        envs._collect()
        info = self._info(events)
        observation = self._observation(envs._observe(observations))
        return observation, float(rewards[0]), bool(terminations[0]), bool(truncations[0]), info

    def render(self) -> Any:
        """A picture, in `render_mode`."""
        if self.render_mode is None:
            gymnasium.logger.warn("render: no render_mode was given; pass render_mode='rgb_array' to gymnasium.make")
            return None
        if self.render_mode.endswith("_list"):
            return self.envs._take_pictures(0)
        return self.envs.render_env(0)

    @property
    def np_random_seed(self) -> int:
        """The seed that the env was last reset with, or will be for the first time. Its generators are in its worker."""
        return self.envs.np_random_seed[0]

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Calls a method of the author's own. See `rollcage.VectorEnv.call`."""
        return self.envs.call_env(0, name, *args, **kwargs)

    def action_masks(self) -> Any:
        """The action mask now: int8, 1 where a choice is open, shape (choices,)."""
        return self.envs.action_masks()[0]

    def close(self) -> None:
        """Ends the env and its worker."""
        self.envs.close()

    def __reduce__(self) -> Any:
        raise arguments.not_copied(f"{type(self).__name__}({self.envs.plugin})", "env.unwrapped.envs.")

    def _observation(self, batch: Any) -> Any:
        return self.envs._observations.node.item(batch, 0)

    def _info(self, events: int) -> dict[str, Any]:
        return self.envs._infos.each(1, events)[0]
