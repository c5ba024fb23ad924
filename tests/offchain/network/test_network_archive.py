"""The archive alone, a relay that serves it, and those who ask for more than they should."""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path

import pytest
import rlp
from backfill_world import Scripted, World, hashes, taken, virtually
from hypothesis import given, settings
from hypothesis import strategies as st

from quietfleet.errors import WireError
from quietfleet.network.archive import MINUTE, PAGE, Archive, Limits
from quietfleet.network.archiving import Archiving, Serving
from quietfleet.network.stemwire import ARCHIVE, ArchiveAsk, ArchivePage, WorkAsk, WorkDone
from quietfleet.whisper import FULL_BLOOM, Envelope, admits, draw_bloom, topic_within

NOW = 1_900_000_020  # a whole minute
WORST = (1 << 32) - 1


def envelope(rng, topic=b"tppc", size=300):
    return Envelope(NOW + 20, 20, topic, rng.randbytes(size), 0)


def ask(since=0, until=WORST, bloom=FULL_BLOOM, cursor=b""):
    return ArchiveAsk(b"question", since, until, bloom, cursor)


def everything(archive, **window):
    """Read page after page; return the envelopes and the pages."""
    pages, cursor = [], b""
    while not pages or cursor:
        pages.append(archive.page(ask(**window, cursor=cursor)))
        assert not cursor or not pages[-1].cursor or pages[-1].cursor > cursor
        cursor = pages[-1].cursor
    return [raw for page in pages for raw in page.envelopes], pages


@pytest.fixture
def rng():
    return random.Random(1)


@pytest.fixture
def archive(tmp_path):
    archive = Archive(tmp_path / "archive.db")
    yield archive
    archive.close()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 20_000)), max_size=60),
    st.integers(0, 660),
    st.integers(0, 660),
    st.sampled_from([FULL_BLOOM, draw_bloom(b"narrow", 300)]),
)
def test_page__any_arrivals_and_any_window__each_that_fits_once(arrivals, since, until, bloom):
    rng = random.Random(2)
    kept = [(NOW + at, envelope(rng, rng.randbytes(4), size)) for at, size in arrivals]
    with tempfile.TemporaryDirectory() as folder:
        archive = Archive(Path(folder) / "archive.db")
        archive.add(kept, NOW + 600)
        found, pages = everything(archive, since=NOW + since, until=NOW + until, bloom=bloom)
        archive.close()
    minutes = range((NOW + since) // MINUTE, (NOW + until) // MINUTE + 1)
    assert sorted(found) == sorted(
        each.encode() for at, each in kept if at // MINUTE in minutes and admits(bloom, each.topic)
    )
    assert all(len(page.envelopes) == 1 or sum(map(len, page.envelopes)) <= PAGE for page in pages)


def test_page__one_minute__shows_no_order_of_arrival(archive, rng):
    kept = [(NOW + at, envelope(rng)) for at in range(60)]
    archive.add(kept, NOW + 60)
    found, _ = everything(archive)
    digests = {each.encode(): each.hash for _, each in kept}
    assert [digests[raw] for raw in found] == sorted(digests.values())


def test_page__narrow_bloom_over_much__reads_a_page_worth_and_goes_on_where_it_stopped(archive, rng):
    archive.add([(NOW, envelope(rng, size=10)) for _ in range(5000)], NOW)
    wanted = envelope(rng, topic_within(bloom := draw_bloom(b"me", 16), rng.randbytes(13)))
    archive.add([(NOW + MINUTE, wanted)], NOW)
    first = archive.page(ask(bloom=bloom))
    assert not first.envelopes
    assert first.read == 4096 * 64
    assert archive.page(ask(bloom=bloom, cursor=first.cursor)).envelopes == (wanted.encode(),)


@pytest.mark.parametrize("cursor", [b"\xff" * 16, b"\0" * 16, NOW.to_bytes(4, "big") + b"\xff" * 12])
def test_page__cursor_made_up__never_leaves_the_window(archive, rng, cursor):
    inside = envelope(rng)
    archive.add([(NOW - 7200, envelope(rng)), (NOW + 60, inside), (NOW + 7200, envelope(rng))], NOW)
    page = archive.page(ask(NOW, NOW + 60, cursor=cursor))
    assert set(page.envelopes) <= {inside.encode()}
    assert page.cursor == b""


def test_page__window_that_ends_before_it_begins__is_empty(archive, rng):
    archive.add([(NOW, envelope(rng))], NOW)
    assert archive.page(ask(NOW + 60, NOW - 60)).envelopes == ()


def test_add__larger_than_a_page__is_a_page_of_its_own(archive, rng):
    archive.add([(NOW, envelope(rng, size=PAGE * 2)) for _ in range(3)], NOW)
    _, pages = everything(archive)
    assert [len(page.envelopes) for page in pages] == [1, 1, 1]


def test_add__too_old_or_too_much__the_oldest_go(tmp_path, rng):
    archive = Archive(tmp_path / "archive.db", Limits(age=3600, size=100_000))
    old, rest = [(NOW - 3700, envelope(rng))], [(NOW + 60 * at, envelope(rng)) for at in range(400)]
    archive.add(old, NOW - 3700)
    for one in rest:
        archive.add([one], NOW)
        assert archive.size <= 100_000
    found, _ = everything(archive)
    assert found == [each.encode() for _, each in rest[-len(found) :]]
    assert len(found) == 100_000 // (len(rest[0][1].encode()) + 64)


def test_open__after_a_restart__has_what_it_had(tmp_path, rng):
    first = Archive(tmp_path / "archive.db")
    first.add([(NOW, envelope(rng)) for _ in range(10)], NOW)
    found, size = everything(first)[0], first.size
    first.close()
    again = Archive(tmp_path / "archive.db")
    assert (everything(again)[0], again.size) == (found, size)


def test_serve__what_the_flood_brought__is_there_long_after_it_expired(tmp_path):
    async def story(world):
        relay, other = await world.relay(), None
        other = await world.relay(relay)
        await other.connected()
        sent = world.flood(relay, count=5)
        await asyncio.sleep(3600)
        asker = Scripted(code=ARCHIVE, read=lambda payload: ArchivePage.decode(payload, 100_000))
        leaf = await world.leaf(other, services=[asker])
        await leaf.connected()
        leaf.peer(other.node_id).post(ask().encode())
        await asker.came.wait()
        assert sorted(asker.asked[0].envelopes) == sorted(each.encode() for each in sent)
        assert asker.asked[0].request == b"question"
        assert other.metrics.value("archive_kept") == 5
        assert taken(leaf) == []

    virtually(story, tmp_path)


def test_serve__asked_without_end__gets_its_pace_and_others_theirs(tmp_path):
    async def story(world):
        relay = await world.relay(serving=Serving(each=10_000, everyone=40_000, saved=2.0))
        world.flood(relay, count=400, size=1000)
        await asyncio.sleep(2)
        greedy = Scripted(
            lambda _, page: [ask(cursor=page.cursor).encode()] * 3,
            ARCHIVE,
            lambda payload: ArchivePage.decode(payload, 100_000),
        )
        modest = Scripted(code=ARCHIVE, read=lambda payload: ArchivePage.decode(payload, 100_000))
        flooder = await world.leaf(relay, services=[greedy])
        await flooder.connected()
        flooder.peer(relay.node_id).post(ask().encode())
        await asyncio.sleep(1000)
        served = sum(sum(map(len, page.envelopes)) for page in greedy.asked)
        assert served <= 10_000 * 1000 + 2 * 10_000 + 2 * PAGE
        assert relay.metrics.value("archive_refused", reason="asked_again") > 0
        leaf = await world.leaf(relay, services=[modest])
        await leaf.connected()
        leaf.peer(relay.node_id).post(ask().encode())
        async with asyncio.timeout(60):
            await modest.came.wait()
        assert flooder.peers == 1

    virtually(story, tmp_path)


def test_serve__many_at_once__share_what_the_relay_gives(tmp_path):
    async def story(world):
        relay = await world.relay(serving=Serving(each=100_000, everyone=100_000, saved=1.0))
        world.flood(relay, count=400, size=1000)
        await asyncio.sleep(2)
        crowd = [
            Scripted(lambda *_: [ask().encode()], ARCHIVE, lambda payload: ArchivePage.decode(payload, 100_000))
            for _ in range(8)
        ]
        for one in crowd:
            leaf = await world.leaf(relay, services=[one])
            await leaf.connected()
            leaf.peer(relay.node_id).post(ask().encode())
        await asyncio.sleep(400)
        pages = [len(one.asked) for one in crowd]
        assert max(pages) - min(pages) <= 3  # the first ones came before there was a crowd
        assert relay.metrics.value("archive_served_bytes") <= 100_000 * 402 + PAGE + 10_000

    virtually(story, tmp_path)


def test_serve__asker_leaves_or_reads_nothing__others_are_served(tmp_path):
    async def story(world):
        relay = await world.relay()
        world.flood(relay, count=5)
        await asyncio.sleep(2)
        for _ in range(3):
            fleeting = await world.leaf(relay)
            await fleeting.connected()
            fleeting.peer(relay.node_id).post(ask().encode())
            await asyncio.sleep(0.021)
            await fleeting.stop()
        asker = Scripted(code=ARCHIVE, read=lambda payload: ArchivePage.decode(payload, 100_000))
        leaf = await world.leaf(relay, services=[asker])
        await leaf.connected()
        leaf.peer(relay.node_id).post(ask().encode())
        await asker.came.wait()
        assert len(asker.asked[0].envelopes) == 5

    virtually(story, tmp_path)


def test_run__no_archive_to_be_had__the_relay_works_without(tmp_path):
    async def story(world):
        (tmp_path / "0.db").mkdir()
        relay = await world.relay()
        leaf = await world.leaf(relay)
        await leaf.connected()
        await asyncio.sleep(1)
        sent = world.flood(relay, count=3)
        leaf.peer(relay.node_id).post(ask().encode())
        await asyncio.sleep(5)
        assert sorted(taken(leaf)) == sorted(hashes(sent))
        assert relay.metrics.value("archive_failed", reason="opening") == 1

    virtually(story, tmp_path)


def test_stop__with_envelopes_not_written_yet__writes_them(tmp_path):
    async def story(world):
        relay = await world.relay(name="archive")
        await asyncio.sleep(0.1)
        sent = world.flood(relay, count=7)
        await relay.stop()
        archive = Archive(tmp_path / "archive.db")
        assert sorted(everything(archive)[0]) == sorted(each.encode() for each in sent)
        archive.close()

    virtually(story, tmp_path)


async def test_run__in_a_thread_of_its_own__keeps_and_closes(tmp_path):
    world = World(tmp_path)
    relay = await world.relay(archive=False)
    relay.add(service := Archiving(relay, lambda: Archive(tmp_path / "own.db"), relay.metrics, world.clock))
    serving = asyncio.create_task(service.run())
    await asyncio.sleep(0)
    sent = world.flood(relay, count=3)
    async with asyncio.timeout(60):
        while relay.metrics.value("archive_kept") < len(sent):
            service.sweep(world.clock.now())
            await asyncio.sleep(0.01)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await relay.stop()
    archive = Archive(tmp_path / "own.db")
    assert sorted(everything(archive)[0]) == sorted(each.encode() for each in sent)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_decode__any_bytes__one_error(payload):
    for decode in (ArchiveAsk.decode, lambda raw: ArchivePage.decode(raw, 100), WorkAsk.decode, WorkDone.decode):
        try:
            decode(payload)
        except WireError:
            continue


Tree = st.recursive(st.binary(max_size=70), lambda inner: st.lists(inner, max_size=7), max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(st.lists(Tree, min_size=2, max_size=6))
def test_decode__any_rlp__one_error_or_something_that_encodes_again(content):
    payload = rlp.encode(content)
    for kind in (ArchiveAsk, WorkAsk, WorkDone):
        try:
            read = kind.decode(payload)
        except WireError:
            continue
        assert kind.decode(read.encode().payload) == read


@pytest.mark.parametrize("cursor", [b"", b"c" * 16])
def test_decode__what_was_encoded__is_the_same(rng, cursor):
    question = ask(NOW, NOW + 60, draw_bloom(b"seed"), cursor)
    assert ArchiveAsk.decode(question.encode().payload) == question
    page = ArchivePage(b"question", tuple(envelope(rng).encode() for _ in range(3)), cursor)
    assert ArchivePage.decode(page.encode().payload, 0) == page


@pytest.mark.parametrize(
    "payload",
    [
        ArchivePage(b"question", (b"\x80" * (513 * 1024),)).encode().payload,
        ArchivePage(b"question", (b"\x80",) * 4097).encode().payload,
        ArchivePage(b"short", ()).encode().payload,
        ArchivePage(b"question", (), b"odd").encode().payload,
    ],
)
def test_decode__page_beyond_a_limit__is_refused(payload):
    with pytest.raises(WireError):
        ArchivePage.decode(payload, 1000)
