from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from dispatch_kit import READINGS, START, Oracle, counting, id_of

from quietfleet.dispatch import (
    ANSWER_WITHIN,
    OPEN_WITHIN,
    REMEMBER,
    REPEAT_EVERY,
    RETRY_AFTER,
    Accept,
    Capability,
    DealFailed,
    Decline,
    Equals,
    Introduction,
    Offer,
    OfferState,
    Proposal,
    ProviderMachine,
    ProviderState,
    Refusal,
    Release,
    Released,
    Seek,
    SeekerMachine,
    SeekerState,
    Served,
    ServedState,
    Service,
    Terms,
    Wish,
    Withdraw,
)

TERMS = Terms(READINGS, {"region": "north"}, START + 5_000)
DEAL, OTHER = id_of("deal"), id_of("other")
INTRODUCTION = Introduction(DEAL, b"card", initiator=True)


@pytest.fixture
def seeker() -> SeekerMachine:
    return SeekerMachine(Wish("readings", 1, (Equals("region", "north"),)), counting())


@pytest.fixture
def provider() -> ProviderMachine:
    return ProviderMachine(Service(READINGS, {"region": "north"}, capacity=1, lifetime=1_000), counting())


def propose(machine: SeekerMachine | ProviderMachine, deal: str = DEAL, terms: Terms = TERMS) -> list[Any]:
    return machine.receive(Proposal(deal, terms, initiator=isinstance(machine, SeekerMachine)), START)


def pair(seeker: SeekerMachine) -> None:
    seeker.start(START)
    propose(seeker)
    seeker.accept(b"mine", START)
    seeker.receive(INTRODUCTION, START)


def serve(provider: ProviderMachine) -> None:
    propose(provider)
    provider.accept(DEAL, b"mine", START)
    provider.receive(Introduction(DEAL, b"card", initiator=False), START)


# the seeker


def test_seeker__every_answer_comes__is_introduced(seeker: SeekerMachine) -> None:
    (seek,) = seeker.start(START)
    assert isinstance(seek, Seek)
    assert seek.expires == START + seeker.wish.patience
    assert propose(seeker) == []
    assert (seeker.state, seeker.terms) == (SeekerState.PROPOSED, TERMS)
    assert seeker.accept(b"mine", START) == [Accept(DEAL, b"mine")]
    assert seeker.receive(INTRODUCTION, START) == []
    assert (seeker.state, seeker.introduction) == (SeekerState.INTRODUCED, INTRODUCTION)


def test_seeker__introduced_without_accepting__ignores_it(seeker: SeekerMachine) -> None:
    seeker.start(START)
    propose(seeker)
    seeker.receive(INTRODUCTION, START)
    assert (seeker.state, seeker.introduction) == (SeekerState.PROPOSED, None)


def test_seeker__introduced_to_another_deal__ignores_it(seeker: SeekerMachine) -> None:
    seeker.start(START)
    propose(seeker)
    seeker.accept(b"mine", START)
    seeker.receive(Introduction(OTHER, b"card", initiator=True), START)
    assert seeker.state is SeekerState.ACCEPTED


@pytest.mark.parametrize(
    "terms",
    [
        Terms(READINGS, {"region": "south"}, START + 5_000),
        Terms(READINGS, {}, START + 5_000),
        Terms(Capability("readings", 0, "reading/1", "advice/1"), {"region": "north"}, START + 5_000),
    ],
)
def test_seeker__proposal_outside_the_wish__declines(seeker: SeekerMachine, terms: Terms) -> None:
    seeker.start(START)
    assert kinds(propose(seeker, terms=terms)) == [Decline]
    assert seeker.state is SeekerState.SEEKING


def test_seeker__proposal_for_its_other_side__is_left_to_the_provider(seeker: SeekerMachine) -> None:
    seeker.start(START)
    assert seeker.receive(Proposal(DEAL, TERMS, initiator=False), START) == []
    assert seeker.state is SeekerState.SEEKING


def test_seeker__proposal_while_paired__declines(seeker: SeekerMachine) -> None:
    pair(seeker)
    assert propose(seeker, OTHER) == [Decline(OTHER, "not what was asked for")]
    assert propose(seeker) == []
    assert seeker.state is SeekerState.INTRODUCED


def test_seeker__deal_fails__waits_on_with_the_same_seek(seeker: SeekerMachine) -> None:
    (seek,) = seeker.start(START)
    propose(seeker)
    seeker.accept(b"mine", START)
    assert seeker.receive(DealFailed(DEAL, "x"), START) == []
    assert seeker.state is SeekerState.SEEKING
    assert seeker.tick(START + REPEAT_EVERY) == [seek]


def test_seeker__failure_lost__takes_the_next_proposal(seeker: SeekerMachine) -> None:
    seeker.start(START)
    propose(seeker)
    seeker.accept(b"mine", START)
    propose(seeker, OTHER)
    assert (seeker.state, seeker.deal_id) == (SeekerState.PROPOSED, OTHER)


def test_seeker__failure_after_introduction__is_ignored(seeker: SeekerMachine) -> None:
    pair(seeker)
    seeker.receive(DealFailed(DEAL, "x"), START)
    assert seeker.state is SeekerState.INTRODUCED


def test_seeker__worker_declines__goes_on_seeking(seeker: SeekerMachine) -> None:
    seeker.start(START)
    propose(seeker)
    assert seeker.decline("too dear", START) == [Decline(DEAL, "too dear")]
    assert seeker.state is SeekerState.SEEKING
    assert seeker.accept(b"mine", START) == []


def test_seeker__refused__rests_then_seeks_under_a_fresh_id(seeker: SeekerMachine) -> None:
    first = seek_id(seeker.start(START))
    seeker.receive(Refusal(first, "x"), START)
    assert seeker.state is SeekerState.IDLE
    assert seeker.tick(START + RETRY_AFTER - 1) == []
    assert seek_id(seeker.tick(START + RETRY_AFTER)) != first


def test_seeker__refusal_of_an_older_seek__is_ignored(seeker: SeekerMachine) -> None:
    seeker.start(START)
    seeker.receive(Refusal(OTHER, "x"), START)
    assert seeker.state is SeekerState.SEEKING


def test_seeker__nothing_heard__repeats_then_gives_the_seek_up(seeker: SeekerMachine) -> None:
    first = seek_id(seeker.start(START))
    assert seeker.tick(START + REPEAT_EVERY - 1) == []
    assert seek_id(seeker.tick(START + REPEAT_EVERY)) == first
    over = START + seeker.wish.patience + ANSWER_WITHIN + REPEAT_EVERY
    assert seek_id(seeker.tick(over)) != first


def test_seeker__acceptance_unanswered__repeats_it(seeker: SeekerMachine) -> None:
    seeker.start(START)
    propose(seeker)
    accept = seeker.accept(b"mine", START)
    assert seeker.tick(START + REPEAT_EVERY) == accept


@pytest.mark.parametrize("by_time", [False, True])
def test_seeker__severed_or_terms_over__releases_and_seeks_afresh(seeker: SeekerMachine, by_time: bool) -> None:
    pair(seeker)
    assert seeker.tick(TERMS.expires - 1) == []
    said = seeker.tick(TERMS.expires) if by_time else seeker.severed(START)
    assert kinds(said) == [Release, Seek]
    assert (seeker.state, seeker.introduction) == (SeekerState.SEEKING, None)


@pytest.mark.parametrize("introduced", [False, True])
def test_seeker__released__seeks_afresh_without_a_word_more(seeker: SeekerMachine, introduced: bool) -> None:
    first = seek_id(seeker.start(START))
    propose(seeker)
    seeker.accept(b"mine", START)
    if introduced:
        seeker.receive(INTRODUCTION, START)
    assert seek_id(seeker.receive(Released(DEAL), START)) != first
    assert (seeker.state, seeker.deal_id, seeker.introduction) == (SeekerState.SEEKING, None, None)


def test_seeker__another_deal_released__is_ignored(seeker: SeekerMachine) -> None:
    pair(seeker)
    assert seeker.receive(Released(OTHER), START) == []
    assert seeker.state is SeekerState.INTRODUCED


def test_seeker__severed_before_a_pairing__changes_nothing(seeker: SeekerMachine) -> None:
    seeker.start(START)
    assert seeker.severed(START) == []
    assert seeker.start(START) == []


# the provider


def test_provider__confirmed__renews_at_half_its_lifetime_under_the_same_id(provider: ProviderMachine) -> None:
    (offer,) = provider.start(START)
    assert isinstance(offer, Offer)
    provider.receive(OfferState(offer.offer_id, open=True), START)
    assert provider.tick(START + 499) == []
    (renewal,) = provider.tick(START + 500)
    assert isinstance(renewal, Offer)
    assert (renewal.offer_id, renewal.expires) == (offer.offer_id, START + 1_500)
    provider.receive(OfferState(offer.offer_id, open=True), START + 500)
    assert provider.tick(START + 999) == []


def test_provider__suspended__offers_again(provider: ProviderMachine) -> None:
    (offer,) = provider.start(START)
    assert isinstance(offer, Offer)
    provider.receive(OfferState(offer.offer_id, open=True), START)
    provider.receive(OfferState(offer.offer_id, open=False), START)
    assert provider.state is ProviderState.OFFERING
    assert kinds(provider.tick(START + REPEAT_EVERY)) == [Offer]


def test_provider__unconfirmed__repeats_the_offer(provider: ProviderMachine) -> None:
    provider.start(START)
    assert kinds(provider.tick(START + REPEAT_EVERY)) == [Offer]
    provider.receive(OfferState(OTHER, open=True), START)
    assert provider.state is ProviderState.OFFERING


def test_provider__proposal_within_capacity__accepts_and_is_introduced(provider: ProviderMachine) -> None:
    provider.start(START)
    assert propose(provider) == []
    assert provider.accept(DEAL, b"mine", START) == [Accept(DEAL, b"mine")]
    assert provider.accept(DEAL, b"mine", START) == []
    provider.receive(Introduction(DEAL, b"card", initiator=False), START)
    served = provider.deals[DEAL]
    assert isinstance(served, Served)
    assert (served.state, served.introduction) == (
        ServedState.INTRODUCED,
        Introduction(DEAL, b"card", initiator=False),
    )


def test_provider__proposal_beyond_capacity__declines(provider: ProviderMachine) -> None:
    provider.start(START)
    propose(provider)
    assert propose(provider, OTHER) == [Decline(OTHER, "no place is free", full=True)]
    assert propose(provider) == []


def test_provider__not_offering__declines(provider: ProviderMachine) -> None:
    assert kinds(propose(provider)) == [Decline]


def test_provider__introduced_without_accepting__ignores_it(provider: ProviderMachine) -> None:
    provider.start(START)
    propose(provider)
    provider.receive(Introduction(DEAL, b"card", initiator=False), START)
    assert provider.deals[DEAL].state is ServedState.PROPOSED


def test_provider__undecided_at_the_deadline__drops_the_proposal(provider: ProviderMachine) -> None:
    provider.start(START)
    propose(provider)
    provider.tick(START + ANSWER_WITHIN)
    assert provider.deals == {}


def test_provider__acceptance_unanswered__repeats_it_until_told(provider: ProviderMachine) -> None:
    provider.start(START)
    propose(provider)
    accept = provider.accept(DEAL, b"mine", START)
    assert accept[0] in provider.tick(START + REPEAT_EVERY)
    provider.receive(DealFailed(DEAL, "x"), START)
    assert provider.deals == {}


@pytest.mark.parametrize("opened", [False, True])
def test_provider__failure_after_introduction__is_ignored(provider: ProviderMachine, opened: bool) -> None:
    provider.start(START)
    serve(provider)
    if opened:
        provider.opened(DEAL)
    provider.receive(DealFailed(DEAL, "x"), START)
    assert DEAL in provider.deals


def test_provider__session_ends__releases_its_place(provider: ProviderMachine) -> None:
    provider.start(START)
    serve(provider)
    provider.opened(DEAL)
    assert provider.ended(DEAL) == [Release(DEAL)]
    assert propose(provider, OTHER) == []
    assert OTHER in provider.deals


def test_provider__ended_before_the_introduction__changes_nothing(provider: ProviderMachine) -> None:
    provider.start(START)
    propose(provider)
    assert provider.ended(DEAL) == []
    assert DEAL in provider.deals


@pytest.mark.parametrize("opened", [False, True])
def test_provider__released__frees_the_place_without_a_word(provider: ProviderMachine, opened: bool) -> None:
    provider.start(START)
    serve(provider)
    if opened:
        provider.opened(DEAL)
    assert provider.receive(Released(DEAL), START) == []
    assert provider.deals == {}
    assert provider.receive(Released(DEAL), START) == []


def test_provider__no_session_in_time__releases_its_place(provider: ProviderMachine) -> None:
    provider.start(START)
    serve(provider)
    assert Release(DEAL) not in provider.tick(START + OPEN_WITHIN - 1)
    assert Release(DEAL) in provider.tick(START + OPEN_WITHIN)
    assert provider.deals == {}


def test_provider__opened_before_the_introduction__changes_nothing(provider: ProviderMachine) -> None:
    provider.start(START)
    propose(provider)
    provider.opened(DEAL)
    provider.opened(OTHER)
    assert [deal.state for deal in provider.deals.values()] == [ServedState.PROPOSED]


def test_provider__introduced_to_a_deal_it_lost__gives_the_place_back(provider: ProviderMachine) -> None:
    provider.start(START)
    assert provider.receive(Introduction(DEAL, b"card", initiator=False), START) == [Release(DEAL)]
    assert provider.receive(INTRODUCTION, START) == []  # of a deal this worker sought


def test_provider__terms_over__releases_its_place(provider: ProviderMachine) -> None:
    provider.start(START)
    serve(provider)
    provider.opened(DEAL)
    assert Release(DEAL) not in provider.tick(TERMS.expires - 1)
    assert Release(DEAL) in provider.tick(TERMS.expires)


def test_provider__worker_declines__forgets_the_deal(provider: ProviderMachine) -> None:
    provider.start(START)
    propose(provider)
    assert provider.decline(DEAL, "busy") == [Decline(DEAL, "busy")]
    assert provider.decline(DEAL, "busy") == []


def test_provider__stopped__withdraws_and_offers_no_more(provider: ProviderMachine) -> None:
    (offer,) = provider.start(START)
    assert isinstance(offer, Offer)
    assert provider.stop() == [Withdraw(offer.offer_id)]
    assert provider.stop() == []
    assert provider.tick(START + 10_000) == []


# all three together


@pytest.mark.parametrize("lost", range(8))
def test_pairing__one_message_lost_anywhere__comes_about_all_the_same(oracle: Oracle, lost: int) -> None:
    seeker = SeekerMachine(Wish("readings"), counting())
    provider = ProviderMachine(Service(READINGS, {}, capacity=1), counting())
    machines: dict[str, Any] = {"seeker": seeker, "provider": provider}
    road = Road(oracle, machines, lost)
    for worker, machine in machines.items():
        road.send(worker, machine.start(oracle.now))
    for _ in range(60):
        oracle.now += 1
        road.deliver(oracle.wait(0))
        for worker, machine in machines.items():
            road.send(worker, machine.tick(oracle.now))
    assert seeker.introduction is not None
    assert seeker.introduction.card == b"card of provider"
    (served,) = provider.deals.values()
    assert served.state is ServedState.INTRODUCED


@pytest.mark.parametrize("opens", [False, True])
def test_seeker__pairs_and_releases_without_end__uses_no_place_up(oracle: Oracle, opens: bool) -> None:
    road, provider = offered(oracle, capacity=2)
    for number in range(20):
        seeker = road.seeks(f"seeker {number}")
        if opens:
            provider.opened(str(seeker.deal_id))
        road.send(f"seeker {number}", seeker.severed(oracle.now)[:1])
        assert provider.deals == {}
    assert road.seeks("honest").state is SeekerState.INTRODUCED


def test_seeker__opens_no_session__holds_the_place_for_a_while_only(oracle: Oracle) -> None:
    road, provider = offered(oracle, capacity=1)
    silent = road.seeks("silent")
    waiting = road.seeks("waiting")
    oracle.now += OPEN_WITHIN
    road.send("provider", provider.tick(oracle.now))
    assert waiting.state is SeekerState.INTRODUCED
    assert list(provider.deals) == [waiting.deal_id]
    assert silent.state is SeekerState.SEEKING


@pytest.mark.parametrize("waited", [0, REMEMBER])
def test_provider__restarted_then_session_ends__frees_the_place_at_the_oracle(oracle: Oracle, waited: float) -> None:
    road, provider = offered(oracle, capacity=1)
    paired = road.seeks("paired")
    deal = str(paired.deal_id)
    oracle.wait(waited)
    restarted = ProviderMachine(provider.service, counting())
    road.machines["provider"] = restarted
    road.send("provider", restarted.start(oracle.now + 1))
    waiting = road.seeks("waiting")
    assert waiting.state is SeekerState.SEEKING
    road.send("provider", restarted.ended(deal))
    assert waiting.state is SeekerState.INTRODUCED
    assert paired.state is SeekerState.SEEKING


def offered(oracle: Oracle, capacity: int) -> tuple[Road, ProviderMachine]:
    provider = ProviderMachine(Service(READINGS, {}, capacity), counting())
    road = Road(oracle, {"provider": provider})
    road.send("provider", provider.start(oracle.now))
    return road, provider


class Road:
    """Carries words both ways and may lose one of them."""

    def __init__(self, oracle: Oracle, machines: dict[str, Any], lost: int = -1) -> None:
        self.oracle, self.machines, self.lost, self.carried = oracle, machines, lost, 0

    def arrives(self) -> bool:
        self.carried += 1
        return self.carried != self.lost + 1

    def seeks(self, worker: str) -> SeekerMachine:
        """Let one more worker seek, under ids of its own."""
        prefix = len(self.machines).to_bytes(8, "big")
        random = counting()
        seeker = SeekerMachine(Wish("readings"), lambda size: prefix + random(size - len(prefix)))
        self.machines[worker] = seeker
        self.send(worker, seeker.start(self.oracle.now))
        return seeker

    def send(self, worker: str, words: Iterable[Any]) -> None:
        for word in words:
            if self.arrives():
                self.deliver(self.oracle.hear(worker, word))

    def deliver(self, said: list[tuple[str, Any]]) -> None:
        for worker, word in said:
            if self.arrives():
                self.react(worker, word)

    def react(self, worker: str, word: Any) -> None:
        machine, now = self.machines[worker], self.oracle.now
        self.send(worker, machine.receive(word, now))
        if isinstance(machine, SeekerMachine):
            self.send(worker, machine.accept(b"card of seeker", now))
        elif isinstance(word, Proposal):
            self.send(worker, machine.accept(word.deal_id, b"card of provider", now))


def kinds(said: list[Any]) -> list[type]:
    return [type(word) for word in said]


def seek_id(said: list[Any]) -> str:
    (seek,) = said
    assert isinstance(seek, Seek)
    return seek.seek_id
