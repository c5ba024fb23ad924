"""The life of sessions: entered, confirmed, re-keyed, replaced, given up, retired with their configuration version."""

from __future__ import annotations

from quietfleet.session._epochs import Epochs
from quietfleet.session._ghosts import Ghosts
from quietfleet.session._ratchet import WINDOW
from quietfleet.session._table import Session, Table
from quietfleet.session.events import Closed, Event, Opened, VersionRetired

CONFIRM_WITHIN = 60.0  # seconds after which a session its initiator never used is dropped
UNHEARD = 8  # messages without a word back that make a peer silent after
SILENCE = 60.0  # seconds
UNUSED = 90.0  # seconds after which a session is dropped whose callee never said a word


class Keeper:
    """Keeps the connection table in step with time and with the configuration versions we hold keys of."""

    def __init__(self, table: Table, epochs: Epochs, ghosts: Ghosts) -> None:
        self._table = table
        self._epochs = epochs
        self._ghosts = ghosts

    def enter(self, session: Session, now: float) -> bool:
        """Enter a session with its first generation; not yet, if the epoch key it needs has not come."""
        epoch_key = self._epochs.epoch_key(session.version) if session.mixes else b""
        if epoch_key is None:
            return False
        for other in self._table.with_peer(session.peer):
            if not other.confirmed:
                self._table.remove(other)
        self._table.add(session)
        self._table.add_generation(session, session.version, epoch_key)
        self.rekey(now)
        if session.confirmed:
            self._ghosts.end(session.peer)
        return True

    def confirm(self, session: Session) -> list[Event]:
        """Take note that the initiator uses a session: only now does it count, and replace others."""
        if session.confirmed:
            return []
        session.confirmed, session.welcome = True, b""
        self._table.save(session)
        self._ghosts.end(session.peer)
        replaced = self.replace(session)
        return [*replaced, Opened(session.peer, session.purpose, initiator=False)]

    def replace(self, session: Session) -> list[Event]:
        """Let a confirmed session replace older ones with the same peer; oracle sessions end with their version."""
        older = [s for s in self._table.with_peer(session.peer) if session.mixes and s.mixes and s.id != session.id]
        for other in older:
            self._table.remove(other)
        return [Closed(s.peer, s.purpose, "replaced by a new session") for s in older if s.purpose != session.purpose]

    def usable(self, peer: str, now: float) -> Session | None:
        """The session messages to `peer` go through now, if there is one."""
        known = self._table.with_peer(peer)
        return next((one for one in known if one.confirmed and self.version(one, now) is not None), None)

    def version(self, session: Session, now: float) -> int | None:
        """The generation to send under: the newest in force that the session has keys for."""
        if not session.mixes:
            return session.version if session.version in session.generations else None
        force, live = self._epochs.in_force(now), self._epochs.live(now)
        usable = [v for v in session.generations if force is not None and v <= force.epoch and v in live]
        return max(usable, default=None)

    def end(self, session: Session, reason: str) -> list[Event]:
        """End one session without a grave: its peer knows, or is not there."""
        self._table.remove(session)
        return [Closed(session.peer, session.purpose, reason)]

    def give_up(self, now: float) -> list[Event]:
        """End sessions whose peer has not been heard for long: it may have lost what it takes to hear us."""
        silent = [s for s in self._table.sessions.values() if s.confirmed and _is_silent(s, now)]
        return [event for session in silent for event in self.end(session, "no answer for too long")]

    def rekey(self, now: float) -> None:
        """Give every session a generation for each live version, in order, as far as we hold the epoch keys."""
        for session in [s for s in self._table.sessions.values() if s.mixes]:
            for version in sorted(self._epochs.live(now)):
                key = self._epochs.epoch_key(version)
                if version < session.root_version:
                    continue
                if key is None:
                    break
                self._table.add_generation(session, version, key)

    def retire(self, now: float) -> list[Event]:
        """Erase the keys of versions whose grace is over, and sessions nobody ever used."""
        for session in list(self._table.sessions.values()):
            if not session.confirmed and now > session.opened_at + CONFIRM_WITHIN:
                self._table.remove(session)
        gone = self._epochs.retire(now)
        if not gone:
            return []
        live = self._epochs.live(now)
        for session in list(self._table.sessions.values()):
            for version in [v for v in session.generations if v not in live]:
                self._table.drop_generation(session, version)
            if not session.generations and not session.mixes:
                self._table.remove(session)
        self._table.exhume(live)
        self._ghosts.exhume(live)
        self.rekey(now)
        return [VersionRetired(version) for version in gone]

    def tear(self, versions: set[int]) -> list[Event]:
        """End sessions that mixed in an epoch key whose configuration was reorganised away."""
        torn = [s for s in self._table.sessions.values() if s.mixes and versions & set(s.generations)]
        return [event for session in torn for event in self.end(session, "its configuration was reorganised away")]


def _is_silent(session: Session, now: float) -> bool:
    """Too many messages without a word back, or several over a long time; the receiver looks ahead `WINDOW`."""
    quiet = now - max(session.heard_at, session.opened_at)
    if session.heard_at < session.opened_at and quiet > UNUSED:
        return True  # our first word never arrived, and what they answered with is gone by now
    return session.unheard >= WINDOW // 2 or (session.unheard >= UNHEARD and quiet > SILENCE)
