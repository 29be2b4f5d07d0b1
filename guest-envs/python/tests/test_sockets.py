"""Sockets and asyncio: natively, with the changes that a guest gets."""

import asyncio
import errno
import socket
import threading
from collections.abc import Iterator

import pytest

from rollcage_guest import loops, sockets
from rollcage_guest.faults import Refused


class Plain(socket.socket):
    """A socket of wasi:sockets: no flags, few options."""

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        if flags:
            raise OSError(58, "Not supported")
        return super().recv(min(bufsize, 3))

    def recv_into(self, buffer: bytearray, nbytes: int = 0, flags: int = 0) -> int:
        if flags:
            raise OSError(58, "Not supported")
        return super().recv_into(buffer, min(nbytes or len(buffer), 3))

    def setsockopt(self, level: int, option: int, *value: int) -> None:  # type: ignore[override]
        raise OSError(58, "Not supported")


sockets.change(Plain)


@pytest.fixture
def pair() -> Iterator[tuple[Plain, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server, Plain() as client:
        client.connect(server.getsockname())
        other, _ = server.accept()
        with other:
            client.settimeout(5)
            yield client, other


def test_wait_for_all_bytes(pair: tuple[Plain, socket.socket]) -> None:
    client, other = pair
    other.sendall(b"abcdefgh")
    assert client.recv(8) == b"abc"
    assert client.recv(5, socket.MSG_WAITALL) == b"defgh"
    other.sendall(b"abcdefgh")
    buffer = bytearray(7)
    assert client.recv_into(buffer, 7, socket.MSG_WAITALL) == 7 and buffer == b"abcdefg"
    other.close()
    assert client.recv(5, socket.MSG_WAITALL) == b"h", "up to the end"


def test_a_lost_connection_is_named() -> None:
    class Lost(socket.socket):
        def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
            raise OSError(errno.EIO, "I/O error")

        def recv_into(self, buffer: bytearray, nbytes: int = 0, flags: int = 0) -> int:
            raise OSError(errno.EIO, "I/O error")

        def sendall(self, data: bytes, flags: int = 0, /) -> None:
            raise OSError(errno.EPIPE, "Broken pipe")

    sockets.change(Lost)
    with Lost() as lost:
        for call in (lambda: lost.recv(1), lambda: lost.recv_into(bytearray(1)), lambda: lost.makefile("rb").read(1)):
            with pytest.raises(ConnectionResetError, match="Connection reset by peer"):
                call()
        with pytest.raises(BrokenPipeError):
            lost.sendall(b"x")


def test_what_there_is_not_is_refused(pair: tuple[Plain, socket.socket]) -> None:
    client, _ = pair
    with pytest.raises(Refused, match="has no MSG_PEEK; read the bytes and keep them"):
        client.recv(3, socket.MSG_PEEK)
    with pytest.raises(Refused, match="cannot be duplicated"):
        client.dup()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with pytest.raises(OSError, match="Not supported"):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)


def test_errors_name_the_address() -> None:
    from rollcage_guest import faults

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    with Plain() as client, pytest.raises(ConnectionRefusedError) as caught:
        client.connect(address)
    assert faults.message(caught.value).endswith(
        f"nobody listens at 127.0.0.1:{address[1]}; the server must be there before the env connects"
    )

    def denied(*_: object) -> None:
        raise PermissionError(2, "Permission denied")

    with pytest.raises(PermissionError) as refused:
        sockets._naming(denied)("::1", 80)
    assert "it is not granted (`--grant tcp-connect=[::1]:80`;" in faults.message(refused.value)


def test_asyncio_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from asyncio import base_events, selector_events

    selector = selector_events.BaseSelectorEventLoop
    for owner, name in (
        (selector, "_make_self_pipe"),
        (selector, "_close_self_pipe"),
        (selector, "_write_to_self"),
        (base_events.BaseEventLoop, "run_in_executor"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    loops.change()
    monkeypatch.setattr(socket, "socketpair", None)
    monkeypatch.setattr(threading.Thread, "start", None)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async def main() -> tuple[bytes, int]:
        server = await asyncio.start_server(echo, "localhost", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(b"line\n")
        line = await asyncio.wait_for(reader.readline(), 5)
        server.close()
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        return line, await asyncio.to_thread(lambda: 5)

    loop = asyncio.SelectorEventLoop()
    try:
        assert loop.run_until_complete(main()) == (b"line\n", 5)
    finally:
        loop.close()
