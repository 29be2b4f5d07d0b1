"""Infos as dicts, as Gymnasium and Stable-Baselines3 want them: declared fields come as bytes, all others as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from rollcage import _rollcage as native
from rollcage._spaces import Dict, Node, Numbers, node_of
from rollcage._types import Bytes, Flags
from rollcage.errors import Fault

#: Events after which infos are more than the declared fields of all rows.
UNUSUAL = native.FAULT | native.MASKED | native.EXTRA

#: What `Envs.finals` returns: which rows have a final view; its observations, infos and action masks.
Finals = tuple[Flags, Bytes, Bytes, Bytes]


#: Keys of infos that only the host sets. Gymnasium, Stable-Baselines3 and their users act on these keys and trust their
#: values. So a plugin's values for them are left out and counted, for these keys and for each with an underscore before it.
#: `action_mask` is one of them where envs have masks.
RESERVED = frozenset(
    {
        "TimeLimit.truncated",
        "env_id",
        "episode",
        "fault",
        "fault_message",
        "final_info",
        "final_obs",
        "final_observation",
        "masked",
        "terminal_observation",
    }
)

#: Keys that a plugin may set to a boolean or a number only: readers average `is_success`.
ONLY_SCALARS = frozenset({"is_success"})


class Infos:
    """The infos of a batch.

    Parameters
    ----------
    envs : Envs
        The native envs.
    known : dict
        What the extension knows of the envs.

    """

    def __init__(self, envs: native.Envs, known: dict[str, Any]) -> None:
        self._envs = envs
        self._stride: int = known["info_stride"]
        self._mask_bytes: int = known["mask_bytes"]
        reserved = RESERVED | {"action_mask"} if self._mask_bytes else RESERVED
        self._reserved = reserved | {f"_{key}" for key in reserved}
        #: How often a plugin's info was left out because its key is reserved, by key.
        self.left_out: Counter[str] = Counter()
        #: Declared fields by name, each with the index of its presence byte; and those with reserved keys.
        self._fields: dict[str, tuple[int, Node]] = {}
        self._refused: dict[str, int] = {}
        for index, (name, described) in enumerate(known["info_fields"]):
            node = node_of(described)
            if name in self._reserved or (name in ONLY_SCALARS and not is_scalar(node)):
                self._refused[name] = index
            else:
                self._fields[name] = (index, node)
        self._always = bool(known["info_fields"] or self._mask_bytes)

    def warnings(self) -> list[str]:
        """Warnings for the caller who makes the envs."""
        names = ", ".join(native.one_line(repr(name)) for name in self._refused)
        return [f"declared infos are left out, because their keys are reserved for the host: {names}"] if names else []

    def _are_none(self, events: int) -> bool:
        """Whether there are no infos, as in most steps of an env without declared ones."""
        return not (self._always or events & UNUSUAL)

    # ── As Gymnasium's vector envs have them ────────────────────────────────────────────────────────────────────────

    def vector(self, rows: int, events: int, told: Flags | None) -> dict[str, Any]:
        """One dict for the batch: each key an array with a row for each env, and ``_key`` says whose rows count.

        Parameters
        ----------
        rows : int
            Rows of the batch.
        events : int
            What happened, as bits of the extension.
        told : ndarray of bool, shape (rows,), or None
            The rows whose infos are of this call; None for all rows.

        """
        if self._are_none(events):
            return {}
        faults = self._envs.faults() if events & native.FAULT else []
        told = self._answered(rows, events, told, faults)
        extras = self._extras(self._envs.extras(), told) if events & native.EXTRA else {}
        infos = self._joined(self._envs.infos(), self._envs.action_masks(), extras, told)
        if events & native.MASKED:
            masked = self._envs.masked()
            infos["masked"], infos["_masked"] = masked, masked.copy()
        add(infos, [(row, told_of(fault)) for row, fault in faults], rows)
        return infos

    def final(self, rows: int, finals: Finals, events: int) -> dict[str, Any]:
        """One dict of the infos of the rows that ended an episode, in same-step autoreset."""
        which, _, infos, masks = finals
        faults = dict(self._envs.faults()) if events & native.FAULT else {}
        answered = which.copy()
        answered[list(faults)] = False
        extras = self._extras(self._envs.final_extras(), answered) if events & native.EXTRA else {}
        final = self._joined(infos, masks, extras, answered)
        add(final, [(row, told_of(fault)) for row, fault in faults.items() if which[row]], rows)
        return final

    def _answered(self, rows: int, events: int, told: Flags | None, faults: list[tuple[int, Fault]]) -> Flags:
        """The rows whose infos are of an answer: not masked rows, and not rows of a fault without a reset since."""
        told = np.ones(rows, np.bool_) if told is None else told.copy()
        if events & native.MASKED:
            told &= ~self._envs.masked()
        if faults:
            fresh = self._envs.was_reset() | self._envs.finals()[0]
            for row, _ in faults:
                told[row] &= fresh[row]
        return told

    def _extras(self, texts: list[str], told: Flags) -> dict[int, dict[str, Any]]:
        """Undeclared infos of the rows in `told`. The host has checked that each text is a JSON object."""
        return {row: self._kept(json.loads(text)) for row, text in enumerate(texts) if text and told[row]}

    def _kept(self, extra: dict[str, Any]) -> dict[str, Any]:
        """An info without reserved keys, and without values that readers cannot use."""
        for key in self._reserved.intersection(extra):
            self._leave_out(extra, key)
        for key in ONLY_SCALARS.intersection(extra):
            if type(extra[key]) not in (bool, int, float):
                self._leave_out(extra, key)
        return extra

    def _leave_out(self, extra: dict[str, Any], key: str) -> None:
        del extra[key]
        self.left_out[key] += 1

    def _table(self, data: Bytes, told: Flags) -> Bytes:
        """The declared infos, a row for each env. Counts the fields that are left out."""
        table = data.reshape(-1, self._stride)
        for name, index in self._refused.items():
            self.left_out[name] += int(((table[:, index] == 1) & told).sum())
        return table

    def _joined(self, data: Bytes, masks: Bytes, extras: dict[int, dict[str, Any]], told: Flags) -> dict[str, Any]:
        """Declared fields, masks and extras in Gymnasium's form. Where an env gives both, its extra info counts."""
        infos: dict[str, Any] = {}
        whose: dict[str, Flags] = {}
        said: list[tuple[int, dict[str, Any]]] = []
        if self._stride:
            table = self._table(data, told)
            both = {key for extra in extras.values() for key in extra}
            for name, (index, node) in self._fields.items():
                # The presence byte of the field, before the values.
                there = (table[:, index] == 1) & told
                if not there.any():
                    continue
                values = node.read(table)
                if name in both:
                    rows = np.flatnonzero(there).tolist()
                    said += [
                        (row, {name: plain(node.item(values, row))}) for row in rows if name not in extras.get(row, {})
                    ]
                else:
                    put(infos, name, node, values, there)
                    whose[f"_{name}"] = there
        add(infos, [*said, *extras.items()], len(told))
        # Last, as in `add`.
        infos |= whose
        if self._mask_bytes:
            choices = self._masks(masks)
            choices[~told] = 0
            infos["action_mask"], infos["_action_mask"] = choices, told.copy()
        return infos

    # ── As a list of dicts, one for each env ────────────────────────────────────────────────────────────────────────

    def each(self, rows: int, events: int) -> list[dict[str, Any]]:
        """A dict for each env, as a single Gymnasium env returns it."""
        infos: list[dict[str, Any]] = [{} for _ in range(rows)]
        if self._are_none(events):
            return infos
        faults = self._envs.faults() if events & native.FAULT else []
        told = self._answered(rows, events, None, faults)
        extras = self._extras(self._envs.extras(), told) if events & native.EXTRA else {}
        self._fill(infos, self._envs.infos(), self._envs.action_masks(), extras, told)
        if events & native.MASKED:
            for row in np.flatnonzero(self._envs.masked()).tolist():
                infos[row] = {"masked": True}
        for row, fault in faults:
            infos[row].update(told_of(fault))
        return infos

    def final_each(self, finals: Finals, events: int) -> dict[int, dict[str, Any]]:
        """A dict for each row that ended an episode, by row."""
        which, _, data, masks = finals
        infos: dict[int, dict[str, Any]] = {row: {} for row in np.flatnonzero(which).tolist()}
        extras = self._extras(self._envs.final_extras(), which) if events & native.EXTRA else {}
        self._fill(infos, data, masks, extras, which)
        if events & native.FAULT:
            for row, fault in self._envs.faults():
                if which[row]:
                    infos[row] = told_of(fault)
        return infos

    def _fill(self, infos: Any, data: Bytes, masks: Bytes, extras: dict[int, dict[str, Any]], told: Flags) -> None:
        """Fills `infos`, which has a dict for each row in `told`. Extra infos count before declared ones."""
        if self._stride:
            table = self._table(data, told)
            for name, (index, node) in self._fields.items():
                there = (table[:, index] == 1) & told
                values = node.read(table)
                for row in np.flatnonzero(there).tolist():
                    infos[row][name] = plain(node.item(values, row))
        for row, extra in extras.items():
            infos[row].update(extra)
        if self._mask_bytes:
            choices = self._masks(masks)
            for row in np.flatnonzero(told).tolist():
                infos[row]["action_mask"] = choices[row]

    def masks(self) -> npt.NDArray[np.int8]:
        """The action mask that each env gave last, 1 where a choice is possible: shape (envs, choices), int8."""
        return self._masks(self._envs.masks_now())

    def _masks(self, data: Bytes) -> npt.NDArray[np.int8]:
        return data.view(np.int8).reshape(-1, self._mask_bytes)


def told_of(fault: Fault) -> dict[str, str]:
    """The infos of a fault."""
    return {"fault": fault.kind, "fault_message": fault.message}


def plain(value: Any) -> Any:
    """Python's own number for a number without a shape, and a copy of an array: callers keep infos."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.shape == ()):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return tuple(plain(part) for part in value) if isinstance(value, tuple) else value


def is_scalar(node: Node) -> bool:
    """Whether a declared field is one number."""
    return isinstance(node, Numbers) and node.shape == ()


def put(infos: dict[str, Any], name: str, node: Node, values: Any, there: Flags) -> None:
    """Adds a column to Gymnasium's dict: `values` of all rows, of which those that are `there` count."""
    if isinstance(node, Dict):
        below: dict[str, Any] = {}
        for key, member in node.members.items():
            put(below, key, member, values[key], there)
        # Last, as in `add`.
        below |= {f"_{key}": there.copy() for key in node.members}
        column: Any = below
    elif isinstance(node, Numbers):
        column = np.where(there.reshape(-1, *[1] * len(node.shape)), values, np.zeros(1, node.dtype))
    else:
        column = np.full(len(there), None, dtype=object)
        for row in np.flatnonzero(there).tolist():
            column[row] = node.item(values, row)
    infos[name], infos[f"_{name}"] = column, there.copy()


def add(infos: dict[str, Any], given: Iterable[tuple[int, dict[str, Any]]], rows: int) -> None:
    """Adds infos of some envs to Gymnasium's dict, which has none of their keys yet.

    Works as `gymnasium.vector.VectorEnv._add_info`, but loses and refuses nothing. Values of one kind are an array of that
    kind, whichever env comes first. Values of several kinds, and integers beyond 64 bits, are an array of objects.

    Parameters
    ----------
    infos : dict
        Each key an array of `rows`, and ``_key`` says whose rows count.
    given : iterable of (int, dict)
        Which env, and its info. An env may come more than once, with other keys.
    rows : int
        How many envs there are.

    """
    columns: dict[str, dict[int, Any]] = {}
    for row, info in given:
        for key, value in info.items():
            columns.setdefault(key, {})[row] = value
    for key, values in columns.items():
        infos[key] = column_of(values, rows)
    # Last, since a plugin may have an info `_x` beside its `x`: the host alone sets whose `x` counts.
    for key, values in columns.items():
        told = np.zeros(rows, np.bool_)
        told[list(values)] = True
        infos[f"_{key}"] = told


def column_of(values: dict[int, Any], rows: int) -> Any:
    """One key's values, by env: a dict of columns if all of them are dicts, else an array."""
    kinds = {type(value) for value in values.values()}
    if kinds == {dict}:
        below: dict[str, Any] = {}
        add(below, values.items(), rows)
        return below
    column = np.zeros(rows, kind_of(kinds, values)) if kinds <= {bool, int, float} else np.full(rows, None, object)
    if column.dtype == object:
        column[:] = None
    for row, value in values.items():
        column[row] = value
    return column


def kind_of(kinds: set[type], values: dict[int, Any]) -> Any:
    """The type of a column of numbers or booleans: objects where a narrower type would change a value."""
    if len(kinds) == 1 and kinds != {int}:
        return next(iter(kinds))
    whole = [value for value in values.values() if type(value) is int]
    if kinds == {int} and min(whole) >= -(2**63) and max(whole) < 2**63:
        return int
    if kinds == {int, float} and all(abs(value) <= 2**53 for value in whole):
        # Some languages write 1.0 as 1.
        return float
    return object


__all__ = ["Infos", "add", "told_of"]
