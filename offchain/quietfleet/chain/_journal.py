"""The replica's tables: events by place on the chain, a ring of block hashes, and every entity as folded so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from quietfleet.chain._cover import new_cover, opened_cover
from quietfleet.chain._memory import Memory
from quietfleet.chain.channel import Channel
from quietfleet.chain.events import (
    BOOTSTRAP,
    CONFIGURATION,
    ChainEvent,
    KeyRotated,
    channel_of,
    decode_event,
    operators_of,
    operators_subject,
)
from quietfleet.chain.fold import State, fold
from quietfleet.chain.types import Bootstrap, Configurations, Head, Operators, WorkerChanged, WorkerState
from quietfleet.errors import ReplicaGap
from quietfleet.storage import Database

STEPS: Final = (
    """
    CREATE TABLE chain_identity (identity TEXT PRIMARY KEY) STRICT;
    CREATE TABLE chain_blocks (number INTEGER PRIMARY KEY, hash BLOB NOT NULL, timestamp INTEGER NOT NULL) STRICT;
    CREATE TABLE chain_events (
        block INTEGER, log_index INTEGER, timestamp INTEGER NOT NULL, subject TEXT NOT NULL, event BLOB NOT NULL,
        PRIMARY KEY (block, log_index)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX chain_events_by_subject ON chain_events (subject, block, log_index);
    CREATE TABLE chain_workers (id TEXT PRIMARY KEY, owner TEXT NOT NULL, kind INTEGER NOT NULL, state BLOB NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE INDEX chain_workers_by_owner ON chain_workers (owner);
    """,
    # What was replicated until now is in the words of other contracts: it is read anew, from those that follow them.
    """
    DELETE FROM chain_identity;
    DELETE FROM chain_blocks;
    DELETE FROM chain_events;
    DELETE FROM chain_workers;
    CREATE TABLE chain_lines (subject TEXT PRIMARY KEY, state BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE chain_keys (key TEXT PRIMARY KEY, worker TEXT NOT NULL, epoch INTEGER NOT NULL, block INTEGER NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE INDEX chain_keys_by_block ON chain_keys (block);
    """,
    # Operators, and who switched a worker on, were not kept until now: the chain is read anew.
    """
    DELETE FROM chain_identity;
    DELETE FROM chain_blocks;
    DELETE FROM chain_events;
    DELETE FROM chain_workers;
    DELETE FROM chain_lines;
    DELETE FROM chain_keys;
    """,
    "CREATE TABLE chain_cover (mark BLOB NOT NULL) STRICT",
)

_TABLES: Final = ("chain_identity", "chain_blocks", "chain_events", "chain_workers", "chain_lines", "chain_keys")

_ADDRESS: Final = "0x"
_AT_ONCE: Final = 500  # workers looked up in one statement

# Leaves the index of owners alone, which an owner's switch does not move; another owner's worker it leaves as it was.
_SAME_OWNERS: Final = (
    "INSERT INTO chain_workers VALUES (?, ?, ?, ?) "
    "ON CONFLICT (id) DO UPDATE SET state = excluded.state WHERE owner = excluded.owner AND kind = excluded.kind"
)


class Located(msgspec.Struct, frozen=True):
    """An event with its place: block, log index within it, and the block's time in Unix seconds."""

    block: int
    index: int
    timestamp: int
    event: ChainEvent


_Line = TypeVar("_Line", Configurations, Bootstrap, Channel, Operators)

_worker_decoder = msgspec.json.Decoder(WorkerState)
_configurations_decoder = msgspec.json.Decoder(Configurations)
_bootstrap_decoder = msgspec.json.Decoder(Bootstrap)
_channel_decoder = msgspec.json.Decoder(Channel)
_operators_decoder = msgspec.json.Decoder(Operators)


class Journal:
    """Reads and writes the tables; whoever calls holds the transaction."""

    def __init__(self, database: Database, secret: bytes | None = None) -> None:
        self._database = database
        database.migrate("chain", STEPS)
        self._memory = Memory.of(database)
        self._memory.clear()
        self._cover = opened_cover(database, secret)

    def cover(self, secret: bytes) -> None:
        """From now on keep all of it sealed under a worker's secret; what is there is rewritten."""
        if self._cover.sealed:
            return
        events = self._database.execute("SELECT block, log_index, timestamp, event FROM chain_events").fetchall()
        located = [(Located(block, index, at, decode_event(event)), event) for block, index, at, event in events]
        states: dict[str, State] = {worker.id: worker for worker in self.workers(None, None)}
        lines = [subject for (subject,) in self._database.execute("SELECT subject FROM chain_lines").fetchall()]
        states |= {subject: self.state(subject) for subject in lines}
        keys = self._database.execute("SELECT key, worker, epoch, block FROM chain_keys").fetchall()
        for table in ("chain_events", "chain_workers", "chain_lines", "chain_keys"):
            self._write(f"DELETE FROM {table}")  # noqa: S608 - the names above
        self._cover = new_cover(self._database, secret)
        self.add(located)
        self.save(states)
        for key, worker, epoch, block in keys:
            self._give(key, worker, epoch, block)

    def claim(self, identity: str) -> None:
        """Belong to this deployment: what was replicated from any other is thrown away."""
        with self._database.transaction():
            if self._database.execute("SELECT 1 FROM chain_identity WHERE identity = ?", (identity,)).fetchone():
                return
            for table in _TABLES:
                self._write(f"DELETE FROM {table}")  # noqa: S608 - the names above
            self._database.execute("INSERT INTO chain_identity VALUES (?)", (identity,))

    def ring(self) -> list[Head]:
        """Return the remembered blocks, oldest first."""
        return [Head(*row) for row in self._database.execute("SELECT * FROM chain_blocks ORDER BY number")]

    def head(self) -> Head | None:
        return self._memory.answer(self._database, "head", "", self._read_head)

    def _read_head(self) -> Head | None:
        row = self._database.execute("SELECT * FROM chain_blocks ORDER BY number DESC LIMIT 1").fetchone()
        return Head(*row) if row else None

    def remember(self, blocks: tuple[Head, ...], depth: int) -> None:
        """Add blocks to the ring and forget all but the newest `depth`."""
        for block in blocks:
            self._write(
                "INSERT OR REPLACE INTO chain_blocks VALUES (?, ?, ?)", (block.number, block.hash, block.timestamp)
            )
        self._write(
            "DELETE FROM chain_blocks WHERE number < "
            "(SELECT min(number) FROM (SELECT number FROM chain_blocks ORDER BY number DESC LIMIT ?))",
            (depth,),
        )

    def above(self, block: int) -> list[tuple[str, bytes]]:
        """Return subject and stored form of every event above `block`."""
        query = "SELECT block, log_index, event FROM chain_events WHERE block > ? ORDER BY block, log_index"
        rows = self._database.execute(query, (block,)).fetchall()
        found = [self._cover.open(event, _place(number, index)) for number, index, event in rows]
        return [(decode_event(event).subject, event) for event in found]

    def forget_above(self, block: int) -> None:
        """Delete every event, key and remembered block above `block`."""
        self._write("DELETE FROM chain_events WHERE block > ?", (block,))
        self._write("DELETE FROM chain_keys WHERE block > ?", (block,))
        self._write("DELETE FROM chain_blocks WHERE number > ?", (block,))

    def add(self, events: Iterable[tuple[Located, bytes]]) -> None:
        """Store events, each with its stored form."""
        name, seal = self._cover.name, self._cover.seal
        rows = (
            (one.block, one.index, one.timestamp, name(one.event.subject), seal(stored, _place(one.block, one.index)))
            for one, stored in events
        )
        self._memory.clear()
        self._database.execute_many("INSERT INTO chain_events VALUES (?, ?, ?, ?, ?)", rows)

    def give(self, event: KeyRotated, block: int) -> None:
        """Remember whose key it is; the contract gives a key once."""
        if self.later_key(event.key) is not None or self.worker(event.key) is not None:
            raise ReplicaGap(f"{event.key} became {event.id}'s key and was somebody's before")
        self._give(event.key, event.id, event.epoch, block)

    def _give(self, key: str, worker: str, epoch: int, block: int) -> None:
        name = self._cover.name(key)
        row = (name, self._cover.seal_text(worker, name), epoch, block)
        self._write("INSERT INTO chain_keys VALUES (?, ?, ?, ?)", row)

    def events(self, subject: str) -> Iterator[Located]:
        """Yield a subject's events in chain order."""
        query = "SELECT block, log_index, timestamp, event FROM chain_events WHERE subject = ?"
        rows = self._database.execute(f"{query} ORDER BY block, log_index", (self._cover.name(subject),))
        for block, index, timestamp, stored in rows:
            yield Located(block, index, timestamp, decode_event(self._cover.open(stored, _place(block, index))))

    def state(self, subject: str) -> State:
        """Return a subject's state at the head."""
        if subject.startswith(_ADDRESS):  # almost always
            return self.worker(subject)
        if subject == CONFIGURATION:
            return self.configurations()
        if subject == BOOTSTRAP:
            return self.bootstrap()
        if owner := operators_of(subject):
            return self.operators(owner)
        return self.worker(subject) if channel_of(subject) is None else self.channel(subject)

    def folded(self, subject: str) -> State:
        """Compute a subject's state from its events alone."""
        state: State = None
        for located in self.events(subject):
            state = fold(state, located.event, located.timestamp)
        return state

    def foresee(self, subjects: Iterable[str]) -> None:
        """Look up the workers among these subjects together, for whoever asks for each of them next."""
        wanted = sorted(map(self._cover.name, set(subjects)))
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            query = f"SELECT id, state FROM chain_workers WHERE id IN ({','.join('?' * len(some))})"  # noqa: S608 - question marks
            for name, state in self._database.execute(query, some):
                worker = self._worker(name, state)
                self._memory.learn(self._database, "worker", worker.id, worker)

    def worker(self, worker_id: str) -> WorkerState | None:
        return self._memory.answer(self._database, "worker", worker_id, lambda: self._read_worker(worker_id))

    def _read_worker(self, worker_id: str) -> WorkerState | None:
        name = self._cover.name(worker_id)
        row = self._database.execute("SELECT state FROM chain_workers WHERE id = ?", (name,)).fetchone()
        return self._worker(name, row[0]) if row else None

    def workers(self, owner: str | None, kind: int | None) -> list[WorkerState]:
        query = "SELECT id, state FROM chain_workers WHERE (?1 IS NULL OR owner = ?1) AND (?2 IS NULL OR kind = ?2)"
        rows = self._database.execute(query, (owner and self._cover.name(owner), kind))
        return sorted((self._worker(name, state) for name, state in rows), key=lambda worker: worker.id)

    def _worker(self, name: str, state: bytes) -> WorkerState:
        return _worker_decoder.decode(self._cover.open(state, name.encode()))

    def later_key(self, key: str) -> tuple[str, int] | None:
        """Return whose key an address is, and of which epoch, if a worker was given it after its first."""
        return self._memory.answer(self._database, "key", key, lambda: self._read_later_key(key))

    def _read_later_key(self, key: str) -> tuple[str, int] | None:
        query = "SELECT worker, epoch FROM chain_keys WHERE key = ?"
        name = self._cover.name(key)
        row: tuple[str, int] | None = self._database.execute(query, (name,)).fetchone()
        return (self._cover.open_text(row[0], name), row[1]) if row else None

    def usable_since(self, worker_id: str) -> int | None:
        """Return the block since which a worker may be worked with without a break; None if it may not be."""
        return self._memory.answer(self._database, "since", worker_id, lambda: self._read_usable_since(worker_id))

    def _read_usable_since(self, worker_id: str) -> int | None:
        state: State = None
        since: int | None = None
        for located in self.events(worker_id):
            state = fold(state, located.event, located.timestamp)
            assert isinstance(state, WorkerState)
            since = None if not state.usable else located.block if since is None else since
        return since

    def parted_at(self, worker_id: str) -> int | None:
        """Return when (Unix seconds) a worker was lost or handed over for the last time; None if it never was."""
        before: WorkerState | None = None
        at: int | None = None
        for located in self.events(worker_id):
            after = fold(before, located.event, located.timestamp)
            assert isinstance(after, WorkerState)
            at = located.timestamp if WorkerChanged(before, after, located.block).parts else at
            before = after
        return at

    def configurations(self) -> Configurations | None:
        return self._line(CONFIGURATION, _configurations_decoder)

    def bootstrap(self) -> Bootstrap | None:
        return self._line(BOOTSTRAP, _bootstrap_decoder)

    def operators(self, owner: str) -> Operators | None:
        return self._line(operators_subject(owner), _operators_decoder)

    def channel(self, subject: str) -> Channel | None:
        return self._line(subject, _channel_decoder)

    def save(self, states: Mapping[str, State]) -> None:
        """Keep folded states by subject, and forget the subjects that have none."""
        self._memory.clear()
        workers = [state for state in states.values() if isinstance(state, WorkerState)]
        lines = [(subject, state) for subject, state in states.items() if not isinstance(state, WorkerState | None)]
        name, many = self._cover.name, self._database.execute_many
        gone = [(name(subject),) for subject, state in states.items() if state is None]
        rows = [(name(one.id), name(one.owner), one.kind, self._sealed(one.id, one)) for one in workers]
        if many(_SAME_OWNERS, rows) < len(rows):
            many("INSERT OR REPLACE INTO chain_workers VALUES (?, ?, ?, ?)", rows)
        kept = ((name(subject), self._sealed(subject, state)) for subject, state in lines)
        many("INSERT OR REPLACE INTO chain_lines VALUES (?, ?)", kept)
        many("DELETE FROM chain_workers WHERE id = ?", gone)
        many("DELETE FROM chain_lines WHERE subject = ?", gone)
        for worker in workers:
            self._memory.learn(self._database, "worker", worker.id, worker)

    def _line(self, subject: str, decoder: msgspec.json.Decoder[_Line]) -> _Line | None:
        return self._memory.answer(self._database, "line", subject, lambda: self._read_line(subject, decoder))

    def _read_line(self, subject: str, decoder: msgspec.json.Decoder[_Line]) -> _Line | None:
        name = self._cover.name(subject)
        row = self._database.execute("SELECT state FROM chain_lines WHERE subject = ?", (name,)).fetchone()
        return decoder.decode(self._cover.open(row[0], name.encode())) if row else None

    def _sealed(self, subject: str, state: State) -> bytes:
        return self._cover.seal(msgspec.json.encode(state), self._cover.name(subject).encode())

    def _write(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement that changes what was looked up."""
        self._memory.clear()
        self._database.execute(sql, parameters)


def _place(block: int, index: int) -> bytes:
    return b"%d/%d" % (block, index)
