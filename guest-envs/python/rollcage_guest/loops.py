"""asyncio in a process without threads and signals.

An event loop has a pair of sockets by which other threads wake it: there are none, and a guest gets no such pair. Work
for another thread (`asyncio.to_thread`, `run_in_executor`, lookups of names) is done at once, in the loop's own.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any


def install() -> None:
    """Changes asyncio, if this is a guest; natively asyncio remains."""
    if sys.platform == "wasi":
        change()
        # componentize-py's runtime has declared a loop of its own, for asynchronous exports, which there are none of.
        asyncio.events._set_running_loop(None)


def change() -> None:
    """Changes asyncio's loops."""
    from asyncio import base_events, selector_events

    selector: Any = selector_events.BaseSelectorEventLoop
    selector._make_self_pipe = _make_self_pipe
    selector._close_self_pipe = _nothing
    selector._write_to_self = _nothing
    base_events.BaseEventLoop.run_in_executor = _run_here  # type: ignore[method-assign, assignment]


def _make_self_pipe(loop: Any) -> None:
    loop._ssock = loop._csock = None


def _nothing(loop: Any) -> None:
    pass


def _run_here(loop: Any, executor: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """`run_in_executor` where there is one thread: the function is run now, and the future has its result."""
    future = loop.create_future()
    try:
        result = function(*arguments)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
    return future
