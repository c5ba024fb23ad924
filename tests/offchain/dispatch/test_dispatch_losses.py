"""The workers' own machines and the oracle on a road that loses, doubles and delays words, while any of them crashes.

The model is a plain one: who has seen whose card, which keys were taken, what is still wanted. Nobody here lies; that
is `test_dispatch_fuzz.py`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from dispatch_kit import READINGS, START, Chain, counting
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from quietfleet.dispatch import (
    OPEN_WITHIN,
    Accept,
    Dispatcher,
    DispatchStore,
    Introduction,
    Proposal,
    ProviderMachine,
    SeekerMachine,
    SeekerState,
    Service,
    Wish,
)
from quietfleet.storage import Database

SEEKERS = ["seeker-a", "seeker-b", "seeker-c"]
PROVIDERS = {"provider-a": 1, "provider-b": 2}
ORACLE = "oracle"
picks = st.integers(0, 10_000)


@dataclass
class Seen:
    """A deal as somebody who reads all words on the road knows it."""

    sides: dict[bool, str] = field(default_factory=dict)  # by initiator
    keys: set[bytes] = field(default_factory=set)
    accepted: dict[str, set[bytes]] = field(default_factory=dict)  # sealed cards by worker
    introduced: dict[str, bytes] = field(default_factory=dict)


class Losses(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = Database(Path(self.folder.name) / "oracle.db")
        self.database.execute("PRAGMA synchronous=OFF")
        self.random = counting()
        self.store = DispatchStore(self.database, b"k" * 32, self.random)
        self.dispatcher = Dispatcher(self.store, self.random, Chain())
        self.now = START
        self.road: list[tuple[str, str, Any]] = []  # from, to, word
        self.deals: dict[str, Seen] = {}
        self.machines: dict[str, Any] = {}

    def teardown(self) -> None:
        """Once nothing is lost any more, everybody is served that there is a place for, and the books agree."""
        self.road.clear()
        places = sum(PROVIDERS.values())
        for _ in range(90):
            self.beat(8.0)
            self.carry_all()
        paired = [name for name in SEEKERS if self.machines[name].state is SeekerState.INTRODUCED]
        assert len(paired) == min(len(SEEKERS), places)
        for name in paired:
            self.check_pair(name)
        self.database.close()
        self.folder.cleanup()

    @initialize()
    def begin(self) -> None:
        for name in [*PROVIDERS, *SEEKERS]:
            self.start(name)

    def start(self, name: str) -> None:
        if name in PROVIDERS:
            service = Service(READINGS, {}, PROVIDERS[name], lifetime=600)
            known = self.machines.get(name)
            self.machines[name] = ProviderMachine(service, self.random, known._offer_id if known else None)
        else:
            self.machines[name] = SeekerMachine(Wish("readings", patience=120), self.random)
        self.send(name, self.machines[name].start(self.now))

    # what happens

    @precondition(lambda self: self.road)
    @rule(pick=picks, fate=st.sampled_from(["arrives"] * 6 + ["lost", "twice"]))
    def carry(self, pick: int, fate: str) -> None:
        """Take one word along, of those that were said first by somebody to somebody."""
        first = {word[:2]: index for index, word in reversed(list(enumerate(self.road)))}
        index = sorted(first.values())[pick % len(first)]
        sender, to, word = self.road.pop(index)
        if fate != "lost":
            self.arrive(sender, to, word)
        if fate == "twice":
            self.arrive(sender, to, word)

    @rule()
    def carry_all(self) -> None:
        while self.road:
            self.arrive(*self.road.pop(0))

    @rule(seconds=st.sampled_from([0.5, 10.0, 31.0, 130.0]))
    def beat(self, seconds: float) -> None:
        self.now += seconds
        self.say(self.dispatcher.tick(self.now))
        for name, machine in self.machines.items():
            self.send(name, machine.tick(self.now))
        for name in SEEKERS:
            self.meet(name)

    @rule(name=st.sampled_from([*PROVIDERS, *SEEKERS, ORACLE]))
    def crash(self, name: str) -> None:
        """Forget what is in memory; words that were said are still on their way."""
        if name == ORACLE:
            self.dispatcher.recover()
        else:
            self.start(name)

    @rule(name=st.sampled_from(SEEKERS))
    def sever(self, name: str) -> None:
        self.send(name, self.machines[name].severed(self.now))

    # the road

    def send(self, name: str, words: list[Any]) -> None:
        for word in words:
            if isinstance(word, Accept):
                self.deals[word.deal_id].accepted.setdefault(name, set()).add(word.card)
            self.road.append((name, ORACLE, word))

    def arrive(self, sender: str, to: str, word: Any) -> None:
        if to == ORACLE:
            self.say(self.dispatcher.handle(sender, word, self.now))
            return
        machine = self.machines[to]
        self.send(to, machine.receive(word, self.now))
        card = f"card of {to}".encode()
        if isinstance(machine, SeekerMachine):
            self.send(to, machine.accept(card, self.now))
            self.meet(to)
        else:
            for deal_id in list(machine.deals):
                self.send(to, machine.accept(deal_id, card, self.now))

    def meet(self, name: str) -> None:
        """Open the session of a pairing that both sides know."""
        seeker = self.machines[name]
        if seeker.state is SeekerState.INTRODUCED:
            provider = self.machines[seeker.card.decode().removeprefix("card of ")]
            served = provider.deals.get(seeker.deal_id)
            if served is not None and served.card is not None:
                seeker.opened()
                provider.opened(seeker.deal_id)
            elif served is None and self.now > START + OPEN_WITHIN:
                self.send(name, seeker.severed(self.now))  # nobody answers its call

    # the model

    def say(self, outgoing: list[Any]) -> None:
        for said in outgoing:
            words = msgspec.msgpack.encode(said.message)
            assert b"card of " not in words, "a card in clear"
            match said.message:
                case Proposal():
                    self.proposed(said.worker_id, said.message)
                case Introduction():
                    self.introduced(said.worker_id, said.message)
            self.road.append((ORACLE, said.worker_id, said.message))
        for deal in self.dispatcher._book.deals.values():
            self.check_capacity(deal.place)

    def proposed(self, worker: str, message: Proposal) -> None:
        deal = self.deals.setdefault(message.deal_id, Seen())
        assert deal.sides.setdefault(message.initiator, worker) == worker
        deal.keys |= {message.own_key, message.other_key}
        assert len(deal.keys) == 2
        others = [seen.keys for deal_id, seen in self.deals.items() if deal_id != message.deal_id]
        assert not deal.keys.intersection(*[set().union(*others)]), "a key served two deals"

    def introduced(self, worker: str, message: Introduction) -> None:
        deal = self.deals[message.deal_id]
        other = deal.sides[not message.initiator]
        assert set(deal.accepted) == {worker, other}, "a card left before both accepted"
        assert message.card in deal.accepted[other]
        assert deal.introduced.setdefault(worker, message.card) == message.card, "answered twice, and differently"

    def check_capacity(self, place: tuple[str, str]) -> None:
        taken = sum(deal.place == place for deal in self.dispatcher._book.deals.values())
        assert taken <= PROVIDERS[place[0]]

    def check_pair(self, name: str) -> None:
        seeker = self.machines[name]
        provider = self.machines[seeker.card.decode().removeprefix("card of ")]
        served = provider.deals[seeker.deal_id]
        assert (served.card, served.tie.name) == (f"card of {name}".encode(), seeker.tie.name)

    # invariants

    @invariant()
    def memory__is_what_the_store_has(self) -> None:
        kept = {deal.deal_id: deal for deal in self.store.deals()}
        assert kept == self.dispatcher._book.deals

    @invariant()
    def nobody__read_a_card_under_other_terms(self) -> None:
        assert not any(machine.unreadable for machine in self.machines.values())

    @invariant()
    def providers__never_serve_beyond_their_capacity(self) -> None:
        for name, capacity in PROVIDERS.items():
            assert len(self.machines[name].deals if name in self.machines else ()) <= capacity


Losses.TestCase.settings = settings(
    max_examples=50,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestLosses = Losses.TestCase
