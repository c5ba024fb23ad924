"""The oracles a worker asks for deals: the configuration's first, then those that its operator names.

Only the configuration's oracle gives epoch keys. A further one announces its card like it; that card is taken when the
chain holds it as an active oracle and the card is by its present key. A session with it ends with its version, like the
one with the configuration's oracle, and is set up anew under the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from quietfleet.chain.types import Kind
from quietfleet.dispatch import Accept, FromWorker, Release, Seek
from quietfleet.errors import HandshakeRefused
from quietfleet.session import ORACLE, Card, Expired
from quietfleet.workers._partners import addresses

if TYPE_CHECKING:
    from quietfleet.workers._runtime import Runtime

RELEASE: Final = "release until "
ASK_WITHIN: Final = 20.0  # seconds, three tries, after which an oracle that acknowledges nothing is silent
NOTICE_WITHIN: Final = 60.0
HOLDS: Final = 86_400.0  # seconds for which a Release is said again to an oracle that does not take it


class Oracles:
    """Sessions with further oracles, and what is said to any."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.listed = addresses(runtime.settings.dispatch.oracles, "oracles")
        self._cards: dict[tuple[str, int], Card] = {}

    @property
    def known(self) -> list[str]:
        """The oracles that may bring us deals at this block, in the order in which to ask them."""
        configured = self._runtime.oracle
        further = (one for one in self.listed if one != configured and self._serves(one))
        return [*([configured] if configured else []), *further]

    @property
    def reached(self) -> list[str]:
        """Those of them that we are in session with."""
        return [one for one in self.known if self._runtime.messenger.session(one) is not None]

    def card_seen(self, card: Card) -> None:
        """Remember the card of an oracle that is named here."""
        if card.worker in self.listed:
            self._cards[(card.worker, card.version)] = card

    def tick(self) -> None:
        """Set up the sessions that are missing, under each live version."""
        messenger = self._runtime.messenger
        live = messenger.epochs.live(self._runtime.clock.now())
        self._cards = {key: card for key, card in self._cards.items() if key[1] in live}
        if not self._runtime.registry.usable(self._runtime.id):
            return
        for (oracle, version), card in list(self._cards.items()):
            if self._serves(oracle) and not messenger.has_session(oracle, version):
                self._call(card)

    def tell(self, oracle: str, messages: list[FromWorker]) -> None:
        """Say something to an oracle; a place that is given back is given back for certain."""
        for message in messages:
            until = self._runtime.clock.now() + HOLDS
            context = f"{RELEASE}{until:.0f}" if isinstance(message, Release) else _about(message)
            within = ASK_WITHIN if isinstance(message, Seek | Accept) else NOTICE_WITHIN
            self._runtime.messenger.notify(oracle, message, within, context)

    def unsaid(self, oracle: str, messages: list[FromWorker]) -> list[FromWorker]:
        """Return what is to be said, without what is on its way already: the session layer says that again by itself.

        An oracle that is slow for having much to do would else be told everything twice, and be slower for it.
        """
        asks = self._runtime.messenger.asks
        return [one for one in messages if not (isinstance(one, Seek | Accept) and asks(oracle, _about(one)))]

    def unheard(self, event: Expired) -> bool:
        """Say a Release again that nobody acknowledged; tell whether it was one."""
        if not event.context.startswith(RELEASE):
            return False
        until = float(event.context.removeprefix(RELEASE))
        if self._runtime.clock.now() < until and event.peer in {self._runtime.oracle, *self.listed}:
            self._runtime.messenger.notify(event.peer, event.body, NOTICE_WITHIN, event.context)
        return True

    def _serves(self, oracle: str) -> bool:
        state = self._runtime.replica.worker(oracle)
        known = state is not None and state.kind is Kind.ORACLE
        return known and self._runtime.registry.can_cooperate(self._runtime.id, oracle)

    def _call(self, card: Card) -> None:
        try:
            self._runtime.messenger.connect(card, ORACLE)
        except HandshakeRefused:
            del self._cards[(card.worker, card.version)]  # its key was replaced: it announces another


def _about(message: FromWorker) -> str:
    """Return by what a word to an oracle is known while it is on its way: the same for one that is said again."""
    match message:
        case Seek(seek_id):
            return f"Seek {seek_id}"
        case Accept(deal_id):
            return f"Accept {deal_id}"
    return type(message).__name__
