"""Action masks: one byte for each choice of the action space's Discrete and MultiDiscrete leaves.

An env has masks if it has a method `action_masks()`, as sb3-contrib's envs have, or if its `info_space` declares
``action_mask``: then each info brings one.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from rollcage_guest.codec import Mismatch
from rollcage_guest.spaces import UnusableSpace

#: The most choices that a mask may have: each is a byte of every step.
CHOICES_MAX = 1 << 20


def choices(space: spaces.Space[Any]) -> int:
    """Choices of the space's leaves: `n` of each Discrete, the sum of `nvec` of each MultiDiscrete."""
    match space:
        case spaces.Discrete():
            return int(space.n)
        case spaces.MultiDiscrete():
            return int(space.nvec.sum())
        case spaces.Dict():
            return sum(choices(one) for one in space.spaces.values())
        case spaces.Tuple():
            return sum(choices(one) for one in space.spaces)
    return 0


class MaskCodec:
    """Turns masks into bytes."""

    def __init__(self, action_space: spaces.Space[Any]) -> None:
        self._count = choices(action_space)
        if not self._count:
            raise UnusableSpace("action mask: the action space has neither a Discrete nor a MultiDiscrete")
        if self._count > CHOICES_MAX:
            raise UnusableSpace(f"action mask: {self._count} choices, {CHOICES_MAX} at most")

    def encode(self, mask: Any) -> bytes:
        """Bytes of a mask: an array of booleans or numbers, or a tuple or dict of such arrays, leaf by leaf.

        Raises
        ------
        Mismatch
            It has not one value for each choice, or there is none.

        """
        if type(mask) is not np.ndarray:
            parts = list(_leaves(mask))
            mask = np.concatenate(parts) if parts else np.zeros(0, bool)
        if mask.size != self._count:
            raise Mismatch(f"action mask: {mask.size} values, wanted {self._count}: one for each choice")
        return (mask != 0).tobytes()


def _leaves(mask: Any) -> Iterator[np.ndarray[Any, Any]]:
    if mask is None:
        return
    if isinstance(mask, Mapping):
        for one in mask.values():
            yield from _leaves(one)
    elif isinstance(mask, (tuple, list)) and any(isinstance(one, (np.ndarray, tuple, list, Mapping)) for one in mask):
        for one in mask:
            yield from _leaves(one)
    else:
        yield np.asarray(mask).reshape(-1)
