"""One connection to a peer: frames in, frames out, kept alive.

Frames are a 4-byte big-endian length, a 1-byte code and the payload; the length counts code and payload. As in RLPx,
codes below 16 belong to the link itself (disconnect, ping, pong) and the messaging protocol's code 0 travels as 16, so
a link that authenticates and encrypts can take this one's place behind the same two protocols.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from quietfleet.errors import FrameError, LinkError
from quietfleet.network.address import Address

MAX_FRAME = 16 * 1024 * 1024
FIRST_CODE = 16
_DISCONNECT, _PING, _PONG = 1, 2, 3
_MAX_CODE = 0xFF - FIRST_CODE
_UNREAD_LIMIT = 64 * 1024  # bytes a peer may leave unread before pings and pongs to it are skipped
_FAREWELL = 1.0  # seconds a closing connection gets to flush


class Link(Protocol):
    """An ordered, framed connection; any failure is a LinkError, after which only `close` is useful."""

    @property
    def local(self) -> Address:
        """Our end."""
        ...

    @property
    def remote(self) -> Address:
        """The peer's end."""
        ...

    async def send(self, code: int, payload: bytes) -> None:
        """Send one message, waiting for as long as the peer is slow to read."""
        ...

    async def receive(self) -> tuple[int, bytes]:
        """Wait for the next message's code and payload."""
        ...

    async def close(self) -> None:
        """Close for good; closing twice is fine."""
        ...


class Listener(Protocol):
    """An open port."""

    @property
    def address(self) -> Address:
        """Where it listens, with the port the machine chose."""
        ...

    def close(self) -> None:
        """Accept no more; connections already made live on."""
        ...


class LinkLayer(Protocol):
    """How links come to be."""

    async def dial(self, address: Address) -> Link:
        """Connect to a listening peer; raise LinkError."""
        ...

    async def listen(self, address: Address, accept: Callable[[Link], None]) -> Listener:
        """Call `accept` with every link that a peer dials; raise LinkError when the port is taken."""
        ...


@dataclass(frozen=True, slots=True)
class LinkTiming:
    """Seconds; the defaults are what devp2p nodes keep to."""

    connect: float = 10.0
    ping: float = 15.0
    read: float = 30.0
    write: float = 20.0


class TcpLink:
    """A link over a bare TCP stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timing: LinkTiming) -> None:
        self._reader, self._writer, self._timing = reader, writer, timing
        self._local = _endpoint(writer.get_extra_info("sockname"))
        self._remote = _endpoint(writer.get_extra_info("peername"))
        self._pinger = asyncio.create_task(self._ping())

    @property
    def local(self) -> Address:
        return self._local

    @property
    def remote(self) -> Address:
        return self._remote

    async def send(self, code: int, payload: bytes) -> None:
        if not 0 <= code <= _MAX_CODE or len(payload) >= MAX_FRAME:
            raise FrameError(f"code {code}, {len(payload)} bytes")
        self._write(FIRST_CODE + code, payload)
        try:
            async with asyncio.timeout(self._timing.write):
                await self._writer.drain()
        except (OSError, TimeoutError) as error:
            raise LinkError(f"{self._remote} does not take our bytes") from error

    async def receive(self) -> tuple[int, bytes]:
        while True:
            code, payload = await self._frame()
            if code >= FIRST_CODE:
                return code - FIRST_CODE, payload
            self._react(code)

    async def close(self) -> None:
        self._pinger.cancel()
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await self._writer.wait_closed()
        self._writer.transport.abort()

    async def _frame(self) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(self._timing.read):
                length = int.from_bytes(await self._reader.readexactly(4))
                if not 1 <= length <= MAX_FRAME:
                    raise FrameError(f"{length} bytes from {self._remote}")
                frame = await self._reader.readexactly(length)
        except (OSError, EOFError, TimeoutError) as error:
            raise LinkError(f"{self._remote} is silent or gone") from error
        return frame[0], frame[1:]

    def _react(self, code: int) -> None:
        """Answer pings, obey disconnects; the rest of the link's own codes are ignored, as devp2p does."""
        if code == _DISCONNECT:
            raise LinkError(f"{self._remote} disconnected")
        if code == _PING:
            self._write_if_read(_PONG)

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(self._timing.ping)
            self._write_if_read(_PING)

    def _write_if_read(self, code: int) -> None:
        """Keep alive only a peer that reads: else pings would pile up in our memory."""
        if self._writer.transport.get_write_buffer_size() < _UNREAD_LIMIT:
            self._write(code, b"")

    def _write(self, code: int, payload: bytes) -> None:
        self._writer.write((1 + len(payload)).to_bytes(4) + bytes([code]) + payload)


@dataclass(frozen=True, slots=True)
class _TcpListener:
    server: asyncio.Server

    @property
    def address(self) -> Address:
        return _endpoint(self.server.sockets[0].getsockname())

    def close(self) -> None:
        self.server.close()


class TcpLinks:
    """Links over bare TCP: for a machine or a network of one's own, as they hide nothing from the wire."""

    def __init__(self, timing: LinkTiming | None = None) -> None:
        self._timing = timing or LinkTiming()

    async def dial(self, address: Address) -> Link:
        try:
            async with asyncio.timeout(self._timing.connect):
                reader, writer = await asyncio.open_connection(address.host, address.port)
        except (OSError, TimeoutError, UnicodeError) as error:
            raise LinkError(f"no answer from {address}") from error
        return TcpLink(reader, writer, self._timing)

    async def listen(self, address: Address, accept: Callable[[Link], None]) -> Listener:
        def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accept(TcpLink(reader, writer, self._timing))

        try:
            server = await asyncio.start_server(welcome, address.host, address.port)
        except (OSError, UnicodeError) as error:
            raise LinkError(f"cannot listen on {address}") from error
        return _TcpListener(server)


def _endpoint(name: Any) -> Address:
    """Read a socket's name; it is missing when the peer was gone before we looked."""
    return Address(str(name[0]), int(name[1])) if name else Address("?", 0)
