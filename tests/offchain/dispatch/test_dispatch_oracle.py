from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from dispatch_kit import (
    READINGS,
    START,
    Chain,
    Oracle,
    counting,
    id_of,
    key_of,
    make_offer,
    make_seek,
    proposal_in,
    told,
)

from quietfleet.dispatch import (
    ANSWER_WITHIN,
    BEHIND,
    LONGEST_OFFER,
    LONGEST_SEEK,
    MAX_BURIED,
    MAX_DEALS,
    MAX_OFFERS,
    MAX_SEEKS,
    REMEMBER,
    TRY_FOR,
    Accept,
    Between,
    Constraint,
    DealFailed,
    Decline,
    Dispatcher,
    DispatchStore,
    Equals,
    Includes,
    Introduction,
    OfferState,
    OneOf,
    Proposal,
    Reason,
    Refusal,
    Release,
    Released,
    Terms,
    Withdraw,
)
from quietfleet.dispatch._deal import Side
from quietfleet.dispatch._misfits import MAX_MISFITS, REMEMBER_MISFIT, Misfits
from quietfleet.storage import Database

# introductions


def test_accept__both_sides__introduces_each_to_the_other(oracle: Oracle) -> None:
    deal = oracle.deal().deal_id
    assert oracle.hear("sensor", Accept(deal, b"card of sensor")) == []
    assert oracle.hear("processor", Accept(deal, b"card of processor")) == [
        ("sensor", Introduction(deal, b"card of processor", initiator=True)),
        ("processor", Introduction(deal, b"card of sensor", initiator=False)),
    ]


def test_accept__one_side_twice__introduces_nobody(oracle: Oracle) -> None:
    deal = oracle.deal().deal_id
    oracle.hear("sensor", Accept(deal, b"first"))
    assert oracle.hear("sensor", Accept(deal, b"second")) == []
    said = oracle.hear("processor", Accept(deal, b"p"))
    assert ("processor", Introduction(deal, b"first", initiator=False)) in said


def test_accept__stranger__learns_only_that_no_such_deal_is_open(oracle: Oracle) -> None:
    deal = oracle.deal().deal_id
    oracle.hear("sensor", Accept(deal, b"s"))
    assert oracle.hear("stranger", Accept(deal, b"x")) == [("stranger", DealFailed(deal, Reason.UNKNOWN))]
    unknown = id_of("none")
    assert oracle.hear("stranger", Accept(unknown, b"x")) == [("stranger", DealFailed(unknown, Reason.UNKNOWN))]


def test_accept__repeated_after_the_introduction__brings_it_again_until_forgotten(oracle: Oracle) -> None:
    deal = introduce(oracle)
    again = [("sensor", Introduction(deal, b"card of processor", initiator=True))]
    assert oracle.hear("sensor", Accept(deal, b"other card")) == again
    assert oracle.seek("sensor") == again
    oracle.wait(REMEMBER)
    assert oracle.hear("sensor", Accept(deal, b"s")) == [("sensor", DealFailed(deal, Reason.UNKNOWN))]


def test_decline__after_the_introduction__changes_nothing(oracle: Oracle) -> None:
    deal = introduce(oracle)
    assert oracle.hear("sensor", Decline(deal, "too late")) == []
    assert told(oracle.hear("processor", Accept(deal, b"p")), Introduction) == ["processor"]


# what a proposal tells


def test_propose__same_terms_to_both__shows_only_what_was_asked_about(oracle: Oracle) -> None:
    oracle.offer("processor")
    said = oracle.seek("sensor", constraints=(Equals("region", "north"),))
    terms = Terms(READINGS, {"region": "north"}, START + 10_000)
    deal = proposal_in(said).deal_id
    keys = make_seek("sensor").reply_key, make_offer("processor").reply_keys[0]
    assert said == [
        ("sensor", Proposal(deal, terms, True, *keys)),
        ("processor", Proposal(deal, terms, False, *reversed(keys))),
    ]


def test_propose__to_either__names_neither_worker_nor_offer_nor_seek(oracle: Oracle) -> None:
    oracle.offer("processor", offer_id="ab" * 16)
    said = msgspec.json.encode([message for _, message in oracle.seek("sensor", seek_id="cd" * 16)])
    assert not any(word in said for word in (b"sensor", b"processor", b"ab" * 16, b"cd" * 16))


# constraints


@pytest.mark.parametrize(
    "constraint",
    [
        Equals("region", "north"),
        Between("weight", 3.0, 3.0),
        Between("weight"),
        OneOf("region", ("south", "north")),
        Includes("tags", "steel"),
    ],
)
def test_seek__constraint_holds__proposes(oracle: Oracle, constraint: Constraint) -> None:
    oracle.offer("processor")
    assert told(oracle.seek("sensor", constraints=(constraint,)), Proposal) == ["sensor", "processor"]


@pytest.mark.parametrize(
    "constraint",
    [
        Equals("region", "south"),
        Equals("colour", "red"),
        Between("weight", 3.1),
        Between("weight", high=2.9),
        Between("region"),
        Between("colour"),
        OneOf("region", ("south",)),
        OneOf("colour", ("red",)),
        OneOf("tags", ("steel",)),
        Includes("tags", "copper"),
        Includes("region", "north"),
        Includes("colour", "red"),
    ],
)
def test_seek__constraint_fails__waits_and_is_told_why(oracle: Oracle, constraint: Constraint) -> None:
    oracle.offer("processor")
    assert oracle.seek("sensor", constraints=(constraint,)) == []
    why = f"{Reason.NO_FIT}{constraint.attribute}"
    assert oracle.wait(600) == [("sensor", Refusal(id_of("sensor"), why))]


def test_seek__several_constraints__refusal_names_the_one_at_which_none_was_left(oracle: Oracle) -> None:
    oracle.offer("a")
    oracle.offer("b", attributes={"region": "south", "weight": 9.0})
    oracle.seek("sensor", constraints=(Equals("region", "south"), Between("weight", high=5.0)))
    ((_, refusal),) = oracle.wait(600)
    assert refusal.reason == "no offer of this capability and version meets the constraint on weight"


def test_seek__version_too_old__waits_and_is_told_so(oracle: Oracle) -> None:
    oracle.offer("processor")
    assert oracle.seek("sensor", min_version=3) == []
    assert oracle.wait(600) == [("sensor", Refusal(id_of("sensor"), Reason.NO_VERSION))]


def test_seek__costs_more_than_it_would_pay__waits_and_is_told_so(oracle: Oracle) -> None:
    oracle.offer("processor", price=2.5)
    assert oracle.seek("sensor") == []
    assert oracle.seek("poor", max_price=2.4) == []
    said = oracle.seek("rich", max_price=2.5)
    assert proposal_in(said).terms.price == 2.5
    assert ("poor", Refusal(id_of("poor"), Reason.TOO_DEAR)) in oracle.wait(600)


def test_seek__registry_keeps_them_apart__waits(oracle: Oracle, strangers: set[tuple[str, str]]) -> None:
    strangers.add(("sensor", "processor"))
    oracle.offer("processor")
    assert oracle.seek("sensor") == []
    assert oracle.wait(600) == [("sensor", Refusal(id_of("sensor"), Reason.NOT_ALLOWED))]


def test_seek__repeated_once_the_registry_allows_them__proposes(
    oracle: Oracle, strangers: set[tuple[str, str]]
) -> None:
    strangers.add(("sensor", "processor"))
    oracle.offer("processor")
    oracle.seek("sensor")
    strangers.clear()
    assert told(oracle.seek("sensor"), Proposal) == ["sensor", "processor"]


def test_seek__own_offer__is_not_proposed(oracle: Oracle) -> None:
    oracle.offer("gateway")
    assert oracle.seek("gateway") == []


# the queue


def test_seek__nobody_offers__waits_for_an_offer(oracle: Oracle) -> None:
    assert oracle.seek("sensor") == []
    assert told(oracle.offer("processor"), Proposal) == ["sensor", "processor"]


def test_offer__several_wait__serves_the_longest_waiting_first(oracle: Oracle) -> None:
    for worker in ("zoe", "ann", "eve"):
        oracle.seek(worker)
        oracle.now += 1
    assert told(oracle.offer("processor", capacity=2), Proposal) == ["zoe", "processor", "ann", "processor"]


@pytest.mark.parametrize(("provider", "reason"), [(None, Reason.NO_OFFER), ("processor", Reason.BUSY)])
def test_tick__seek_expires__refuses_with_the_reason(oracle: Oracle, provider: str | None, reason: Reason) -> None:
    if provider:
        introduce(oracle, provider=provider)
    oracle.seek("late")
    assert oracle.wait(599) == []
    assert ("late", Refusal(id_of("late"), reason)) in oracle.wait(1)


@pytest.mark.parametrize("expires", [START, float("nan")])
def test_seek__already_expired__is_refused(oracle: Oracle, expires: float) -> None:
    assert oracle.seek("sensor", expires=expires) == [("sensor", Refusal(id_of("sensor"), Reason.EXPIRED))]


def test_seek__repeated__is_one_seek(oracle: Oracle) -> None:
    oracle.seek("sensor")
    assert oracle.seek("sensor") == []
    assert told(oracle.offer("processor", capacity=2), Proposal) == ["sensor", "processor"]
    assert told(oracle.seek("sensor"), Proposal) == ["sensor"]
    assert oracle.dispatcher.counts["proposals"] == 1


def test_seek__repeated_after_accepting__says_nothing(oracle: Oracle) -> None:
    oracle.hear("sensor", Accept(oracle.deal().deal_id, b"s"))
    assert oracle.seek("sensor") == []


# fairness and capacity


def test_seek__unequal_loads__takes_the_least_loaded_for_its_capacity(oracle: Oracle) -> None:
    oracle.offer("small", capacity=1)
    oracle.offer("large", capacity=4)
    served = [told(oracle.seek(f"s{number}"), Proposal)[1] for number in range(5)]
    assert sorted(served) == ["large"] * 4 + ["small"]
    assert set(served[:2]) == {"large", "small"}


def test_seek__equal_loads__takes_turns(oracle: Oracle) -> None:
    for worker in ("a", "b", "c"):
        oracle.offer(worker, capacity=9)
        oracle.now += 1
    assert [told(oracle.seek(f"s{number}"), Proposal)[1] for number in range(3)] == ["a", "b", "c"]


def test_seek__all_equal_at_one_moment__takes_turns_in_the_order_they_came(oracle: Oracle) -> None:
    for worker in ("b", "c", "a"):
        oracle.offer(worker, capacity=8)
    served = []
    for number in range(6):
        said = oracle.seek(f"s{number}")
        served.append(told(said, Proposal)[1])
        oracle.hear(f"s{number}", Decline(proposal_in(said).deal_id, "no"))
    assert served == ["b", "c", "a"] * 2


def test_seek__capacity_used_by_a_pairing__waits_for_release(oracle: Oracle) -> None:
    deal = introduce(oracle)
    assert oracle.seek("second") == []
    oracle.wait(REMEMBER)
    assert oracle.seek("third") == []
    assert told(oracle.hear("processor", Release(deal)), Proposal) == ["second", "processor"]


@pytest.mark.parametrize("waited", [0, REMEMBER, REMEMBER + 1_000])
@pytest.mark.parametrize(("leaver", "other"), [("sensor", "processor"), ("processor", "sensor")])
def test_release__either_side__tells_the_other_once(oracle: Oracle, leaver: str, other: str, waited: float) -> None:
    deal = introduce(oracle)
    oracle.wait(waited)
    assert oracle.hear(leaver, Release(deal)) == [(other, Released(deal))]
    assert oracle.hear(leaver, Release(deal)) == []
    assert oracle.hear(other, Release(deal)) == []


def test_release__stranger_or_unknown_deal__changes_nothing(oracle: Oracle) -> None:
    deal = introduce(oracle)
    oracle.seek("second")
    assert oracle.hear("second", Release(deal)) == []
    assert oracle.hear("processor", Release(id_of("none"))) == []


def test_release__deal_not_concluded__frees_nothing(oracle: Oracle) -> None:
    deal = oracle.deal().deal_id
    oracle.seek("second")
    assert oracle.hear("processor", Release(deal)) == []


@pytest.mark.parametrize("lasts", [REMEMBER / 2, REMEMBER + 80])
def test_tick__terms_end__frees_the_place_and_tells_both(oracle: Oracle, lasts: float) -> None:
    deal = introduce(oracle, expires=START + lasts)
    oracle.offer("processor", expires=START + 5_000)
    assert oracle.seek("second") == []
    assert Released not in [type(message) for _, message in oracle.wait(lasts - 1)]
    said = oracle.wait(1)
    assert said[:2] == [("sensor", Released(deal)), ("processor", Released(deal))]
    assert told(said, Proposal) == ["second", "processor"]


def test_withdraw_and_offer_again__pairing_lasts__still_counts_it(oracle: Oracle) -> None:
    introduce(oracle)
    oracle.hear("processor", Withdraw(id_of("processor")))
    oracle.offer("processor")
    assert oracle.seek("second") == []


# failures


def test_decline__by_the_provider__fails_for_the_seeker_and_is_not_proposed_again(oracle: Oracle) -> None:
    deal = oracle.deal().deal_id
    assert oracle.hear("processor", Decline(deal, "secret reason")) == [
        ("sensor", DealFailed(deal, Reason.FELL_THROUGH))
    ]
    oracle.renew("sensor")
    assert told(oracle.offer("other"), Proposal) == ["sensor", "other"]
    assert oracle.offer("processor", expires=START + 20_000)[1:] == []


def test_decline__for_want_of_room__proposed_again_once_it_offers_again(oracle: Oracle) -> None:
    deal = oracle.deal()
    said = oracle.hear("processor", Decline(deal.deal_id, "no place is free", full=True))
    assert ("processor", OfferState(id_of("processor"), open=False)) in said
    assert not [message for _, message in said if isinstance(message, Proposal)], "no ping-pong"
    assert oracle.renew("sensor") == []
    again = oracle.offer("processor", expires=START + 20_000)
    assert {worker for worker, message in again if isinstance(message, Proposal)} == {"sensor", "processor"}


def test_decline__by_the_seeker__frees_the_provider_for_others(oracle: Oracle) -> None:
    deal = oracle.deal().deal_id
    assert oracle.hear("sensor", Decline(deal, "no")) == [("processor", DealFailed(deal, Reason.FELL_THROUGH))]
    assert told(oracle.seek("second"), Proposal) == ["second", "processor"]


def test_decline__by_a_stranger__changes_nothing(oracle: Oracle) -> None:
    deal = oracle.deal().deal_id
    assert oracle.hear("stranger", Decline(deal, "no")) == []
    assert told(oracle.seek("sensor"), Proposal) == ["sensor"]


def test_tick__provider_silent__suspends_its_offer_and_requeues_the_seek(oracle: Oracle) -> None:
    deal = oracle.deal().deal_id
    oracle.hear("sensor", Accept(deal, b"s"))
    assert oracle.wait(ANSWER_WITHIN) == [
        ("sensor", DealFailed(deal, Reason.FELL_THROUGH)),
        ("processor", OfferState(id_of("processor"), open=False)),
    ]
    oracle.renew("sensor")
    assert oracle.offer("processor") == [("processor", OfferState(id_of("processor"), open=False))]  # a mere repeat
    said = oracle.offer("processor", expires=START + 20_000)
    assert told(said, Proposal) == ["sensor", "processor"]


def test_offer__after_silence__comes_last_for_that_seek(oracle: Oracle, strangers: set[tuple[str, str]]) -> None:
    oracle.hear("sensor", Accept(oracle.deal().deal_id, b"s"))
    oracle.wait(ANSWER_WITHIN)
    oracle.renew("sensor")
    strangers |= {("sensor", "processor"), ("sensor", "other")}
    oracle.offer("processor", expires=START + 20_000)
    oracle.wait(1)
    oracle.offer("other")
    strangers.clear()
    assert told(oracle.offer("other", expires=START + 20_000), Proposal) == ["sensor", "other"]


def test_tick__seeker_silent__refuses_it_and_keeps_the_offer(oracle: Oracle) -> None:
    deal = oracle.deal().deal_id
    oracle.hear("processor", Accept(deal, b"p"))
    assert oracle.wait(ANSWER_WITHIN) == [
        ("processor", DealFailed(deal, Reason.FELL_THROUGH)),
        ("sensor", Refusal(id_of("sensor"), Reason.NO_ANSWER)),
    ]
    assert told(oracle.seek("second"), Proposal) == ["second", "processor"]


def test_tick__both_silent__costs_both_their_place(oracle: Oracle) -> None:
    oracle.deal()
    assert oracle.wait(ANSWER_WITHIN) == [
        ("processor", OfferState(id_of("processor"), open=False)),
        ("sensor", Refusal(id_of("sensor"), Reason.NO_ANSWER)),
    ]


def test_accept__after_the_deadline_before_a_tick__is_too_late(oracle: Oracle) -> None:
    deal = oracle.deal().deal_id
    oracle.hear("sensor", Accept(deal, b"s"))
    oracle.now += ANSWER_WITHIN
    assert told(oracle.hear("processor", Accept(deal, b"p")), Introduction) == []


def test_withdraw__deal_open__fails_it_and_requeues_the_seek(oracle: Oracle) -> None:
    deal = oracle.deal().deal_id
    oracle.hear("processor", Accept(deal, b"p"))
    assert oracle.hear("processor", Withdraw(id_of("processor"))) == [
        ("processor", OfferState(id_of("processor"), open=False)),
        ("sensor", DealFailed(deal, Reason.FELL_THROUGH)),
    ]
    oracle.renew("sensor")
    assert told(oracle.offer("other"), Proposal) == ["sensor", "other"]


def test_withdraw__another_workers_offer_id__leaves_it_alone(oracle: Oracle) -> None:
    oracle.offer("processor")
    oracle.hear("stranger", Withdraw(id_of("processor")))
    assert told(oracle.seek("sensor"), Proposal) == ["sensor", "processor"]


# offers


def test_tick__offer_expires__lapses_and_says_so(oracle: Oracle) -> None:
    oracle.offer("processor", expires=START + 100)
    assert oracle.wait(99) == []
    assert oracle.wait(1) == [("processor", OfferState(id_of("processor"), open=False))]
    assert oracle.seek("sensor") == []


def test_seek__offer_about_to_lapse__is_not_proposed(oracle: Oracle) -> None:
    oracle.offer("processor", expires=START + ANSWER_WITHIN)
    assert oracle.seek("sensor") == []


@pytest.mark.parametrize("expires", [START, float("nan")])
def test_offer__already_expired__is_not_listed(oracle: Oracle, expires: float) -> None:
    assert oracle.offer("processor", expires=expires) == [("processor", OfferState(id_of("processor"), open=False))]


def test_offer__repeated__says_again_what_is_outstanding(oracle: Oracle) -> None:
    oracle.deal()
    assert told(oracle.offer("processor"), Proposal) == ["processor"]
    assert oracle.dispatcher.counts["offers"] == 1


def test_offer__renewed__keeps_its_turn_and_its_load(oracle: Oracle) -> None:
    introduce(oracle)
    oracle.offer("processor", expires=START + 20_000)
    assert oracle.seek("second") == []


# quotas


def test_seek__beyond_the_quota__is_refused_and_counted(oracle: Oracle) -> None:
    for number in range(MAX_SEEKS):
        assert oracle.seek("sensor", seek_id=id_of(str(number))) == []
    assert oracle.seek("sensor") == [("sensor", Refusal(id_of("sensor"), Reason.QUOTA))]
    assert oracle.seek("other") == []
    assert oracle.dispatcher.counts["over_quota"] == 1


def test_offer__beyond_the_quota__is_not_listed_but_renewals_are(oracle: Oracle) -> None:
    for number in range(MAX_OFFERS):
        oracle.offer("processor", offer_id=id_of(str(number)))
    assert oracle.offer("processor") == [("processor", OfferState(id_of("processor"), open=False))]
    renewed = id_of("0")
    assert oracle.offer("processor", offer_id=renewed, expires=START + 20_000) == [
        ("processor", OfferState(renewed, open=True))
    ]


def test_offer__for_longer_than_a_week__is_not_listed(oracle: Oracle) -> None:
    refused = [("processor", OfferState(id_of("processor"), open=False))]
    assert oracle.offer("processor", expires=START + LONGEST_OFFER + 1) == refused
    assert oracle.seek("sensor") == []


def test_handle__word_of_the_oracle__is_ignored_and_counted(oracle: Oracle) -> None:
    assert oracle.hear("sensor", DealFailed(id_of("x"), "forged")) == []
    assert oracle.dispatcher.counts["ignored"] == 1


def test_offer__withdrawn_ids_without_end__bounded(oracle: Oracle) -> None:
    for number in range(MAX_BURIED):
        oracle.offer("processor", offer_id=id_of(str(number)))
        oracle.hear("processor", Withdraw(id_of(str(number))))
    assert oracle.offer("processor") == [("processor", OfferState(id_of("processor"), open=False))]
    assert told(oracle.offer("other"), OfferState) == ["other"]


def test_seek__for_longer_than_a_day__is_refused(oracle: Oracle) -> None:
    refused = [("sensor", Refusal(id_of("sensor"), Reason.TOO_LONG))]
    assert oracle.seek("sensor", expires=START + LONGEST_SEEK + 1) == refused


# one-time keys


def test_seek__after_a_failed_deal__takes_part_again_only_with_a_fresh_key(oracle: Oracle) -> None:
    deal = oracle.deal().deal_id
    oracle.offer("other")
    oracle.hear("processor", Decline(deal, "no"))
    assert oracle.seek("sensor") == [], "its key has served a deal"
    assert told(oracle.renew("sensor"), Proposal) == ["sensor", "other"]


def test_seek__renewed_before_any_deal__takes_the_newest_key(oracle: Oracle) -> None:
    oracle.seek("sensor")
    assert oracle.renew("sensor") == []
    assert proposal_in(oracle.offer("processor")).own_key == key_of("sensor fresh")


def test_seek__key_of_an_earlier_deal_comes_back__stays_out(oracle: Oracle) -> None:
    deals = [oracle.deal(capacity=4)]
    for name in ("other", "third"):
        oracle.offer(name)
        oracle.hear(told_provider(oracle, deals[-1]), Decline(deals[-1].deal_id, "no"))
        deals.append(proposal_in(oracle.renew("sensor", name)))
    oracle.hear(told_provider(oracle, deals[-1]), Decline(deals[-1].deal_id, "no"))
    oracle.offer("fourth")
    for spent in ("other", "third"):
        assert oracle.renew("sensor", spent) == []
    assert oracle.seek("sensor") == []


def test_offer__keys_used_up__rests_until_topped_up(oracle: Oracle) -> None:
    oracle.offer("processor", capacity=9, reply_keys=(key_of("only"),))
    assert told(oracle.seek("first"), Proposal) == ["first", "processor"]
    assert oracle.seek("second") == []
    said = oracle.offer("processor", capacity=9, expires=START + 20_000, reply_keys=(key_of("more"),))
    assert sorted(told(said, Proposal)) == ["processor", "processor", "second"]
    assert {message.other_key for worker, message in said if worker == "second"} == {key_of("more")}


def test_offer__no_key_at_all__is_listed_but_not_proposed(oracle: Oracle) -> None:
    assert oracle.offer("processor", reply_keys=()) == [("processor", OfferState(id_of("processor"), open=True))]
    assert oracle.seek("sensor") == []


def test_seek__deals_fall_through_without_end__is_refused(oracle: Oracle) -> None:
    oracle.offer("processor")
    said = oracle.seek("sensor")
    for number in range(MAX_DEALS):
        oracle.hear("processor", Decline(proposal_in(said).deal_id, "no room", full=True))
        oracle.offer("processor", expires=START + 20_000 + number)
        said = oracle.renew("sensor", str(number))
    assert said == [("sensor", Refusal(id_of("sensor"), Reason.OVER))]


# who is heard


@pytest.mark.parametrize("word", [make_offer("stranger"), make_seek("stranger"), Release(id_of("x"))])
def test_handle__worker_the_chain_does_not_hold_active__is_ignored_and_counted(
    oracle: Oracle, chain: Chain, word: object
) -> None:
    chain.off.add("stranger")
    assert oracle.hear("stranger", word) == []
    assert oracle.dispatcher.counts["strangers"] == 1
    assert oracle.dispatcher.workers() == set()


def test_handle__replayed_after_everything_is_over__opens_nothing(oracle: Oracle, database: Database) -> None:
    offer, seek = make_offer("processor", capacity=4), make_seek("sensor")
    oracle.hear("processor", offer)
    deal = proposal_in(oracle.hear("sensor", seek)).deal_id
    accepts = [(worker, Accept(deal, b"sealed")) for worker in ("sensor", "processor")]
    for worker, word in accepts:
        oracle.hear(worker, word)
    oracle.hear("processor", Release(deal))
    oracle.hear("processor", Withdraw(offer.offer_id))
    for worker, word in [("processor", offer), ("sensor", seek), *accepts]:
        said = oracle.hear(worker, word)
        assert not [message for _, message in said if isinstance(message, Proposal | Introduction)]
    assert [rows(database, kind) for kind in ("o", "s", "d")] == [0, 0, 0]


def test_offer__repeated_byte_by_byte__changes_nothing(oracle: Oracle, database: Database) -> None:
    oracle.deal(capacity=3)
    kept = database.execute("SELECT id, row FROM dispatch_book ORDER BY id").fetchall()
    oracle.offer("processor", capacity=3)
    assert database.execute("SELECT id, row FROM dispatch_book ORDER BY id").fetchall() == kept


# introductions that come to nothing


def test_release__seeker_found_nobody__provider_is_suspended_until_it_offers_again(oracle: Oracle) -> None:
    deal = introduce(oracle, capacity=2)
    oracle.wait(TRY_FOR)
    said = oracle.hear("sensor", Release(deal, opened=False))
    assert ("processor", OfferState(id_of("processor"), open=False)) in said
    assert oracle.seek("second") == []
    assert told(oracle.offer("processor", expires=START + 20_000), Proposal) == ["second", "processor"]


def test_release__nobody_called__seeker_waits_behind_the_others(oracle: Oracle) -> None:
    deal = introduce(oracle)
    oracle.wait(TRY_FOR)
    oracle.hear("processor", Release(deal, opened=False))
    deal = proposal_in(oracle.seek("honest", seek_id=id_of("first"))).deal_id
    oracle.seek("sensor", seek_id=id_of("again"), expires=START + 5_000)
    oracle.seek("honest", seek_id=id_of("second"))
    said = oracle.hear("processor", Decline(deal, "no room", full=True))
    said = oracle.offer("processor", expires=START + 20_000, capacity=2)
    assert told(said, Proposal) == ["honest", "processor", "sensor", "processor"]


def test_release__nobody_called_long_ago__seeker_has_its_turn_again(oracle: Oracle, database: Database) -> None:
    deal = introduce(oracle)
    oracle.wait(TRY_FOR)
    oracle.hear("processor", Release(deal, opened=False))
    assert rows(database, "m") == 1
    oracle.wait(BEHIND)
    assert rows(database, "m") == 0


@pytest.mark.parametrize("leaver", ["sensor", "processor"])
def test_release__unopened_at_once__blames_nobody(oracle: Oracle, database: Database, leaver: str) -> None:
    deal = introduce(oracle)
    oracle.wait(TRY_FOR - 1)
    said = oracle.hear(leaver, Release(deal, opened=False))
    assert told(said, OfferState) == []
    assert rows(database, "m") == 0


def dealt(oracle: Oracle, seeker: str, number: int) -> tuple[str, str]:
    """Bring a new seek of a worker to an introduction: the deal, and with whom."""
    said = oracle.seek(seeker, seek_id=id_of(f"{seeker} {number}"), expires=START + 5_000)
    deal, provider = proposal_in(said).deal_id, told(said, Proposal)[1]
    for worker in (seeker, provider):
        oracle.hear(worker, Accept(deal, b"sealed"))
    return deal, provider


def test_seek__two_that_take_turns_at_the_wrong_offers__are_dealt_each_others_next(oracle: Oracle) -> None:
    for provider in ("one", "two"):
        oracle.offer(provider)
    first = {seeker: dealt(oracle, seeker, 1) for seeker in ("a", "b")}
    assert [provider for _, provider in first.values()] == ["one", "two"]
    for seeker, (deal, _) in first.items():
        oracle.hear(seeker, Release(deal, opened=False))
    assert [dealt(oracle, seeker, 2)[1] for seeker in ("a", "b")] == ["two", "one"]


def test_seek__nobody_but_who_was_in_vain__is_dealt_them_again(oracle: Oracle) -> None:
    oracle.hear("sensor", Release(introduce(oracle), opened=False))
    assert dealt(oracle, "sensor", 2)[1] == "processor"


@pytest.mark.parametrize("past", ["an hour", "switched off"])
def test_seek__in_vain_long_ago_or_forgotten__has_no_preference(oracle: Oracle, past: str) -> None:
    oracle.hear("sensor", Release(introduce(oracle, expires=START + 20_000), opened=False))
    if past == "an hour":
        oracle.wait(REMEMBER_MISFIT)
    else:
        oracle.forget("sensor")
    oracle.offer("other", expires=START + 20_000)
    said = oracle.seek("sensor", seek_id=id_of("again"), expires=START + 5_000)
    assert told(said, Proposal)[1] == "processor"


def test_misfits__more_than_are_remembered__newest_are_kept_and_the_past_goes() -> None:
    misfits = Misfits()
    for number in range(MAX_MISFITS + 1):
        misfits.note("seeker", f"p{number}", float(number))
    assert misfits.of("seeker", 100.0) == tuple(sorted(f"p{number}" for number in range(1, MAX_MISFITS + 1)))
    misfits.forget("p1")
    assert "p1" not in misfits.of("seeker", 100.0)
    misfits.note("other", "p", 100.0 + REMEMBER_MISFIT)
    assert misfits.of("seeker", 0.0) == ()


# forgetting


def test_forget__provider_in_a_deal__fails_it_and_requeues_the_seek(oracle: Oracle) -> None:
    deal = oracle.deal().deal_id
    oracle.hear("processor", Accept(deal, b"p"))
    assert oracle.forget("processor") == [("sensor", DealFailed(deal, Reason.FELL_THROUGH))]
    oracle.renew("sensor")
    assert told(oracle.offer("other"), Proposal) == ["sensor", "other"]


def test_forget__seeker_in_a_deal__frees_the_provider(oracle: Oracle) -> None:
    deal = oracle.deal().deal_id
    oracle.seek("second")
    said = oracle.forget("sensor")
    assert said[0] == ("processor", DealFailed(deal, Reason.FELL_THROUGH))
    assert told(said, Proposal) == ["second", "processor"]


@pytest.mark.parametrize("waited", [0, REMEMBER])
def test_forget__introduced_seeker__releases_its_place_and_card(oracle: Oracle, waited: float) -> None:
    deal = introduce(oracle)
    oracle.wait(waited)
    oracle.seek("second")
    said = oracle.forget("sensor")
    assert said[0] == ("processor", Released(deal))
    assert told(said, Proposal) == ["second", "processor"]
    assert oracle.hear("processor", Accept(deal, b"p")) == [("processor", DealFailed(deal, Reason.UNKNOWN))]


@pytest.mark.parametrize("waited", [0, REMEMBER])
def test_forget__introduced_provider__tells_the_seeker(oracle: Oracle, waited: float) -> None:
    deal = introduce(oracle)
    oracle.wait(waited)
    assert oracle.forget("processor") == [("sensor", Released(deal))]


def test_forget__worker__leaves_no_row_of_it(oracle: Oracle, database: Database) -> None:
    introduce(oracle)
    oracle.seek("sensor", seek_id=id_of("again"))
    oracle.seek("other")
    oracle.seek("processor", capability="retraining")
    oracle.forget("processor")
    oracle.forget("sensor")
    oracle.forget("other")
    assert rows(database) == 0


def test_tick__concluded_deal_past_remembering__keeps_neither_card_nor_seek(oracle: Oracle, database: Database) -> None:
    deal = introduce(oracle)
    oracle.wait(REMEMBER)
    assert [rows(database, kind) for kind in ("s", "d")] == [0, 1]
    (kept,) = DispatchStore(database, b"k" * 32, counting()).deals()
    assert kept.deal_id == deal
    assert (kept.cards, kept.keys, kept.terms, kept.seek_id) == ({}, {}, None, "")


def test_seek__same_id_past_remembering__is_over(oracle: Oracle) -> None:
    introduce(oracle, capacity=2)
    oracle.wait(REMEMBER)
    assert oracle.seek("sensor") == [("sensor", Refusal(id_of("sensor"), Reason.OVER))]


# the book


def test_handle__restarted_between_words__goes_on_from_the_book(tmp_path: Path) -> None:
    def restarted() -> Dispatcher:
        random = counting()
        return Dispatcher(DispatchStore(Database(tmp_path / "d.db"), b"k" * 32, random), random, Chain())

    restarted().handle("processor", make_offer("processor"), START)
    deal = restarted().handle("sensor", make_seek("sensor"), START)[0].message.deal_id
    restarted().handle("sensor", Accept(deal, b"s"), START)
    said = restarted().handle("processor", Accept(deal, b"p"), START)
    assert [outgoing.worker_id for outgoing in said] == ["sensor", "processor"]


def test_handle__registry_fails_midway__changes_nothing(database: Database) -> None:
    class Broken(Chain):
        def can_cooperate(self, a: str, b: str) -> bool:
            raise ConnectionError(a, b)

    dispatcher = Dispatcher(DispatchStore(database, b"k" * 32, counting()), counting(), Broken())
    dispatcher.handle("processor", make_offer("processor"), START)
    with pytest.raises(ConnectionError):
        dispatcher.handle("sensor", make_seek("sensor"), START)
    assert rows(database, "s") == 0
    assert dispatcher.workers() == {"processor"}


def test_store__file_read_by_a_thief__shows_no_worker_card_or_attribute(oracle: Oracle, database: Database) -> None:
    oracle.hear("sensor", Accept(oracle.deal().deal_id, b"card of sensor"))
    files = database.path.parent.glob(f"{database.path.name}*")
    content = b"".join(file.read_bytes() for file in files)
    assert b"dispatch_book" in content
    assert not any(word in content for word in (b"sensor", b"processor", b"north", b"readings"))
    assert not any(bytes.fromhex(id_of(worker)) in content for worker in ("sensor", "processor"))


def introduce(oracle: Oracle, seeker: str = "sensor", provider: str = "processor", **offer: float) -> str:
    oracle.offer(provider, **offer)
    deal = proposal_in(oracle.seek(seeker)).deal_id
    for worker in (seeker, provider):
        oracle.hear(worker, Accept(deal, f"card of {worker}".encode()))
    return deal


def told_provider(oracle: Oracle, proposal: Proposal) -> str:
    """Whom the oracle means by the other side of a proposal."""
    return oracle.dispatcher._book.deals[proposal.deal_id].workers[Side.PROVIDER]


def rows(database: Database, kind: str = "") -> int:
    """Count the rows of a kind: offers, seeks, deals, graves or marks by their first letter."""
    found = database.execute("SELECT id FROM dispatch_book").fetchall()
    return sum(row_id.startswith(kind.encode()) for (row_id,) in found)
