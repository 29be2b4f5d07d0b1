"""One machine's share of a run: its envs, and the answers to what is asked of them from afar.

Knows the extension's envs and columns. Knows nothing of the engine by which it is asked (`ray`), or of the other shares
(`_nodes`).
"""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rollcage import _arguments as arguments
from rollcage import _rollcage as native
from rollcage._infos import Finals
from rollcage._types import Bytes, Flags, Reals, Row
from rollcage.errors import Fault, FaultError, RollcageError, UsageError

__all__ = ["Columns", "Host", "Outcome", "Plugin"]


class Plugin(NamedTuple):
    """A plugin or a policy as it travels: its name, whether it is an env in Python, and its bytes."""

    name: str
    in_python: bool
    data: bytes

    @staticmethod
    def of_file(file: str) -> Plugin:
        """A policy's file."""
        path = Path(file)
        try:
            return Plugin(path.name, False, path.read_bytes())
        except OSError as error:
            raise UsageError(f"policy {file!r}: {error.strerror}") from error


class Columns(NamedTuple):
    """The answers of a call, a row for each env: what a caller asks of the extension after it. None: there is nothing."""

    observations: Bytes
    rewards: Reals
    terminated: Flags
    truncated: Flags
    events: int
    infos: Bytes | None = None
    masks: Bytes | None = None
    extras: list[str] | None = None
    finals: Finals | None = None
    final_extras: list[str] | None = None
    episodes: Sequence[tuple[int, float, int]] = ()
    faults: Sequence[tuple[int, Fault]] = ()
    was_reset: Flags | None = None
    masked: Flags | None = None
    instances: Sequence[int] | None = None

    @property
    def rows(self) -> int:
        """How many envs have answered."""
        return len(self.rewards)


class Outcome(NamedTuple):
    """What came of a call: its value; or its error, and the answers of the envs that did not err, where there are any."""

    value: Any = None
    error: RollcageError | None = None


class _Part:
    """Envs that are asked together: the share itself, or the branches of one of its envs."""

    def __init__(self, envs: native.Envs) -> None:
        self.envs = envs
        self.known: dict[str, Any] = {}

    def look(self) -> None:
        self.known = self.envs.known()

    def columns(self, row: Row) -> Columns:
        """The row of the last call, and all that belongs to it."""
        observations, rewards, terminated, truncated, events = row
        envs, known = self.envs, self.known
        fault, final, extra = events & native.FAULT, events & native.FINAL, events & native.EXTRA
        return Columns(
            observations=envs.observations().copy() if observations is None else observations,
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            events=events,
            infos=envs.infos() if known["info_stride"] else None,
            masks=envs.action_masks() if known["mask_bytes"] else None,
            extras=envs.extras() if extra else None,
            finals=envs.finals() if final or fault else None,
            final_extras=envs.final_extras() if extra and final else None,
            episodes=envs.episodes() if events & native.EPISODE else (),
            faults=envs.faults() if fault else (),
            was_reset=envs.was_reset() if fault or events & native.RESET else None,
            masked=envs.masked() if events & native.MASKED else None,
            instances=envs.instances() if fault or events & native.RESET else None,
        )


#: Calls of the extension that return a row.
_ROWS = frozenset({"reset", "step", "last", "restore"})


class Host:
    """The envs of one machine, asked by the names of the extension's calls."""

    def __init__(self) -> None:
        self._parts: dict[int, _Part] = {}
        self._next = 0
        self._files = contextlib.ExitStack()

    def facts(self) -> dict[str, Any]:
        """What this machine is: name, process, the build of its package."""
        return {"name": platform.node(), "pid": os.getpid(), "build": native.BUILD}

    def assemble(self, given: dict[str, Any], plugin: Plugin, policy: Plugin | None, folder: str) -> Outcome:
        """Opens grants, compiles the plugin and checks the configs; starts nothing.

        Parameters
        ----------
        given : dict
            Arguments for the extension. What belongs to a machine (programs, folders) is this one's.
        plugin, policy : Plugin
            What runs.
        folder : str
            Where relative paths begin, if this machine has it.

        """
        try:
            if os.path.isdir(folder):
                os.chdir(folder)
            given = {**given, **arguments.of_machine()}
            given["plugin"] = native.Plugin.of_bytes(plugin.name, bytes(plugin.data), plugin.in_python)
            given["policy"] = None if policy is None else self._file(policy)
            envs = native.Envs(given, True, started=False)
        except RollcageError as error:
            return Outcome(error=error)
        self._parts[0], self._next = _Part(envs), 1
        return Outcome()

    def _file(self, policy: Plugin) -> str:
        folder = Path(self._files.enter_context(tempfile.TemporaryDirectory(prefix="rollcage-policy-")))
        file = folder / policy.name
        file.write_bytes(policy.data)
        return str(file)

    def ask(self, part: int, call: str, *given: Any) -> Outcome:
        """Does a call of these envs. An error comes back as a value."""
        envs = self._parts.get(part)
        if envs is None:
            return Outcome()
        try:
            own = getattr(self, f"_{call}", None)
            if own is not None:
                return Outcome(own(envs, *given))
            value = getattr(envs.envs, call)(*given)
            return Outcome(envs.columns(value) if call in _ROWS else value)
        except FaultError as error:
            # The others have answered.
            last = envs.columns(envs.envs.last()) if call in _ROWS else None
            return Outcome(last, error)
        except RollcageError as error:
            return Outcome(error=error)

    # ── Calls that are more than one of the extension's ─────────────────────────────────────────────────────────────

    def _start(self, part: _Part) -> dict[str, Any]:
        part.envs.start()
        part.look()
        return part.known

    def _turn(self, part: _Part, actions: Bytes, envs: list[int]) -> tuple[list[int], Columns]:
        """A step of some envs, until all of them have answered."""
        part.envs.send(actions, envs)
        ids, row = part.envs.recv(len(envs), None)
        return ids, part.columns(row)

    def _many(self, part: _Part, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Outcome]:
        """Several calls in order, each with an outcome of its own."""
        outcomes = []
        for call, given in calls:
            try:
                outcomes.append(Outcome(getattr(part.envs, call)(*given)))
            except RollcageError as error:
                outcomes.append(Outcome(error=error))
        return outcomes

    def _branch(
        self, part: _Part, env: int, count: int, seeds: Sequence[int] | None
    ) -> tuple[int, dict[str, Any], Columns]:
        """Copies of an env: their number as a part of this host, what is known of them, and their present row."""
        branches = _Part(part.envs.branch(env, count, seeds))
        branches.look()
        number, self._next = self._next, self._next + 1
        self._parts[number] = branches
        return number, branches.known, branches.columns(branches.envs.last())

    def _write_back(self, part: _Part, source: int | None, env: int, to: list[int]) -> Columns:
        envs = None if source is None else self._parts[source].envs
        return part.columns(part.envs.write_back(envs, env, to))

    def _set_policy(self, part: _Part, policy: Plugin, config: str) -> None:
        part.envs.set_policy(self._file(policy), config)

    def _close(self, part: _Part) -> None:
        part.envs.close()
