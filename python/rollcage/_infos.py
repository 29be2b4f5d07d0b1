"""Infos: what a plugin declares of them comes as bytes, the rest as JSON; Gymnasium and Stable-Baselines3 want dicts."""

from __future__ import annotations

import json
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
        self._fields: list[tuple[str, Node]] = [(name, node_of(described)) for name, described in known["info_fields"]]
        self._stride: int = known["info_stride"]
        self._mask_bytes: int = known["mask_bytes"]
        self._always = bool(self._fields or self._mask_bytes)

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
        infos: dict[str, Any] = {}
        if self._are_none(events):
            return infos
        faults = self._envs.faults() if events & native.FAULT else []
        told = self._answered(rows, events, told, faults)
        self._declared(infos, self._envs.infos(), self._envs.action_masks(), told)
        if events & native.EXTRA:
            for row, text in enumerate(self._envs.extras()):
                if text and told[row]:
                    add(infos, json.loads(text), row, rows)
        if events & native.MASKED:
            masked = self._envs.masked()
            infos["masked"], infos["_masked"] = masked, masked.copy()
        for row, fault in faults:
            add(infos, told_of(fault), row, rows)
        return infos

    def final(self, rows: int, finals: Finals, events: int) -> dict[str, Any]:
        """The same of the rows that ended an episode, in same-step autoreset."""
        which, _, infos, masks = finals
        final: dict[str, Any] = {}
        faults = dict(self._envs.faults()) if events & native.FAULT else {}
        answered = which.copy()
        answered[list(faults)] = False
        self._declared(final, infos, masks, answered)
        if events & native.EXTRA:
            for row, text in enumerate(self._envs.final_extras()):
                if text and answered[row]:
                    add(final, json.loads(text), row, rows)
        for row, fault in faults.items():
            if which[row]:
                add(final, told_of(fault), row, rows)
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

    def _declared(self, infos: dict[str, Any], data: Bytes, masks: Bytes, told: Flags) -> None:
        if self._fields:
            table = data.reshape(-1, self._stride)
            for index, (name, node) in enumerate(self._fields):
                # A byte a field, before their values: whether it is there.
                there = (table[:, index] == 1) & told
                if there.any():
                    put(infos, name, node, node.read(table), there)
        if self._mask_bytes:
            rows = self._masks(masks)
            rows[~told] = 0
            infos["action_mask"], infos["_action_mask"] = rows, told.copy()

    # ── As a list of dicts, one for each env ────────────────────────────────────────────────────────────────────────

    def each(self, rows: int, events: int) -> list[dict[str, Any]]:
        """A dict for each env, as a single Gymnasium env returns it."""
        infos: list[dict[str, Any]] = [{} for _ in range(rows)]
        if self._are_none(events):
            return infos
        faults = self._envs.faults() if events & native.FAULT else []
        told = self._answered(rows, events, None, faults)
        self._fill(infos, self._envs.infos(), self._envs.action_masks(), told)
        if events & native.EXTRA:
            for row, text in enumerate(self._envs.extras()):
                if text and told[row]:
                    infos[row].update(json.loads(text))
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
        self._fill(infos, data, masks, which)
        if events & native.EXTRA:
            for row, text in enumerate(self._envs.final_extras()):
                if text and which[row]:
                    infos[row].update(json.loads(text))
        if events & native.FAULT:
            for row, fault in self._envs.faults():
                if which[row]:
                    infos[row] = told_of(fault)
        return infos

    def _fill(self, infos: Any, data: Bytes, masks: Bytes, told: Flags) -> None:
        """The declared fields and masks of the rows that are told; `infos` has a dict for each of them."""
        if self._fields:
            table = data.reshape(-1, self._stride)
            for index, (name, node) in enumerate(self._fields):
                there = (table[:, index] == 1) & told
                values = node.read(table)
                for row in np.flatnonzero(there).tolist():
                    infos[row][name] = plain(node.item(values, row))
        if self._mask_bytes:
            choices = self._masks(masks)
            for row in np.flatnonzero(told).tolist():
                infos[row]["action_mask"] = choices[row]

    def masks(self) -> npt.NDArray[np.int8]:
        """Action masks, 1 where a choice is possible: shape (rows, choices), int8."""
        return self._masks(self._envs.action_masks())

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


def put(infos: dict[str, Any], name: str, node: Node, values: Any, there: Flags) -> None:
    """Adds a column to Gymnasium's dict: `values` of all rows, of which those that are `there` count."""
    if isinstance(node, Dict):
        below: dict[str, Any] = {}
        for key, member in node.members.items():
            put(below, key, member, values[key], there)
        column: Any = below
    elif isinstance(node, Numbers):
        column = np.where(there.reshape(-1, *[1] * len(node.shape)), values, np.zeros(1, node.dtype))
    else:
        column = np.full(len(there), None, dtype=object)
        for row in np.flatnonzero(there).tolist():
            column[row] = node.item(values, row)
    infos[name], infos[f"_{name}"] = column, there.copy()


def add(infos: dict[str, Any], info: dict[str, Any], row: int, rows: int) -> None:
    """Adds one env's info to Gymnasium's dict, as `gymnasium.vector.VectorEnv._add_info` does it."""
    for key, value in info.items():
        if isinstance(value, dict):
            column = infos.get(key)
            if not isinstance(column, dict):
                column = {}
            add(column, value, row, rows)
        else:
            column = infos.get(key)
            if column is None:
                kind: Any = type(value) if type(value) in (int, float, bool) else object
                column = np.zeros(rows, kind) if kind is not object else np.full(rows, None, object)
            if column.dtype != object and not np.can_cast(type(value), column.dtype):
                # Another env said a number of another kind, or no number: nothing is rounded off.
                column = column.astype(object)
            column[row] = value
        told = infos.get(f"_{key}")
        told = np.zeros(rows, np.bool_) if told is None else told
        told[row] = True
        infos[key], infos[f"_{key}"] = column, told


__all__ = ["Infos", "add", "told_of"]
