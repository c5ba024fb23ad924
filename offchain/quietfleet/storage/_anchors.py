"""What an audit log has said to the chain: roots of its Merkle tree, each hidden behind a salt until it is shown.

An anchor is written down before it is sent, so that a keeper killed in between sends the same one again. From then on
the log cannot be rewritten up to there, by its keeper neither, and whoever is given a proof needs nothing else of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Self

import msgspec

from quietfleet.errors import AuditBroken, ProofRefused
from quietfleet.storage._audit import AuditEntry, AuditLog, entry_hash
from quietfleet.storage._database import Database
from quietfleet.storage._merkle import GrowingTree, includes, inclusion, leaf_hash

_LABEL: Final = "quietfleet audit anchor"
_SALT: Final = 32


@dataclass(frozen=True, slots=True)
class LogAnchor:
    """The tree over the first `size` entries as an account anchored it; `block` is None until a block has it."""

    number: int
    size: int
    root: bytes
    salt: bytes
    at: float
    keeper: str
    block: int | None

    @property
    def commitment(self) -> bytes:
        """The 32 bytes on chain."""
        return commitment(self.size, self.root, self.salt)


class AuditProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """That a log had an entry when it was anchored; hexadecimal, for anybody to check without the log."""

    chain_id: int
    contract: str
    keeper: str
    log: str
    number: int
    block: int
    size: int
    root: str
    salt: str
    commitment: str
    sequence: int
    at: float
    kind: str
    detail: dict[str, Any]
    previous: str
    way: list[str]

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read one; `ProofRefused` when it is none."""
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ProofRefused(f"it is not a proof: {error}") from error

    def to_json(self) -> bytes:
        """Write it for people to read, too."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)

    def check(self) -> None:
        """Check everything but the chain; `ProofRefused` says what does not fit.

        What is left to compare is `commitment` with what `keeper` anchored as `number` of `log` in `block`.
        """
        try:
            previous, root, salt = (bytes.fromhex(text) for text in (self.previous, self.root, self.salt))
            way = [bytes.fromhex(text) for text in self.way]
            digest = entry_hash(previous, self.sequence, self.at, self.kind, self.detail)
        except ValueError as error:
            raise ProofRefused(f"it is garbled: {error}") from error
        if not includes(root, self.size, self.sequence - 1, leaf_hash(digest), way):
            raise ProofRefused("the entry is not in the tree that was anchored")
        if commitment(self.size, root, salt).hex() != self.commitment:
            raise ProofRefused("the tree is not the one that was anchored")


class AuditAnchors:
    """The anchors of one worker's log."""

    def __init__(self, database: Database, log: AuditLog) -> None:
        self._database = database
        self._log = log

    def name(self, random: Callable[[int], bytes]) -> bytes:
        """The log's name on chain (32 bytes), drawn at random once: it does not tell whose it is."""
        with self._database.transaction():
            name = self.known_name
            if name is None:
                name = random(_SALT)
                self._database.execute("INSERT INTO audit_log_name VALUES (?)", (name,))
        return name

    @property
    def known_name(self) -> bytes | None:
        """The log's name, if it was ever anchored."""
        row = self._database.execute("SELECT name FROM audit_log_name").fetchone()
        return row[0] if row else None

    def all(self) -> list[LogAnchor]:
        """Every anchor, oldest first; the last may be under way."""
        rows = self._database.execute(
            "SELECT number, size, root, salt, at, keeper, block FROM audit_anchor ORDER BY rowid"
        )
        return [LogAnchor(*row) for row in rows]

    def next(self, keeper: str, now: float, random: Callable[[int], bytes]) -> LogAnchor:
        """Return the anchor under way, or draw the next one over the log as it is, and write it down."""
        with self._database.transaction():
            kept = self.all()
            if kept and kept[-1].block is None:
                return kept[-1]
            size = self._log.head().sequence
            number = 1 + sum(anchor.keeper == keeper for anchor in kept)  # another account counts anew
            drawn = LogAnchor(number, size, self._root(size), random(_SALT), now, keeper, None)
            row = (drawn.number, drawn.size, drawn.root, drawn.salt, drawn.at, drawn.keeper)
            self._database.execute("INSERT INTO audit_anchor VALUES (?, ?, ?, ?, ?, ?, NULL)", row)
        return drawn

    def anchored(self, anchor: LogAnchor, block: int) -> None:
        """A block has it."""
        place = (block, anchor.keeper, anchor.number)
        self._database.execute("UPDATE audit_anchor SET block = ? WHERE keeper = ? AND number = ?", place)

    def verify(self) -> int:
        """Check the log's links, and every root it was anchored with; return its length, or raise `AuditBroken`."""
        length = self._log.verify()
        tree, done, hashes = GrowingTree(), 0, self._leaves()
        for anchor in self.all():
            for leaf in islice(hashes, anchor.size - done):
                tree.add(leaf)
                done += 1
            if done != anchor.size or tree.root != anchor.root:
                raise AuditBroken(f"not the log of {anchor.size} entries that was anchored as number {anchor.number}")
        return length

    def prove(self, sequence: int, *, chain_id: int, contract: str) -> AuditProof:
        """Return the proof of an entry under the newest anchor in a block; `ProofRefused` when none covers it."""
        name = self.known_name
        usable = [anchor for anchor in self.all() if anchor.block is not None and anchor.size >= sequence]
        if name is None or not usable or sequence < 1:
            raise ProofRefused(f"no anchor covers entry {sequence} yet")
        anchor, entry = usable[-1], self._entry(sequence)
        way = inclusion(list(islice(self._leaves(), anchor.size)), sequence - 1)
        return AuditProof(
            chain_id=chain_id,
            contract=contract,
            keeper=anchor.keeper,
            log=name.hex(),
            number=anchor.number,
            block=anchor.block or 0,
            size=anchor.size,
            root=anchor.root.hex(),
            salt=anchor.salt.hex(),
            commitment=anchor.commitment.hex(),
            sequence=sequence,
            at=entry.at,
            kind=entry.kind,
            detail=entry.detail,
            previous=entry.previous.hex(),
            way=[node.hex() for node in way],
        )

    def _entry(self, sequence: int) -> AuditEntry:
        return next(self._log.entries(after=sequence - 1))

    def _root(self, size: int) -> bytes:
        tree = GrowingTree()
        for leaf in islice(self._leaves(), size):
            tree.add(leaf)
        return tree.root

    def _leaves(self) -> Iterator[bytes]:
        rows = self._database.execute("SELECT hash FROM audit ORDER BY sequence")
        return (leaf_hash(digest) for (digest,) in rows)


def commitment(size: int, root: bytes, salt: bytes) -> bytes:
    """Return what goes on chain for a tree: 32 bytes that tell neither its root nor how much it holds."""
    return hashlib.sha256(json.dumps([_LABEL, size, root.hex(), salt.hex()]).encode()).digest()
