"""A sensor's side of dispatch: one deal at most, sought at one oracle after the other.

Theory of operation: a wish is with one oracle at a time, the configuration's first. Where there are several, one that
refuses, is silent, or finds nobody within a minute gives way to the next; after the last there is a rest, and then the
first has its turn again. What any other oracle still proposes is declined, and whom it introduces is released at once.
The deal in force is on disk with the oracle that brokered it: after a restart the session goes on until the terms end,
or the place is given back where it was taken.
"""

from __future__ import annotations

from typing import Any

from quietfleet.dispatch import (
    ANSWER_WITHIN,
    REPEAT_EVERY,
    Accept,
    Decline,
    FromOracle,
    FromWorker,
    Introduction,
    OneOf,
    Proposal,
    Refusal,
    Release,
    Released,
    Seek,
    SeekerMachine,
    SeekerState,
    Wish,
    deal_of,
)
from quietfleet.errors import CardRefused, HandshakeRefused, PartnerRefused
from quietfleet.session import Expired, encode_card
from quietfleet.workers._partners import Partners
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._state import State
from quietfleet.workers.messages import DEAL

TURN = 60.0  # seconds in one oracle's queue, where there are others
GRACE = ANSWER_WITHIN + REPEAT_EVERY  # and after it, for a deal proposed in the last moment
REST = 30.0  # seconds after the last of them
FIRST_REST = 2.0  # seconds after somebody we do not work with; twice as many the next time, up to `REST`
_DEAL = "deal"
_PEER = "processor"


class Seeking:
    """Keeps a sensor paired."""

    def __init__(self, runtime: Runtime, state: State, partners: Partners) -> None:
        self._runtime = runtime
        self._section = runtime.settings.sensor
        self._state = state
        self._partners = partners
        self._oracle: str | None = None
        self._machine = self._new_machine()
        self._tried: set[str] = set()
        self._rest_until = 0.0
        self._turn_until = 0.0
        self._misfits = 0

    @property
    def processor(self) -> str | None:
        """The processor we were paired with, if the session is open."""
        peer: str | None = self._state.get(_PEER)
        return peer if peer and self._runtime.messenger.session(peer) else None

    @property
    def state(self) -> SeekerState:
        """How far the wish has come."""
        return self._machine.state

    @property
    def wish(self) -> Wish:
        """What is sought."""
        return self._machine.wish

    def start_over(self) -> None:
        """Begin from nothing: the oracles forgot us when we were switched off."""
        self._move(None)
        self._tried.clear()

    def tick(self, now: float) -> None:
        """Seek while there is neither a session nor a deal under way."""
        if not self._runtime.registry.usable(self._runtime.id):
            return
        self._check_oracle(now)
        if self._machine.state is SeekerState.IDLE:
            self._idle(now)
            return
        said = self._machine.tick(now)
        self._tell(self._runtime.oracles.unsaid(self._oracle, said) if self._oracle is not None else said)
        self._check_deal(now)

    def stand_down(self) -> None:
        """Give back what there is: static peers serve us."""
        processor = self.processor
        self._give_back()
        if processor is not None:
            self._runtime.sever(processor, "static peers serve us")
        if self._oracle is not None:
            self._leave_queue("served without")
            self._move(None)

    def receive(self, oracle: str, message: FromOracle) -> None:
        """React to an oracle."""
        deal = self._deal()
        if isinstance(message, Released) and deal and (oracle, message.deal_id) == (deal["oracle"], deal["id"]):
            self._released()
        if oracle != self._oracle:
            self._turn_away(oracle, message)
            return
        now, card = self._runtime.clock.now(), self._runtime.messenger.own_card()
        if isinstance(message, Introduction) and message.deal_id not in (self._machine.deal_id, deal and deal["id"]):
            self._turn_away(oracle, message)
        out = self._machine.receive(message, now)
        if self._machine.state is SeekerState.PROPOSED and card is not None:
            out += self._machine.accept(encode_card(card), now)
            self._runtime.note("deal-accepted")
        self._tell(out)
        if isinstance(message, Introduction) and self._machine.introduction is message:
            self._introduced(now)
        elif isinstance(message, Refusal) and self._machine.state is SeekerState.IDLE:
            self._pass_on(now)

    def unheard(self, event: Expired) -> None:
        """Go on to another oracle when this one did not even acknowledge what we asked."""
        if event.peer == self._oracle and isinstance(event.body, Seek | Accept) and self._others():
            self._pass_on(self._runtime.clock.now())

    def opened(self, peer: str) -> None:
        """Note that the session of the deal is open."""
        self._machine.opened()
        self._state.set(_PEER, peer)
        self._tried.clear()
        self._misfits = 0

    def closed(self, purpose: str) -> bool:
        """Seek anew when the deal's session ended; tell whether it was that one."""
        deal = self._deal()
        if deal is None or purpose != DEAL + deal["name"]:
            return False
        self._start_over(self._runtime.clock.now())
        return True

    # turns

    def _check_oracle(self, now: float) -> None:
        """Leave an oracle that is none of ours any more; one that we do not reach or whose turn is over, for others."""
        if self._oracle is None or self._machine.state in (SeekerState.IDLE, SeekerState.INTRODUCED):
            return
        reached, over = self._oracle in self._runtime.oracles.reached, now >= self._turn_until
        if self._oracle not in self._runtime.oracles.known:
            self._leave_queue("another oracle serves us")
            self._move(None)
        elif (over or not reached) and self._others():
            self._pass_on(now)

    def _idle(self, now: float) -> None:
        """Without a deal under way in memory: go on with the one on disk, or seek."""
        if self.processor is not None:
            self._check_deal(now)
            return
        if not self._runtime.registry.usable(self._runtime.id):
            return
        self._give_back()
        if now < self._rest_until:
            return
        reached = self._runtime.oracles.reached
        if not self._others():
            self._tried.clear()
        turn = next((one for one in reached if one not in self._tried), None)
        if turn is not None:
            self._move(turn)
            self._turn_until = now + TURN + GRACE
            self._tell(self._machine.start(now))

    def _others(self) -> list[str]:
        """The oracles within reach that have not had their turn yet."""
        return [one for one in self._runtime.oracles.reached if one != self._oracle and one not in self._tried]

    def _pass_on(self, now: float) -> None:
        """Give the next oracle its turn, or rest after the last."""
        self._leave_queue("no answer")
        if self._oracle is not None:
            self._tried.add(self._oracle)
        if not self._others():
            self._rest_until = now + REST
            self._tried.clear()
        self._move(None)

    def _move(self, oracle: str | None) -> None:
        self._oracle, self._machine = oracle, self._new_machine()

    def _leave_queue(self, reason: str) -> None:
        """Turn down what is on the table: nobody may wait for an answer that will not come."""
        deal_id = self._machine.deal_id
        if deal_id and self._oracle and self._machine.state in (SeekerState.PROPOSED, SeekerState.ACCEPTED):
            self._runtime.oracles.tell(self._oracle, [Decline(deal_id, reason)])

    def _turn_away(self, oracle: str, message: FromOracle) -> None:
        """Answer what comes of a seek we have left, or made before a restart."""
        if isinstance(message, Proposal) and message.initiator:
            self._runtime.oracles.tell(oracle, [Decline(message.deal_id, "not sought any more")])
        elif isinstance(message, Introduction):
            self._runtime.oracles.tell(oracle, [Release(message.deal_id, opened=False)])

    # the deal

    def _introduced(self, now: float) -> None:
        """Check who we were paired with, and only then set up the session, which names the tie."""
        tie, shown = self._machine.tie, self._machine.card
        if tie is None or shown is None:
            return
        kept = {"id": tie.deal_id, "name": tie.name, "oracle": self._oracle, "until": tie.terms.expires}
        self._state.set(_DEAL, kept)
        try:
            card = self._partners.checked(shown)
            self._runtime.messenger.connect(card, DEAL + tie.name)
            self._runtime.note("introduced", peer=card.worker)
        except (CardRefused, PartnerRefused, HandshakeRefused) as error:
            self._runtime.note("introduction-refused", reason=str(error))
            self._misfit(now)

    def _misfit(self, now: float) -> None:
        """Leave somebody we do not work with, and come back after a while, first to another oracle."""
        self._give_back()
        self._pass_on(now)
        self._rest_until = max(self._rest_until, now + min(REST, FIRST_REST * 2.0 ** min(self._misfits, 8)))
        self._misfits += 1

    def _check_deal(self, now: float) -> None:
        """Leave a session whose terms are over, also when a restart made the machine forget them."""
        deal = self._deal()
        if deal is None or (now < deal["until"] and self._machine.deal_id in (None, deal["id"])):
            return
        processor = self.processor
        self._forget()
        if self._machine.state is SeekerState.IDLE:
            self._release(deal)
        if processor is not None:
            self._runtime.sever(processor, "the deal is over")

    def _released(self) -> None:
        """The oracle says that the deal is over; the machine seeks anew by itself, unless a restart made it forget."""
        processor = self.processor
        self._forget()
        if processor is not None:
            self._runtime.sever(processor, "the deal is over")

    def _start_over(self, now: float) -> None:
        """Give the deal back and seek again at once: at the first oracle, or where a deal led nowhere, at the next."""
        opened = self._state.get(_PEER) is not None
        self._give_back()
        if opened or self._oracle is None:
            self._tried.clear()
        else:
            self._tried.add(self._oracle)
        self._move(None)
        self._rest_until = now
        self._idle(now)

    def _give_back(self) -> None:
        """Give a deal back where it was made, also one from before a crash that the machine does not know."""
        deal = self._deal()
        if deal is not None:
            opened = self._state.get(_PEER) is not None
            self._forget()
            self._release(deal, opened=opened)

    def _release(self, deal: dict[str, Any], *, opened: bool = True) -> None:
        self._runtime.oracles.tell(deal["oracle"], [Release(deal["id"], opened=opened)])

    def _forget(self) -> None:
        self._state.set(_DEAL, None)
        self._state.set(_PEER, None)

    def _deal(self) -> dict[str, Any] | None:
        """The deal in force; what was kept of one before there were several oracles is its name alone."""
        kept: dict[str, Any] | str | None = self._state.get(_DEAL)
        if isinstance(kept, str):
            return {"id": deal_of(kept), "name": kept, "oracle": str(self._runtime.oracle), "until": float("inf")}
        return kept

    def _new_machine(self) -> SeekerMachine:
        site = (OneOf("site", (self._section.site,)),) if self._section.site else ()
        wish = Wish(self._section.capability, constraints=site)
        if self._runtime.oracles.listed:
            wish = Wish(self._section.capability, constraints=site, patience=TURN)
        return SeekerMachine(wish, self._runtime.random)

    def _tell(self, messages: list[FromWorker]) -> None:
        if self._oracle is not None:
            self._runtime.oracles.tell(self._oracle, messages)
