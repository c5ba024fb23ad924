"""Random workers against the oracle, watched by a plain model that sees every message.

The workers say what they like, honest or not, and the oracle crashes and undoes turns. How its own machines fare on a
road that loses and doubles words is in `test_dispatch_losses.py`.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from dispatch_kit import READINGS, START, Chain, counting, id_of, key_of
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from quietfleet.dispatch import (
    ANSWER_WITHIN,
    Accept,
    DealFailed,
    Decline,
    Dispatcher,
    DispatchStore,
    Equals,
    Introduction,
    Offer,
    Proposal,
    Reason,
    Refusal,
    Release,
    Released,
    Seek,
    Withdraw,
)
from quietfleet.dispatch._book import Book
from quietfleet.dispatch._match import choose
from quietfleet.storage import Database

WORKERS = [f"worker-{number}-id" for number in range(5)]
REGIONS = ["north", "south"]
workers = st.sampled_from(WORKERS)
picks = st.integers(0, 10_000)


@dataclass
class Seen:
    """A deal as an observer of all messages knows it."""

    terms_end: float
    deadline: float
    sides: dict[bool, str] = field(default_factory=dict)  # by initiator
    cards: dict[str, bytes] = field(default_factory=dict)
    state: str = "open"


class Fleet(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = Database(Path(self.folder.name) / "oracle.db")
        self.database.execute("PRAGMA synchronous=OFF")
        random = counting()
        self.store = DispatchStore(self.database, b"k" * 32, random)
        self.dispatcher = Dispatcher(self.store, random, Chain())
        self.now = START
        self.deals: dict[str, Seen] = {}
        self.offers: dict[str, Offer] = {}
        self.withdrawn: dict[str, float] = {}
        self.served: dict[bytes, str] = {}  # one-time keys and the deals that took them
        self.live: set[tuple[str, str]] = set()
        self.owed: list[tuple[str, str]] = []  # workers still to be told that a deal is over
        self.sent: list[tuple[str, Any]] = []
        self.serial = 0

    def teardown(self) -> None:
        for _ in range(3):  # deals lapse, then the seeks behind them
            self.pass_time(1_000)
        assert self.live == set()
        assert self.database.execute("SELECT COUNT(*) FROM dispatch_book").fetchone() == (0,)
        assert self.dispatcher.workers() == set()
        self.database.close()
        self.folder.cleanup()

    # rules, few and mixed: Hypothesis leaves whole rules out of a run, and a market without one side has no deals

    @initialize(capacities=st.lists(st.integers(1, 3), min_size=2, max_size=2), order=st.permutations(WORKERS))
    def open_market(self, capacities: list[int], order: list[str]) -> None:
        for worker, capacity in zip(order, capacities, strict=False):
            self.offer(worker, "north", capacity, 200)
        for worker in order:
            self.seek(worker, None, 300)

    @rule(
        provider=workers,
        region=st.sampled_from(REGIONS),
        capacity=st.integers(1, 2),
        seeker=workers,
        wanted=st.sampled_from([*REGIONS, None]),
        lasts=st.sampled_from([20, 40, 300]),
        side=st.sampled_from(["offer", "seek", "seek", "both", "withdraw"]),
    )
    def trade(
        self, *, provider: str, region: str, capacity: int, seeker: str, wanted: str | None, lasts: int, side: str
    ) -> None:
        if side == "withdraw":
            self.say(provider, Withdraw(id_of(provider)))
        if side in ("offer", "both"):
            self.offer(provider, region, capacity, lasts)
        if side in ("seek", "both"):
            self.seek(seeker, wanted, lasts)

    def offer(self, worker: str, region: str, capacity: int, lasts: int) -> None:
        keys = tuple(self.fresh_key() for _ in range(3))
        self.say(worker, Offer(id_of(worker), READINGS, {"region": region}, capacity, self.now + lasts, keys))

    def seek(self, worker: str, wanted: str | None, lasts: int) -> None:
        constraints = (Equals("region", wanted),) if wanted else ()
        key = self.fresh_key()
        self.say(worker, Seek(f"{self.serial:032x}", "readings", 0, constraints, self.now + lasts, key))

    def fresh_key(self) -> bytes:
        self.serial += 1
        return key_of(str(self.serial))

    @precondition(lambda self: self.live)
    @rule(pick=picks)
    def seek_again(self, pick: int) -> None:
        """Bring a fresh key for a seek that waits, or is in a deal."""
        worker, seek_id = sorted(self.live)[pick % len(self.live)]
        said = next(
            word for name, word in self.sent if isinstance(word, Seek) and (name, word.seek_id) == (worker, seek_id)
        )
        self.say(worker, msgspec.structs.replace(said, reply_key=self.fresh_key()))

    @rule()
    def crash(self) -> None:
        """Read everything anew from the store."""
        self.dispatcher.recover()

    @precondition(lambda self: self.sent)
    @rule(pick=picks)
    def undo(self, pick: int) -> None:
        """Roll a turn back after it has said something, as a worker does whose reaction fails."""
        worker, message = self.sent[pick % len(self.sent)]
        with suppress(ZeroDivisionError), self.database.transaction():
            self.dispatcher.handle(worker, message, self.now)
            raise ZeroDivisionError
        self.dispatcher.recover()

    @precondition(lambda self: self.deals)
    @rule(
        pick=picks,
        initiator=st.booleans(),
        answer=st.sampled_from(["both", "accept", "decline", "release"]),
    )
    def answer(self, pick: int, initiator: bool, answer: str) -> None:
        deal_id, worker = self.pick(pick, initiator)
        other = self.deals[deal_id].sides[not initiator]
        if answer in ("accept", "both"):
            self.accept(deal_id, worker)
        if answer == "both":
            self.accept(deal_id, other)
        if answer == "decline":
            self.say(worker, Decline(deal_id, "no"))
        if answer == "release":
            self.say(worker, Release(deal_id))

    def accept(self, deal_id: str, worker: str) -> None:
        self.serial += 1
        self.say(worker, Accept(deal_id, f"card-{self.serial:06}".encode()))

    @precondition(lambda self: self.deals)
    @rule(pick=picks, worker=workers)
    def meddle(self, pick: int, worker: str) -> None:
        deal_id, _ = self.pick(pick, initiator=True)
        if worker not in self.deals[deal_id].sides.values():
            self.say(worker, Accept(deal_id, b"card-of-a-meddler"))
            self.say(worker, Decline(deal_id, "meddling"))
            self.say(worker, Release(deal_id))

    @precondition(lambda self: self.sent)
    @rule(pick=picks)
    def repeat(self, pick: int) -> None:
        self.say(*self.sent[pick % len(self.sent)])

    @rule(seconds=st.sampled_from([1, 15, 31, 130]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.lapse()
        self.observe(self.dispatcher.tick(self.now))

    @rule(worker=workers)
    def forget(self, worker: str) -> None:
        self.end(lambda deal: worker in deal.sides.values(), left=worker)
        self.live = {(name, seek) for name, seek in self.live if name != worker}
        self.offers.pop(worker, None)
        self.withdrawn.pop(worker, None)
        self.sent = [said for said in self.sent if said[0] != worker]  # its session has ended: nothing of it comes back
        self.observe(self.dispatcher.forget(worker, self.now))

    # the model

    def pick(self, number: int, initiator: bool) -> tuple[str, str]:
        unfinished = [deal_id for deal_id, deal in self.deals.items() if deal.state == "open"]
        pool = unfinished if unfinished and number % 3 else list(self.deals)
        deal_id = pool[number % len(pool)]
        return deal_id, self.deals[deal_id].sides[initiator]

    def say(self, worker: str, message: Any) -> None:
        self.sent.append((worker, message))
        self.expect(worker, message)
        self.observe(self.dispatcher.handle(worker, message, self.now))

    def lapse(self) -> None:
        self.end(lambda deal: self.now >= (deal.deadline if deal.state == "open" else deal.terms_end))
        self.offers = {worker: offer for worker, offer in self.offers.items() if offer.expires > self.now}

    def expect(self, worker: str, message: Any) -> None:
        match message:
            case Offer():
                known = self.offers.get(worker)
                if message.expires > max(self.now, known.expires if known else self.withdrawn.get(worker, 0)):
                    self.offers[worker] = message
            case Withdraw():
                known = self.offers.pop(worker, None)
                self.withdrawn[worker] = known.expires if known else self.withdrawn.get(worker, 0)
                self.end(lambda deal: deal.state == "open" and deal.sides[False] == worker)
            case Seek() if not self.remembered(worker, message.seek_id):
                self.live.add((worker, message.seek_id))
            case Accept(deal_id, card) if worker in self.deals[deal_id].sides.values():
                if self.deals[deal_id].state == "open":
                    self.deals[deal_id].cards.setdefault(worker, card)
            case Decline(deal_id) if worker in self.deals[deal_id].sides.values():
                self.end(lambda deal: deal is self.deals[deal_id] and deal.state == "open")
            case Release(deal_id) if worker in self.deals[deal_id].sides.values():
                self.end(lambda deal: deal is self.deals[deal_id] and deal.state == "introduced", left=worker)

    def remembered(self, worker: str, seek_id: str) -> bool:
        deal = self.dispatcher._book.deal_of_seek((worker, seek_id))
        return deal is not None and self.deals[deal.deal_id].state == "introduced"

    def end(self, condition: Any, left: str | None = None) -> None:
        for deal_id, deal in self.deals.items():
            if deal.state != "over" and condition(deal):
                if deal.state == "introduced":
                    self.owed += [(worker, deal_id) for worker in deal.sides.values() if worker != left]
                deal.state = "over"

    def observe(self, outgoing: list[Any]) -> None:
        known = len(self.deals)
        for said in outgoing:
            self.check_silence(said.worker_id, said.message)
            match said.message:
                case Proposal():
                    self.proposed(said.worker_id, said.message)
                case Introduction():
                    self.introduced(said.worker_id, said.message)
                case DealFailed(deal_id, Reason.FELL_THROUGH):
                    assert self.deals[deal_id].state == "over"
                case Released(deal_id):
                    self.owed.remove((said.worker_id, deal_id))
                case Refusal(seek_id):
                    self.live.discard((said.worker_id, seek_id))
        assert self.owed == []
        for deal in list(self.deals.values())[known:]:
            assert deal.sides[True] != deal.sides[False]
            self.check_capacity(deal.sides[False])

    def proposed(self, worker: str, message: Proposal) -> None:
        fresh = Seen(message.terms.expires, self.now + ANSWER_WITHIN)
        deal = self.deals.setdefault(message.deal_id, fresh)
        assert deal.sides.setdefault(message.initiator, worker) == worker
        assert deal.state == "open"
        assert worker not in deal.cards
        for key in (message.own_key, message.other_key):
            assert self.served.setdefault(key, message.deal_id) == message.deal_id, "a key served two deals"

    def introduced(self, worker: str, message: Introduction) -> None:
        deal = self.deals[message.deal_id]
        other = deal.sides[not message.initiator]
        assert deal.sides[message.initiator] == worker != other
        assert set(deal.cards) == {worker, other}, "introduced before both accepted"
        assert message.card == deal.cards[other]
        assert deal.state in ("open", "introduced"), "concluded twice"
        if deal.state == "open":
            deal.state = "introduced"
        if message.initiator:
            stored = self.dispatcher._book.deals[message.deal_id]
            self.live.discard((worker, stored.seek_id))

    def check_silence(self, worker: str, message: Any) -> None:
        """Only an introduction carries anything of another worker's, and then nothing but its card."""
        words = msgspec.msgpack.encode(message)
        assert not any(name.encode() in words or id_of(name).encode() in words for name in WORKERS if name != worker)
        if not isinstance(message, Introduction):
            assert b"card-" not in words

    def check_capacity(self, provider: str) -> None:
        taken = sum(deal.sides[False] == provider and deal.state != "over" for deal in self.deals.values())
        assert taken <= self.offers[provider].capacity

    # invariants

    @invariant()
    def every_live_seek__is_in_the_book(self) -> None:
        for worker, seek_id in self.live:
            assert (worker, seek_id) in self.dispatcher._book.seeks

    @invariant()
    def no_seek_waits__while_a_place_for_it_is_free(self) -> None:
        book = self.dispatcher._book
        for queued in book.seeks.values():
            if queued.eligible:
                assert choose(queued, book.spare(queued, self.now), Chain()) is None

    @invariant()
    def memory__is_what_the_store_has(self) -> None:
        read = Book(self.store)
        assert (read.offers, read.seeks, read.deals) == (
            self.dispatcher._book.offers,
            self.dispatcher._book.seeks,
            self.dispatcher._book.deals,
        )


Fleet.TestCase.settings = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestFleet = Fleet.TestCase
