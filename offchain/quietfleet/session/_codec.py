"""One codec for everything workers say to each other inside a session.

A body is a frozen `msgspec.Struct` with a tag such as `reading/1`: the tag carries the schema's version, unknown fields
are ignored so that a newer sender is understood, unknown tags and malformed bodies are refused.
"""

from __future__ import annotations

from enum import IntEnum
from functools import reduce
from operator import or_
from typing import Any

import msgspec

from quietfleet.errors import MessageRefused

MAX_BODY = 100_000  # bytes; larger content travels by hash


class Mode(IntEnum):
    """What a packet asks of its receiver."""

    REPLY = 0  # nothing: it answers a request
    REQUEST = 1  # an answer that fits the sender's expectation
    NOTICE = 2  # an acknowledgement that it was handled


class Packet(msgspec.Struct, frozen=True, array_like=True):
    """What one envelope carries inside a session; ids are 16 random bytes that never show on the wire."""

    id: bytes
    parent: bytes | None
    mode: Mode
    reply_by: float
    body: bytes


class Ready(msgspec.Struct, frozen=True, tag="ready/1"):
    """The initiator's first word: it holds the session's keys."""


class Ack(msgspec.Struct, frozen=True, tag="ack/1"):
    """A notice was handled."""


class Goodbye(msgspec.Struct, frozen=True, tag="goodbye/1"):
    """The session ends; forget its keys."""

    reason: str = ""


class Codec:
    """Encodes and decodes packets whose bodies are one of `types`."""

    def __init__(self, *types: type[msgspec.Struct]) -> None:
        self._bodies = msgspec.msgpack.Decoder(reduce(or_, (Ready, Ack, Goodbye, *types)))
        self._packets = msgspec.msgpack.Decoder(Packet)

    def body(self, data: bytes) -> Any:
        """Decode a body; raises `MessageRefused`."""
        if len(data) > MAX_BODY:
            raise MessageRefused(f"{len(data)} bytes")
        try:
            return self._bodies.decode(data)
        except msgspec.DecodeError as error:
            raise MessageRefused(str(error)) from error

    def packet(self, data: bytes) -> Packet:
        """Decode a packet; raises `MessageRefused`."""
        try:
            packet = self._packets.decode(data)
        except msgspec.DecodeError as error:
            raise MessageRefused(str(error)) from error
        if len(packet.id) != 16 or (packet.parent is not None and len(packet.parent) != 16):  # noqa: PLR2004
            raise MessageRefused("an id is not 16 bytes")
        return packet


def encode(value: msgspec.Struct) -> bytes:
    """Encode a body or a packet; raises `MessageRefused` when a body is over the limit."""
    data = msgspec.msgpack.encode(value)
    if len(data) > MAX_BODY + 128:
        raise MessageRefused(f"{len(data)} bytes: send it by hash")
    return data
