"""Random generators of a Python env, and how they follow the host's seeds.

=====================  =================================================================================================
generator              seeded
=====================  =================================================================================================
`env.np_random`        by `reset(seed)` as Gymnasium does it, also where the author does not call `super().reset`;
                       by `reseed` as by a reset
`random`               by each seeded reset and each reseed, with the seed; by `create` from the host's stream
`numpy.random`         the same (the legacy generator; a seed of more than 32 bits as its words)
spaces that the env    at their first sample after `create` and after each seeded reset, from the host's stream; a space
samples from           that the author seeds in `__init__` keeps its stream
`os.urandom`,          the host's stream: keyed by the config, by each seeded reset, by each reseed
`secrets`, unseeded
generators
=====================  =================================================================================================
"""

import os
import random
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding

#: Seeds of numpy's legacy generators are below this.
_LEGACY = 1 << 32


def words(seed: Any) -> Any:
    """A seed as numpy's legacy generators take it: itself, or its 32-bit words, lowest first."""
    if isinstance(seed, np.integer):
        seed = int(seed)
    if not isinstance(seed, int) or seed < _LEGACY:
        return seed
    found = []
    while seed:
        found.append(seed % _LEGACY)
        seed //= _LEGACY
    return found


def install() -> None:
    """Lets numpy's legacy generators take the host's seeds, which have 64 bits: natively more than 32 are an error."""
    original = np.random.seed
    if getattr(original, "__module__", None) == __name__:
        return

    def seed(seed: Any = None) -> None:
        """`numpy.random.seed`, for seeds of any size."""
        original(words(seed))

    np.random.seed = seed
    np.random.RandomState = _random_state(np.random.RandomState)  # type: ignore[misc]


def _random_state(original: Any) -> Any:
    class Kind(type):
        """Legacy generators that were made before are instances too."""

        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, original)

        def __subclasscheck__(cls, subclass: type) -> bool:
            return issubclass(subclass, original)

    class RandomState(original, metaclass=Kind):  # type: ignore[misc]
        """`numpy.random.RandomState`, for seeds of any size."""

        def __init__(self, seed: Any = None) -> None:
            super().__init__(words(seed))

        def seed(self, seed: Any = None) -> None:
            super().seed(words(seed))

    RandomState.__module__ = original.__module__
    RandomState.__qualname__ = original.__qualname__
    return RandomState


def seed_globals(seed: int) -> None:
    """Seeds `random` and `numpy.random`."""
    random.seed(seed)
    np.random.seed(words(seed))


def seed_globals_from_host() -> None:
    """Seeds `random` and `numpy.random` from the host's stream."""
    random.seed(int.from_bytes(os.urandom(32), "little"))
    np.random.seed(list(np.frombuffer(os.urandom(32), np.uint32)))


class Streams:
    """The generators of one env."""

    def __init__(self, env: Any) -> None:
        self._env = getattr(env, "unwrapped", env)
        self._spaces = [space for layer in _layers(env) for space in _unseeded(layer)]

    def seed(self, seed: int) -> None:
        """Begins all streams anew, as a seeded reset does."""
        seed_globals(seed)
        if isinstance(self._env, gymnasium.Env):
            self._env._np_random, self._env._np_random_seed = seeding.np_random(seed)
        for space in self._spaces:
            space._np_random = None

    def reseed(self, seed: int) -> None:
        """Begins all streams anew within an episode. A method `reseed(seed)` of the author's own is called."""
        self.seed(seed)
        own = getattr(self._env, "reseed", None)
        if callable(own):
            own(seed)

    def kept(self) -> "Kept":
        """Puts the generators back afterwards: what draws a picture must not change the episode."""
        return Kept(self._env)


class Kept:
    """The generators' states on entry, put back on exit.

    A class, since a generator with `contextmanager` cannot pass on `Err`: it is a frozen dataclass.
    """

    def __init__(self, env: Any) -> None:
        self._env = env

    def __enter__(self) -> None:
        self._generator: Any = getattr(self._env, "_np_random", None)
        bits = getattr(self._generator, "bit_generator", None)
        self._own = None if bits is None else bits.state
        self._plain, self._legacy = random.getstate(), np.random.get_state()

    def __exit__(self, *_: Any) -> None:
        random.setstate(self._plain)
        np.random.set_state(self._legacy)
        if self._own is not None:
            self._generator.bit_generator.state = self._own
            self._env._np_random = self._generator


def _layers(env: Any) -> Iterator[Any]:
    """The env, and what it wraps."""
    while env is not None:
        yield env
        env = env.env if isinstance(env, gymnasium.Wrapper) else None


def _unseeded(layer: Any) -> Iterator[Any]:
    """Spaces of one layer that have no generator yet, children included."""
    stack = [getattr(layer, name, None) for name in ("action_space", "observation_space")]
    while stack:
        space = stack.pop()
        if not isinstance(space, spaces.Space):
            continue
        if space._np_random is None:
            yield space
        inner = getattr(space, "spaces", None)
        if inner is not None:
            stack.extend(inner.values() if hasattr(inner, "values") else inner)
