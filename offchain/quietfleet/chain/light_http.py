"""JSON-RPC over HTTP/1.1 by asyncio alone: what reads the chain, on every worker, and all that a sensor has.

A connection is lent to one request at a time and kept if that ended cleanly; one that was cancelled, broke the protocol
or grew too long is closed, so that no answer is ever taken for another's. Redirects are refused: the settings name the
endpoint, and nobody else.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec

LONGEST: Final = 64 << 20
"""Bytes of an answer; what is longer would fill the memory."""

_ONCE: Final = "eth_sendRawTransaction"  # sent again, it may be refused as known: who sends it knows what that means
_HEAD: Final = 1 << 16  # bytes of a head, or of a line between chunks
_PIECE: Final = 1 << 16
_KEPT: Final = 4  # connections that wait for the next request
_PORTS: Final = {"http": 80, "https": 443}
_GOOD: Final = range(200, 300)


class _Closed(ConnectionError):
    """The endpoint had closed a connection that was kept, before it said a word about our question."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an endpoint is, and what each question to it begins with."""

    host: str
    port: int
    secure: bool
    opening: bytes

    @classmethod
    def of(cls, url: str) -> _Place:
        """Take an URL apart; ValueError if it is none of HTTP."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("not an address that begins with http:// or https://")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"POST {path} HTTP/1.1", f"Host: {parts.netloc.rpartition('@')[2]}", "Content-Type: application/json"]
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            lines.append(f"Authorization: Basic {base64.b64encode(user).decode()}")
        opening = "\r\n".join(lines)
        if not opening.replace("\r\n", "").isprintable():
            raise ValueError("an address with signs that no address has")
        return cls(parts.hostname, parts.port or _PORTS[parts.scheme], parts.scheme == "https", opening.encode())


@dataclass(slots=True)
class _Line:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used: bool = False

    def close(self) -> None:
        self.writer.transport.abort()


class LightHttp:
    """One endpoint; connections are kept and used again. The time limit is its caller's."""

    def __init__(self, url: str, _timeout: float = 0.0) -> None:
        self._url = url
        self._place: _Place | None = None
        self._idle: list[_Line] = []
        self._numbers = count(1)

    async def make_request(self, method: str, params: Any) -> Any:
        """Ask, once more if a kept connection was closed; return the answer's JSON.

        Raises OSError where there is none, ValueError or msgspec.DecodeError where it is something else.
        """
        self._place = self._place or _Place.of(self._url)
        question = {"jsonrpc": "2.0", "id": next(self._numbers), "method": method, "params": params}
        body = msgspec.json.encode(question)
        try:
            answer = await self._post(self._place, body)
        except _Closed:
            if method == _ONCE:
                raise
            answer = await self._post(self._place, body)
        return msgspec.json.decode(answer)

    async def disconnect(self) -> None:
        """Close the connections; the next request opens new ones."""
        while self._idle:
            self._idle.pop().close()

    async def _post(self, place: _Place, body: bytes) -> bytes:
        async with self._line(place) as line:
            try:
                line.writer.write(place.opening + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await line.writer.drain()
                head = await line.reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                if line.used and not getattr(error, "partial", b""):
                    raise _Closed("it closed the connection") from error
                raise ConnectionError("it closed the connection") from error
            except asyncio.LimitOverrunError as error:
                raise ConnectionError("a head without end") from error
            return await _answer(line, head)

    @asynccontextmanager
    async def _line(self, place: _Place) -> AsyncIterator[_Line]:
        """Lend a connection; it comes back only if what was done with it ended as it should."""
        line = self._idle.pop() if self._idle else await _connect(place)
        try:
            yield line
        except BaseException:
            line.close()
            raise
        if line.writer.is_closing() or len(self._idle) >= _KEPT:
            line.close()
        else:
            line.used = True
            self._idle.append(line)


async def _connect(place: _Place) -> _Line:
    reader, writer = await asyncio.open_connection(place.host, place.port, ssl=place.secure or None, limit=_HEAD)
    return _Line(reader, writer)


async def _answer(line: _Line, head: bytes) -> bytes:
    status, headers = _read_head(head)
    try:
        content = await _content(line.reader, headers)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise ConnectionError("an answer cut short") from error
    bounded = "content-length" in headers or "transfer-encoding" in headers
    if not bounded or headers.get("connection", "").lower() == "close":
        line.close()
    if status not in _GOOD:
        raise ConnectionError(f"it answers with HTTP status {status}")
    return content


def _read_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Return the status and the headers, their names in small letters; ValueError if this is not HTTP."""
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError("this is not HTTP")
    pairs = (line.partition(":") for line in lines)
    return int(rest[:3]), {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _content(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if coding := headers.get("transfer-encoding"):
        if coding.lower() != "chunked":
            raise ValueError(f"a coding that was not asked for: {coding}")
        return await _chunks(reader)
    length = headers.get("content-length")
    if length is None:
        return await _rest(reader)
    return await reader.readexactly(_bounded(int(length)))


async def _rest(reader: asyncio.StreamReader) -> bytes:
    content = bytearray()
    while piece := await reader.read(_PIECE):
        content += piece
        _bounded(len(content))
    return bytes(content)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    content = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        _bounded(len(content) + size)
        content += await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":  # what may follow the last chunk
        pass
    return bytes(content)


def _bounded(size: int) -> int:
    """Return a size that is one; ConnectionError if an answer of it would fill the memory."""
    if size < 0:
        raise ValueError("a size below zero")
    if size > LONGEST:
        raise ConnectionError(f"more than {LONGEST} bytes")
    return size
