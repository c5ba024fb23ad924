"""The whole registry, beside the worker: nobody learns which worker interests us, and no look-up needs a request."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from quietfleet.chain._journal import Journal, Located
from quietfleet.chain.channel import Channel
from quietfleet.chain.events import (
    BOOTSTRAP,
    CONFIGURATION,
    ConfigurationRotated,
    KeyRotated,
    channel_of,
    channel_subject,
    encode_event,
    operators_of,
)
from quietfleet.chain.fold import State, fold
from quietfleet.chain.types import (
    Bootstrap,
    BootstrapChanged,
    Change,
    Configuration,
    ConfigurationChanged,
    Configurations,
    Head,
    KeyUse,
    Kind,
    OperatorsChanged,
    ReleaseChanged,
    Right,
    WorkerChanged,
    WorkerState,
    compatible,
)
from quietfleet.storage import Database

Effects = Callable[[Sequence[Change]], None]


class Batch(msgspec.Struct, frozen=True):
    """What one reading brought: events in chain order and the blocks to remember, the new head last."""

    events: tuple[Located, ...]
    blocks: tuple[Head, ...]


class Replica:
    """The registry, the configurations and the releases as of `head`.

    One that was sealed opens with the worker's `secret` alone, else it raises `KeystoreError`.
    """

    def __init__(self, database: Database, secret: bytes | None = None) -> None:
        self._database = database
        self._journal = Journal(database, secret)

    def seal(self, secret: bytes) -> None:
        """Keep it sealed on disk from now on."""
        with self._database.transaction():
            self._journal.cover(secret)

    @property
    def head(self) -> Head | None:
        """The newest block read; None before the first."""
        return self._journal.head()

    def is_stale(self, now: float, limit: float) -> bool:
        """Whether the newest block is further than `limit` seconds from now: a revocation may be unknown here."""
        head = self.head
        return head is None or abs(now - head.timestamp) > limit

    def worker(self, worker_id: str) -> WorkerState | None:
        return self._journal.worker(worker_id)

    def workers(self, owner: str | None = None, kind: Kind | None = None) -> list[WorkerState]:
        """List workers by id, all or those of an owner and a kind."""
        return self._journal.workers(owner, kind)

    def worker_of(self, key: str) -> KeyUse | None:
        """Return whose messaging key an address is, or was: like the contract's call of that name; None if nobody's."""
        later = self._journal.later_key(key)
        state = self.worker(later[0] if later else key)
        if state is None:
            return None
        epoch = later[1] if later else 0
        return KeyUse(state.id, epoch, state.epoch == epoch)

    def usable(self, worker_id: str, confirmations: int = 0) -> bool:
        """Whether a worker may be worked with: now, and without a break for the last `confirmations` blocks.

        A revocation therefore acts at once, and a grant only when that many blocks stand on it.
        """
        state = self.worker(worker_id)
        return state is not None and self._granted(state, confirmations)

    def parted_at(self, worker_id: str) -> int | None:
        """Return when (Unix seconds) a worker was lost or handed over for the last time; None if it never was."""
        return self._journal.parted_at(worker_id)

    def can_cooperate(self, a: str, b: str, confirmations: int = 0) -> bool:
        """Whether two workers may work together: the contract's rule, granted only after `confirmations` blocks."""
        first, second = self.worker(a), self.worker(b)
        if a == b or first is None or second is None or not compatible(first.kind, second.kind):
            return False
        return self._granted(first, confirmations) and self._granted(second, confirmations)

    def operator_rights(self, owner: str, operator: str) -> Right:
        """Return the rights an operator has upon an owner's workers as of the newest block."""
        known, head = self._journal.operators(owner), self.head
        grant = known.grants.get(operator) if known else None
        return grant.at(head.timestamp) if grant and head else Right(0)

    def configuration(self) -> tuple[Configuration | None, Configuration | None]:
        """Return the latest configuration, and the one that was in force when it was set."""
        known = self._journal.configurations()
        return (known.latest, known.previous) if known else (None, None)

    def history(self) -> list[Configuration]:
        """Return every configuration there was, newest first, those included that were replaced before their time."""
        rotated = (located.event for located in self._journal.events(CONFIGURATION))
        return [event.configuration for event in rotated if isinstance(event, ConfigurationRotated)][::-1]

    def bootstrap(self) -> tuple[str, ...]:
        """Return the relays to begin with: up to 16 texts of 200 bytes that should be `enode://` URLs."""
        known = self._journal.bootstrap()
        return known.enodes if known else ()

    def channel(self, name: bytes) -> Channel:
        """Return where a channel of releases (32 bytes) stands, and all of them."""
        return self._journal.channel(channel_subject(name)) or Channel(name)

    def ring(self) -> list[Head]:
        """Return the remembered blocks, oldest first, for the follower to find a common ancestor."""
        return self._journal.ring()

    def claim(self, identity: str) -> None:
        """Belong to the deployment named so; a replica of any other is emptied."""
        self._journal.claim(identity)

    def advance(self, ancestor: int, batch: Batch, depth: int, effects: Effects | None = None) -> list[Change]:
        """Forget what stands above block `ancestor`, apply `batch` and return what changed, in one transaction.

        `effects` runs inside the transaction: what it writes to the same database happens with the step or not at
        all. An event that a reorg only moved to another block is no change. ReplicaGap leaves everything as it was.
        """
        with self._database.transaction():
            changes = _Advance(self._journal, ancestor).apply(batch)
            self._journal.remember(batch.blocks, depth)
            if effects is not None:
                effects(changes)
        return changes

    def _granted(self, state: WorkerState, confirmations: int) -> bool:
        if not state.usable or confirmations == 0:
            return state.usable
        head, since = self.head, self._journal.usable_since(state.id)
        return head is not None and since is not None and since <= head.number - confirmations


class _Advance:
    """One step: undo, then apply, noting for each subject the states that consumers have to hear of."""

    def __init__(self, journal: Journal, ancestor: int) -> None:
        self._journal = journal
        self._changes: list[Change] = []
        undone = journal.above(ancestor)
        self._undone = frozenset(undone)
        self._told: dict[str, State] = {subject: journal.state(subject) for subject, _ in undone}
        journal.forget_above(ancestor)
        self._states: dict[str, State] = {subject: journal.folded(subject) for subject in self._told}
        self._moved: dict[str, State] = dict(self._states)  # states that are still to be written, and events
        self._came: list[tuple[Located, bytes]] = []

    def apply(self, batch: Batch) -> list[Change]:
        self._journal.foresee(located.event.subject for located in batch.events)
        for located in batch.events:
            self._apply(located)
        for subject, told in tuple(self._told.items()):
            if told != self._states[subject]:
                self._tell(subject, batch.blocks[-1].number)
        self._write()
        return self._changes

    def _apply(self, located: Located) -> None:
        subject = located.event.subject
        if subject not in self._states:
            self._told[subject] = self._states[subject] = self._journal.state(subject)
        if isinstance(located.event, KeyRotated):
            self._write()  # whether that key was anybody's also depends on what came before it in this batch
            self._journal.give(located.event, located.block)
        stored = encode_event(located.event)
        self._came.append((located, stored))
        state = fold(self._states[subject], located.event, located.timestamp)
        self._states[subject] = self._moved[subject] = state
        if (subject, stored) not in self._undone:
            self._tell(subject, located.block)

    def _write(self) -> None:
        """Write what moved so far: all at once, since a block may move a thousand workers."""
        self._journal.add(self._came)
        self._journal.save(self._moved)
        self._came, self._moved = [], {}

    def _tell(self, subject: str, block: int) -> None:
        change = _change(subject, self._told[subject], self._states[subject], block)
        if change is not None:
            self._changes.append(change)
        self._told[subject] = self._states[subject]


def _change(subject: str, before: State, after: State, block: int) -> Change | None:
    if subject == CONFIGURATION:
        assert after is None or isinstance(after, Configurations)
        return ConfigurationChanged(after.latest if after else None, block)
    if subject == BOOTSTRAP:
        assert after is None or isinstance(after, Bootstrap)
        return BootstrapChanged(after.enodes if after else (), block)
    if owner := operators_of(subject):
        return OperatorsChanged(owner, block)
    channel = channel_of(subject)
    if channel is not None:
        assert before is None or isinstance(before, Channel)
        assert after is None or isinstance(after, Channel)
        return _released(channel, before, after, block)
    assert before is None or isinstance(before, WorkerState)
    assert after is None or isinstance(after, WorkerState)
    return WorkerChanged(before, after, block)


def _released(name: bytes, before: Channel | None, after: Channel | None, block: int) -> ReleaseChanged | None:
    """Steps of a release that change nothing for devices, such as its approval, are no news to them."""
    known, current = (one.current() if one else None for one in (before, after))
    return None if known == current else ReleaseChanged(name, current, block)
