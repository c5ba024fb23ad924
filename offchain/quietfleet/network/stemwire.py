"""Our own capability's messages: `stem/1`. Payloads are RLP but for onion packets, which have no structure to see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from quietfleet.crypto import rlp
from quietfleet.errors import DescriptorError, EnvelopeError, WireError
from quietfleet.mixnet import RelayDescriptor, decode_descriptor
from quietfleet.network.link import STEM, Message
from quietfleet.network.wire import decode_bloom, decode_pow, encode_pow, iter_list, string
from quietfleet.whisper import Envelope

ASK_DESCRIPTORS, DESCRIPTORS, PACKET = 0, 1, 2
ASK_ARCHIVE, ARCHIVE = 3, 4
ASK_WORK, WORK = 5, 6
MAX_DESCRIPTORS: Final = 256  # in one message
REQUEST_SIZE: Final = 8  # bytes: a random name for a request, so that its answer is known by it
CURSOR_SIZE: Final = 16  # bytes: where a page ended, for the relay alone to understand
MAX_PAGE: Final = 512 * 1024  # bytes of envelopes in one answer, or else a single envelope
MAX_ENVELOPES: Final = 4096  # in one answer
_NONCE_SIZE: Final = 8
_U32_SIZE: Final = 4
_EMPTY: Final = b"\xc0"


def ask_descriptors() -> Message:
    """Ask a peer for every relay it knows."""
    return Message(STEM.name, ASK_DESCRIPTORS, _EMPTY)


def tell_descriptors(descriptors: Iterable[RelayDescriptor]) -> Iterator[Message]:
    """Tell of relays, in as many messages as it takes."""
    rest = list(descriptors)
    while rest:
        told, rest = rest[:MAX_DESCRIPTORS], rest[MAX_DESCRIPTORS:]
        yield Message(STEM.name, DESCRIPTORS, _list(descriptor.encode() for descriptor in told))


def read_descriptors(payload: bytes) -> Iterator[RelayDescriptor]:
    """Read what a peer tells; raise WireError where it stops making sense."""
    for number, item in enumerate(iter_list(payload)):
        if number >= MAX_DESCRIPTORS:
            raise WireError("too many descriptors")
        try:
            yield decode_descriptor(item)
        except DescriptorError as error:
            raise WireError(f"a descriptor: {error}") from error


def packet(content: bytes) -> Message:
    """Carry an onion packet one hop."""
    return Message(STEM.name, PACKET, content)


@dataclass(frozen=True, slots=True)
class ArchiveAsk:
    """Ask for envelopes of a bloom that arrived from `since` until `until` (Unix seconds), after a cursor if any."""

    request: bytes
    since: int
    until: int
    bloom: bytes
    cursor: bytes = b""

    def encode(self) -> Message:
        content: list[rlp.Item] = [self.request, self.since, self.until, self.bloom, self.cursor]
        return Message(STEM.name, ASK_ARCHIVE, rlp.encode(content))

    @classmethod
    def decode(cls, payload: bytes) -> ArchiveAsk:
        """Read a request; raise WireError if it is none."""
        request, since, until, bloom, cursor = _items(payload, 5)
        return cls(_request(request), _u32(since), _u32(until), decode_bloom(bloom), _cursor(cursor))


@dataclass(frozen=True, slots=True)
class ArchivePage:
    """Envelopes, encoded, and where to go on asking; an empty cursor says that this was all."""

    request: bytes
    envelopes: tuple[bytes, ...]
    cursor: bytes = b""

    def encode(self) -> Message:
        parts = [rlp.encode(self.request), _list(self.envelopes), rlp.encode(self.cursor)]
        return Message(STEM.name, ARCHIVE, _list(parts))

    @classmethod
    def decode(cls, payload: bytes, max_size: int) -> ArchivePage:
        """Read an answer of at most `MAX_PAGE` bytes, or an only envelope of `max_size`; else raise WireError."""
        request, envelopes, cursor = _items(payload, 3)
        if len(envelopes) > max(MAX_PAGE, max_size) + _NONCE_SIZE:
            raise WireError(f"a page of {len(envelopes)} bytes")
        several = tuple(islice(iter_list(envelopes), MAX_ENVELOPES + 1))
        if len(several) > MAX_ENVELOPES:
            raise WireError("too many envelopes in a page")
        return cls(_request(request), several, _cursor(cursor))


@dataclass(frozen=True, slots=True)
class WorkAsk:
    """Ask for the proof of work of an envelope, `target` or more on Whisper's scale; its nonce is where to begin."""

    request: bytes
    draft: Envelope
    target: float

    def encode(self) -> Message:
        draft = self.draft
        parts = [rlp.encode(each) for each in (self.request, draft.expiry, draft.ttl, draft.topic, draft.data)]
        return Message(STEM.name, ASK_WORK, _list([*parts, encode_pow(self.target)]))

    @classmethod
    def decode(cls, payload: bytes) -> WorkAsk:
        """Read a request; raise WireError if it is none."""
        request, expiry, ttl, topic, data, target = _items(payload, 6)
        try:
            draft = Envelope(_u32(expiry), _u32(ttl), string(topic), string(data), 0)
        except EnvelopeError as error:
            raise WireError(f"a draft: {error}") from error
        return cls(_request(request), draft, decode_pow(target))


@dataclass(frozen=True, slots=True)
class WorkDone:
    """The nonce, or None for a refusal."""

    request: bytes
    nonce: int | None

    def encode(self) -> Message:
        nonce = b"" if self.nonce is None else self.nonce.to_bytes(_NONCE_SIZE, "big")
        return Message(STEM.name, WORK, rlp.encode([self.request, nonce]))

    @classmethod
    def decode(cls, payload: bytes) -> WorkDone:
        """Read an answer; raise WireError if it is none."""
        request, nonce = _items(payload, 2)
        content = string(nonce)
        if len(content) not in (0, _NONCE_SIZE):
            raise WireError(f"a nonce of {len(content)} bytes")
        return cls(_request(request), int.from_bytes(content, "big") if content else None)


def _items(payload: bytes, count: int) -> list[bytes]:
    """Return a list's items, still encoded; raise WireError unless there are `count`."""
    items = list(islice(iter_list(payload), count + 1))
    if len(items) != count:
        raise WireError(f"not {count} items")
    return items


def _request(item: bytes) -> bytes:
    content = string(item)
    if len(content) != REQUEST_SIZE:
        raise WireError(f"a request's name of {len(content)} bytes")
    return content


def _cursor(item: bytes) -> bytes:
    content = string(item)
    if len(content) not in (0, CURSOR_SIZE):
        raise WireError(f"a cursor of {len(content)} bytes")
    return content


def _u32(item: bytes) -> int:
    content = string(item)
    if len(content) > _U32_SIZE or content[:1] == b"\0":
        raise WireError("not a number of 32 bits")
    return int.from_bytes(content, "big")


def _list(items: Iterable[bytes]) -> bytes:
    """Return the RLP list of items that are encoded already."""
    return rlp.enlist(b"".join(items))
