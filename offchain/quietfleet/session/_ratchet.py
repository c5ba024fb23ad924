"""One direction of a session: a chain of keys, each used for one message and gone after it.

Theory of operation: a chain key gives a message key and, inside the receiver's bloom, a topic; then it is replaced by
its successor, which cannot be reversed. The receiver looks ahead `WINDOW` messages so that it recognises the next
topics by a dictionary look-up, and keeps the keys of messages it skipped, since gossip neither orders nor guarantees
delivery.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import msgspec

from quietfleet.crypto import derive
from quietfleet.whisper import TOPIC_ENTROPY, topic_within

WINDOW = 128  # messages a receiver recognises ahead of the last one it read
MAX_SKIPPED = 256  # keys kept for messages that have not come


class MessageKey(msgspec.Struct, frozen=True, gc=False):
    """The key and topic of the n-th message of a chain."""

    number: int
    topic: bytes
    key: bytes


class ChainState(msgspec.Struct, array_like=True):
    """What is stored of a chain: the next chain key, its number and the numbers skipped before it."""

    key: bytes
    number: int = 0
    skipped: dict[int, bytes] = {}


def advance(chain_key: bytes, number: int, bloom: bytes) -> tuple[MessageKey, bytes]:
    """Return the message key of `number` and the chain key after it."""
    topic = topic_within(bloom, derive(chain_key, "topic", length=TOPIC_ENTROPY))
    return MessageKey(number, topic, derive(chain_key, "message")), derive(chain_key, "chain")


@dataclass(slots=True)
class Sender:
    """Gives a fresh key for every message sent."""

    state: ChainState
    bloom: bytes

    def next(self) -> MessageKey:
        """Take the next message key; store the state before using it."""
        message, successor = advance(self.state.key, self.state.number, self.bloom)
        self.state = ChainState(successor, self.state.number + 1)
        return message


@dataclass(slots=True)
class Receiver:
    """Recognises the messages of one chain by topic, in any order, each once."""

    state: ChainState
    bloom: bytes
    _ahead: dict[int, MessageKey] = field(default_factory=dict)
    _frontier_key: bytes = b""
    _frontier: int = 0

    def __post_init__(self) -> None:
        self._frontier, self._frontier_key = self.state.number, self.state.key
        self._ahead = {n: MessageKey(n, key[:4], key[4:]) for n, key in self.state.skipped.items()}
        self._look_ahead()

    def expected(self) -> Collection[MessageKey]:
        """Return every key a message may come under."""
        return self._ahead.values()

    def at(self, number: int) -> MessageKey | None:
        """Return the key of a message that may still come."""
        return self._ahead.get(number)

    def used(self, number: int) -> tuple[list[MessageKey], list[MessageKey]]:
        """Spend the key of `number`; return the keys no longer expected and those newly expected."""
        gone = [self._ahead.pop(number)]
        if number >= self.state.number:
            self._skip_to(number)
        gone += self._forget_oldest()
        fresh = self._look_ahead()
        return gone, fresh

    def _skip_to(self, number: int) -> None:
        key, at, skipped = self.state.key, self.state.number, dict(self.state.skipped)
        while at <= number:
            message, key = advance(key, at, self.bloom)
            if at < number:
                skipped[at] = message.topic + message.key
            at += 1
        self.state = ChainState(key, at, skipped)

    def _forget_oldest(self) -> list[MessageKey]:
        kept = {n: key for n, key in self.state.skipped.items() if n in self._ahead}
        excess = sorted(kept)[: max(0, len(kept) - MAX_SKIPPED)]
        gone = [self._ahead.pop(n) for n in excess]
        self.state.skipped = {n: key for n, key in kept.items() if n not in excess}
        return gone

    def _look_ahead(self) -> list[MessageKey]:
        fresh = []
        while self._frontier < self.state.number + WINDOW:
            message, self._frontier_key = advance(self._frontier_key, self._frontier, self.bloom)
            self._ahead[self._frontier] = message
            fresh.append(message)
            self._frontier += 1
        return fresh
