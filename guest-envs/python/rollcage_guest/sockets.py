"""Python's `socket` over granted sockets: what wasi:sockets lacks is made up for, or refused in words.

Connecting, timeouts, non-blocking use, `select`, `selectors`, datagrams, listening and lookups by name work as they are.
"""

import errno
import functools
import os
import socket
import sys
from typing import Any, NoReturn

from rollcage_guest.faults import Refused

#: Options that change nothing for a program that works: they are accepted without effect where the system has none.
_HARMLESS = {
    getattr(socket, name)
    for name in ("SO_KEEPALIVE", "SO_LINGER", "SO_BROADCAST", "SO_REUSEADDR", "SO_REUSEPORT", "SO_OOBINLINE")
    if hasattr(socket, name)
}

_PEEK = getattr(socket, "MSG_PEEK", 0)
_WAITALL = getattr(socket, "MSG_WAITALL", 0)


def install() -> None:
    """Changes `socket.socket`, if this is a guest; natively it remains."""
    if sys.platform == "wasi":
        change(socket.socket)
        socket.getaddrinfo = _naming(socket.getaddrinfo)
        socket.socketpair = _no_pair
        socket.SocketType = socket.socket  # type: ignore[misc]


def change(cls: Any) -> None:
    """Gives a socket class what wasi:sockets lacks."""
    plain_recv, plain_into = _naming_a_loss(cls.recv), _naming_a_loss(cls.recv_into)
    plain_option, plain_connect = cls.setsockopt, cls.connect

    def recv(self: Any, bufsize: int, flags: int = 0, /) -> bytes:
        if not flags:
            return plain_recv(self, bufsize)
        _refuse_flags(flags)
        parts: list[bytes] = []
        while bufsize > 0 and (part := plain_recv(self, bufsize)):
            parts.append(part)
            bufsize -= len(part)
        return b"".join(parts)

    def recv_into(self: Any, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        if not flags:
            return plain_into(self, buffer, nbytes)
        _refuse_flags(flags)
        view = memoryview(buffer).cast("B")
        view = view[: nbytes or len(view)]
        received = 0
        while received < len(view) and (count := plain_into(self, view[received:])):
            received += count
        return received

    def setsockopt(self: Any, level: int, option: int, *value: Any) -> None:
        try:
            plain_option(self, level, option, *value)
        except OSError:
            if level != socket.SOL_SOCKET or option not in _HARMLESS:
                raise

    def connect(self: Any, address: Any, /) -> None:
        try:
            plain_connect(self, address)
        except OSError as error:
            error.rollcage_address = address  # type: ignore[attr-defined]
            raise

    def dup(self: Any) -> NoReturn:
        raise Refused("a socket cannot be duplicated in the cage; use the one that there is")

    cls.recv, cls.recv_into, cls.setsockopt = recv, recv_into, setsockopt
    for name in ("send", "sendall", "recvfrom", "recvfrom_into"):
        setattr(cls, name, _naming_a_loss(getattr(cls, name)))
    cls.connect, cls.dup = connect, dup


def _naming_a_loss(method: Any) -> Any:
    """A method of a socket. A stream that failed is a lost connection, for which the C library has only `EIO`."""

    @functools.wraps(method)
    def called(self: Any, *given: Any) -> Any:
        try:
            return method(self, *given)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from None

    return called


def _naming(lookup: Any) -> Any:
    """`getaddrinfo`, whose errors name what was looked up."""

    def getaddrinfo(host: Any, port: Any, *arguments: Any, **keywords: Any) -> Any:
        try:
            return lookup(host, port, *arguments, **keywords)
        except OSError as error:
            error.rollcage_address = host, port  # type: ignore[attr-defined]
            raise

    return getaddrinfo


def _refuse_flags(flags: int) -> None:
    if flags & ~_WAITALL:
        name = "MSG_PEEK" if flags & _PEEK else f"the flags {flags:#x}"
        raise Refused(f"a socket in the cage has no {name}; read the bytes and keep them")


def _no_pair(*_: Any) -> NoReturn:
    raise Refused("socket.socketpair(): the cage has one process and one thread, so nobody is at the other end")
