"""Names by which `gymnasium.make` and `gymnasium.make_vec` know the plugins that ship: ``rollcage/CartPole-v1``.

An env that is made by its name behaves as Gymnasium's env of that name. The keys of its config are keyword arguments
(``is_slippery=False``), which override those that the name stands for. Its time limit is Gymnasium's: under
`gymnasium.make` the `TimeLimit` wrapper counts it and the host does not; `gymnasium.make_vec` hands it to the host.
"""

from __future__ import annotations

import os
import warnings
from typing import Any, NamedTuple

import gymnasium

from rollcage import _arguments as arguments
from rollcage import single, vector
from rollcage._rollcage import shipped
from rollcage._sources import PluginLike

__all__ = ["IDS", "Env", "HostLimitedEnv", "Id", "VectorEnv", "register"]


class Id(NamedTuple):
    """A name, and what it stands for.

    Attributes
    ----------
    name : str
        Gymnasium's name, without the namespace.
    plugin : str
        The plugin that it means.
    config : dict
        The keys of the plugin's config that it stands for.
    max_episode_steps : int or None
        Its time limit.
    reward_threshold : float or None
        The mean return from which it counts as solved.

    """

    name: str
    plugin: str
    config: dict[str, object]
    max_episode_steps: int | None
    reward_threshold: float | None


#: The registered names.
IDS = (
    Id("Acrobot-v1", "acrobot", {}, 500, -100.0),
    Id("Blackjack-v1", "blackjack", {"sab": True}, None, None),
    Id("CartPole-v1", "cartpole", {}, 500, 475.0),
    Id("CliffWalking-v1", "cliffwalking", {}, None, None),
    Id("CliffWalkingSlippery-v1", "cliffwalking", {"is_slippery": True}, None, None),
    Id("FrozenLake-v1", "frozenlake", {}, 100, 0.70),
    Id("FrozenLake8x8-v1", "frozenlake", {"map_name": "8x8"}, 200, 0.85),
    Id("MountainCar-v0", "mountaincar", {}, 200, -110.0),
    Id("MountainCarContinuous-v0", "mountaincar-continuous", {}, 999, 90.0),
    Id("Pendulum-v1", "pendulum", {}, 200, None),
    Id("Taxi-v4", "taxi", {}, 200, 8.0),
    Id("Go-v0", "go", {}, 81, None),
    Id("Mirror-v0", "mirror", {}, None, None),
    Id("Pixels-v0", "pixels", {}, 1000, None),
    Id("ShortKick-v0", "short-kick", {}, 250, None),
)


class Env(single.Env):
    """An env that `gymnasium.make` makes by its name. Gymnasium's wrapper counts the time limit, and the host does not.

    Parameters
    ----------
    plugin : str or path
        The plugin that the name means.
    config : mapping, dataclass or pydantic model, optional
        The config; its keys override the keywords.
    **kwargs
        Arguments of `rollcage.Env`; every other keyword is a key of the config.

    """

    def __init__(self, plugin: PluginLike, *, config: arguments.Configs = None, **kwargs: Any) -> None:
        given, keys = arguments.split(kwargs)
        super().__init__(plugin, config=arguments.over(keys, config), max_episode_steps=arguments.NO_LIMIT, **given)
        self._told = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode. See `gymnasium.Env.reset`."""
        if not self._told:
            self._told = True
            _tell_of_another_limit(self.spec, self.envs)
        return super().reset(seed=seed, options=options)


class HostLimitedEnv(single.Env):
    """An env that `gymnasium.make` makes by a name which was registered without a time limit: the host counts the env's own.

    Parameters
    ----------
    plugin : str, path, class or EnvSpec
        The plugin that the name means.
    config : mapping, dataclass or pydantic model, optional
        The config; its keys override the keywords.
    **kwargs
        Arguments of `rollcage.Env`; every other keyword is a key of the config.

    """

    def __init__(self, plugin: PluginLike, *, config: arguments.Configs = None, **kwargs: Any) -> None:
        given, keys = arguments.split(kwargs)
        super().__init__(plugin, config=arguments.over(keys, config), **given)


class VectorEnv(vector.VectorEnv):
    """Envs that `gymnasium.make_vec` makes by their name.

    Parameters
    ----------
    plugin : str or path
        The plugin that the name means.
    num_envs : int
        How many envs.
    config : mapping, dataclass or pydantic model; or a list of them, or a function of the env's index
        The config; its keys override the keywords.
    **kwargs
        Arguments of `rollcage.VectorEnv`; every other keyword is a key of the config.

    """

    def __init__(
        self, plugin: PluginLike, num_envs: int = 1, *, config: arguments.Configs = None, **kwargs: Any
    ) -> None:
        given, keys = arguments.split(kwargs)
        super().__init__(plugin, num_envs, config=arguments.over(keys, config), **given)
        self._told = False

    def _begin(self, seed: Any, options: Any) -> Any:
        if not self._told:
            self._told = True
            if self.spec is not None and self.max_episode_steps == _registered_limit(self.spec):
                _tell_of_another_limit(self.spec, self)
        return super()._begin(seed, options)


def _registered_limit(spec: Any) -> int | None:
    known = gymnasium.registry.get(spec.id)
    return known.max_episode_steps if known is not None else None


def _tell_of_another_limit(spec: Any, envs: vector.VectorEnv) -> None:
    """Warns where name and config have different time limits: a larger board has more moves."""
    if spec is None or spec.id not in gymnasium.registry:
        return
    registered, own = _registered_limit(spec), envs.own_max_episode_steps
    if registered is not None and own is not None and registered != own:
        warnings.warn(
            f"{spec.id}: the time limit is {registered} steps, as registered for the name; with this config the env's own is "
            f"{own}; max_episode_steps= chooses another",
            stacklevel=3,
        )


def register(
    id: str | None = None, plugin: PluginLike | None = None, *, max_episode_steps: int | None = None, **config: Any
) -> None:
    """Registers an env with Gymnasium, so that `gymnasium.make` and `gymnasium.make_vec` run it in the sandbox.

    Without arguments it registers the names of the shipped plugins, which importing `rollcage` does.

    Parameters
    ----------
    id : str
        The id: ``my/Env-v0``.
    plugin : str, path, class or EnvSpec
        What it is: see `rollcage.VectorEnv`. It is opened when an env is made.
    max_episode_steps : int, optional
        A time limit in place of the env's own.
    **config
        Keys of the config, and arguments of `rollcage.VectorEnv`, beneath those of `gymnasium.make`.

    Examples
    --------
    ::

        rollcage.register("my/Env-v0", "./my_env")
        env = gymnasium.make("my/Env-v0", size=9)

    """
    if id is None and plugin is None:
        _register_shipped()
        return
    if id is None or plugin is None:
        raise TypeError("register: an id and a plugin are expected, as in register('my/Env-v0', './my_env')")
    limited = "Env" if max_episode_steps is not None else "HostLimitedEnv"
    gymnasium.register(
        id=id,
        entry_point=f"rollcage.registration:{limited}",
        vector_entry_point="rollcage.registration:VectorEnv",
        max_episode_steps=max_episode_steps,
        kwargs={"plugin": _lasting(plugin), **config},
    )


def _lasting(plugin: PluginLike) -> PluginLike:
    """A plugin that means the same after the working directory has changed."""
    if isinstance(plugin, os.PathLike) or (
        isinstance(plugin, str) and plugin not in shipped() and os.path.exists(plugin)
    ):
        return os.path.abspath(plugin)
    return plugin


def _register_shipped() -> None:
    """Registers the names of the shipped plugins."""
    for one in IDS:
        full = f"rollcage/{one.name}"
        if full not in gymnasium.registry:
            gymnasium.register(
                id=full,
                entry_point="rollcage.registration:Env",
                vector_entry_point="rollcage.registration:VectorEnv",
                max_episode_steps=one.max_episode_steps,
                reward_threshold=one.reward_threshold,
                kwargs={"plugin": one.plugin, **one.config},
            )
