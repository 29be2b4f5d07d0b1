"""Exceptions, by who must act: the caller (`UsageError`), or nobody here, because an env failed (`FaultError`).

::

    RollcageError
    ├── UsageError (ValueError)             the call cannot be done as written; nothing was changed
    │   ├── UnsupportedError (AttributeError)  an env has no such method, attribute or render mode
    │   ├── ActionError (AssertionError)    an action is not in the action space of the env that `gymnasium.make` made
    │   ├── NoAsyncCallError                `step_wait` without a step that was begun
    │   ├── AlreadyPendingCallError         the call would lose an answer that is still to be received
    │   ├── ClosedError                     the envs are closed
    │   └── ForkedError                     the envs belong to the process that this one was forked from
    ├── HostError (OSError)                 the operating system refused something that the host needs
    └── FaultError (RuntimeError)           an env's fault, with everything that is known of it in `.fault`
        ├── FaultTimeoutError               it did not answer in time
        ├── FaultLimitError                 it used up its memory, fuel or stack
        ├── WorkerError                     its process ended, was killed, or broke the protocol
        └── GuestError                      the env failed by itself: a trap, an error of its own, a bad answer
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

import gymnasium.error

from rollcage import _rollcage as native

__all__ = [
    "ActionError",
    "AlreadyPendingCallError",
    "ClosedError",
    "Fault",
    "FaultError",
    "FaultLimitError",
    "FaultTimeoutError",
    "ForkedError",
    "GuestError",
    "HostError",
    "NoAsyncCallError",
    "RollcageError",
    "UnsupportedError",
    "UsageError",
    "WorkerError",
]


class RollcageError(Exception):
    """Base of all exceptions of rollcage; arguments of a wrong type raise `TypeError` instead."""


class UsageError(RollcageError, ValueError):
    """The call cannot be done as written; the message says what to do instead. Nothing was changed.

    Parameters
    ----------
    message : str
        What is wrong: the path, what was given, what is allowed.
    hints : sequence of str
        What to do about it.

    """

    hints: tuple[str, ...]

    def __init__(self, message: str, hints: Sequence[str] = ()) -> None:
        hints = [_in_python(hint) for hint in hints]
        # Not by `super()`: the next class may be one of Gymnasium's, which takes other arguments.
        Exception.__init__(self, "\n".join([message, *(f"hint: {hint}" for hint in hints)]))
        self.hints = tuple(hints)


def _in_python(hint: str) -> str:
    """A hint with the options of the command line replaced by Python's arguments."""
    return re.sub(r"`(--grants? [^`]+)`", lambda option: f"`{_argument(option[1])}`", hint)


def _argument(options: str) -> str:
    try:
        words = shlex.split(options)
    except ValueError:  # a stranger's text, cut
        return options
    if words[0] == "--grants":
        return f"grants={words[1]!r}"
    return f"grants={[word for word in words if word != '--grant']!r}"


class UnsupportedError(UsageError, AttributeError):
    """An env has no such method, attribute or render mode."""


class ActionError(UsageError, AssertionError):
    """An action is not in the action space: Gymnasium's own envs assert that it is."""


class NoAsyncCallError(UsageError, gymnasium.error.NoAsyncCallError):
    """`step_wait` without a step that was begun, or after its answers were given."""

    name = "step"


class AlreadyPendingCallError(UsageError, gymnasium.error.AlreadyPendingCallError):
    """A step was begun, and the call would lose answers that are still to be received. Nothing was lost."""

    name = "step"


class ClosedError(UsageError, gymnasium.error.ClosedEnvironmentError):
    """The envs are closed."""


class ForkedError(UsageError):
    """The envs belong to the process that this one was forked from, and go on there."""


class HostError(RollcageError, OSError):
    """The operating system refused something that the host needs."""


@dataclass(frozen=True)
class Fault:
    """A fault of an env: which env, when, what and why.

    Attributes
    ----------
    env : int
        The env's index.
    instance : int
        The start of the env that it was: 0, then one more with every restart.
    episode : int
        The episode of the env, from 0.
    step : int
        The step of the episode that did not answer, from 0; in a reset or a start 0.
    kind : str
        One of ``trap``, ``fuel``, ``memory``, ``stack_overflow``, ``start_timeout``, ``reset_timeout``,
        ``step_timeout``, ``exited``, ``signalled``, ``protocol``, ``guest_failed``, ``guest_restart``,
        ``create_failed``, ``compile``, ``bad_answer``, ``call_timeout``, ``keeper_lost``, ``sibling``,
        ``policy``, ``node_lost``.
    message : str
        What happened, on one line. It may contain a stranger's words, escaped: nothing in it acts on a terminal.
    log : str
        The newest of what the env printed, at most 64 KiB: a stranger's words, as they are.
    log_dropped_bytes : int
        Bytes of log that were dropped before it.
    backtrace : list of str
        Frames of the env's own functions at a trap, innermost first.

    """

    env: int
    instance: int
    episode: int
    step: int
    kind: str
    message: str
    log: str = field(default="", repr=False)
    log_dropped_bytes: int = field(default=0, repr=False)
    backtrace: list[str] = field(default_factory=list, repr=False)

    def __str__(self) -> str:
        where = f"env {self.env} (instance {self.instance}), episode {self.episode}, step {self.step}"
        return f"{where}: {self.kind}: {self.message}"


def _indented(line: str) -> str:
    """A line of a log for a message, as far to the right as it was: a traceback of Python lives by that."""
    indent = min(len(line) - len(line.lstrip(" ")), 40)
    return " " * indent + native.one_line(line)


class FaultError(RollcageError, RuntimeError):
    """An env's fault that the policy (`on_fault`) does not absorb.

    Attributes
    ----------
    fault : Fault
        Everything that is known of the fault.

    """

    fault: Fault

    def __init__(self, fault: Fault) -> None:
        text = "".join(f"\n  at {frame}" for frame in fault.backtrace[:8])
        log = fault.log.strip().splitlines()[-8:]
        if log:
            text += "\nthe last lines it printed:" + "".join(f"\n  {_indented(line)}" for line in log)
        super().__init__(f"{fault}{text}")
        self.fault = fault

    def __reduce__(self) -> tuple[type[FaultError], tuple[Fault]]:
        return type(self), (self.fault,)


class FaultTimeoutError(FaultError):
    """An env did not answer in time. Its worker was killed."""


class FaultLimitError(FaultError):
    """An env used up its memory, fuel or stack."""


class WorkerError(FaultError):
    """An env's process or its keeper ended, was killed from outside, or broke the protocol."""


class GuestError(FaultError):
    """An env failed by itself: a trap, an error of its own, an answer that is not of its spaces."""


_CLASSES: dict[str, type[FaultError]] = {
    "start_timeout": FaultTimeoutError,
    "reset_timeout": FaultTimeoutError,
    "step_timeout": FaultTimeoutError,
    "call_timeout": FaultTimeoutError,
    "fuel": FaultLimitError,
    "memory": FaultLimitError,
    "stack_overflow": FaultLimitError,
    "exited": WorkerError,
    "signalled": WorkerError,
    "protocol": WorkerError,
    "keeper_lost": WorkerError,
    "sibling": WorkerError,
    "node_lost": WorkerError,
}


def fault_error(fault: Fault) -> FaultError:
    """The exception for a fault, by its kind."""
    return _CLASSES.get(fault.kind, GuestError)(fault)
