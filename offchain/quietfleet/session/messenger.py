"""The session layer of one worker, without I/O: envelopes in, events and transmissions out.

Theory of operation. `receive` recognises an envelope by its topic: an expected message of a session, the answer to a
Hello of ours, the announcement of a service card, or a first message inside our own bloom; anything else is another
worker's and is passed over. Everything it changes is in the database, inside the caller's transaction; nothing leaves
before that commits. `next_transmission` then takes a fresh key for what is due, stores it, and hands out a sealed
payload. A crash at any point repeats work, never loses it and never reuses a key.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

import msgspec

from quietfleet.chain.types import Configuration
from quietfleet.clock import Clock
from quietfleet.errors import CryptoError, HandshakeRefused, PayloadError
from quietfleet.metrics import Metrics
from quietfleet.session._arrivals import NOTICE_PATIENCE, Arrivals
from quietfleet.session._calls import Attempt, Calls
from quietfleet.session._card import BLOOM_BITS, Card, Credential
from quietfleet.session._codec import Codec, Goodbye, Mode
from quietfleet.session._conversation import Conversations, Pending
from quietfleet.session._decisions import Decided, Judge
from quietfleet.session._departures import SIZE_CLASSES, Departures, Transmission
from quietfleet.session._door import ACKS, Door
from quietfleet.session._epochs import Epochs
from quietfleet.session._ghosts import Ghosts
from quietfleet.session._identity import Identity
from quietfleet.session._keeping import Keeper
from quietfleet.session._large import LIFE, Large
from quietfleet.session._large import Admit as AdmitLarge
from quietfleet.session._states import State
from quietfleet.session._static import Meetings
from quietfleet.session._table import Session, Table
from quietfleet.session._timing import Timing
from quietfleet.session._vault import Mine, Random, everyone
from quietfleet.session._waiting import Waiting
from quietfleet.session.events import CardMet, Closed, Event, Expired, Received
from quietfleet.storage import Rows
from quietfleet.whisper import aggregate, open_symmetric, topic_bloom

SpeaksFor = Callable[[str, str], bool]  # worker, address of a key


class Registry(Protocol):
    """What the session layer asks of the chain."""

    def can_cooperate(self, a: str, b: str) -> bool:
        """Tell whether both are registered, active and of kinds that work together."""
        ...

    def speaks_for(self, worker: str, key: str) -> bool:
        """Tell whether the key of this address is the worker's present one."""
        ...

    def usable(self, worker: str) -> bool:
        """Tell whether a worker may work at all."""
        ...

    def stopped(self, worker: str) -> bool:
        """Tell whether a worker may not work, by the newest block known, old as that may be."""
        ...


class Messenger:
    """Sessions, conversations and epochs of one worker behind one face."""

    def __init__(
        self,
        identity: Identity,
        rows: Rows,
        codec: Codec,
        registry: Registry,
        metrics: Metrics,
        clock: Clock,
        random: Random,
        domain: bytes,
        admit: Callable[[str, str], bool],
        *,
        timing: Timing = Timing(),  # noqa: B008 - it is frozen
        bloom_bits: int = BLOOM_BITS,
        admit_large: AdmitLarge = lambda _peer, _kind, _size: False,
        mine: Mine = everyone,
        decided: Decided = lambda _decision: None,
        oracles: Collection[str] = (),
    ) -> None:
        self._oracles = frozenset(oracles)
        self.id = identity.id
        self._codec = codec
        self._registry = registry
        self._clock = clock
        self._rows = rows
        self._mine = mine
        secret = identity.secret
        self.epochs = Epochs(rows, identity, random, bloom_bits)
        self.table = Table(rows, secret, random, mine)
        self.conversations = Conversations(rows, secret, random, timing, mine)
        self.large = Large(rows, secret, random, timing, admit_large, mine)
        self.ghosts = Ghosts(rows, secret, random, SIZE_CLASSES, self.conversations.tags, mine)
        self._waiting = Waiting()
        self._keeper = Keeper(self.table, self.epochs, self.ghosts)
        self._departures = Departures(
            self.table, self.conversations, self.large, self._keeper, self.ghosts, self._allowed, clock, random
        )
        self._calls = Calls(self.epochs, random, domain, self._departures.control, timing, self._takes)
        self._meetings = Meetings(self.epochs, identity, domain, self._departures.control)
        judge = Judge(decided)
        self._arrivals = Arrivals(
            self.table,
            self.conversations,
            self.large,
            self._keeper,
            self._departures,
            self._waiting,
            codec,
            self._allowed,
            judge,
            metrics,
            clock,
            random,
            timing.acknowledge,
        )
        self._door = Door(
            self.id,
            self._calls,
            self.table,
            self.conversations,
            self._keeper,
            self._departures,
            self._allowed,
            self.vouched,
            admit,
            judge,
            metrics,
            clock,
            mine,
        )

    def reload(self) -> None:
        """Forget what is in memory and read the database again, after a rolled-back transaction."""
        self.epochs.load()
        self.table.load()
        self.conversations.load()
        self.large.load()
        self.ghosts.load()
        self._waiting.clear()
        self._departures.clear()
        self._door.clear()
        self._calls.hang_up(lambda attempt: not self._mine(attempt.peer.worker))

    # configuration and epochs

    def adopt(self, latest: Configuration | None, previous: Configuration | None) -> list[Event]:
        """Follow the chain's configuration: own keys for new versions, sessions re-keyed, old versions erased."""
        swapped = self.epochs.adopt(latest, previous, self._clock.now())
        events = self._keeper.tear(swapped)
        self._keeper.rekey(self._clock.now())
        return events + self._keeper.retire(self._clock.now())

    def own_card(self) -> Card | None:
        """Our card for the configuration in force, as the other side of a deal is shown it; no oracle sees it."""
        configuration = self.epochs.in_force(self._clock.now())
        secrets = self.epochs.meeting(configuration.epoch) if configuration else None
        return secrets.card if secrets else None

    def blooms(self) -> set[bytes]:
        """The blooms (64 bytes each) that what is for us lies in: our cards' and those our sessions began with.

        Those of severed sessions stay until their version is over: a light worker's peers see what it wants.
        """
        cards = {secrets.card.bloom for secrets in self.epochs.all_secrets()}
        sessions = {session.own_bloom for session in self.table.sessions.values()}
        return cards | sessions | self.ghosts.blooms()

    def wanted(self) -> bytes:
        """The bloom of all we must hear: what is for us, and the cards that are announced to everyone."""
        announced = (topic_bloom(topic) for topic in self._calls.announcement_topics())
        return aggregate([*self.blooms(), *announced, *self._meetings.blooms()])

    def set_epoch_key(self, configuration: Configuration, key: bytes) -> None:
        """Take the epoch key the oracle granted and re-key every session; `HandshakeRefused` if it is a wrong one."""
        self.epochs.set_epoch_key(configuration, key)
        self._keeper.rekey(self._clock.now())

    def announce(self, *, unnamed: bool = False) -> None:
        """Queue our card for everyone, when the configuration names us as oracle or gateway; else only `unnamed`."""
        self._calls.announce(unnamed=unnamed)

    def keep_meeting(self, peers: Mapping[str, bytes]) -> None:
        """Be ready to meet these peers, each under its public key (64 bytes) on chain; `CardMet` follows."""
        self._meetings.keep(peers)

    # sessions

    def vouched(self, card: Card) -> bool:
        """Whether the chain stands behind a card: behind its key, or behind this very card."""
        return self._stands(card.credential, self._registry.speaks_for)

    def connect(self, card: Card, purpose: str) -> None:
        """Start a handshake with the holder of `card`; `Opened` or `Closed` follows. Raises `HandshakeRefused`."""
        if not self.vouched(card):
            raise HandshakeRefused("that card is not by its worker's present key")
        self._calls.dial(card, purpose, self._clock.now())

    def session(self, peer: str) -> Session | None:
        """The session messages to `peer` go through now, if there is one."""
        return self._keeper.usable(peer, self._clock.now())

    def state(self, peer: str) -> State:
        """How we stand with `peer`; `_states.py` has what leads from where to where."""
        sessions = self.table.with_peer(peer)
        if any(session.confirmed for session in sessions):
            return State.OPEN if self.session(peer) else State.WAITING
        if sessions:
            return State.ANSWERED
        if peer in self._calls.peers():
            return State.CALLING
        return State.SEVERED if self.table.mourns(peer) else State.APART

    def has_session(self, peer: str, version: int) -> bool:
        """Tell whether a session with `peer` that began under `version` is open."""
        return any(s.version == version and s.confirmed for s in self.table.with_peer(peer))

    def sever(self, peer: str, reason: str) -> list[Event]:
        """End everything with `peer` at once, as `sever_all` does."""
        return self.sever_all({peer: reason})

    def sever_all(self, reasons: Mapping[str, str]) -> list[Event]:
        """End everything with these peers at once, each for a reason: all we had of them goes, later messages too.

        Nothing of any of them is accepted, nor leaves, once this has begun: keys go from memory first, then from disk.
        Where a session was open, a ghost goes on until the version is over, unless we ourselves are switched off.
        """
        peers = reasons.keys()
        self._waiting.drop_peers(peers)
        calls = self._calls.hang_up(lambda attempt: attempt.peer.worker in peers)
        sessions = {peer: met for peer in peers if (met := self.table.with_peer(peer))}
        self._cover(sessions)
        closed = self._cut(peers, calls, [session for met in sessions.values() for session in met], reasons)
        return closed + self._expire(self.conversations.drop_peers(peers)) + self.large.drop_peers(peers)

    def known(self) -> set[str]:
        """Everyone of whom there is anything that severing would end or erase."""
        met = self.table.peers() | self._calls.peers() | self._departures.known()
        return met | self.conversations.known() | self.large.known()

    def fall_silent(self) -> None:
        """Send nothing for severed sessions any more: we ourselves were switched off."""
        self.ghosts.fall_silent()

    def disown(self, speaks_for: SpeaksFor, reason: str) -> list[Event]:
        """End at once what stands on a replaced key, ours or a peer's; what is still to be said waits for a session."""

        def fallen(*credentials: Credential) -> bool:
            return not all(self._stands(credential, speaks_for) for credential in credentials)

        calls = self._calls.hang_up(lambda attempt: fallen(attempt.own.card.credential, attempt.peer.credential))
        sessions = [one for one in self.table.sessions.values() if fallen(one.own, one.theirs)]
        peers = {attempt.peer.worker for attempt in calls} | {session.peer for session in sessions}
        return self._cut(peers, calls, sessions, dict.fromkeys(peers, reason))

    def abandon(self, reason: str) -> list[Event]:
        """End every session and call at once: none of their keys may be used. What is to be said waits for others."""
        calls, sessions = self._calls.hang_up(lambda _: True), list(self.table.sessions.values())
        peers = {attempt.peer.worker for attempt in calls} | {session.peer for session in sessions}
        return self._cut(peers, calls, sessions, dict.fromkeys(peers, reason))

    def peers(self) -> set[str]:
        """Everyone we are in session with, are calling, or have something to tell."""
        told = {pending.peer for pending in self.conversations.pending.values()}
        return self.table.peers() | self._calls.peers() | told | self.large.peers()

    def leave(self, peer: str, reason: str) -> list[Event]:
        """End a session of our own accord, and say goodbye so that the peer need not wait."""
        session = self.session(peer)
        if session is None:
            return []
        self._departures.once(session, Goodbye(reason))
        return self._keeper.end(session, reason)

    # messages

    def request(
        self,
        peer: str,
        body: msgspec.Struct,
        expects: Sequence[type[msgspec.Struct]],
        within: float,
        context: str = "",
        conversation: bytes | None = None,
    ) -> bytes:
        """Ask `peer` something that one of `expects` may answer within so many seconds; returns the message id.

        It begins a conversation of that id, or goes on with one, and is then heard after what we said in it before.
        """
        tags = [str(kind.__struct_config__.tag) for kind in expects]
        return self._departures.post(peer, body, Mode.REQUEST, within, tags, context, conversation)

    def notify(
        self,
        peer: str,
        body: msgspec.Struct,
        within: float = NOTICE_PATIENCE,
        context: str = "",
        conversation: bytes | None = None,
    ) -> bytes:
        """Tell `peer` something and have it acknowledged; `conversation` as in `request`."""
        return self._departures.post(peer, body, Mode.NOTICE, within, ACKS, context, conversation)

    def asks(self, peer: str, about: str) -> bool:
        """Whether a request of ours to `peer` whose context begins so still waits for an answer."""
        return self.conversations.asks(peer, about)

    def reply(self, received: Received, body: msgspec.Struct) -> None:
        """Answer a request; the answer is kept, and sent again if the request comes again."""
        self._departures.answer(received.peer, received.packet, body, received.packet.reply_by)

    def send_large(self, peer: str, kind: str, data: bytes, within: float = LIFE) -> bytes:
        """Send up to 8 MiB in pieces; `LargeEnded` names the transfer returned. MessageRefused when it cannot begin."""
        return self.large.send(peer, kind, data, self._clock.now() + min(within, LIFE))

    def overhears(self, topic: bytes, data: bytes) -> bool:
        """Whether an envelope is nothing to us, as most are: it is counted then, and need not be received.

        That takes no transaction: nothing is stored.
        """
        now = self._clock.now()
        if self.table.expects(topic) or self._meetings.expects(topic, now) or self.epochs.outlived(now):
            return False
        return self._door.overhears(topic, data)

    def receive(self, topic: bytes, data: bytes) -> list[Event]:
        """Take an envelope from the network; what is not for us, or not in order, is dropped and counted.

        A version whose grace is over is erased before anything is opened, however long ago the last tick was.
        """
        now = self._clock.now()
        retired = self._keeper.retire(now) if self.epochs.outlived(now) else []
        return retired + self._recognise(topic, data)

    def _recognise(self, topic: bytes, data: bytes) -> list[Event]:
        for match in self.table.find(topic):
            try:
                payload = open_symmetric(match.message.key, data).payload
            except (CryptoError, PayloadError):
                continue
            return self._arrivals.read(match, payload)
        met = self._meetings.heard(topic, data, self._clock.now())
        if met is not None:
            return [CardMet(met)]
        return self._door.receive(topic, data)

    def tick(self) -> list[Event]:
        """Let time pass: expire requests, retry handshakes, give up silent peers, retire versions."""
        now = self._clock.now()
        self.conversations.forget(now)
        self._waiting.forget(now)
        events = (
            self.large.tick(now)
            + self._expire(self.conversations.expired(now))
            + self._keeper.retire(now)
            + self._keeper.give_up(now)
        )
        self._meetings.tick(now, lambda peer: self.session(peer) is None)
        given_up = self._calls.tick(now)
        return events + [Closed(attempt.peer.worker, attempt.hello.purpose, "no answer") for attempt in given_up]

    def next_transmission(self) -> Transmission | None:
        """Hand out one message that is due and allowed at this moment, under a fresh key already stored as spent.

        One at a time, so that a revocation that comes in meanwhile stops everything that has not left yet; whoever
        works on it before it leaves asks `stands` then.
        """
        return self._departures.hand_out(self._departures.next_control() or self._next())

    def stands(self, transmission: Transmission) -> bool:
        """Whether what was handed out last may still leave: neither its peer nor we were severed meanwhile."""
        if transmission.peer == "" and self._registry.stopped(self.id):
            return False
        return self._departures.stands(transmission)

    def _next(self) -> Transmission | None:
        try:
            with self._rows.transaction():
                due = self._departures.next_due()
        except BaseException:
            self.reload()
            raise
        return due or self._next_cover()

    # inside

    def _takes(self, card: Card) -> bool:
        """Whether an announced card is that of an oracle of our own choice, active, and by its present key."""
        return card.worker in self._oracles and self._allowed(card.worker) and self.vouched(card)

    def _stands(self, credential: Credential, speaks_for: SpeaksFor) -> bool:
        pinned = self.epochs.pins(credential.digest, self._clock.now())
        return pinned or speaks_for(credential.worker, credential.key)

    def _cut(
        self, peers: AbstractSet[str], calls: list[Attempt], sessions: list[Session], reasons: Mapping[str, str]
    ) -> list[Event]:
        """Bury sessions; neither they nor the calls hung up beside them have anything more to say to these peers."""
        self._departures.drop(peers)
        self.table.bury(sessions)
        called = [(attempt.peer.worker, attempt.hello.purpose) for attempt in calls]
        ended = [*called, *((session.peer, session.purpose) for session in sessions)]
        return [Closed(peer, purpose, reasons[peer]) for peer, purpose in ended]

    def _allowed(self, peer: str) -> bool:
        return self._registry.can_cooperate(self.id, peer)

    def _cover(self, sessions: Mapping[str, list[Session]]) -> None:
        """Leave ghosts; a peer that was switched off says nothing any more, so that its ghost speaks for both."""
        if sessions and not self._registry.stopped(self.id):
            ends = ((peer, met, self._registry.stopped(peer)) for peer, met in sessions.items())
            self.ghosts.leave_all(ends, self._clock.now())

    def _next_cover(self) -> Transmission | None:
        """Cover stops where messages do: when we may not work, or cannot know."""
        covering = len(self.ghosts) > 0 and self._registry.usable(self.id)
        return self._departures.next_cover() if covering else None

    def _expire(self, late: list[Pending]) -> list[Event]:
        asked = [pending for pending in late if pending.mode is not Mode.REPLY and pending.context]
        return [Expired(pending.peer, pending.context, self._body(pending)) for pending in asked]

    def _body(self, pending: Pending) -> Any:
        return self._codec.body(pending.packet.body)
