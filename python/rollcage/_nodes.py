"""Envs on several machines as one: the calls of the extension's `Envs`, over a host on each.

Every call is sent once to each host and gathered once; answers come as columns and are joined in the order of the envs.
A host that is gone is a fault of its envs. Knows hosts and columns. Knows nothing of the engine that carries the calls, which
is one of `Engine`'s: Ray in `rollcage.ray`.
"""

from __future__ import annotations

import functools
import operator
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rollcage import _rollcage as native
from rollcage._host import Columns, Outcome, Plugin
from rollcage._infos import Finals
from rollcage._types import Bytes, Flags, Reals, Row
from rollcage.errors import (
    AlreadyPendingCallError,
    ClosedError,
    Fault,
    FaultError,
    NoAsyncCallError,
    RollcageError,
    UsageError,
    fault_error,
)

__all__ = ["Engine", "Link", "LostError", "Nodes", "shares_of"]

#: Seconds without an answer after which a host is asked whether it is there; and seconds that it has to say so.
QUIET, PATIENCE = 5.0, 18.0
#: Faults that are kept.
FAULTS_KEPT = 1000


class LostError(Exception):
    """A host is gone, with its machine or alone. The message says how that was seen."""


class Engine(Protocol):
    """What carries calls to hosts. A host is whatever `replace` returns; a token stands for an answer under way."""

    def ask(self, host: Any, part: int, call: str, *given: Any) -> Any:
        """Sends a call, without waiting. Returns its token."""

    def ping(self, host: Any) -> Any:
        """Asks whether a host is there, past what it is doing. Returns a token."""

    def wait(self, tokens: Sequence[Any], many: int, timeout: float | None) -> list[Any]:
        """The tokens whose answers are there, once so many are, or the time is over."""

    def take(self, token: Any) -> Any:
        """The answer of a token that `wait` has returned. Raises `LostError`."""

    def replace(self, link: Link, first_instance: int) -> tuple[Any, str]:
        """Starts the envs of a lost host on another machine. Returns the host, and a name for messages.

        Raises `LostError` where there is none, or it is lost meanwhile.
        """

    def give_up(self, host: Any) -> None:
        """Ends a host, without waiting."""

    def close(self) -> None:
        """Ends all hosts."""


def shares_of(envs: int, nodes: int) -> list[int]:
    """Envs in even shares; where they are not even, the first nodes have one more."""
    each, more = divmod(envs, nodes)
    return [each + (node < more) for node in range(nodes)]


@dataclass(eq=False)
class Link:
    """A host as it is seen from here, and the envs that it has."""

    first: int
    envs: int
    #: None: it is gone, and nothing was started in its place yet.
    host: Any
    name: str
    part: int = 0
    #: What its envs answered last; whether the host has been reset; whether its loss was told in a row.
    last: Columns | None = None
    is_reset: bool = False
    loss: str | None = None
    told: bool = False

    @property
    def numbers(self) -> range:
        """The numbers of its envs."""
        return range(self.first, self.first + self.envs)

    @property
    def rows(self) -> slice:
        """Where its envs are in the columns of all."""
        return slice(self.first, self.first + self.envs)


#: Calls that are under way, by token.
_Asked = dict[Any, Link]


class Nodes:
    """The envs of several hosts, by the calls of the extension's `Envs`.

    Parameters
    ----------
    engine : Engine
        What carries the calls.
    links : list of Link
        The hosts, in the order of their envs.
    known : dict
        What is known of the envs (`Envs.known`).
    mode, on_fault : str
        Autoreset mode and policy for faults, as the extension has them.
    losses : int
        How many losses of hosts are absorbed.
    owner : bool
        Whether closing these closes the engine too.

    """

    def __init__(
        self,
        engine: Engine,
        links: list[Link],
        known: Mapping[str, Any],
        *,
        mode: str,
        on_fault: str,
        losses: int,
        owner: bool = True,
    ) -> None:
        self.links = links
        self.closed = False
        #: The envs of which an instance was lost with its host: their digests are not whole.
        self.lost = np.zeros(sum(link.envs for link in links), np.bool_)
        self._engine, self._known, self._owner = engine, dict(known), owner
        self._mode, self._on_fault, self._losses_left = mode, on_fault, losses
        self._strides = (known["observation_space"]["stride"], known["info_stride"], known["mask_bytes"])
        self._actions = native.Actions(known["action_description"], known["actions_out_of_bounds"])
        self._action_stride: int = known["action_space"]["stride"]
        envs = len(self.lost)
        self._numbers = np.arange(envs)
        self._present = np.zeros((envs, self._strides[0]), np.uint8)
        self._masks = np.zeros((envs, self._strides[2]), np.uint8)
        self._over, self._masked, self._unreset = (np.full(envs, value) for value in (True, False, True))
        self._flying = np.zeros(envs, np.bool_)
        self._episodes, self._steps, self._instances = (np.zeros(envs, np.int64) for _ in range(3))
        self._batch = _nothing(envs, self._strides)
        self._pending: _Asked | None = None
        self._turns: dict[Any, tuple[Link, list[int]]] = {}
        #: Answers that came and were not returned: what was sent of, and the answer.
        self._landed: list[tuple[Link, list[int], Columns]] = []
        self._node_faults: list[Fault] = []
        #: Losses that no row has told yet, by env.
        self._untold: dict[int, Fault] = {}
        #: When calls that are under way were first waited for; and what was asked of their hosts meanwhile, and when.
        self._asked_at: dict[Any, float] = {}
        self._pings: dict[Any, tuple[Any, float]] = {}

    # ── Reset and step ──────────────────────────────────────────────────────────────────────────────────────────────

    def reset(self, mask: Sequence[bool] | None, seeds: Sequence[int | None] | None, options: str | None) -> Row:
        """Resets the envs of `mask`, or all."""
        self._check_open()
        wanted = np.ones(len(self.lost), np.bool_) if mask is None else np.asarray(mask, np.bool_)
        if wanted.all():
            self._drop_what_is_under_way()
        else:
            self._check_free(wanted)
        parts: dict[int, Columns] = {}
        asked: _Asked = {}
        again: list[tuple[Link, str]] = []
        for link in self.links:
            if wanted[link.rows].any():
                self._ask_reset(asked, link, wanted, seeds, options)
            else:
                parts[link.first] = _quiet(link.last or _nothing(link.envs, self._strides))
        error = self._collect(asked, parts, lambda link, reason: again.append((link, reason)))
        for link in self.links:
            if link.first in parts and wanted[link.rows].any():
                parts[link.first] = self._telling(link, parts[link.first])
        for link, reason in again:
            faults = self._lose(link, reason, told=True)
            if self._on_fault == "raise":
                error = error or fault_error(faults[0])
                parts[link.first] = self._row_of_loss(link, faults, truncated=False)
                continue
            part, failed = self._reset_elsewhere(link, wanted, seeds, options)
            error = error or failed
            parts[link.first] = part
        self._enter(parts, wanted)
        return self._answer(error)

    def _ask_reset(
        self, asked: _Asked, link: Link, wanted: Flags, seeds: Sequence[int | None] | None, options: str | None
    ) -> None:
        if link.host is None:
            self._mend(link)
        own = seeds[link.rows] if seeds is not None else None
        # A host in a lost one's place is reset as a whole: envs that were not asked for stay masked here.
        mask = wanted[link.rows].tolist() if link.is_reset and not wanted[link.rows].all() else None
        asked[self._engine.ask(link.host, link.part, "reset", mask, own, options)] = link

    def _reset_elsewhere(
        self,
        link: Link,
        wanted: Flags,
        seeds: Sequence[int | None] | None,
        options: str | None,
    ) -> tuple[Columns, RollcageError | None]:
        """Resets the envs of a lost host on another one, with the fault in their rows."""
        while True:
            asked: _Asked = {}
            lost: list[str] = []
            parts: dict[int, Columns] = {}
            self._ask_reset(asked, link, wanted, seeds, options)
            error = self._collect(asked, parts, lambda _, reason, lost=lost: lost.append(reason))  # type: ignore[misc]
            if not lost:
                return self._telling(link, parts[link.first]), error
            self._lose(link, lost[0], told=True)

    def step(self, actions: Bytes) -> Row:
        """Steps every env."""
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: Bytes) -> None:
        """Begins a step of every env."""
        self._check_open()
        self._check_free(np.ones(len(self.lost), np.bool_))
        self._check_actions(actions, self._numbers)
        asked: _Asked = {}
        for link in self.links:
            self._ask_step(asked, link, actions)
        self._pending = asked

    def _ask_step(self, asked: _Asked, link: Link, actions: Bytes) -> None:
        """Sends a host its part of a step, unless its loss is to be told first."""
        if link.loss is not None and not link.told:
            return
        if link.host is None and self._on_fault == "restart":
            self._mend(link)
        if link.host is None:
            return
        if not link.is_reset and self._mode == "next-step":
            # In a new host's first turn every env is reset: the step after a fault is that, and ignores its action.
            token = self._engine.ask(link.host, link.part, "reset", None, None, None)
        else:
            stride = self._action_stride
            own = actions.reshape(-1)[link.first * stride : (link.first + link.envs) * stride]
            token = self._engine.ask(link.host, link.part, "step", own)
        asked[token] = link

    def step_wait(self) -> Row:
        """Waits for the step that `step_async` began."""
        self._check_open()
        if self._pending is None:
            raise NoAsyncCallError("no step was begun, or its answers were given", ["`step_async` begins one"])
        asked = self._pending
        parts: dict[int, Columns] = {}
        lost: list[tuple[Link, str]] = []
        error = self._collect(asked, parts, lambda link, reason: lost.append((link, reason)))
        self._pending = None
        for link, reason in lost:
            self._lose(link, reason, told=False)
        for link in self.links:
            if link.first not in parts:
                part, failed = self._step_of_lost(link)
                parts[link.first], error = part, error or failed
        self._enter(parts)
        return self._answer(error)

    def _step_of_lost(self, link: Link) -> tuple[Columns, RollcageError | None]:
        """The row of a step of envs whose host is gone."""
        if link.told:
            return self._row_of_masked(link), None
        link.told = True
        faults = self._faults_of(link)
        row = self._row_of_loss(link, faults, truncated=True)
        if self._on_fault == "raise":
            return row, fault_error(faults[0])
        if self._on_fault == "mask":
            self._masked[link.rows] = True
            return row, None
        if self._losses_left <= 0:
            return row, self._spent(faults[0])
        if self._mode != "same-step":
            return row, None
        # This step goes on with the reset of the next instance, and what was there before is the final observation.
        wanted = np.zeros(len(self.lost), np.bool_)
        wanted[link.rows] = True
        reset, error = self._reset_elsewhere(link, wanted, None, None)
        every = np.ones(link.envs, np.bool_)
        _, _, infos, masks = _no_finals(link.envs, self._strides)
        finals = (every, row.observations, infos, masks)
        events = reset.events | native.FINAL | native.FAULT
        told = list(enumerate(faults))
        return reset._replace(truncated=every, faults=told, finals=finals, events=events), error

    def last(self) -> Row:
        """The row of the last call again."""
        return self._row()

    # ── Steps of some envs ──────────────────────────────────────────────────────────────────────────────────────────

    def send(self, actions: Bytes, env_ids: Sequence[int]) -> None:
        """Begins a step of some envs."""
        self._check_open()
        ids = np.asarray(env_ids, np.int64)
        wanted = np.zeros(len(self.lost), np.bool_)
        for env in env_ids:
            if wanted[env]:
                raise UsageError(f"env {env} is named twice")
            wanted[env] = True
        self._check_free(wanted)
        self._check_actions(actions, ids)
        rows = actions.reshape(len(ids), -1)
        for link in self.links:
            here = np.flatnonzero((ids >= link.first) & (ids < link.first + link.envs))
            if len(here):
                self._send(link, rows[here], ids[here].tolist())
        self._flying[ids] = True

    def _send(self, link: Link, rows: Bytes, ids: list[int]) -> None:
        if link.host is None and self._on_fault == "restart" and link.told:
            self._mend(link)
        if link.host is None:
            # The loss, or that they are masked, is told by `recv`.
            self._landed.append((link, ids, _nothing(0, self._strides)))
            return
        local = [env - link.first for env in ids]
        if not link.is_reset and self._mode == "next-step":
            token = self._engine.ask(link.host, link.part, "reset", None, None, None)
        else:
            token = self._engine.ask(link.host, link.part, "turn", np.ascontiguousarray(rows).reshape(-1), local)
        self._turns[token] = (link, ids)

    def recv(self, min_ready: int, timeout: float | None) -> tuple[list[int], Row]:
        """The envs that have answered, once there are `min_ready`, or the time is over."""
        self._check_open()
        if not self._flying.any():
            raise UsageError("no env is in flight", ["`send` sends some envs actions"])
        until = None if timeout is None else time.monotonic() + timeout
        wanted = min(min_ready, int(self._flying.sum()))
        error: RollcageError | None = None
        while sum(len(ids) for _, ids, _ in self._landed) < wanted:
            left = None if until is None else max(0.0, until - time.monotonic())
            took = self._take_turns(left)
            error = error or took
            if error is not None or (left is not None and left <= 0):
                break
        self._take_turns(0.0)
        return self._return_landed(error)

    def _take_turns(self, timeout: float | None) -> RollcageError | None:
        """Takes the answers of hosts that are there, after waiting for one."""
        error: RollcageError | None = None
        links = {token: link for token, (link, _) in self._turns.items()}
        for token, outcome in self._wait(links, 1, timeout):
            link, ids = self._turns.pop(token)
            if isinstance(outcome, LostError):
                self._lose(link, str(outcome), told=False)
                self._landed.append((link, ids, _nothing(0, self._strides)))
                continue
            if outcome.error is not None:
                error = error or outcome.error
                self._flying[ids] = False
                continue
            if isinstance(outcome.value, Columns):  # a reset of the whole host
                self._heard(link, outcome.value)
                answer = _rows_of(outcome.value, [env - link.first for env in ids])
                told = [(at, self._untold.pop(env)) for at, env in enumerate(ids) if env in self._untold]
                if told:
                    answer = answer._replace(events=answer.events | native.FAULT, faults=[*answer.faults, *told])
            else:
                answer = outcome.value[1]
                self._heard(link, answer)
            self._landed.append((link, ids, answer))
        return error

    def _return_landed(self, error: RollcageError | None) -> tuple[list[int], Row]:
        landed, self._landed = sorted(self._landed, key=lambda one: min(one[1])), []
        answers: list[tuple[list[int], Columns]] = []
        for link, ids, answer in landed:
            if answer.rows == 0:
                row, failed = self._step_of_lost(link)
                error, answer = error or failed, _rows_of(row, [env - link.first for env in ids])
                self._untold.update((fault.env, fault) for _, fault in row.faults if fault.env not in ids)
            answers.append((sorted(ids), answer))
        ids = [env for envs, _ in answers for env in envs]
        self._flying[ids] = False
        # Envs of one host are in order; those of several are put in order here.
        joined = _joined([answer for _, answer in answers], self._strides)
        order = np.argsort(np.array(ids, np.int64), kind="stable")
        self._batch = _rows_of(joined, order.tolist())
        ids = sorted(ids)
        self._note(self._batch, np.array(ids, np.int64))
        if error is not None:
            raise error
        return ids, self._row()

    # ── More of the last call ───────────────────────────────────────────────────────────────────────────────────────

    def observations(self) -> Bytes:
        """Observations of the last call."""
        return self._batch.observations

    def action_masks(self) -> Bytes:
        """Action masks of the last call."""
        return _or_none(self._batch.masks)

    def masks_now(self) -> Bytes:
        """The latest mask of each env."""
        return self._masks.reshape(-1)

    def infos(self) -> Bytes:
        """Declared infos of the last call."""
        return _or_none(self._batch.infos)

    def extras(self) -> list[str]:
        """Undeclared infos of the last call."""
        return self._batch.extras or [""] * self._batch.rows

    def finals(self) -> Finals:
        """Final views of the last call."""
        return self._batch.finals or _no_finals(self._batch.rows, self._strides)

    def final_extras(self) -> list[str]:
        """Undeclared infos of the final views."""
        return self._batch.final_extras or [""] * self._batch.rows

    def episodes(self) -> list[tuple[int, float, int]]:
        """Episodes that the last call ended."""
        return list(self._batch.episodes)

    def faults(self) -> list[tuple[int, Fault]]:
        """Faults of the last call."""
        return list(self._batch.faults)

    def was_reset(self) -> Flags:
        """Which rows of the last call are resets."""
        return _flags(self._batch.was_reset, self._batch.rows)

    def masked(self) -> Flags:
        """Which rows of the last call are of masked envs."""
        return _flags(self._batch.masked, self._batch.rows)

    # ── What else an env can do ─────────────────────────────────────────────────────────────────────────────────────

    def render(self, env: int, mode: str) -> Any:
        """Renders an env."""
        return self._of_env(env, "render", mode)

    def call(self, env: int, method: str, arguments: str) -> str:
        """Calls a method of an env."""
        answer: str = self._of_env(env, "call", method, arguments)
        return answer

    def get_attribute(self, env: int, name: str) -> str:
        """Reads an attribute of an env."""
        answer: str = self._of_env(env, "get_attribute", name)
        return answer

    def set_attribute(self, env: int, name: str, value: str) -> None:
        """Sets an attribute of an env."""
        self._of_env(env, "set_attribute", name, value)

    def reseed(self, env: int, seed: int) -> None:
        """Starts new random streams of an env."""
        self._of_env(env, "reseed", seed)

    def set_reset_options(self, env: int, options: str | None) -> None:
        """Sets options for an env's next reset."""
        self._of_env(env, "set_reset_options", options)

    def step_many(self, env: int, actions: Bytes) -> tuple[int, Bytes, Reals, bool, bool]:
        """Takes several steps of one env."""
        steps: tuple[int, Bytes, Reals, bool, bool] = self._of_env(env, "step_many", actions)
        taken, observations, _, terminated, truncated = steps
        if taken:
            self._present[env] = observations.reshape(taken, -1)[-1]
            self._steps[env] += taken
            self._over[env] = terminated or truncated
        return steps

    def many(self, call: str, given: Mapping[int, Sequence[Any]]) -> dict[int, Outcome]:
        """A call of several envs, in one message to each host; an outcome for each env.

        Parameters
        ----------
        call : str
            A call of the extension whose first argument is an env.
        given : mapping of int to sequence
            The further arguments of each env.

        """
        self._check_open()
        outcomes: dict[int, Outcome] = {}
        asked: dict[Any, Link] = {}
        order: dict[int, list[int]] = {}
        for link in self.links:
            envs = [env for env in given if env in link.numbers]
            if envs:
                self._check_there(link, envs[0])
                order[link.first] = envs
                calls = [(call, (env - link.first, *given[env])) for env in envs]
                asked[self._engine.ask(link.host, link.part, "many", calls)] = link
        for token, outcome in self._wait(asked, len(asked), None):
            link = asked[token]
            if isinstance(outcome, LostError):
                fault = self._lose(link, str(outcome), told=False)
                outcomes.update({env: Outcome(error=fault_error(fault[env - link.first])) for env in order[link.first]})
            else:
                outcomes.update(zip(order[link.first], outcome.value, strict=True))
        return outcomes

    def _of_env(self, env: int, call: str, *given: Any) -> Any:
        """A call of one env, on its host."""
        self._check_open()
        link = self._link(env)
        self._check_there(link, env)
        return self._one(link, call, env - link.first, *given)

    def _one(self, link: Link, call: str, *given: Any) -> Any:
        token = self._engine.ask(link.host, link.part, call, *given)
        for _, outcome in self._wait({token: link}, 1, None):
            if isinstance(outcome, LostError):
                raise fault_error(self._lose(link, str(outcome), told=False)[0])
            if outcome.error is not None:
                raise outcome.error
            return outcome.value
        raise AssertionError("an answer or a loss")

    # ── Rollouts ────────────────────────────────────────────────────────────────────────────────────────────────────

    def set_policy(self, file: str, config: str) -> None:
        """Puts a policy beside the envs of every host."""
        policy = Plugin.of_file(file)
        self._check_free(np.ones(len(self.lost), np.bool_))
        self._everywhere("set_policy", lambda _: (policy, config))

    def rollout(
        self, acting: str, given: Sequence[Bytes], amount: str, count: int, returns_only: bool
    ) -> tuple[list[str], list[dict[str, Any]]]:
        """Lets the envs of all hosts play by themselves."""
        self._check_free(np.ones(len(self.lost), np.bool_))
        envs = len(self.lost)

        def arguments(link: Link) -> tuple[Any, ...]:
            share = count
            if amount == "episodes":
                each, more = divmod(count, envs)
                share = each * link.envs + min(max(more - link.first, 0), link.envs)
            own = given[link.rows] if given else []
            return acting, own, amount, share, returns_only

        played = self._everywhere("rollout", arguments)
        for env, columns in enumerate(one for _, part in played for one in part):
            if len(columns["last_observation"]):
                self._present[env] = columns["last_observation"]
        self._unreset[:] = False
        # Whether an episode is over is known to the hosts alone: they check the next step.
        self._over[:] = False
        for link in self.links:
            link.is_reset = True
        return played[0][0], [env for _, part in played for env in part]

    def _everywhere(self, call: str, given: Callable[[Link], tuple[Any, ...]]) -> list[Any]:
        """A call of every host; its values in their order."""
        self._check_open()
        for link in self.links:
            self._check_there(link, link.first)
        values, lost = self._of_hosts(self.links, call, given)
        if lost is not None:
            raise lost
        return [values[link.first] for link in self.links]

    def _of_hosts(
        self, links: Sequence[Link], call: str, given: Callable[[Link], tuple[Any, ...]]
    ) -> tuple[dict[int, Any], FaultError | None]:
        """A call of these hosts. Returns the values of those that have answered, by first env, and a loss, if there was one.

        An error of a host is raised once all have answered.
        """
        asked = {self._engine.ask(link.host, link.part, call, *given(link)): link for link in links}
        values: dict[int, Any] = {}
        error: RollcageError | None = None
        lost: FaultError | None = None
        for token, outcome in self._wait(asked, len(asked), None):
            link = asked[token]
            if isinstance(outcome, LostError):
                lost = lost or fault_error(self._lose(link, str(outcome), told=False)[0])
            elif outcome.error is not None:
                error = error or outcome.error
            else:
                values[link.first] = outcome.value
        if error is not None:
            raise error
        return values, lost

    # ── Copies ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def branch(self, env: int, count: int, seeds: Sequence[int] | None) -> Nodes:
        """Live copies of an env, on its host."""
        link = self._link(env)
        part, known, columns = self._of_env(env, "branch", count, seeds)
        own = Link(0, count, link.host, link.name, part, last=columns, is_reset=True)
        branches = Nodes(self._engine, [own], known, mode=self._mode, on_fault=self._on_fault, losses=0, owner=False)
        branches._batch = columns
        branches._present[:] = columns.observations.reshape(count, -1)
        branches._unreset[:] = self._unreset[env]
        branches._over[:] = self._over[env]
        branches._episodes[:], branches._steps[:] = self._episodes[env], self._steps[env]
        return branches

    def write_back(self, source: Nodes | None, env: int, to: Sequence[int]) -> Row:
        """Turns envs into copies of another env of the same host."""
        self._check_open()
        there = (source or self)._link(env)
        for index in to:
            if self._link(index).host is not there.host:
                raise UsageError(
                    f"env {index} is on another node than env {env}, and a process cannot be copied to another machine",
                    ["`snapshot` and `restore` bring an env's state to any node"],
                )
        link = self._link(to[0]) if to else there
        part = None if source is None or source is self else there.part
        local = [index - link.first for index in to]
        return self._replaced(link, self._one(link, "write_back", part, env - there.first, local), list(to))

    def snapshot(self, env: int) -> bytes:
        """A snapshot of an env."""
        data: bytes = self._of_env(env, "snapshot")
        return data

    def restore(self, env: int, snapshot: bytes) -> Row:
        """Restores an env from a snapshot, on its host."""
        columns = self._of_env(env, "restore", snapshot)
        return self._replaced(self._link(env), columns, [env])

    def _replaced(self, link: Link, columns: Columns, envs: list[int]) -> Row:
        """Enters the row of a host of which some envs have another state now."""
        parts = {other.first: _quiet(other.last or _nothing(other.envs, self._strides)) for other in self.links}
        parts[link.first] = columns
        self._enter(parts, np.zeros(len(self.lost), np.bool_))
        self._over[envs] = self._unreset[envs] = False
        return self._row()

    # ── Facts ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def known(self) -> dict[str, Any]:
        """What is known of the envs."""
        return self._known

    def envs_per_worker(self) -> int:
        """The most envs that one worker has."""
        return max(int(many) for many in self._there("envs_per_worker", 1))

    def started_by(self) -> str | None:
        """How the envs were started, where that is the same on all hosts."""
        ways = set(self._there("started_by", None))
        return ways.pop() if len(ways) == 1 else None

    def pids(self) -> list[int | None]:
        """Process ids of the workers, each on its host."""
        return _flat(self._there_each("pids", lambda link: [None] * link.envs))

    def instances(self) -> list[int]:
        """How often each env was started anew."""
        return _flat(self._there_each("instances", lambda link: self._instances[link.rows].tolist()))

    def configs(self) -> list[str]:
        """The config of each env."""
        return _flat(self._there_each("configs", lambda link: ["{}"] * link.envs))

    def log(self, env: int) -> str:
        """The newest output of an env; nothing where its host is gone."""
        link = self._link(env)
        return "" if link.host is None else str(self._of_env(env, "log"))

    def digests(self) -> tuple[str | None, list[str | None]]:
        """The digest of the run, and of each env. None where an instance was lost with its host."""
        there = self._there_each("digests", lambda link: (None, [None] * link.envs))
        envs: list[str | None] = [digest for _, digests in there for digest in digests]
        envs = [None if lost else digest for digest, lost in zip(envs, self.lost.tolist(), strict=True)]
        whole = [digest for digest in envs if digest is not None]
        return (native.run_digest(whole) if len(whole) == len(envs) else None), envs

    def oddities(self) -> list[dict[str, Any]]:
        """Odd answers of all envs, by kind."""
        found: dict[str, dict[str, Any]] = {}
        for oddity in _flat(self._there_each("oddities", lambda _: [])):
            before = found.setdefault(oddity["kind"], {**oddity, "times": 0})
            before["times"] += oddity["times"]
        return list(found.values())

    def fault_log(self) -> tuple[int, list[Fault]]:
        """The number of faults, and the first of them, host by host."""
        logs = self._there_each("fault_log", lambda _: (0, []))
        first = [*self._node_faults, *(fault for _, faults in logs for fault in faults)]
        return len(self._node_faults) + sum(total for total, _ in logs), first[:FAULTS_KEPT]

    def finish_recording(self) -> list[str | None]:
        """Closes the recordings. Returns the receipt of each host's."""
        return self._there_each("finish_recording", lambda _: None)

    def _there(self, call: str, instead: Any) -> list[Any]:
        return self._there_each(call, lambda _: instead)

    def _there_each(self, call: str, instead: Callable[[Link], Any]) -> list[Any]:
        """A call of every host that is there, and something in its place for the others."""
        self._check_open()
        values, _ = self._of_hosts([link for link in self.links if link.host is not None], call, lambda _: ())
        return [values[link.first] if link.first in values else instead(link) for link in self.links]

    # ── The end ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Ends every env, and the hosts, if they were made for these."""
        if self.closed:
            return
        self.closed = True
        asked = [self._engine.ask(link.host, link.part, "close") for link in self.links if link.host is not None]
        self._engine.wait(asked, len(asked), PATIENCE)
        if self._owner:
            self._engine.close()

    # ── Answers ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _wait(
        self, asked: Mapping[Any, Link], many: int, timeout: float | None
    ) -> list[tuple[Any, Outcome | LostError]]:
        """Waits for so many answers, or for the time. A host that says nothing is asked whether it is there.

        Every token is returned at most once; a host that is not there is returned as lost.
        """
        until = None if timeout is None else time.monotonic() + timeout
        waiting = dict(asked)
        answers: list[tuple[Any, Outcome | LostError]] = []
        while waiting:
            left = QUIET if until is None else min(QUIET, max(0.0, until - time.monotonic()))
            for token in self._engine.wait(list(waiting), max(1, min(many - len(answers), len(waiting))), left):
                del waiting[token]
                answers.append((token, self._taken(token)))
            if len(answers) < many:
                answers += self._missed(waiting)
            if len(answers) >= many or (until is not None and time.monotonic() >= until):
                break
        for token, _ in answers:
            self._asked_at.pop(token, None)
            self._pings.pop(token, None)
        return answers

    def _missed(self, waiting: dict[Any, Link]) -> list[tuple[Any, LostError]]:
        """Asks hosts that have owed an answer for a while whether they are there; those that do not say so in time are lost."""
        now, lost = time.monotonic(), []
        for token, link in list(waiting.items()):
            if now - self._asked_at.setdefault(token, now) < QUIET:
                continue
            ping, since = self._pings.setdefault(token, (None, now))
            if ping is None:
                self._pings[token] = (self._engine.ping(link.host), now)
                continue
            reason = f"it has not said for {PATIENCE:.0f} s that it is there"
            if self._engine.wait([ping], 1, 0.0):
                del self._pings[token]
                answer = self._taken(ping)
                if not isinstance(answer, LostError):
                    continue
                reason = str(answer)
            elif now - since < PATIENCE - QUIET:
                continue
            del waiting[token]
            lost.append((token, LostError(reason)))
        return lost

    def _taken(self, token: Any) -> Outcome | LostError:
        try:
            outcome: Outcome = self._engine.take(token)
            return outcome
        except LostError as lost:
            return lost

    def _collect(
        self, asked: _Asked, parts: dict[int, Columns], lose: Callable[[Link, str], None]
    ) -> RollcageError | None:
        """Gathers the rows of all hosts into `parts`. Returns the first error, by the order of the envs."""
        errors: dict[int, RollcageError] = {}
        for token, outcome in self._wait(asked, len(asked), None):
            link = asked.pop(token)
            if isinstance(outcome, LostError):
                lose(link, str(outcome))
                continue
            if outcome.error is not None:
                errors[link.first] = outcome.error
            if outcome.value is not None:
                self._heard(link, outcome.value)
                parts[link.first] = outcome.value
            else:
                parts[link.first] = _quiet(link.last or _nothing(link.envs, self._strides))
        return errors[min(errors)] if errors else None

    def _heard(self, link: Link, columns: Columns) -> None:
        """Notes that a host has answered."""
        link.is_reset = True
        if columns.instances is not None:
            self._instances[link.rows] = columns.instances

    def _enter(self, parts: Mapping[int, Columns], wanted: Flags | None = None) -> None:
        """Makes the row of a call of all hosts' rows. `wanted`: of a reset, the envs that were asked for."""
        for link in self.links:
            part = parts[link.first]
            if wanted is not None:
                self._masked[link.rows] &= ~wanted[link.rows]
            link.last = part = self._hidden(link, part)
        self._batch = _joined([link.last for link in self.links if link.last is not None], self._strides)
        self._note(self._batch, self._numbers, wanted)

    def _hidden(self, link: Link, part: Columns) -> Columns:
        """The row without what envs answered that are masked here."""
        masked = self._masked[link.rows]
        if not masked.any():
            return part
        mine = masked.copy()
        for row, _ in part.faults:
            mine[row] = False
        if not mine.any():
            return part
        observations = part.observations.reshape(link.envs, -1).copy()
        observations[mine] = self._present[link.rows][mine]
        keep = ~mine
        return part._replace(
            observations=observations.reshape(-1),
            rewards=part.rewards * keep,
            terminated=part.terminated & keep,
            truncated=part.truncated & keep,
            events=part.events | native.MASKED,
            masked=_flags(part.masked, link.envs) | mine,
        )

    def _note(self, batch: Columns, ids: npt.NDArray[np.int64], wanted: Flags | None = None) -> None:
        """Keeps what is needed of the envs if their host is lost: what they showed last, and where they are."""
        self._present[ids] = batch.observations.reshape(len(ids), -1)
        if batch.masks is not None:
            self._masks[ids] = batch.masks.reshape(len(ids), -1)
        reset = _flags(batch.was_reset, len(ids))
        if wanted is None:
            ended = batch.terminated | batch.truncated
            self._steps[ids] += ~reset & ~self._masked[ids]
            if self._mode == "same-step":
                self._episodes[ids[ended]] += 1
                self._steps[ids[ended]] = 0
            else:
                self._over[ids] = ended
        else:
            self._over[ids[reset]] = False
        begun = reset & ~self._unreset[ids]
        self._episodes[ids[begun]] += 1
        self._steps[ids[reset]] = 0
        self._unreset[ids[reset]] = False

    def _row(self) -> Row:
        batch = self._batch
        return batch.observations, batch.rewards, batch.terminated, batch.truncated, batch.events

    def _answer(self, error: RollcageError | None) -> Row:
        if error is not None:
            raise error
        return self._row()

    # ── Lost hosts ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _lose(self, link: Link, reason: str, *, told: bool) -> list[Fault]:
        """Notes that a host is gone. Returns the faults of its envs."""
        if link.host is not None:
            self._engine.give_up(link.host)
        link.host, link.is_reset, link.told = None, False, told
        link.loss = f"node {link.name} is gone with all that the env had done: {reason}"
        self.lost[link.rows] = True
        faults = self._faults_of(link)
        self._node_faults = (self._node_faults + faults)[:FAULTS_KEPT]
        self._untold.update((fault.env, fault) for fault in faults)
        return faults

    def _faults_of(self, link: Link) -> list[Fault]:
        message = native.one_line(link.loss or "")
        return [
            Fault(
                env,
                int(self._instances[env]),
                int(self._episodes[env]),
                int(self._steps[env]),
                "node_lost",
                message,
            )
            for env in link.numbers
        ]

    def _mend(self, link: Link) -> None:
        """Starts the envs of a lost host on another."""
        fault = self._faults_of(link)[0]
        while True:
            if self._losses_left <= 0:
                raise self._spent(fault)
            self._losses_left -= 1
            first_instance = int(self._instances[link.rows].max()) + 1
            try:
                link.host, link.name = self._engine.replace(link, first_instance)
            except LostError as lost:
                link.loss = f"{link.loss}; in its place: {lost}"
                fault = self._faults_of(link)[0]
                continue
            link.part, link.is_reset, link.loss, link.told = 0, False, None, False
            self._instances[link.rows] = first_instance
            return

    def _spent(self, fault: Fault) -> FaultError:
        message = f"{fault.message}; no loss of a node is absorbed any more (node_losses)"
        return fault_error(Fault(fault.env, fault.instance, fault.episode, fault.step, fault.kind, message))

    def _row_of_loss(self, link: Link, faults: list[Fault], *, truncated: bool) -> Columns:
        """The row of envs whose host was lost: what they gave last, and the fault."""
        row = _nothing(link.envs, self._strides)
        last = link.last or row
        for fault in faults:
            self._untold.pop(fault.env, None)
        return row._replace(
            observations=self._present[link.rows].reshape(-1).copy(),
            infos=last.infos,
            masks=last.masks,
            truncated=np.full(link.envs, truncated),
            events=native.FAULT,
            faults=list(enumerate(faults)),
        )

    def _telling(self, link: Link, reset: Columns) -> Columns:
        """A row of resets, with the losses that were not told yet."""
        told = [(env - link.first, self._untold.pop(env)) for env in link.numbers if env in self._untold]
        if not told:
            return reset
        return reset._replace(events=reset.events | native.FAULT, faults=[*reset.faults, *told])

    def _row_of_masked(self, link: Link) -> Columns:
        every = np.ones(link.envs, np.bool_)
        row = self._row_of_loss(link, [], truncated=False)
        return row._replace(events=native.MASKED, faults=(), masked=every)

    # ── Checks ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError("the envs are closed", ["make new ones"])

    def _check_free(self, wanted: Flags) -> None:
        """Nothing is under way whose answers would be lost."""
        if self._pending is not None:
            raise AlreadyPendingCallError(
                "a step was begun, and its answers were not given", ["`step_wait` gives them"]
            )
        flying = self._flying & wanted
        if flying.any():
            env = int(np.flatnonzero(flying)[0])
            raise AlreadyPendingCallError(
                f"env {env} is in flight: its answer was not received", ["`recv` receives it"]
            )

    def _drop_what_is_under_way(self) -> None:
        """Waits for what is under way, and drops the answers."""
        pending, self._pending = self._pending or {}, None
        under_way = {**pending, **{token: link for token, (link, _) in self._turns.items()}}
        self._turns, self._landed = {}, []
        self._flying[:] = False
        for token, outcome in self._wait(under_way, len(under_way), None):
            if isinstance(outcome, LostError):
                self._lose(under_way[token], str(outcome), told=True)

    def _check_there(self, link: Link, env: int) -> None:
        if self._flying[link.rows].any() or self._pending is not None:
            raise UsageError(
                f"env {env} is in flight, or shares its node with one that is", ["`recv` or `step_wait` first"]
            )
        if link.host is None and not link.told:
            raise fault_error(self._faults_of(link)[env - link.first])
        if link.host is None and self._on_fault == "restart":
            self._mend(link)
        if link.host is None:
            raise UsageError(f"env {env}: its node is gone", ["reset it first: it is started on another node"])

    def _check_actions(self, actions: Bytes, ids: npt.NDArray[np.int64]) -> None:
        """Every action that would run is an action, before any host is sent one."""
        masked = self._masked[ids]
        for link in self.links:
            mine = (ids >= link.first) & (ids < link.first + link.envs)
            if link.host is not None or not mine.any():
                continue
            if self._on_fault == "raise" and link.told:
                raise UsageError(f"env {int(ids[mine][0])} must be reset: its node is gone")
            # Envs that are started anew take no action where the step is their reset, and are to be reset where none is.
            masked |= mine & (not link.told or self._on_fault != "restart")
        unreset = self._unreset[ids] & ~masked
        if unreset.any():
            raise UsageError(f"env {int(ids[unreset][0])} must be reset before its first step")
        over = self._over[ids] & ~masked
        if self._mode == "disabled" and over.any():
            raise UsageError(
                f"env {int(ids[over][0])} cannot be stepped: its episode is over",
                ["with autoreset disabled the caller resets ended envs, by a mask"],
            )
        self._actions.check(np.ascontiguousarray(actions).reshape(-1), ids, ~masked & ~over)

    def _link(self, env: int) -> Link:
        for link in self.links:
            if env in link.numbers:
                return link
        raise UsageError(f"env {env}: there are {len(self.lost)}")


# ── Columns of several hosts ────────────────────────────────────────────────────────────────────────────────────────

#: Bytes of an observation, of the declared infos, and of a mask.
_Strides = tuple[int, int, int]


def _nothing(rows: int, strides: _Strides) -> Columns:
    """Rows of envs that have not answered."""
    observation, info, mask = strides
    return Columns(
        observations=np.zeros(rows * observation, np.uint8),
        rewards=np.zeros(rows),
        terminated=np.zeros(rows, np.bool_),
        truncated=np.zeros(rows, np.bool_),
        events=0,
        infos=np.zeros(rows * info, np.uint8) if info else None,
        masks=np.zeros(rows * mask, np.uint8) if mask else None,
    )


def _quiet(columns: Columns) -> Columns:
    """Rows that are as they were, without what happened then."""
    return Columns(
        observations=columns.observations,
        rewards=columns.rewards,
        terminated=columns.terminated,
        truncated=columns.truncated,
        events=0,
        infos=columns.infos,
        masks=columns.masks,
    )


def _joined(parts: Sequence[Columns], strides: _Strides) -> Columns:
    """The rows of several hosts, in order."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return _nothing(0, strides)
    first = np.cumsum([0, *(part.rows for part in parts)]).tolist()
    placed = list(zip(first, parts, strict=False))
    wants_finals = any(part.finals is not None for part in parts)
    finals = [part.finals or _no_finals(part.rows, strides) for part in parts] if wants_finals else []
    return Columns(
        observations=np.concatenate([part.observations for part in parts]),
        rewards=np.concatenate([part.rewards for part in parts]),
        terminated=np.concatenate([part.terminated for part in parts]),
        truncated=np.concatenate([part.truncated for part in parts]),
        events=functools.reduce(operator.or_, (part.events for part in parts)),
        infos=_concatenated([part.infos for part in parts]),
        masks=_concatenated([part.masks for part in parts]),
        extras=_texts([part.extras for part in parts], parts),
        finals=tuple(np.concatenate(column) for column in zip(*finals, strict=True)) if finals else None,  # type: ignore[arg-type]
        final_extras=_texts([part.final_extras for part in parts], parts),
        episodes=[(at + row, r, length) for at, part in placed for row, r, length in part.episodes],
        faults=[(at + row, fault) for at, part in placed for row, fault in part.faults],
        was_reset=_all_flags([part.was_reset for part in parts], parts),
        masked=_all_flags([part.masked for part in parts], parts),
    )


def _rows_of(columns: Columns, rows: list[int]) -> Columns:
    """Some rows, in this order."""
    if rows == list(range(columns.rows)):
        return columns
    place = {row: at for at, row in enumerate(rows)}

    def bytes_of(data: Bytes | None) -> Bytes | None:
        return None if data is None else data.reshape(columns.rows, -1)[rows].reshape(-1)

    finals = columns.finals
    if finals is not None:
        which, *data = finals
        finals = (which[rows], *(bytes_of(one) if len(one) else one for one in data))  # type: ignore[assignment]
    return Columns(
        observations=bytes_of(columns.observations),  # type: ignore[arg-type]
        rewards=columns.rewards[rows],
        terminated=columns.terminated[rows],
        truncated=columns.truncated[rows],
        events=columns.events,
        infos=bytes_of(columns.infos),
        masks=bytes_of(columns.masks),
        extras=None if columns.extras is None else [columns.extras[row] for row in rows],
        finals=finals,
        final_extras=None if columns.final_extras is None else [columns.final_extras[row] for row in rows],
        episodes=[(place[row], r, length) for row, r, length in columns.episodes if row in place],
        faults=[(place[row], fault) for row, fault in columns.faults if row in place],
        was_reset=None if columns.was_reset is None else columns.was_reset[rows],
        masked=None if columns.masked is None else columns.masked[rows],
    )


def _no_finals(rows: int, strides: _Strides) -> Finals:
    observation, info, mask = strides
    return (
        np.zeros(rows, np.bool_),
        np.zeros(rows * observation, np.uint8),
        np.zeros(rows * info, np.uint8),
        np.zeros(rows * mask, np.uint8),
    )


def _concatenated(parts: Sequence[Bytes | None]) -> Bytes | None:
    there = [part for part in parts if part is not None]
    return np.concatenate(there) if there else None


def _texts(texts: Sequence[list[str] | None], parts: Sequence[Columns]) -> list[str] | None:
    if all(one is None for one in texts):
        return None
    return [text for one, part in zip(texts, parts, strict=True) for text in one or [""] * part.rows]


def _all_flags(flags: Sequence[Flags | None], parts: Sequence[Columns]) -> Flags | None:
    if all(one is None for one in flags):
        return None
    return np.concatenate([_flags(one, part.rows) for one, part in zip(flags, parts, strict=True)])


def _flags(flags: Flags | None, rows: int) -> Flags:
    return np.zeros(rows, np.bool_) if flags is None else flags


def _or_none(data: Bytes | None) -> Bytes:
    return np.zeros(0, np.uint8) if data is None else data


def _flat(lists: Iterable[Sequence[Any]]) -> list[Any]:
    return [one for part in lists for one in part]
