"""Static peers: workers that configuration brings together, so that no oracle has to."""

from __future__ import annotations

from quietfleet.errors import HandshakeRefused, PartnerRefused
from quietfleet.session import STATIC, Card
from quietfleet.workers._partners import UNSEEN, Partners
from quietfleet.workers._runtime import Runtime

QUIET = 30.0  # seconds without a word after which a peer that shows its card again may have lost our session


class Statics:
    """Meets the peers that the settings name, each of which has to name this worker too."""

    def __init__(self, runtime: Runtime, partners: Partners) -> None:
        self._runtime = runtime
        self._partners = partners
        self._refused: dict[str, str] = {}

    @property
    def configured(self) -> bool:
        """Whether there are any: then no oracle is asked."""
        return bool(self._partners.peers)

    @property
    def open(self) -> list[str]:
        """Those we are in session with, in the settings' order."""
        return [peer for peer in self._partners.peers if self._in_session(peer)]

    def tick(self) -> None:
        """Be ready to meet those that the chain and our list allow at this moment, under their present keys."""
        ready = {}
        for peer in self._partners.peers:
            state, reason = self._runtime.replica.worker(peer), self._partners.refusal(peer)
            self._tell(peer, reason)
            if state is not None and reason is None:
                ready[peer] = state.public_key
        self._runtime.messenger.keep_meeting(ready)

    def met(self, card: Card) -> None:
        """Call a peer whose card came by, unless we are in session with it and hear it."""
        session = self._runtime.messenger.session(card.worker)
        heard = max(session.heard_at, session.opened_at) if session else float("-inf")
        if card.worker not in self._partners.peers or self._runtime.clock.now() - heard <= QUIET:
            return
        try:
            self._partners.check(card)
            self._runtime.messenger.connect(card, STATIC)
        except (PartnerRefused, HandshakeRefused) as error:
            self._tell(card.worker, str(error))

    def expects(self, peer: str, purpose: str) -> bool:
        """Tell whether a caller is a static peer that we work with at this moment."""
        return purpose == STATIC and peer in self._partners.peers and self._partners.refusal(peer) is None

    def _in_session(self, peer: str) -> bool:
        session = self._runtime.messenger.session(peer)
        return session is not None and session.purpose == STATIC

    def _tell(self, peer: str, reason: str | None) -> None:
        """Enter why a peer is not met, once for each reason."""
        if reason is None:
            self._refused.pop(peer, None)
        elif reason == UNSEEN:
            return  # the trail says so once for all
        elif self._refused.get(peer) != reason:
            self._refused[peer] = reason
            self._runtime.note("static-refused", peer=peer, reason=reason)
