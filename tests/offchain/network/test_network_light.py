"""Leaves that were away catch up with two relays, whatever one of them does; and leaves that take little."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from itertools import count

import pytest
from backfill_world import MIN_POW, RULES, Scripted, hashes, taken, virtually
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.network import Tuning
from quietfleet.network.backfill import MAX_LIES, CatchUp
from quietfleet.network.link import STEM, Message
from quietfleet.network.stemwire import ARCHIVE, ArchivePage
from quietfleet.network.window import MINUTE, Window
from quietfleet.whisper import (
    FULL_BLOOM,
    Envelope,
    admits,
    aggregate,
    draw_bloom,
    geth_topic_bloom,
    matches,
    pow_of,
    topic_within,
)

HOUR = 3600


def pages(*contents):
    """Answer each question with the next of these lists of envelopes."""
    turns = count()

    def answer(_peer, ask):
        turn = next(turns)
        cursor = (turn + 1).to_bytes(16, "big") if turn + 1 < len(contents) else b""
        return [ArchivePage(ask.request, tuple(contents[turn]), cursor).encode()]

    return Scripted(answer)


async def caught_up(worker, rounds=1):
    """Wait until the worker has tried so often."""
    async with asyncio.timeout(2 * HOUR):
        while sum(worker.metrics.value("backfill_rounds", relays=str(n)) for n in range(3)) < rounds:  # noqa: ASYNC110
            await asyncio.sleep(1)


def test_catch_up__after_an_hour_away__has_everything_once(tmp_path):
    async def story(world):
        first = await world.relay()
        second = await world.relay(first)
        sent = []
        for _ in range(6):
            sent += world.flood(first, second, count=5)
            await asyncio.sleep(600)
        worker = await world.worker(first, second, heard=world.clock.now() - HOUR - 1)
        await caught_up(worker)
        assert sorted(taken(worker)) == sorted(hashes(sent))
        assert worker.metrics.value("backfill_rounds", relays="2") == 1
        assert worker.metrics.value("backfill_delivered") == len(sent)
        assert worker.metrics.value("backfill_dropped", reason="duplicate") == len(sent)
        assert worker.backfill.missing_since is None

    virtually(story, tmp_path)


def test_catch_up__links_lost_for_a_while__asks_for_that_time(tmp_path):
    async def story(world):
        relay = await world.relay()
        worker = await world.worker(relay)
        await worker.connected()
        before = world.flood(relay, count=3)
        await asyncio.sleep(1000)
        assert sorted(taken(worker)) == sorted(hashes(before))
        worker.keep_connected([])
        await asyncio.sleep(5)
        missed = world.flood(relay, count=4)
        await asyncio.sleep(300)
        worker.keep_connected([relay.enode])
        await caught_up(worker)
        assert sorted(taken(worker)) == sorted(hashes(missed))

    virtually(story, tmp_path)


def test_catch_up__first_start_ever__asks_nobody(tmp_path):
    async def story(world):
        relay = await world.relay(archive=False, services=[asked := Scripted()])
        worker = await world.worker(relay)
        await asyncio.sleep(HOUR)
        assert asked.asked == []
        assert len(worker.saved) == pytest.approx(HOUR / 60, abs=2)
        assert worker.saved[-1] == pytest.approx(world.clock.now(), abs=62)

    virtually(story, tmp_path)


def test_catch_up__one_relay_leaves_things_out__the_other_has_them(tmp_path):
    async def story(world):
        honest = await world.relay()
        omitting = await world.relay(archive=False, services=[pages([])])
        sent = world.flood(honest, count=8)
        await asyncio.sleep(HOUR)
        worker = await world.worker(honest, omitting, heard=world.clock.now() - HOUR - 60)
        await caught_up(worker)
        assert sorted(taken(worker)) == sorted(hashes(sent))

    virtually(story, tmp_path)


def test_catch_up__relays_of_one_owner__another_owner_is_asked_instead(tmp_path):
    async def story(world):
        twins = [await world.relay(owner="one", archive=False, services=[pages([])]) for _ in range(3)]
        honest = await world.relay(owner="two")
        sent = world.flood(honest, count=2)
        await asyncio.sleep(HOUR)
        worker = await world.worker(*twins, honest, heard=world.clock.now() - HOUR - 60)
        await caught_up(worker)
        assert sorted(taken(worker)) == sorted(hashes(sent))

    virtually(story, tmp_path)


def test_catch_up__all_relays_of_one_owner__asks_two_all_the_same(tmp_path):
    async def story(world):
        twins = [await world.relay(owner="one") for _ in range(2)]
        worker = await world.worker(*twins, heard=world.clock.now() - HOUR)
        await caught_up(worker)
        assert worker.metrics.value("backfill_rounds", relays="2") == 1

    virtually(story, tmp_path)


def test_catch_up__one_relay_is_silent__the_other_is_enough(tmp_path):
    async def story(world):
        honest = await world.relay()
        silent = await world.relay(archive=False, services=[Scripted()])
        sent = world.flood(honest, count=3)
        await asyncio.sleep(HOUR)
        worker = await world.worker(honest, silent, heard=world.clock.now() - HOUR - 60)
        await asyncio.sleep(10)
        assert sorted(taken(worker)) == sorted(hashes(sent))
        await caught_up(worker)
        assert worker.metrics.value("backfill_rounds", relays="1") == 1
        assert worker.metrics.value("backfill_failed", reason="no_answer") == 1

    virtually(story, tmp_path)


def test_catch_up__nobody_answers__tries_again_for_the_whole_time(tmp_path):
    async def story(world):
        silent = await world.relay(archive=False, services=[asked := Scripted()])
        began = world.clock.now()
        worker = await world.worker(silent, heard=began - HOUR)
        await caught_up(worker, rounds=2)
        assert max(ask.since for ask in asked.asked) <= began - HOUR
        assert worker.backfill.missing_since == began - HOUR
        assert set(worker.saved) == {began - HOUR}

    virtually(story, tmp_path)


def test_catch_up__away_again_in_the_middle__that_time_is_not_forgotten(tmp_path):
    async def story(world):
        honest = await world.relay()
        hesitant = await world.relay(archive=False, services=[Scripted()])
        worker = await world.worker(honest, hesitant, heard=world.clock.now() - HOUR)
        await asyncio.sleep(5)
        worker.keep_connected([])
        await asyncio.sleep(10)
        missed = world.flood(honest, count=2)
        await asyncio.sleep(100)
        worker.keep_connected([honest.enode])
        await caught_up(worker, rounds=2)
        assert sorted(taken(worker)) == sorted(hashes(missed))
        assert worker.backfill.missing_since is None

    virtually(story, tmp_path)


def lies(world):
    """What a relay may invent, by the reason for which it is dropped."""
    idle = (Envelope(int(world.clock.now()), 600, b"tppc", bytes(300), nonce) for nonce in count())
    return {
        "malformed": b"\xc0",
        "low_pow": next(each for each in idle if pow_of(each) < MIN_POW).encode(),
        "ttl_too_long": world.envelope(ttl=RULES.max_ttl + 1, age=100).encode(),
        "oversize": world.envelope(size=RULES.max_size + 1, work=0.0, age=100).encode(),
        "not_in_time": world.envelope(age=5 * HOUR).encode(),
    }


def test_receive__what_a_relay_invents__is_dropped_and_counted(tmp_path):
    async def story(world):
        await asyncio.sleep(1)
        invented = lies(world)
        good = world.envelope(age=1800)
        liar = await world.relay(archive=False, services=[pages([*invented.values(), good.encode()])])
        worker = await world.worker(liar, heard=world.clock.now() - HOUR)
        await caught_up(worker)
        assert taken(worker) == [good.hash]
        reasons = {reason: worker.metrics.value("backfill_dropped", reason=reason) for reason in invented}
        assert reasons == dict.fromkeys(invented, 1)

    virtually(story, tmp_path)


def test_receive__from_the_future__is_not_delivered_early(tmp_path):
    async def story(world):
        early = world.envelope(age=-500)
        liar = await world.relay(archive=False, services=[pages([early.encode()])])
        worker = await world.worker(liar, heard=world.clock.now() - HOUR)
        await caught_up(worker)
        assert taken(worker) == []

    virtually(story, tmp_path)


def test_fetch__lie_upon_lie__the_relay_is_asked_no_more(tmp_path):
    async def story(world):
        world.rng.seed(4)
        liar = await world.relay(archive=False, services=[told := pages(*[[b"\xc0"] * 10] * 9)])
        honest = await world.relay()
        worker = await world.worker(liar, honest, heard=world.clock.now() - HOUR)
        await caught_up(worker)
        assert len(told.asked) == MAX_LIES // 10 + 1
        assert worker.metrics.value("backfill_failed", reason="lies") == 1
        assert worker.metrics.value("backfill_rounds", relays="1") == 1

    virtually(story, tmp_path)


@pytest.mark.parametrize(
    ("cursor", "reason"),
    [(lambda _: b"\x01" * 16, "going_round"), (lambda turn: turn.to_bytes(16, "big"), "endless")],
)
def test_fetch__pages_without_end__are_left_one_day(tmp_path, cursor, reason):
    async def story(world):
        turns = count(1)
        endless = Scripted(lambda _, ask: [ArchivePage(ask.request, (), cursor(next(turns))).encode()])
        liar = await world.relay(archive=False, services=[endless])
        worker = await world.worker(liar, heard=world.clock.now() - HOUR)
        await caught_up(worker)
        assert worker.metrics.value("backfill_failed", reason=reason) == 1

    virtually(story, tmp_path)


def test_fetch__one_page_a_minute__takes_no_longer_than_it_may(tmp_path):
    async def story(world):
        turns = count(1)
        slow = Scripted()

        async def handle(peer, _code, payload):
            ask = slow._read(payload)
            page = ArchivePage(ask.request, (), next(turns).to_bytes(16, "big"))
            asyncio.get_running_loop().call_later(50, peer.post, page.encode())

        slow.handle = handle
        liar, honest = await world.relay(archive=False, services=[slow]), await world.relay()
        worker = await world.worker(liar, honest, heard=world.clock.now() - HOUR, timing=CatchUp(whole=300))
        async with asyncio.timeout(330):
            await caught_up(worker)
        assert worker.metrics.value("backfill_failed", reason="too_slow") == 1

    virtually(story, tmp_path)


@pytest.mark.parametrize(
    "answer",
    [
        lambda ask: Message(STEM.name, ARCHIVE, b"junk"),  # noqa: ARG005
        lambda ask: ArchivePage(ask.request, (b"\x80",) * 5000).encode(),
        lambda ask: ArchivePage(ask.request, (b"\xc0" * 600_000,)).encode(),
    ],
)
def test_handle__page_that_is_none__ends_the_asking_and_is_a_fault(tmp_path, answer):
    async def story(world):
        liar = await world.relay(archive=False, services=[Scripted(lambda _, ask: [answer(ask)])])
        worker = await world.worker(liar, heard=world.clock.now() - HOUR)
        await caught_up(worker)
        assert worker.metrics.value("backfill_failed", reason="no_answer") == 1
        assert worker.metrics.value("network_faults") == 1

    virtually(story, tmp_path)


def test_handle__pages_nobody_asked_for__are_passed_over(tmp_path):
    async def story(world):
        pushing = Scripted()
        relay = await world.relay(archive=False, services=[pushing])
        worker = await world.worker(relay)
        await worker.connected()
        pushing.peers[0].post(ArchivePage(b"unasked!", (world.envelope().encode(),)).encode())
        await asyncio.sleep(1)
        assert taken(worker) == []
        assert worker.metrics.value("backfill_failed", reason="unasked") == 1

    virtually(story, tmp_path)


def test_recover__envelopes_still_alive__enter_no_pool_and_go_to_no_peer(tmp_path):
    async def story(world):
        fresh = world.envelope(ttl=300)
        teller = await world.relay(archive=False, services=[pages([fresh.encode()])])
        neighbour = await world.relay()
        worker = await world.worker(teller, neighbour, heard=world.clock.now() - HOUR)
        await caught_up(worker)
        assert taken(worker) == [fresh.hash]
        assert worker.flood.look_up(fresh.hash) is None
        assert neighbour.metrics.value("network_received") == 0
        world.flood(neighbour, count=1)
        neighbour.flood.take_in(fresh.encode(), None)
        await asyncio.sleep(2)
        assert fresh.hash not in taken(worker)

    virtually(story, tmp_path)


def test_recover__more_than_the_inbox_holds__waits_for_the_reader(tmp_path):
    async def story(world):
        relay = await world.relay()
        sent = hashes(world.flood(relay, count=2000, size=20))
        await asyncio.sleep(HOUR)
        tuning = Tuning(inbox=400)
        worker = await world.worker(relay, heard=world.clock.now() - HOUR - 60, tuning=tuning)
        got = []
        async with asyncio.timeout(600):
            while len(got) < len(sent):
                got += taken(worker)[:]
                await asyncio.sleep(0.1)
        assert sorted(got) == sorted(sent)
        assert worker.metrics.value("network_inbox_overflow") == 0

    virtually(story, tmp_path)


@given(st.floats(0, 10 * 86_400), st.floats(0, 86_400))
def test_window__any_time_away__is_covered_by_one_of_eleven_lengths(away, moment):
    now = 1_900_000_000.0 + moment
    window = Window.over(now - away, now, 86_400.0, FULL_BLOOM)
    assert window.since <= now - min(away, 86_400 - 2 * MINUTE)
    assert now <= window.until < now + MINUTE
    assert window.since % MINUTE == window.until % MINUTE == 0
    lengths = {min(120 << step, 86_400) + MINUTE for step in range(11)}
    assert window.until - window.since in lengths


# light workers


def light(bloom, **how):
    return replace(RULES, bloom=bloom, **how)


def split(world, bloom, number=40):
    """Return topics inside and outside of a bloom."""
    inside = [topic_within(bloom, world.rng.randbytes(13)) for _ in range(number)]
    others = (world.rng.randbytes(4) for _ in count())
    return inside, [topic for topic, _ in zip((t for t in others if not admits(bloom, t)), range(number), strict=False)]


def test_light__narrow_bloom__gets_its_own_topics_and_nothing_else(tmp_path):
    async def story(world):
        relay = await world.relay()
        bloom = draw_bloom(b"light worker", 64)
        worker = await world.leaf(relay, rules=light(bloom))
        await worker.connected()
        inside, outside = split(world, bloom)
        wanted = [world.flood(relay, count=1, topic=topic)[0] for topic in inside]
        for topic in outside:
            world.flood(relay, count=1, topic=topic)
        await asyncio.sleep(2)
        assert sorted(taken(worker)) == sorted(hashes(wanted))
        assert worker.metrics.value("network_dropped", reason="bloom_mismatch") == 0
        assert relay.metrics.value("network_sent") == len(wanted)

    virtually(story, tmp_path)


def test_light__topic_that_only_geths_form_admits__is_not_sent_to_our_own(tmp_path):
    topic = bytes([8, 9, 10, 0])  # three bits of one byte, of which geth keeps the last
    bloom = geth_topic_bloom(topic)
    assert matches(bloom, geth_topic_bloom(topic))
    assert not admits(bloom, topic)

    async def story(world):
        relay = await world.relay()
        worker = await world.leaf(relay, rules=light(bloom))
        await worker.connected()
        world.flood(relay, count=1, topic=topic)
        await asyncio.sleep(2)
        assert relay.metrics.value("network_sent") == 0

    virtually(story, tmp_path)


def test_light__bloom_of_a_new_epoch__the_old_one_counts_through_the_grace(tmp_path):
    async def story(world):
        relay = await world.relay()
        old, new = draw_bloom(b"old", 32), draw_bloom(b"new", 32)
        worker = await world.leaf(relay, rules=light(old))
        await worker.connected()
        until = world.clock.now() + 100
        worker.set_rules(light(new, previous=light(old), previous_until=until))
        await asyncio.sleep(1)
        assert relay.connected_peers[0].wanted.bloom == aggregate([old, new])
        both = [
            world.flood(relay, count=1, topic=topic_within(bloom, world.rng.randbytes(13)))[0] for bloom in (old, new)
        ]
        await asyncio.sleep(1)
        assert sorted(taken(worker)) == sorted(hashes(both))
        await asyncio.sleep(100)
        assert relay.connected_peers[0].wanted.bloom == new

    virtually(story, tmp_path)


def test_light__catches_up__asks_and_gets_within_its_bloom_only(tmp_path):
    async def story(world):
        bloom = draw_bloom(b"light worker", 64)
        inside, outside = split(world, bloom)
        relay = await world.relay()
        wanted = [world.flood(relay, count=1, topic=topic)[0] for topic in inside]
        for topic in outside:
            world.flood(relay, count=1, topic=topic)
        await asyncio.sleep(HOUR)
        worker = await world.worker(relay, heard=world.clock.now() - HOUR - 60, rules=light(bloom))
        await caught_up(worker)
        assert sorted(taken(worker)) == sorted(hashes(wanted))
        assert relay.metrics.value("archive_served") == len(wanted)

    virtually(story, tmp_path)


def test_light__relay_that_hands_over_other_topics__is_lying(tmp_path):
    async def story(world):
        bloom = draw_bloom(b"light worker", 64)
        _, outside = split(world, bloom)
        false = [world.envelope(topic=topic, age=600).encode() for topic in outside]
        liar = await world.relay(archive=False, services=[pages(false)])
        worker = await world.worker(liar, heard=world.clock.now() - HOUR, rules=light(bloom))
        await caught_up(worker)
        assert taken(worker) == []
        assert worker.metrics.value("backfill_failed", reason="lies") == 1

    virtually(story, tmp_path)


def hiding(bits, workers=100, messages=4000):
    """Return, of topics in one worker's bloom, the share that is its own, and the share of all traffic it takes."""
    rng = random.Random(5)
    blooms = [draw_bloom(rng.randbytes(32), bits) for _ in range(workers)]
    receivers = [rng.randrange(workers) for _ in range(messages)]
    topics = [topic_within(blooms[receiver], rng.randbytes(13)) for receiver in receivers]
    own = caught = 0
    for observed in range(20):
        seen = [receiver for receiver, topic in zip(receivers, topics, strict=True) if admits(blooms[observed], topic)]
        own, caught = own + seen.count(observed), caught + len(seen)
    return own / caught, caught / 20 / messages


@pytest.mark.parametrize(
    ("bits", "own", "taken_of_all"), [(64, 0.82, 0.012), (128, 0.39, 0.026), (256, 0.075, 0.135), (384, 0.024, 0.43)]
)
def test_light__bloom_of_so_many_bits__hides_its_worker_among_so_many(bits, own, taken_of_all):
    assert hiding(bits) == (pytest.approx(own, rel=0.1), pytest.approx(taken_of_all, rel=0.1))


def test_light__full_bloom__hides_its_worker_among_all():
    assert hiding(512) == (pytest.approx(0.01, rel=0.1), 1.0)
