"""A processor's side of dispatch: its offers, the deals it takes, whom to expect after an introduction.

Theory of operation: the same service is offered at every oracle, one machine each, and all of them fill the same
places. What a deal holds is on disk from its introduction on (whom to expect, for which tie, by which oracle, until
when), so that a place is given back where it was taken, also after a restart or when that oracle is none of ours
any more.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from quietfleet.dispatch import (
    Capability,
    FromOracle,
    FromWorker,
    Introduction,
    ProviderMachine,
    Release,
    Released,
    Service,
    Value,
    deal_of,
)
from quietfleet.errors import CardRefused, PartnerRefused
from quietfleet.session import encode_card
from quietfleet.workers._partners import UNSEEN, Partners
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._state import State
from quietfleet.workers.messages import DEAL

FIRST_VERSION = 1


class Expected(msgspec.Struct, frozen=True):
    """Whom a deal brings, which oracle brokered it, and when it ends (Unix seconds)."""

    peer: str
    oracle: str
    until: float


class Provider:
    """Keeps one service offered, accepts every deal within capacity, and remembers introductions."""

    def __init__(self, runtime: Runtime, state: State, partners: Partners) -> None:
        self._runtime = runtime
        self._section = runtime.settings.processor
        self._state = state
        self._partners = partners
        self._machines: dict[str, ProviderMachine] = {}
        self._tidied = False

    def parted(self, worker: str) -> None:
        """Expect whoever was lost or handed over no more; if that is us, offer afresh: the oracles forgot us then."""
        if worker != self._runtime.id:
            for purpose, kept in self._expected():
                if kept.peer == worker:
                    self.ended(purpose)
            return
        self._machines.clear()
        for purpose, _ in self._expected():
            self._state.set(purpose, None)

    def tick(self, now: float) -> None:
        """Offer, renew, repeat what was not confirmed; at first, give back what a restart has left hanging."""
        if self._runtime.registry.stale:
            return
        if not self._tidied:
            self._tidied = True
            self._tidy()
        known = self._runtime.oracles.known
        for oracle in self._runtime.oracles.reached if self._section.capability else ():
            self._tell(oracle, self._machine(oracle).start(now))
        for oracle, machine in list(self._machines.items()):
            if oracle not in known:
                self._retire(oracle, machine)
            self._said(oracle, self._runtime.oracles.unsaid(oracle, machine.tick(now)))
        self._lapse(now)

    def reached(self, oracle: str) -> None:
        """Say the offer again in a new session: an oracle that lost its book hears of it at once."""
        machine = self._machines.get(oracle)
        if machine is not None:
            self._tell(oracle, machine.renew(self._runtime.clock.now()))

    def receive(self, oracle: str, message: FromOracle) -> None:
        """React to an oracle: accept what is proposed, note who is introduced."""
        if oracle not in self._machines and oracle not in self._runtime.oracles.known:
            return
        now, machine = self._runtime.clock.now(), self._machine(oracle)
        out = machine.receive(message, now)
        card = self._runtime.messenger.own_card()
        for deal in list(machine.deals.values()):
            if card is not None and deal.state.value == "proposed":
                out += machine.accept(deal.deal_id, encode_card(card), now)
                self._runtime.note("deal-accepted", capability=deal.terms.capability.name)
        self._tell(oracle, out)
        if isinstance(message, Introduction):
            self._introduced(oracle, message.deal_id)
        elif isinstance(message, Released):
            self._drop(oracle, message.deal_id)

    def expects(self, peer: str, purpose: str) -> bool:
        """Tell whether a caller was introduced to us, for that very deal, and is one we work with at this moment."""
        kept = self._kept(purpose)
        return kept is not None and kept.peer == peer and self._partners.refusal(peer) is None

    def opened(self, purpose: str) -> None:
        """Note that the session of a deal is open."""
        kept = self._kept(purpose)
        machine = self._machines.get(kept.oracle) if kept else None
        if machine is not None:
            machine.opened(_deal(purpose))

    def ended(self, purpose: str) -> None:
        """Give a deal's place back, where it was taken."""
        kept = self._kept(purpose)
        if kept is None:
            return
        self._state.set(purpose, None)
        machine = self._machines.get(kept.oracle)
        self._tell(kept.oracle, machine.ended(_deal(purpose)) if machine else [Release(_deal(purpose))])

    def recheck(self, worker: str | None = None) -> None:
        """Give back the places of those, all or one, who have not called yet and would not be let in any more."""
        for purpose, kept in self._expected():
            if worker not in (None, kept.peer):
                continue
            reason = self._partners.refusal(kept.peer)
            if reason not in (None, UNSEEN) and self._runtime.messenger.session(kept.peer) is None:
                self._runtime.note("introduction-refused", peer=kept.peer, reason=reason)
                self.ended(purpose)

    def _tidy(self) -> None:
        for purpose, kept in self._expected():
            if not self._in_session(purpose, kept):
                self.ended(purpose)

    def _lapse(self, now: float) -> None:
        """End deals whose terms are over; the machine that would know was lost in a restart, or with its oracle."""
        for purpose, kept in self._expected():
            if now >= kept.until:
                self.ended(purpose)
                self._leave(purpose, kept)

    def _retire(self, oracle: str, machine: ProviderMachine) -> None:
        """Offer no more at an oracle that is none of ours; who was introduced by it stays for the deal's term."""
        self._tell(oracle, machine.stop())
        machine.deals = {deal_id: deal for deal_id, deal in machine.deals.items() if deal.concluded}
        if not machine.deals:
            del self._machines[oracle]

    def _said(self, oracle: str, messages: list[FromWorker]) -> None:
        """Send what a machine says of its own accord, and end the deals it gives up by it."""
        self._tell(oracle, messages)
        self._drop(oracle, *(message.deal_id for message in messages if isinstance(message, Release)))

    def _drop(self, oracle: str, *deals: str) -> None:
        """End what is left of an oracle's deals that are over: whom we expected, and the session if there is one."""
        for purpose, kept in self._expected():
            if kept.oracle == oracle and _deal(purpose) in deals:
                self._state.set(purpose, None)
                self._leave(purpose, kept)

    def _leave(self, purpose: str, kept: Expected) -> None:
        if self._in_session(purpose, kept):
            self._runtime.sever(kept.peer, "the deal is over")

    def _in_session(self, purpose: str, kept: Expected) -> bool:
        session = self._runtime.messenger.session(kept.peer)
        return session is not None and session.purpose == purpose

    def _introduced(self, oracle: str, deal_id: str) -> None:
        """Remember whom to expect and for which tie, once the chain and our list say that we may work together."""
        machine = self._machines[oracle]
        deal = machine.deals.get(deal_id)
        if deal is None or deal.card is None or self._kept(DEAL + deal.tie.name):
            return
        try:
            card = self._partners.checked(deal.card)
        except (CardRefused, PartnerRefused) as error:
            self._runtime.note("introduction-refused", reason=str(error))
            self._tell(oracle, machine.ended(deal_id))
            return
        self._state.set(DEAL + deal.tie.name, _written(Expected(card.worker, oracle, deal.terms.expires)))
        self._runtime.note("introduced", peer=card.worker)

    def _machine(self, oracle: str) -> ProviderMachine:
        known = self._machines.get(oracle)
        if known is None:
            known = ProviderMachine(
                self._service(), self._runtime.random, self._offer_id(oracle), lambda: self._taken(oracle)
            )
            self._machines[oracle] = known
        return known

    def _taken(self, oracle: str) -> int:
        """Count the places taken that an oracle's machine does not know of: by others' deals, or before a restart."""
        others = (machine.deals for name, machine in self._machines.items() if name != oracle)
        elsewhere = {deal_id for deals in others for deal_id in deals}
        kept = {_deal(purpose) for purpose, _ in self._expected()}
        mine = self._machines[oracle].deals if oracle in self._machines else {}
        return len((elsewhere | kept) - mine.keys())

    def _service(self) -> Service:
        capability = Capability(self._section.capability, FIRST_VERSION, "readings/1", "recommendation/1")
        attributes: dict[str, Value] = {"site": self._section.site} if self._section.site else {}
        return Service(capability, attributes, self._section.capacity)

    def _offer_id(self, oracle: str) -> str:
        """Draw an offer's id once for each oracle: after a restart it is the same offer, and is counted once."""
        name = f"offer:{oracle}"
        kept: str = self._state.get(name) or self._runtime.random(16).hex()
        self._state.set(name, kept)
        return kept

    def _kept(self, purpose: str) -> Expected | None:
        written = self._state.get(purpose) if purpose.startswith(DEAL) else None
        return self._read(written) if written else None

    def _expected(self) -> Iterator[tuple[str, Expected]]:
        """Yield the deals that somebody is expected for, or in session by."""
        for purpose, written in self._state.starting(DEAL).items():
            yield purpose, self._read(written)

    def _read(self, written: object) -> Expected:
        """Read what was kept; before there were several oracles, that was the peer alone."""
        if isinstance(written, str):
            return Expected(written, str(self._runtime.oracle), float("inf"))
        return msgspec.convert(written, Expected)

    def _tell(self, oracle: str, messages: list[FromWorker]) -> None:
        self._runtime.oracles.tell(oracle, messages)


def _deal(purpose: str) -> str:
    return deal_of(purpose.removeprefix(DEAL))


def _written(expected: Expected) -> dict[str, object]:
    return msgspec.structs.asdict(expected)
