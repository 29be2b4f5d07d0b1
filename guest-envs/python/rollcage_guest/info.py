"""An env's `info`: fields that its `info_space` declares travel as bytes, everything else as JSON.

`info_space` is optional: a `gymnasium.spaces.Dict`, or a dict of spaces, as an attribute of the env or its class.
"""

import sys
from collections.abc import Mapping
from typing import Any

from gymnasium import spaces
from wit_world.imports import types as t

from rollcage_guest.codec import COMPOSITE, Codec, extent
from rollcage_guest.jsonable import NotJson, clean, text
from rollcage_guest.spaces import UnusableSpace, plain, tree

#: Bytes of the JSON of one info that the host takes.
EXTRA_MAX = 65_536

#: The key whose value is the action mask, if `info_space` declares it.
MASK = "action_mask"


class InfoCodec:
    """Turns infos into the bytes of the declared fields and the JSON of the rest."""

    def __init__(self, declared: Any, lengths: Mapping[str, int], *, masked: bool) -> None:
        if isinstance(declared, spaces.Dict):
            declared = declared.spaces
        if declared is not None and not isinstance(declared, Mapping):
            raise UnusableSpace(f"info_space: a {type(declared).__name__} where a gymnasium.spaces.Dict is expected")
        self._fields: dict[str, tuple[Any, Codec]] = {}
        for name, space in (declared or {}).items():
            if not (masked and name == MASK):
                space = plain(space, "info", lengths, name)
                self._fields[name] = space, Codec(space, f"info `{name}`")
        self._masked = masked
        self._told: set[str] = set()

    @property
    def fields(self) -> list["t.InfoField"]:
        """The declared fields, in order."""
        return [t.InfoField(name, tree(space)) for name, (space, _) in self._fields.items()]

    @property
    def is_plain(self) -> bool:
        """Whether nothing is declared, so that an empty info has neither bytes nor text."""
        return not self._fields

    def declared(self, info: Mapping[str, Any]) -> bytes:
        """One byte per field, zeros up to a multiple of 8, then the values; zeros for absent ones.

        Raises
        ------
        Mismatch
            A value that is not one of its space.

        """
        if not self._fields:
            return b""
        whole = bytearray(info.get(name) is not None for name in self._fields)
        whole += bytes(-len(whole) % COMPOSITE)
        for name, (space, codec) in self._fields.items():
            alignment, size = extent(space)
            whole += bytes(-len(whole) % alignment)
            value = info.get(name)
            whole += bytes(size) if value is None else codec.encode(value)[:size]
        whole += bytes(-len(whole) % COMPOSITE)
        return bytes(whole)

    def extra(self, info: Mapping[str, Any]) -> str:
        """JSON of the keys that are not declared; empty if there are none.

        A value without a JSON form, or too large for the host, is left out. The log names its key once.
        """
        rest = info
        if self._fields or self._masked:
            rest = {key: value for key, value in info.items() if not self._is_declared(key)}
        if not rest:
            return ""
        try:
            written = text(rest)
            if len(written) <= EXTRA_MAX:
                return written
        except NotJson:
            pass
        return self._without_the_odd(rest)

    def _is_declared(self, key: Any) -> bool:
        return key in self._fields or (self._masked and key == MASK)

    def _without_the_odd(self, info: Mapping[str, Any]) -> str:
        kept: dict[str, Any] = {}
        sizes: dict[str, int] = {}
        for key, value in info.items():
            name = str(key)
            try:
                kept[name] = clean(value)
                sizes[name] = len(text({name: kept[name]}))
            except NotJson as error:
                self._tell(name, f"it has no JSON form ({error})")
        while sum(sizes.values()) > EXTRA_MAX:
            largest = max(sizes, key=lambda name: sizes[name])
            self._tell(largest, f"{sizes[largest]} bytes as JSON; declare it in `info_space`")
            del kept[largest], sizes[largest]
        return text(kept) if kept else ""

    def _tell(self, key: str, why: str) -> None:
        if key not in self._told:
            self._told.add(key)
            print(f"rollcage: info `{key}` is left out: {why}", file=sys.stderr)
