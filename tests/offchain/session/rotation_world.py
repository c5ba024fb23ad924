"""Sessions through rotations as the chain allows them: workers that sleep, read late, or see a configuration undone."""

from __future__ import annotations

import itertools
from collections import Counter
from contextlib import suppress
from typing import Any

import msgspec
from session_world import Answer, Party, Question, World

from quietfleet.chain.types import Configuration
from quietfleet.errors import HandshakeRefused
from quietfleet.session import Expired, Received, epoch_commitment
from quietfleet.session._arrivals import Arrivals
from quietfleet.session._states import State

NAMES = ("a", "b", "c")
PATIENCE = 590.0  # seconds a question may take: longer than anybody sleeps
NOBODY = ""


class Rotations(World):
    """Three workers that talk in pairs; the chain's two newest configurations are `latest` and `previous`."""

    def __init__(self, folder: Any, monkeypatch: Any) -> None:
        super().__init__(folder)
        self.asleep: dict[str, Party] = {}
        self.unread: set[str] = set()  # who has not read the newest configuration yet
        self.keys: dict[bytes, bytes] = {}
        self.posted: dict[str, tuple[str, str]] = {}
        self.late: list[tuple[str, int]] = []
        self.opened = 0
        self._watch(monkeypatch)
        for name in NAMES:
            self.party(name)
        self.configure(active_from=self.now, grace=0)
        self.read()
        self.settle()

    @property
    def now(self) -> int:
        return int(self.clock.now())

    @property
    def everybody(self) -> list[Party]:
        return [self.parties.get(name) or self.asleep[name] for name in NAMES]

    # the chain

    def configure(self, *, active_from: int, grace: int, version: int = 0) -> None:
        """Put a configuration with keys of its own on chain, as the contract would keep it."""
        assert version or self.latest is None or active_from >= self.now
        key = self.random.randbytes(32)
        self.keys[epoch_commitment(key)] = key
        before = self.latest
        if not version:
            waits = before is not None and self.now < before.active_from
            self.previous = self.previous if waits else before
        number = version or (before.version + 1 if before else 1)
        self.latest = Configuration(
            number,
            active_from,
            grace,
            0.0,
            60,
            131_072,
            NOBODY,
            NOBODY,
            epoch_commitment(key),
            bytes(32),
            bytes(32),
        )
        self.unread = set(NAMES)

    def rotate_ahead(self, lead: int, grace: int) -> None:
        """A routine rotation; where the contract would refuse one, at once."""
        latest = self.latest
        assert latest is not None
        if latest.active_from <= self.now < latest.active_from + latest.grace:
            self.rotate_at_once()
            return
        self.configure(active_from=max(self.now + lead, latest.active_from), grace=grace)

    def rotate_at_once(self) -> None:
        self.configure(active_from=self.now, grace=0)

    def keep_keys(self) -> None:
        """Change a limit only; where a version waits, the contract would take that one's place."""
        latest = self.latest
        assert latest is not None
        if latest.active_from + latest.grace > self.now:
            return
        self.previous = latest
        changes = {"version": latest.version + 1, "active_from": self.now, "keys_from": latest.epoch}
        self.latest = msgspec.structs.replace(latest, **changes)
        self.unread = set(NAMES)

    def reorganise(self) -> None:
        """The newest configuration is undone, and another of the same number stands in its place."""
        latest = self.latest
        assert latest is not None
        if latest.keys_from or latest.version == 1:
            return
        undone, before = latest, self.previous
        assert before is not None
        self.latest, self.previous = before, None
        self.read()
        self.tick()
        self.latest, self.previous = undone, before
        self.configure(active_from=max(self.now, undone.active_from), grace=undone.grace, version=undone.version)

    # the workers

    def read(self, *names: str) -> None:
        """Have workers that are awake read the chain and be granted what they may have."""
        for name in names or NAMES:
            party = self.parties.get(name)
            if party is not None:
                with party.database.transaction():
                    party.note(party.messenger.adopt(self.latest, self.previous))
                self.unread.discard(name)
                self._grant(party)

    def _grant(self, party: Party) -> None:
        epochs = party.messenger.epochs
        for one in (epochs.previous, epochs.latest):
            if one is not None and one.epoch in epochs.live(self.clock.now()) and not epochs.epoch_key(one.epoch):
                party.messenger.set_epoch_key(one, self.keys[one.epoch_key_commitment])

    def sleep(self, name: str) -> None:
        if name in self.parties and len(self.parties) > 1:
            self.asleep[name] = self.parties.pop(name)

    def wake(self, name: str, *, killed: bool = False) -> None:
        """Let a worker go on, or start anew on what is on its disk."""
        party = self.asleep.pop(name, None)
        if party is None:
            return
        self.parties[name] = party
        if killed:
            self._open_again(party)
        self.read(name)

    def _open_again(self, party: Party) -> None:
        events = party.events
        latest, self.latest = self.latest, party.messenger.epochs.latest  # it knows what it knew
        previous, self.previous = self.previous, party.messenger.epochs.previous
        again = self.restart(party)
        self.latest, self.previous = latest, previous
        again.events[:0] = events

    def say(self, sender: str, receiver: str) -> None:
        """Ask a question, whatever state the session is in."""
        party = self.parties.get(sender)
        if party is None or sender == receiver:
            return
        text = f"question {len(self.posted)}"
        peer = next(one.id for one in self.everybody if one.name == receiver)
        self.posted[text] = (sender, receiver)
        party.messenger.request(peer, Question(text), (Answer,), PATIENCE, text)

    def tick(self, seconds: float = 1.0) -> None:
        self.clock.advance(seconds)
        self.dial()
        self.run(rounds=2)

    def dial(self) -> None:
        """Whoever has lost a session is brought together with its peer again."""
        for party, peer in itertools.permutations(self.parties.values(), 2):
            card = peer.messenger.own_card()
            apart = party.messenger.state(peer.id) in {State.APART, State.SEVERED}
            if apart and card is not None:
                with suppress(HandshakeRefused):  # one of them has not read the newest version yet
                    party.messenger.connect(card, "deal:" + "".join(sorted((party.name, peer.name))))

    def settle(self, seconds: int = 4) -> None:
        for _ in range(seconds):
            self.tick()

    def rest(self) -> None:
        """Wake everybody, and wait until nothing is owed."""
        for name in list(self.asleep):
            self.wake(name)
        self.lose = lambda _: False
        self.read()
        for _ in range(300):
            if not any(party.messenger.conversations.pending for party in self.everybody):
                return
            self.tick(2.0)

    # what must hold

    def _watch(self, monkeypatch: Any) -> None:
        """Note each message that a worker opens under a version that is over."""
        read = Arrivals.read

        def watched(arrivals: Arrivals, match: Any, payload: bytes) -> Any:
            self.opened += 1
            owner = next(one for one in self.everybody if one.messenger._arrivals is arrivals)
            if match.version not in owner.messenger.epochs.live(self.clock.now()):
                self.late.append((owner.name, match.version))
            if owner.name not in self.unread and match.version not in self.live():
                self.late.append((owner.name, match.version))
            return read(arrivals, match, payload)

        monkeypatch.setattr(Arrivals, "read", watched)

    def live(self) -> set[int]:
        """The epochs that the chain lets be used now."""
        assert self.latest is not None
        before = self.previous if self.now < self.latest.active_from + self.latest.grace else None
        return {self.latest.epoch} | ({before.epoch} if before else set())

    def check(self) -> None:
        """Nothing was opened too late, and nothing heard or answered twice."""
        assert self.late == []
        for party in self.everybody:
            heard = Counter(body.text for body in party.bodies(Question))
            answered = Counter(one.answers for one in party.seen(Received) if isinstance(one.body, Answer))
            assert max(heard.values(), default=0) <= 1
            assert max(answered.values(), default=0) <= 1

    def check_kept(self) -> None:
        """Nobody keeps more of the past than the versions that are live: in memory, and in the database."""
        for name, party in self.parties.items():
            if name in self.unread:
                continue
            epochs, table = party.messenger.epochs, party.messenger.table
            live = epochs.live(self.clock.now())
            party.tick()
            assert {secrets.card.version for secrets in epochs.all_secrets()} <= set(live)
            (rows,) = party.database.execute("SELECT count(*) FROM session_epochs").fetchone()
            assert rows <= len(live)
            assert all(set(session.generations) <= set(live) for session in table.sessions.values())
            (rows,) = party.database.execute("SELECT count(*) FROM session_sessions").fetchone()
            assert rows == len(table.sessions) <= 2 * (len(NAMES) - 1)
            assert len(table._receivers) <= 2 * len(table.sessions)

    def check_all_answered(self) -> None:
        """Every question that was ever asked was heard and answered, once."""
        for name, party in ((one.name, one) for one in self.everybody):
            assert party.seen(Expired) == []
            asked = {text for text, (sender, _) in self.posted.items() if sender == name}
            answered = [one.answers for one in party.seen(Received) if isinstance(one.body, Answer)]
            assert sorted(answered) == sorted(asked)
