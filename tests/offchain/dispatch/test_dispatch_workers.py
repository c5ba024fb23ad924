from __future__ import annotations

import gc
from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any

import msgspec
import pytest
from dispatch_kit import READINGS, START, Oracle, counting, id_of
from msgspec.structs import replace

from quietfleet.crypto.onetime import OneTimeKey
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
    deal_of,
)
from quietfleet.dispatch._tie import open_card, seal_card
from quietfleet.errors import CryptoError

TERMS = Terms(READINGS, {"region": "north"}, START + 1_000)
DEAL, OTHER = id_of("deal"), id_of("other")
THEIRS = OneTimeKey(b"\x07" * 32)  # the other side's key of a deal


@pytest.fixture
def seeker() -> SeekerMachine:
    return SeekerMachine(Wish("readings", 1, (Equals("region", "north"),)), counting())


@pytest.fixture
def provider() -> ProviderMachine:
    return ProviderMachine(Service(READINGS, {"region": "north"}, capacity=1, lifetime=1_000), counting())


Machine = SeekerMachine | ProviderMachine


def propose(machine: Machine, deal: str = DEAL, terms: Terms = TERMS, key: bytes | None = None) -> list[Any]:
    """Propose a deal that takes the newest key of the machine, or another one."""
    initiator = isinstance(machine, SeekerMachine)
    return machine.receive(Proposal(deal, terms, initiator, key or newest_key(machine), THEIRS.public_bytes), START)


def newest_key(machine: Machine) -> bytes:
    if isinstance(machine, ProviderMachine):
        return next(iter(machine._stocks[0] if machine._stocks else ()), THEIRS.public_bytes)
    return machine._seek.reply_key if machine._seek else THEIRS.public_bytes


def introduction(machine: Machine, deal: str = DEAL, card: bytes = b"card") -> Introduction:
    """Introduce the other side of a deal as it would do it, having been told the same."""
    initiator = isinstance(machine, SeekerMachine)
    tie = machine.tie if isinstance(machine, SeekerMachine) else machine.deals[deal].tie
    assert tie is not None
    return Introduction(deal, seal_card(tie, card, from_seeker=not initiator), initiator)


def introduce(machine: Machine) -> list[Any]:
    return machine.receive(introduction(machine), START)


def pair(seeker: SeekerMachine) -> None:
    seeker.start(START)
    propose(seeker)
    seeker.accept(b"mine", START)
    introduce(seeker)


def serve(provider: ProviderMachine) -> None:
    propose(provider)
    provider.accept(DEAL, b"mine", START)
    introduce(provider)


# the seeker


def test_seeker__every_answer_comes__is_introduced(seeker: SeekerMachine) -> None:
    (seek,) = seeker.start(START)
    assert isinstance(seek, Seek)
    assert seek.expires == START + seeker.wish.patience
    assert propose(seeker) == []
    assert (seeker.state, seeker.terms) == (SeekerState.PROPOSED, TERMS)
    assert kinds(seeker.accept(b"mine", START)) == [Accept]
    assert introduce(seeker) == []
    assert (seeker.state, seeker.card) == (SeekerState.INTRODUCED, b"card")


def test_seeker__accepts__its_card_opens_for_the_other_side_alone(seeker: SeekerMachine) -> None:
    seeker.start(START)
    propose(seeker)
    (said,) = seeker.accept(b"mine", START)
    assert isinstance(said, Accept)
    assert seeker.tie is not None
    assert b"mine" not in said.card
    assert open_card(seeker.tie, THEIRS, said.card, from_seeker=True) == b"mine"
    with pytest.raises(CryptoError):
        open_card(seeker.tie, THEIRS, said.card, from_seeker=False)


@pytest.mark.parametrize(
    "lie",
    [
        {"deal_id": OTHER},
        {"terms": Terms(READINGS, {"region": "south"}, START + 5_000)},
        {"terms": Terms(READINGS, {"region": "north"}, START + 5_000, price=1.0)},
        {"seeker_key": b"\x01" * 32},
        {"provider_key": b"\x01" * 32},
    ],
)
def test_seeker__other_side_was_told_otherwise__releases_and_seeks_afresh(
    seeker: SeekerMachine, lie: dict[str, Any]
) -> None:
    seeker.start(START)
    propose(seeker)
    seeker.accept(b"mine", START)
    told, own = seeker.tie, seeker._key
    assert told is not None
    assert own is not None
    sealed = seal_card(replace(told, **lie), b"card", from_seeker=False)
    if "seeker_key" in lie:  # the oracle would have it sealed to a key of its own, and pass it on as it came
        with pytest.raises(CryptoError):
            open_card(told, own, sealed, from_seeker=False)
    assert kinds(seeker.receive(Introduction(DEAL, sealed, initiator=True), START)) == [Release, Seek]
    assert (seeker.state, seeker.card, seeker.unreadable) == (SeekerState.SEEKING, None, 1)


def test_tie__oracle_puts_its_own_keys_in_between__names_differ(seeker: SeekerMachine) -> None:
    seeker.start(START)
    propose(seeker)
    own = seeker.tie
    assert own is not None
    for lie in ({"provider_key": b"\x01" * 32}, {"seeker_key": b"\x01" * 32}, {"terms": replace(TERMS, price=1.0)}):
        other = replace(own, **lie)
        assert other.name != own.name
        assert deal_of(other.name) == deal_of(own.name) == DEAL
    assert len(own.name) == 58


def test_seeker__two_deals_with_one_key__takes_the_first_alone(seeker: SeekerMachine) -> None:
    seeker.start(START)
    key = newest_key(seeker)
    propose(seeker, key=key)
    assert kinds(propose(seeker, OTHER, key=key)) == [Decline]
    assert seeker.deal_id == DEAL


def test_seeker__key_of_nobody_it_knows__declines_and_brings_a_fresh_one(seeker: SeekerMachine) -> None:
    seeker.start(START)
    before = newest_key(seeker)
    declined, again = propose(seeker, key=b"\x05" * 32)
    assert isinstance(declined, Decline)
    assert isinstance(again, Seek)
    assert again.reply_key != before


def test_seeker__other_sides_key_is_none__declines(seeker: SeekerMachine) -> None:
    seeker.start(START)
    seeker.receive(Proposal(DEAL, TERMS, True, newest_key(seeker), bytes(32)), START)
    assert kinds(seeker.accept(b"mine", START)) == [Decline, Seek]
    assert seeker.state is SeekerState.SEEKING


def test_seeker__too_dear__declines() -> None:
    seeker = SeekerMachine(Wish("readings", max_price=1.0), counting())
    seeker.start(START)
    assert kinds(propose(seeker, terms=replace(TERMS, price=1.5))) == [Decline, Seek]
    assert propose(seeker, OTHER, terms=replace(TERMS, price=1.0)) == []


def test_seeker__introduced__keeps_no_private_key(seeker: SeekerMachine) -> None:
    pair(seeker)
    assert not [found for found in reachable(seeker) if isinstance(found, OneTimeKey)]


def test_seeker__undecided_in_time__asks_again_with_a_fresh_key(seeker: SeekerMachine) -> None:
    seeker.start(START)
    propose(seeker)
    spent = newest_key(seeker)
    (again,) = seeker.tick(START + ANSWER_WITHIN)
    assert isinstance(again, Seek)
    assert again.reply_key != spent
    assert seeker.state is SeekerState.SEEKING


@pytest.mark.parametrize("opened", [False, True])
def test_seeker__severed__says_whether_the_session_ever_opened(seeker: SeekerMachine, opened: bool) -> None:
    pair(seeker)
    if opened:
        seeker.opened()
    assert seeker.severed(START)[0] == Release(DEAL, opened)


def test_seeker__introduced_without_accepting__ignores_it(seeker: SeekerMachine) -> None:
    seeker.start(START)
    propose(seeker)
    introduce(seeker)
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
    assert kinds(propose(seeker, terms=terms)) == [Decline, Seek]
    assert seeker.state is SeekerState.SEEKING


def test_seeker__proposal_for_its_other_side__is_left_to_the_provider(seeker: SeekerMachine) -> None:
    seeker.start(START)
    assert seeker.receive(Proposal(DEAL, TERMS, False, newest_key(seeker), THEIRS.public_bytes), START) == []
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
    again = [*seeker.receive(DealFailed(DEAL, "x"), START), *seeker.tick(START + REPEAT_EVERY)]
    assert seeker.state is SeekerState.SEEKING
    assert [replace(said, reply_key=seek.reply_key) for said in again] == [seek, seek]
    assert len({seek.reply_key, *(said.reply_key for said in again)}) == 3


def test_seeker__failure_lost__takes_the_next_proposal(seeker: SeekerMachine) -> None:
    seeker.start(START)
    earlier = newest_key(seeker)
    seeker.tick(START + REPEAT_EVERY)
    propose(seeker, key=earlier)
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
    declined, again = seeker.decline("too dear", START)
    assert declined == Decline(DEAL, "too dear")
    assert isinstance(again, Seek)
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
        introduce(seeker)
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
    (said,) = provider.accept(DEAL, b"mine", START)
    assert isinstance(said, Accept)
    assert provider.accept(DEAL, b"mine", START) == []
    tie = provider.deals[DEAL].tie
    assert open_card(tie, THEIRS, said.card, from_seeker=False) == b"mine"
    introduce(provider)
    served = provider.deals[DEAL]
    assert isinstance(served, Served)
    assert (served.state, served.card, served.key) == (ServedState.INTRODUCED, b"card", None)


def test_provider__other_side_was_told_otherwise__releases(provider: ProviderMachine) -> None:
    provider.start(START)
    propose(provider)
    provider.accept(DEAL, b"mine", START)
    tie = replace(provider.deals[DEAL].tie, terms=replace(TERMS, price=1.0))
    word = Introduction(DEAL, seal_card(tie, b"card", from_seeker=True), initiator=False)
    assert provider.receive(word, START) == [Release(DEAL, opened=False)]
    assert (provider.deals, provider.unreadable) == ({}, 1)


@pytest.mark.parametrize(
    "lie",
    [
        {"price": 0.0},
        {"price": 3.0},
        {"capability": replace(READINGS, version=3)},
        {"attributes": {"region": "south"}},
        {"attributes": {"region": "north", "weight": 3.0}},
        {"expires": START + 1_001.0},
    ],
)
def test_provider__oracle_proposes_other_terms_than_were_offered__declines(lie: dict[str, Any]) -> None:
    provider = ProviderMachine(Service(READINGS, {"region": "north"}, 1, lifetime=1_000, price=2.0), counting())
    provider.start(START)
    offered = Terms(READINGS, {"region": "north"}, START + 1_000, price=2.0)
    assert kinds(propose(provider, terms=replace(offered, **lie))) == [Decline]
    assert provider.deals == {}
    assert propose(provider, OTHER, terms=offered) == []
    assert list(provider.deals) == [OTHER]


def test_provider__two_deals_with_one_key__takes_the_first_alone() -> None:
    provider = ProviderMachine(Service(READINGS, {"region": "north"}, capacity=2), counting())
    provider.start(START)
    key = newest_key(provider)
    propose(provider, key=key)
    assert kinds(propose(provider, OTHER, key=key)) == [Decline, Offer]
    assert list(provider.deals) == [DEAL]


def test_provider__half_its_keys_used__tops_up_at_once() -> None:
    provider = ProviderMachine(Service(READINGS, {"region": "north"}, capacity=8), counting())
    (offer,) = provider.start(START)
    assert isinstance(offer, Offer)
    provider.receive(OfferState(offer.offer_id, open=True), START)
    keys = len(offer.reply_keys)
    said = [propose(provider, id_of(str(number))) for number in range(keys // 2)]
    assert said[:-1] == [[]] * (keys // 2 - 1)
    (top_up,) = said[-1]
    assert isinstance(top_up, Offer)
    assert not {*top_up.reply_keys} & {*offer.reply_keys}
    assert len(top_up.reply_keys) == keys


def test_provider__restarted_and_proposed_to_under_an_old_key__declines_and_offers_again(
    provider: ProviderMachine,
) -> None:
    (offer,) = provider.start(START)
    assert isinstance(offer, Offer)
    restarted = ProviderMachine(provider.service, lambda size: bytes([9]) * size, offer.offer_id)
    restarted.start(START)
    declined, again = propose(restarted, key=offer.reply_keys[0])
    assert isinstance(declined, Decline)
    assert declined.full
    assert isinstance(again, Offer)
    assert again.offer_id == offer.offer_id


@pytest.mark.parametrize("capacity", [1, 3, 40, 10_000])
def test_provider__any_capacity__offers_no_more_keys_than_an_offer_holds(capacity: int) -> None:
    (offer,) = ProviderMachine(Service(READINGS, {"region": "north"}, capacity), counting()).start(START)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(offer), type=Offer) == offer


@pytest.mark.parametrize("opened", [False, True])
def test_provider__ended__says_whether_the_session_ever_opened(provider: ProviderMachine, opened: bool) -> None:
    provider.start(START)
    serve(provider)
    if opened:
        provider.opened(DEAL)
    assert provider.ended(DEAL) == [Release(DEAL, opened)]


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
    introduce(provider)
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
    assert Release not in kinds(provider.tick(START + OPEN_WITHIN - 1))
    assert Release(DEAL, opened=False) in provider.tick(START + OPEN_WITHIN)
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
    assert provider.receive(Introduction(DEAL, b"card", initiator=True), START) == []  # of a deal this worker sought


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
    provider = ProviderMachine(Service(READINGS, {"region": "north"}, capacity=1), counting())
    machines: dict[str, Any] = {"seeker": seeker, "provider": provider}
    road = Road(oracle, machines, lost)
    for worker, machine in machines.items():
        road.send(worker, machine.start(oracle.now))
    for _ in range(60):
        oracle.now += 1
        road.deliver(oracle.wait(0))
        for worker, machine in machines.items():
            road.send(worker, machine.tick(oracle.now))
    assert seeker.card == b"card of provider"
    (served,) = provider.deals.values()
    assert (served.state, served.card) == (ServedState.INTRODUCED, b"card of seeker")
    assert seeker.tie is not None
    assert seeker.tie.name == served.tie.name


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
    provider = ProviderMachine(Service(READINGS, {"region": "north"}, capacity), counting())
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


def reachable(root: object) -> list[object]:
    """Everything that an object holds, and what that holds in turn; no code, and no classes."""
    found: dict[int, object] = {}
    waiting = [root]
    while waiting:
        each = waiting.pop()
        if id(each) not in found and not isinstance(each, type | ModuleType | FunctionType):
            found[id(each)] = each
            waiting += gc.get_referents(each)
    return list(found.values())


def kinds(said: list[Any]) -> list[type]:
    return [type(word) for word in said]


def seek_id(said: list[Any]) -> str:
    (seek,) = said
    assert isinstance(seek, Seek)
    return seek.seek_id
