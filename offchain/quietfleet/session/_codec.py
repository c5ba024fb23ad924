"""One codec for everything workers say to each other inside a session.

A body is a frozen `msgspec.Struct` with a tag such as `reading/1`: the tag carries the schema's version, unknown fields
are ignored so that a newer sender is understood, unknown tags and malformed bodies are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import reduce
from operator import or_
from typing import Annotated, Any

import msgspec

from quietfleet.errors import MessageRefused
from quietfleet.session._foreign import Finite, read
from quietfleet.session._large_wire import LARGE_BODIES, Id

MAX_BODY = 100_000  # bytes; larger content travels in pieces
PACKET_VERSION = b"\x02"  # before every packet; one of another version is refused
PASSED = 16  # messages given up that a later one names
HEARD = 15  # notices that one message acknowledges besides what it says


class Mode(IntEnum):
    """What a packet asks of its receiver."""

    REPLY = 0  # nothing: it answers a request
    REQUEST = 1  # an answer that fits the sender's expectation
    NOTICE = 2  # an acknowledgement that it was handled


class Packet(msgspec.Struct, frozen=True, array_like=True):
    """What one envelope carries inside a session; ids are 16 random bytes that never show on the wire.

    `parent` is the message this one answers; `conversation` the first message of the conversation it belongs to, None
    for that one and its answer; `after` the one its sender wants to have been heard before it; `passed` those its
    sender has given up, which are not to be heard any more; `heard` notices of its receiver's that were handled.
    """

    id: Id
    parent: Id | None
    mode: Mode
    reply_by: Finite
    body: bytes
    conversation: Id | None = None
    after: Id | None = None
    passed: Annotated[tuple[Id, ...], msgspec.Meta(max_length=PASSED)] = ()
    heard: Annotated[tuple[Id, ...], msgspec.Meta(max_length=HEARD)] = ()

    @property
    def thread(self) -> bytes:
        """The conversation this message belongs to, by the id of its first message."""
        return self.conversation or self.parent or self.id


class Ready(msgspec.Struct, frozen=True, tag="ready/1"):
    """The initiator's first word: it holds the session's keys."""


class Ack(msgspec.Struct, frozen=True, tag="ack/1"):
    """A notice was handled."""


class Goodbye(msgspec.Struct, frozen=True, tag="goodbye/1"):
    """The session ends; forget its keys."""

    reason: str = ""


class Codec:
    """Encodes and decodes packets whose bodies are one of `types`; those in `answers` make sense only as answers."""

    def __init__(self, *types: type[msgspec.Struct], answers: Sequence[type[msgspec.Struct]] = ()) -> None:
        self._bodies = msgspec.msgpack.Decoder(reduce(or_, (Ready, Ack, Goodbye, *LARGE_BODIES, *types, *answers)))
        self._packets = msgspec.msgpack.Decoder(Packet)
        self._answers: tuple[type, ...] = (Ack, *answers)

    def body(self, data: bytes) -> Any:
        """Decode a body; raises `MessageRefused`."""
        if len(data) > MAX_BODY:
            raise MessageRefused(f"{len(data)} bytes")
        return read(self._bodies, data)

    def packet(self, data: bytes) -> Packet:
        """Decode a packet; raises `MessageRefused`, also for one of another version."""
        if data[:1] != PACKET_VERSION:
            raise MessageRefused("a packet of another version")
        return read(self._packets, data[1:])

    def only_answers(self, body: Any) -> bool:
        """Tell whether a body says nothing unless it was asked for."""
        return isinstance(body, self._answers)


def encode_body(body: msgspec.Struct) -> bytes:
    """Encode a body; raises `MessageRefused` when it is over the limit."""
    data = msgspec.msgpack.encode(body)
    if len(data) > MAX_BODY:
        raise MessageRefused(f"{len(data)} bytes: send it in pieces")
    return data


def encode_packet(packet: Packet) -> bytes:
    """Encode a packet; a body within its limit makes one that fits the largest envelope."""
    return PACKET_VERSION + msgspec.msgpack.encode(packet)
