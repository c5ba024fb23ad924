"""Words from replica to replica: written in the transaction that caused them, taken in the one that acts on them.

What a worker says to the oracle reaches the replica that has the session, and is for the one that leads; what that one
answers is for whoever has the session then. A word lies under its addressee's name, and in the order its sender wrote
it. After a change of membership everybody looks through all of it once, since what lay with one may be another's now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from quietfleet.session import Vault
from quietfleet.storage import Rows

LEADER: Final = bytes(16)  # no replica's name: whoever leads reads it


class Word(msgspec.Struct, frozen=True, array_like=True):
    """What a worker said, or is to be told."""

    peer: str
    body: bytes


class Mail:
    """Words that wait; `me` is this replica's name."""

    def __init__(self, rows: Rows, secret: bytes, random: Callable[[int], bytes], me: bytes) -> None:
        self._vault = Vault(rows, "replica_mail", secret, random)
        self._me = me
        self._count = 0

    def post(self, addressee: bytes, peer: str, body: bytes) -> None:
        """Leave a word for a replica, or for `LEADER`."""
        self._count += 1
        self._vault.put(addressee + self._me + self._count.to_bytes(8, "big"), Word(peer, body))

    def waiting(self, addressee: bytes) -> bool:
        """Whether there is something to take; costs one question."""
        return bool(self._vault.ids(addressee))

    def take(self, addressee: bytes, concerns: Callable[[str], bool]) -> Iterator[Word]:
        """Take out what lies with an addressee and is about a peer that concerns us."""
        for row_id, word in list(self._vault.all(Word, addressee)):
            if concerns(word.peer):
                self._vault.delete(row_id)
                yield word

    def take_stray(self, concerns: Callable[[str], bool]) -> Iterator[Word]:
        """Take out what lies with another replica and is ours by now."""
        for row_id, word in list(self._vault.all(Word)):
            if row_id[:16] != LEADER and concerns(word.peer):
                self._vault.delete(row_id)
                yield word
