"""A processor's side of dispatch: its offer, the deals it takes, whom to expect after an introduction."""

from __future__ import annotations

from quietfleet.dispatch import (
    Capability,
    FromOracle,
    FromWorker,
    Introduction,
    ProviderMachine,
    ProviderState,
    Release,
    Released,
    Service,
)
from quietfleet.errors import CardRefused
from quietfleet.session import decode_card, encode_card
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._state import State
from quietfleet.workers.messages import DEAL

FIRST_VERSION = 1


class Provider:
    """Keeps one service offered, accepts every deal within capacity, and remembers introductions."""

    def __init__(self, runtime: Runtime, state: State) -> None:
        self._runtime = runtime
        self._section = runtime.settings.processor
        self._state = state
        self._machine = self._new_machine()

    def start_over(self) -> None:
        """Offer afresh: the oracle forgot us when we were switched off, and would not hear of us before a renewal."""
        self._machine = self._new_machine()

    def tick(self, now: float) -> None:
        """Offer, renew, repeat what was not confirmed; at first, give back what a restart has left hanging."""
        if self._machine.state is ProviderState.IDLE:
            self._tell(self._machine.start(now))
            self._tidy()
        out = self._machine.tick(now)
        self._tell(out)
        self._drop(*(message.deal_id for message in out if isinstance(message, Release)))

    def receive(self, message: FromOracle) -> None:
        """React to the oracle: accept what is proposed, note who is introduced."""
        now = self._runtime.clock.now()
        out = self._machine.receive(message, now)
        card = self._runtime.messenger.own_card()
        for deal in list(self._machine.deals.values()):
            if card is not None and deal.state.value == "proposed":
                out += self._machine.accept(deal.deal_id, encode_card(card), now)
                self._runtime.note("deal-accepted", capability=deal.terms.capability.name)
        self._tell(out)
        if isinstance(message, Introduction):
            self._introduced(message)
        elif isinstance(message, Released):
            self._drop(message.deal_id)

    def expects(self, peer: str, purpose: str) -> bool:
        """Tell whether a caller was introduced to us, for that very deal."""
        return purpose.startswith(DEAL) and self._state.get(purpose) == peer

    def opened(self, purpose: str) -> None:
        """Note that the session of a deal is open."""
        self._machine.opened(purpose.removeprefix(DEAL))

    def ended(self, purpose: str) -> None:
        """Give a deal's place back."""
        self._state.set(purpose, None)
        self._tell(self._machine.ended(purpose.removeprefix(DEAL)))

    def _tidy(self) -> None:
        for purpose, peer in self._state.starting(DEAL).items():
            if self._runtime.messenger.session(peer) is None:
                self.ended(purpose)

    def _drop(self, *deals: str) -> None:
        """End what is left of deals that are over: whom we expected, and the session if there is one."""
        for deal in deals:
            peer = self._state.get(DEAL + deal)
            self._state.set(DEAL + deal, None)
            session = self._runtime.messenger.session(peer) if peer else None
            if session is not None and session.purpose == DEAL + deal:
                self._runtime.sever(session.peer, "the deal is over")

    def _introduced(self, introduction: Introduction) -> None:
        """Remember whom to expect, once the chain says that we may work together."""
        try:
            card = decode_card(introduction.card)
        except CardRefused as error:
            self._runtime.note("introduction-refused", reason=str(error))
            return
        known = introduction.deal_id in self._machine.deals and self._runtime.messenger.vouched(card)
        if known and self._runtime.registry.can_cooperate(self._runtime.id, card.worker):
            self._state.set(DEAL + introduction.deal_id, card.worker)
            self._runtime.note("introduced", peer=card.worker)

    def _new_machine(self) -> ProviderMachine:
        return ProviderMachine(self._service(), self._offer_id)

    def _service(self) -> Service:
        capability = Capability(self._section.capability, FIRST_VERSION, "readings/1", "recommendation/1")
        attributes: dict[str, str | float] = {"site": self._section.site} if self._section.site else {}
        return Service(capability, attributes, self._section.capacity)

    def _offer_id(self, size: int) -> bytes:
        """Draw the offer's id once: after a restart it is the same offer, so that the oracle counts it once."""
        kept: str = self._state.get("offer") or self._runtime.random(size).hex()
        self._state.set("offer", kept)
        return bytes.fromhex(kept)

    def _tell(self, messages: list[FromWorker]) -> None:
        oracle = self._runtime.oracle
        for message in messages if oracle else []:
            self._runtime.messenger.notify(str(oracle), message)
