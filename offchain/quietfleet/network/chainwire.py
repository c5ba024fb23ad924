"""The chain over our own capability: what a worker without an endpoint asks of relays, and what they answer.

An answer's content is MessagePack of one fixed shape, every field bounded by the size of the whole; it proves nothing,
and is believed only where relays of several owners say the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import msgspec

from quietfleet.chain.source import Header, RawLog
from quietfleet.crypto import rlp
from quietfleet.errors import WireError
from quietfleet.network.link import STEM, Message
from quietfleet.network.stemwire import REQUEST_SIZE
from quietfleet.network.wire import iter_list, string

ASK_CHAIN, CHAIN = 7, 8
MAX_CONTENT: Final = 512 * 1024
"""Bytes of an answer; a range with more is refused, and asked for in halves."""

_BEYOND: Final = 1 << 63  # no chain counts so far, and no database column
_HASH_SIZE: Final = 32
_BLOOM_SIZE: Final = 256
_FIELDS: Final = 5


class What(IntEnum):
    """What is asked for: the newest header, one by its number, the logs of a range, or those of a block by its hash."""

    NEWEST = 0
    HEADER = 1
    LOGS = 2
    LOGS_IN = 3


class Verdict(IntEnum):
    """Whether there is an answer, the endpoint refused (a range too large, a block unknown), or it is down."""

    FOUND = 0
    REFUSED = 1
    UNAVAILABLE = 2


@dataclass(frozen=True, slots=True)
class ChainAsk:
    """A question; `first`, `last` and `block_hash` are zero or empty where `what` has no use for them."""

    request: bytes
    what: What
    first: int = 0
    last: int = 0
    block_hash: bytes = b""

    @property
    def question(self) -> tuple[What, int, int, bytes]:
        """What is asked, whoever asks it."""
        return self.what, self.first, self.last, self.block_hash

    def encode(self) -> Message:
        content = rlp.encode([self.request, int(self.what), self.first, self.last, self.block_hash])
        return Message(STEM.name, ASK_CHAIN, content)

    @classmethod
    def decode(cls, payload: bytes) -> ChainAsk:
        """Read a question; raise WireError if it is none."""
        request, what, first, last, block_hash = _strings(payload, _FIELDS)
        if len(request) != REQUEST_SIZE or len(block_hash) not in (0, _HASH_SIZE):
            raise WireError("a request's name, or a hash, of another size")
        asked = cls(request, _what(_number(what)), _number(first), _number(last), block_hash)
        if (asked.what is What.LOGS_IN) != bool(block_hash) or asked.first > asked.last:
            raise WireError("a question that makes no sense")
        return asked


@dataclass(frozen=True, slots=True)
class ChainAnswer:
    """The answer to the question of this name."""

    request: bytes
    verdict: Verdict
    content: bytes = b""

    def encode(self) -> Message:
        return Message(STEM.name, CHAIN, rlp.encode([self.request, int(self.verdict), self.content]))

    @classmethod
    def decode(cls, payload: bytes) -> ChainAnswer:
        """Read an answer; raise WireError if it is none. Its content is not looked at."""
        request, verdict, content = _strings(payload, 3)
        if len(request) != REQUEST_SIZE or len(content) > MAX_CONTENT:
            raise WireError("a request's name of another size, or an answer too large")
        try:
            return cls(request, Verdict(_number(verdict)), content)
        except ValueError as error:
            raise WireError("no such verdict") from error


class _Header(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    number: int
    hash: bytes
    parent: bytes
    timestamp: int
    bloom: bytes


def pack(found: Header | list[RawLog] | None) -> bytes:
    """Encode what an endpoint gave."""
    if isinstance(found, Header):
        bloom = found.bloom.to_bytes(_BLOOM_SIZE, "big")
        return msgspec.msgpack.encode(_Header(found.number, found.hash, found.parent, found.timestamp, bloom))
    return msgspec.msgpack.encode(found)


def read_header(content: bytes) -> Header | None:
    """Read a header; ValueError if it is none."""
    found = msgspec.msgpack.decode(content, type=_Header | None)
    if found is None:
        return None
    sizes = len(found.hash), len(found.parent), len(found.bloom)
    if sizes != (_HASH_SIZE, _HASH_SIZE, _BLOOM_SIZE) or min(found.number, found.timestamp) < 0:
        raise ValueError("a header of other sizes")
    return Header(found.number, found.hash, found.parent, found.timestamp, int.from_bytes(found.bloom, "big"))


def read_logs(content: bytes) -> list[RawLog]:
    """Read logs; ValueError if they are none."""
    logs = msgspec.msgpack.decode(content, type=list[RawLog])
    for log in logs:
        if len(log.block_hash) != _HASH_SIZE or min(log.block, log.index) < 0:
            raise ValueError("a log of nowhere")
    return logs


def _strings(payload: bytes, count: int) -> list[bytes]:
    found: list[bytes] = []
    for item in iter_list(payload):
        if len(found) == count:
            raise WireError(f"more than {count} items")
        found.append(string(item))
    if len(found) != count:
        raise WireError(f"not {count} items")
    return found


def _number(content: bytes) -> int:
    number = int.from_bytes(content, "big")
    if content[:1] == b"\0" or number >= _BEYOND:
        raise WireError("not a number that a block may have")
    return number


def _what(number: int) -> What:
    try:
        return What(number)
    except ValueError as error:
        raise WireError("nothing that can be asked for") from error
