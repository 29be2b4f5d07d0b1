"""Infos: what a plugin declares of them comes as bytes, the rest as JSON; Gymnasium and Stable-Baselines3 want dicts."""

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

#: Whatever makes an info something else than the declared fields of all rows.
UNUSUAL = native.FAULT | native.MASKED | native.EXTRA

#: What `Envs.finals` returns: which rows have a final view; its observations, infos and action masks.
Finals = tuple[Flags, Bytes, Bytes, Bytes]


#: What only the host says in infos. Gymnasium, Stable-Baselines3 and their users act on these keys and trust their values, so a
#: plugin's are left out and counted, under `RESERVED` and with an underscore before it; `action_mask` where envs have masks.
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

#: What a plugin may say in a form that those who read it can work with: `is_success` is averaged.
ONLY_SCALARS = frozenset({"is_success"})


class Infos:
    """The infos of a batch.

    Parameters
    ----------
    envs : Envs
        The native envs.
    known : dict
        What the extension knows of them.

    """

    def __init__(self, envs: native.Envs, known: dict[str, Any]) -> None:
        self._envs = envs
        self._stride: int = known["info_stride"]
        self._mask_bytes: int = known["mask_bytes"]
        reserved = RESERVED | {"action_mask"} if self._mask_bytes else RESERVED
        self._reserved = reserved | {f"_{key}" for key in reserved}
        #: How often a plugin's info was left out because its key is reserved, by key.
        self.left_out: Counter[str] = Counter()
        #: Declared fields by name, each with its place among the bytes that say whether it is there; and those that are reserved.
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
        """What whoever makes such envs may want to know."""
        names = ", ".join(native.one_line(repr(name)) for name in self._refused)
        return [f"infos that the env declares are left out, because only the host says them: {names}"] if names else []

    def _are_none(self, events: int) -> bool:
        """Whether there is nothing to tell, as in most steps of an env without infos."""
        return not (self._always or events & UNUSUAL)

    # ── As Gymnasium's vector envs have them ────────────────────────────────────────────────────────────────────────

    def vector(self, rows: int, events: int, told: Flags | None) -> dict[str, Any]:
        """One dict for the batch: each key an array with a row for each env, and ``_key`` says whose rows count.

        Parameters
        ----------
        rows : int
            Rows of the batch.
        events : int
            What happened, as the extension says.
        told : ndarray of bool, shape (rows,), or None
            Whose infos are of this call; None: everybody's.

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
        """The same of the rows that ended an episode, in same-step autoreset."""
        which, _, infos, masks = finals
        faults = dict(self._envs.faults()) if events & native.FAULT else {}
        answered = which.copy()
        answered[list(faults)] = False
        extras = self._extras(self._envs.final_extras(), answered) if events & native.EXTRA else {}
        final = self._joined(infos, masks, extras, answered)
        add(final, [(row, told_of(fault)) for row, fault in faults.items() if which[row]], rows)
        return final

    def _answered(self, rows: int, events: int, told: Flags | None, faults: list[tuple[int, Fault]]) -> Flags:
        """Whose infos are those of an answer: not who is masked, nor who met a fault and was not reset since."""
        told = np.ones(rows, np.bool_) if told is None else told.copy()
        if events & native.MASKED:
            told &= ~self._envs.masked()
        if faults:
            fresh = self._envs.was_reset() | self._envs.finals()[0]
            for row, _ in faults:
                told[row] &= fresh[row]
        return told

    def _extras(self, texts: list[str], told: Flags) -> dict[int, dict[str, Any]]:
        """What was not declared, of those that are told and said something; the host has seen that it is a JSON object."""
        return {row: self._kept(json.loads(text)) for row, text in enumerate(texts) if text and told[row]}

    def _kept(self, extra: dict[str, Any]) -> dict[str, Any]:
        """Without what only the host says, and what nobody could work with."""
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
        """The declared infos, a row for each env. Counts what is left out of them."""
        table = data.reshape(-1, self._stride)
        for name, index in self._refused.items():
            self.left_out[name] += int(((table[:, index] == 1) & told).sum())
        return table

    def _joined(self, data: Bytes, masks: Bytes, extras: dict[int, dict[str, Any]], told: Flags) -> dict[str, Any]:
        """Declared fields, masks and extras in Gymnasium's form. Where an env says both, its extra info counts."""
        infos: dict[str, Any] = {}
        whose: dict[str, Flags] = {}
        said: list[tuple[int, dict[str, Any]]] = []
        if self._stride:
            table = self._table(data, told)
            both = {key for extra in extras.values() for key in extra}
            for name, (index, node) in self._fields.items():
                # A byte a field, before their values: whether it is there.
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
        """The same of the rows that ended an episode, by row."""
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
        """The infos of the rows that are told; `infos` has a dict for each of them. Extra ones count before declared ones."""
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
    """What an info says of a fault."""
    return {"fault": fault.kind, "fault_message": fault.message}


def plain(value: Any) -> Any:
    """A number without a shape as Python's own, and a row of its own memory: infos are kept."""
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

    As `gymnasium.vector.VectorEnv._add_info`, but that nothing is lost or refused: a key's values of one kind are an array of it,
    whoever comes first; values of several kinds, and integers beyond 64 bits, are an array of objects.

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
    # Last: a plugin may call an info `_x` beside its `x`, and who says `x` is the host's to know.
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
    """The type of a column of numbers or booleans: objects where another one would change a value."""
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
