"""How a release comes from the gateway to a processor: by the shelf, in one message, in pieces; and how it must not."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from worker_world import Pen

from quietfleet.chain.types import Kind
from quietfleet.crypto import keccak256
from quietfleet.errors import MessageRefused
from quietfleet.pipeline.onnx_guard import MAXIMUM_BYTES
from quietfleet.pipeline.runtime import MAXIMUM_MANIFEST_BYTES, load_model
from quietfleet.rollout import Reason, Ticket
from quietfleet.rollout.device import MOST_GATE
from quietfleet.session import MAX_LARGE, LargeEnded, Received
from quietfleet.session._codec import MAX_BODY, encode_body
from quietfleet.storage import EncryptedObjects, FolderShelf
from quietfleet.workers import _fetching as fetching
from quietfleet.workers import _loading as loading
from quietfleet.workers.gateway import Gateway
from quietfleet.workers.messages import (
    ARTEFACT,
    LARGEST_RELEASE,
    MANIFEST,
    SHELVED,
    FetchRelease,
    NoSuchRelease,
    ReleaseAt,
    ReleaseBundle,
    ReleaseComing,
    ReleaseOutcome,
    pack_release,
    release_kind,
    unpack_release,
)
from quietfleet.workers.processor import Processor

NARROW = 40_000  # bytes of envelope data: the two smaller classes and pieces go through, the largest class does not
PIECE = 32_000
LARGEST_TICKET = Ticket(bytes(24), bytes(MOST_GATE), bytes(32), 255, bytes(32), bytes(32), 65_535, (bytes(32),) * 16)
DOC_STRING = b"\x32"  # field 6 of an ONNX model: text nobody reads


class Stocked(Gateway):
    """A gateway that never trains: it has what the test brings."""

    def __init__(self, runtime):
        super().__init__(runtime, runtime.identity)
        self._begun = True

    def stock(self, model, *, shelve=True):
        """Register a model as one just trained."""
        version = self._registry.register("weather", model.manifest, model.artifact, at=1.0)
        self._state.set(f"manifest:{model.manifest_hash.hex()}", version)
        if shelve:
            self._handout.shelve(version, model.artifact)


class Listening(Processor):
    """A processor that remembers what it was answered."""

    def __init__(self, runtime):
        super().__init__(runtime)
        self.answers = []

    def on_event(self, event):
        if isinstance(event, Received) and isinstance(event.body, fetching.Answer):
            self.answers.append(type(event.body))
        super().on_event(event)


def heavy(candidate, size=ARTEFACT):
    """The same model with as many bytes as a device takes, and the longest manifest."""
    room = size - len(candidate.artifact) - 4
    room -= size > ARTEFACT  # the length of the padding takes a byte more
    varint = bytes([room & 127 | 128, room >> 7 & 127 | 128, room >> 14 & 127 | 128 * (size > ARTEFACT)])
    varint += bytes([room >> 21]) * (size > ARTEFACT)
    artefact = candidate.artifact + DOC_STRING + varint + b"." * room
    plain = json.loads(candidate.manifest)
    plain["models"]["default"] |= {"size": len(artefact), "sha256": hashlib.sha256(artefact).hexdigest()}
    manifest = json.dumps(plain).encode().ljust(MAXIMUM_MANIFEST_BYTES)
    return SimpleNamespace(manifest=manifest, artifact=artefact, manifest_hash=keccak256(manifest))


async def settle(world):
    """Let whoever looks at the shelf come to an end."""
    for worker in world.up():
        job = getattr(getattr(worker.agent, "_handout", None), "_job", None)
        job = job or getattr(getattr(getattr(worker.agent, "_slot", None), "fetching", None), "_look", None)
        if job is not None:
            await job


async def until(world, holds, within=120, *, fails=True):
    """Let time pass, and those that look at the shelf come to an end, until something holds."""
    for _ in range(within):
        if holds():
            return
        await world.pass_time(1)
        await settle(world)
    if fails:
        pytest.fail(f"waited {within} s in vain")


@pytest.fixture
def found(world):
    """An oracle, a gateway and a processor in session, with a shelf each, or none."""

    async def found(*, gateway=Stocked, shelves=("gateway", "processor"), max_size=1 << 20):
        world.max_size = max_size
        world.shelves = dict.fromkeys(shelves, "shelf")
        await world.add("oracle", Kind.ORACLE)
        cloud = await world.add("gateway", Kind.GATEWAY, agent=gateway)
        processor = await world.add("processor", Kind.PROCESSOR, agent=Listening)
        await world.rotate()
        await world.until(lambda: processor.in_session_with(cloud))
        return cloud, processor

    return found


@pytest.fixture
def release(world):
    """Has the gateway stock a model and the chain open it."""

    async def release(model, sequence=1, *, shelve=True):
        gateway = world.workers["gateway"]
        await gateway.do(lambda: gateway.agent.stock(model, shelve=shelve))
        await settle(world)
        await world.release(sequence, model.manifest_hash)

    return release


def has(processor, sequence=1):
    return lambda: processor.agent.status()["release"] == sequence


def kept(world):
    """The objects on the shelf."""
    return sorted(path for path in (world.folder / "shelf").rglob("*") if path.is_file())


def largest(world):
    return max(len(envelope.data) for _, envelope in world.wire)


# the three ways


async def test_release__on_the_shelf__fetched_from_there_and_no_byte_of_it_travels(world, found, release, candidate):
    _, processor = await found()
    model = heavy(candidate)
    await release(model)
    await until(world, has(processor))
    assert processor.agent.answers == [ReleaseAt]
    (sealed,) = kept(world)
    assert model.artifact[:200] not in sealed.read_bytes()
    envelopes = [len(envelope.data) for sender, envelope in world.wire if sender.name == "gateway"]
    assert sum(envelopes) < 3 * MAXIMUM_MANIFEST_BYTES + ARTEFACT
    assert processor.agent._slot.model.predict is not None


async def test_release__gateway_restarts__reference_is_remembered_sealed_and_nothing_shelved_twice(
    world, found, release, candidate
):
    gateway, processor = await found()
    await release(candidate)
    await until(world, has(processor))
    gateway.restart()
    other = await world.add("other", Kind.PROCESSOR, agent=Listening)
    world.shelves["other"] = "shelf"
    other.restart()
    await until(world, has(other))
    assert other.agent.answers == [ReleaseAt]
    assert len(kept(world)) == 1
    (address,) = [entry["address"] for entry in gateway.journal("shelved")]
    ((row,),) = gateway.rows("SELECT value FROM state WHERE name LIKE 'shelf:%'")
    assert address not in row, "address and key are sealed"


async def test_release__not_on_the_shelf_yet__inline_at_once_and_by_reference_for_the_next(
    world, found, release, candidate
):
    _, processor = await found()
    await release(candidate, shelve=False)
    await until(world, has(processor))
    assert processor.agent.answers == [ReleaseBundle]
    await settle(world)
    world.shelves["other"] = "shelf"
    other = await world.add("other", Kind.PROCESSOR, agent=Listening)
    await until(world, has(other))
    assert other.agent.answers == [ReleaseAt]


@pytest.mark.parametrize("shelves", [(), ("gateway",), ("processor",)])
async def test_release__without_a_shelf_on_both_sides__inline(world, found, release, candidate, shelves):
    _, processor = await found(shelves=shelves)
    await release(candidate)
    await until(world, has(processor))
    assert processor.agent.answers == [ReleaseBundle]
    assert processor.metric("large_refused", reason="unasked") == 0


async def test_release__largest_there_is__fits_one_message_of_the_largest_class(world, found, release, candidate):
    _, processor = await found(shelves=())
    await release(heavy(candidate))
    await until(world, has(processor))
    assert processor.agent.answers == [ReleaseBundle]
    assert len(encode_body(ReleaseBundle(2**31 - 1, LARGEST_TICKET, bytes(MANIFEST), bytes(ARTEFACT)))) <= MAX_BODY
    assert (MANIFEST, SHELVED) == (MAXIMUM_MANIFEST_BYTES, MAXIMUM_BYTES)
    assert LARGEST_RELEASE <= MAX_LARGE


async def test_release__too_large_for_an_envelope__comes_in_pieces(world, found, release, candidate):
    gateway, processor = await found(shelves=(), max_size=NARROW)
    await release(heavy(candidate))
    await until(world, has(processor))
    assert processor.agent.answers == [ReleaseComing]
    assert largest(world) <= NARROW
    await world.pass_time(2)
    assert gateway.runtime.messenger.large.outgoing == {}
    assert processor.journal("release-rejected") == []


async def test_release__manifest_alone_too_large_for_an_envelope__in_pieces_though_it_is_on_the_shelf(
    world, found, release, candidate
):
    _, processor = await found(max_size=NARROW)
    await release(heavy(candidate))
    await until(world, has(processor))
    assert processor.agent.answers == [ReleaseComing]


async def test_release__small_in_a_narrow_network__stays_in_one_message(world, found, release, candidate):
    _, processor = await found(shelves=(), max_size=NARROW)
    await release(candidate)
    await until(world, has(processor))
    assert processor.agent.answers == [ReleaseBundle]


# larger than any message

LARGE = 5 << 20


async def test_release__larger_than_any_message__comes_from_the_shelf_alone(world, found, release, candidate):
    gateway, processor = await found()
    await release(heavy(candidate, LARGE))
    await until(world, has(processor))
    assert set(processor.agent.answers) <= {NoSuchRelease, ReleaseAt}, "asked before it was on the shelf, or after"
    assert processor.agent.answers[-1] is ReleaseAt
    assert sum(len(envelope.data) for _, envelope in world.wire) < LARGE
    assert gateway.runtime.messenger.large.outgoing == {}


async def test_release__boosted_trees__checked_beside_the_event_loop_and_forecast_as_they_were_trained(
    world, found, release, forest, monkeypatch
):
    checked = []

    def load(*given, **named):
        checked.append(threading.current_thread() is threading.main_thread())
        return load_model(*given, **named)

    monkeypatch.setattr(loading, "load_model", load)
    assert len(forest.artifact) > 10 * ARTEFACT
    _, processor = await found()
    await release(forest)
    await until(world, has(processor))
    assert (processor.agent.answers[-1], checked) == (ReleaseAt, [False])
    rows = np.zeros((3, len(processor.agent._slot.model.features.names)), dtype=np.float32)
    rows += np.arange(3, dtype=np.float32)[:, None]
    forecast = processor.agent._slot.model.predict_many(rows)
    assert np.allclose(forecast, forest.model.predict(rows), atol=1e-3)
    processor.restart()
    assert np.array_equal(processor.agent._slot.model.predict_many(rows), forecast)


async def test_release__processor_killed_while_it_fetches_from_the_shelf__fetches_anew_and_takes_it_up_once(
    world, found, release, candidate
):
    _, processor = await found()
    model = heavy(candidate, LARGE)
    await release(model)
    for _ in range(120):
        await world.pass_time(1)
        if (look := processor.agent._slot.fetching._look) is not None:
            break
    processor.restart()
    look.cancel()
    await until(world, has(processor))
    assert [entry["sequence"] for entry in processor.journal("release-installed")] == [1]
    assert processor.journal("release-rejected") == []


async def test_release__larger_than_any_message_and_lost_from_the_shelf__is_put_there_again(
    world, found, release, candidate
):
    gateway, processor = await found()
    model = heavy(candidate, LARGE)
    await gateway.do(lambda: gateway.agent.stock(model))
    await settle(world)
    (path,) = kept(world)
    data = path.read_bytes()
    path.unlink()
    await world.release(1, model.manifest_hash)
    await until(world, lambda: NoSuchRelease in processor.agent.answers)
    assert processor.journal("shelf-failed") == [{"sequence": 1, "reason": "ObjectMissing"}]
    assert not has(processor)()
    path.write_bytes(data)
    await until(world, has(processor))
    assert processor.journal("release-rejected") == []


async def test_release__larger_than_any_message_and_no_model_at_all__is_refused_under_its_signature(
    world, found, release, candidate
):
    gateway, processor = await found()
    gateway.agent._champion = lambda: None  # a gateway that does not look at what it releases
    model = heavy(candidate, LARGE)
    model.artifact = bytes(LARGE)
    plain = json.loads(model.manifest)
    plain["models"]["default"] |= {"size": LARGE, "sha256": hashlib.sha256(model.artifact).hexdigest()}
    model.manifest = json.dumps(plain).encode()
    model.manifest_hash = keccak256(model.manifest)
    await release(model)
    await until(world, lambda: bool(processor.journal("release-rejected")))
    assert processor.journal("release-rejected")[0]["why"] == "unusable"
    assert processor.journal("shelf-failed") == [], "what is there is what the chain names"


# a shelf that lies, lost it, or hangs


def swap(path):
    path.write_bytes(path.read_bytes()[:-1] + b"\0")


def replace_by_another(path):
    shelf = EncryptedObjects(FolderShelf(path.parents[1]))
    other = shelf.put(b"a model of somebody else's")
    path.write_bytes((path.parents[1] / other.address.hex()[:2] / other.address.hex()[2:]).read_bytes())


def truncate(path):
    path.write_bytes(path.read_bytes()[:4000])


def inflate(path):
    path.write_bytes(path.read_bytes() + bytes(2 * SHELVED))


def become_a_folder(path):
    path.unlink()
    path.mkdir()


def hang(path):
    path.unlink()
    os.mkfifo(path)


DAMAGES = {
    swap: "ObjectCorrupt",
    replace_by_another: "ObjectCorrupt",
    truncate: "ObjectCorrupt",
    inflate: "ObjectTooLarge",
    os.unlink: "ObjectMissing",
    become_a_folder: "IsADirectoryError",
    hang: "TimeoutError",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
async def test_shelf__lies_or_lost_it_or_hangs__same_release_comes_inline(
    world, found, release, candidate, monkeypatch, damage
):
    monkeypatch.setattr(fetching, "SHELF_WITHIN", 0.1 if damage is hang else 10.0)
    _, processor = await found()
    gateway = world.workers["gateway"]
    await gateway.do(lambda: gateway.agent.stock(candidate))
    await settle(world)
    (path,) = kept(world)
    damage(path)
    await world.release(1, candidate.manifest_hash)
    await until(world, has(processor))
    assert processor.agent.answers == [ReleaseAt, ReleaseBundle]
    assert processor.metric("shelf_failures", reason=DAMAGES[damage]) == 1
    assert processor.journal("shelf-failed") == [{"sequence": 1, "reason": DAMAGES[damage]}]
    assert processor.journal("release-rejected") == [], "a shelf's fault is not the release's"
    if damage is hang:
        os.close(os.open(path, os.O_RDWR))  # let the reader go


async def test_shelf__lost_a_release_in_a_narrow_network__comes_in_pieces(world, found, release, candidate):
    _, processor = await found(max_size=NARROW)
    model = heavy(candidate)
    model.manifest = model.manifest.rstrip()
    model.manifest_hash = keccak256(model.manifest)
    gateway = world.workers["gateway"]
    await gateway.do(lambda: gateway.agent.stock(model))
    await settle(world)
    kept(world)[0].unlink()
    await world.release(1, model.manifest_hash)
    await until(world, has(processor))
    assert processor.agent.answers == [ReleaseAt, ReleaseComing]


async def test_shelf__gateway_cannot_write_to_it__releases_go_inline(world, found, release, candidate):
    (world.folder / "shelf").write_text("not a folder")
    gateway, processor = await found()
    await release(candidate)
    await until(world, has(processor))
    assert processor.agent.answers == [ReleaseBundle]
    assert gateway.metric("shelf_failures", reason="FileExistsError") >= 1
    assert gateway.metric("steps_failed") == 0


async def test_shelf__stays_broken__gateway_tries_it_ever_more_rarely(world, found, release, candidate):
    (world.folder / "shelf").write_text("not a folder")
    gateway, processor = await found()
    await release(heavy(candidate, ARTEFACT + 20_000))
    tries = []
    for seconds in (300, 900):
        await until(world, lambda: False, within=seconds, fails=False)
        tries.append(gateway.metric("shelf_failures", reason="FileExistsError"))
    assert 3 <= tries[0] <= 4
    assert 4 <= tries[1] <= 6, "twenty, if it were every minute"
    assert set(processor.agent.answers) == {NoSuchRelease}
    (world.folder / "shelf").unlink()
    await until(world, has(processor), within=1000)
    assert processor.agent.answers[-1] is ReleaseAt


async def test_shelf__recovers__gateway_shelves_for_who_comes_next(world, found, release, candidate):
    (world.folder / "shelf").write_text("not a folder")
    gateway, processor = await found()
    await release(candidate)
    await until(world, has(processor))
    (world.folder / "shelf").unlink()
    world.shelves["other"] = "shelf"
    await until(world, lambda: gateway.agent._handout._waiting is None)
    await world.pass_time(61)
    other = await world.add("other", Kind.PROCESSOR, agent=Listening)
    await until(world, has(other))
    await until(world, lambda: gateway.journal("shelved") != [])
    assert len(kept(world)) == 1


# a gateway that lies


@pytest.fixture
def shelf(world):
    return EncryptedObjects(FolderShelf(world.folder / "shelf"))


async def test_release_at__key_does_not_open_it__asked_for_inline(world, found, shelf, candidate):
    gateway, processor = await found(gateway=Pen)
    reference = shelf.put(candidate.artifact)
    lie = ReleaseAt(1, world.ticket(candidate.manifest_hash), candidate.manifest, reference.address, bytes(32))
    bundle = world.bundle(1, candidate)
    gateway.agent.answers[FetchRelease] = lambda fetch: lie if fetch.shelf else bundle
    await world.release(1, candidate.manifest_hash)
    await until(world, has(processor))
    assert [fetch.shelf for fetch in gateway.agent.heard(FetchRelease)] == [True, False]
    assert processor.metric("shelf_failures", reason="ObjectSealed") == 1


@pytest.mark.parametrize("which", ["artefact", "manifest", "sequence"])
async def test_release_at__not_what_the_chain_names__never_installed(world, found, shelf, candidate, which):
    gateway, processor = await found(gateway=Pen)
    reference = shelf.put(candidate.artifact + b"\0" * (which == "artefact"))
    manifest = candidate.manifest + b" " * (which == "manifest")
    ticket = world.ticket(candidate.manifest_hash)
    lie = ReleaseAt(1 + (which == "sequence"), ticket, manifest, reference.address, reference.key)
    gateway.agent.answers[FetchRelease] = lambda fetch: lie if fetch.shelf else NoSuchRelease(fetch.sequence)
    await world.release(1, candidate.manifest_hash)
    await until(world, lambda: len(gateway.agent.heard(FetchRelease)) >= 3)
    assert processor.agent.status()["release"] == 0
    assert processor.agent._slot.model is None
    told = {outcome.signed.report.reason for outcome in gateway.agent.heard(ReleaseOutcome)}
    wrong = {"sequence": {Reason.SKIPPED}, "manifest": {Reason.WRONG_BYTES}}
    assert told == wrong.get(which, set()), "what the shelf has is asked for without it"


async def test_release_at__to_one_that_asked_without_a_shelf__passed_over(world, found, shelf, candidate):
    gateway, processor = await found(gateway=Pen, shelves=())
    reference = shelf.put(candidate.artifact)
    ticket = world.ticket(candidate.manifest_hash)
    lie = ReleaseAt(1, ticket, candidate.manifest, reference.address, reference.key)
    gateway.agent.answers[FetchRelease] = lambda _: lie
    await world.release(1, candidate.manifest_hash)
    await world.pass_time(8)
    assert processor.agent.answers == []
    assert processor.metric("messages_ignored", reason="wrong schema") >= 1
    assert processor.agent.status()["release"] == 0


@pytest.fixture
def offer(world):
    """Has somebody send the processor something large, and returns whether it was taken."""

    async def offer(kind, data, by="gateway"):
        sender, peer = world.workers[by], world.workers["processor"].id
        sender.agent.events.clear()
        await sender.do(lambda: sender.runtime.messenger.send_large(peer, kind, data))
        await until(world, lambda: any(isinstance(event, LargeEnded) for event in sender.agent.events))
        (ended,) = [event for event in sender.agent.events if isinstance(event, LargeEnded)]
        return ended.delivered

    return offer


@pytest.fixture
async def asking(world, found, candidate):
    """A processor that asks a lying gateway for release 1, and is told that it is coming."""
    gateway, processor = await found(gateway=Pen, shelves=())
    gateway.agent.answers[FetchRelease] = lambda fetch: ReleaseComing(fetch.sequence)
    await world.release(1, candidate.manifest_hash)
    await until(world, lambda: gateway.agent.heard(FetchRelease) != [])
    return processor


@pytest.fixture
def packed(world):
    return lambda model: pack_release(world.bundle(1, model))


async def test_pieces__asked_for__taken_once(asking, offer, packed, candidate):
    assert await offer(release_kind("weather", 1), packed(candidate))
    assert asking.agent.status()["release"] == 1
    assert not await offer(release_kind("weather", 1), packed(candidate))


async def test_pieces__never_asked_for__refused_and_nothing_of_it_sent(world, found, offer, packed, candidate):
    _, processor = await found(gateway=Pen, shelves=())
    world.wire.clear()
    assert not await offer(release_kind("weather", 1), packed(heavy(candidate)))
    assert processor.metric("large_refused", reason="unasked") == 1
    assert largest(world) < PIECE
    assert processor.rows("SELECT count(*) FROM session_large_pieces") == [(0,)]


@pytest.mark.parametrize("kind", ["release/1:weather:2", "release/1:tides:1", "release/1:weather", "firmware/1", ""])
async def test_pieces__of_something_else_than_was_asked_for__refused(asking, offer, packed, candidate, kind):
    assert not await offer(kind, packed(candidate))
    assert asking.metric("large_refused", reason="unasked") == 1
    assert asking.agent.status()["release"] == 0


async def test_pieces__of_somebody_who_was_not_asked__refused(world, asking, offer, packed, candidate):
    other = await world.add("second gateway", Kind.GATEWAY, agent=Pen)
    await world.until(lambda: other.runtime.membership.complete)
    card = other.runtime.messenger.own_card()
    asking.agent.admit = lambda _peer, _purpose: True
    await other.do(lambda: other.runtime.messenger.connect(asking.runtime.messenger.own_card(), "gateway"))
    await world.until(lambda: other.in_session_with(asking))
    assert card is not None
    assert not await offer(release_kind("weather", 1), packed(candidate), by="second gateway")
    assert asking.metric("large_refused", reason="unasked") == 1
    assert asking.agent.status()["release"] == 0


async def test_pieces__larger_than_any_release__refused_before_the_first(world, asking, offer):
    world.wire.clear()
    assert not await offer(release_kind("weather", 1), bytes(LARGEST_RELEASE + 1))
    assert asking.metric("large_refused", reason="oversize") == 1
    assert largest(world) < PIECE


@pytest.mark.parametrize(
    "lie", [b"\xff" * 9, b"\0", b"\0\0\0\0", bytes(5000)], ids=["length", "short", "empty", "zeros"]
)
async def test_pieces__not_the_release_on_chain__rejected_and_asked_for_again(world, asking, offer, candidate, lie):
    assert await offer(release_kind("weather", 1), lie)
    assert asking.journal("release-rejected")[0]["why"] == "wrong bytes"
    assert asking.agent.status()["release"] == 0
    gateway = world.workers["gateway"].agent
    gateway.answers[FetchRelease] = lambda _: world.bundle(1, candidate)
    await until(world, has(asking))


async def test_pieces__announced_and_never_sent__asked_for_again(world, asking, candidate):
    gateway = world.workers["gateway"]
    gateway.agent.answers[FetchRelease] = lambda _: world.bundle(1, candidate)
    await until(world, has(asking), within=int(fetching.COMING) + 10)


# a gateway or processor that dies


@pytest.fixture
async def halfway(world, found, release, candidate):
    """A gateway of whose largest release one piece has arrived, and the rest was lost."""
    pieces = []

    def lose(sender, envelope):
        if sender.name == "gateway" and len(envelope.data) > PIECE:
            pieces.append(envelope)
            return len(pieces) > 1
        return False

    gateway, processor = await found(shelves=(), max_size=NARROW)
    world.lose = lose
    await release(heavy(candidate))
    await until(world, lambda: processor.rows("SELECT count(*) FROM session_large_pieces") != [(0,)])
    world.lose = lambda _sender, _envelope: False
    world.wire.clear()
    return gateway, processor


def pieces(world):
    """How many full pieces travelled; the last one is a short one."""
    return sum(len(envelope.data) > PIECE for _, envelope in world.wire)


@pytest.mark.parametrize("who", ["gateway", "processor", "both"])
async def test_pieces__one_dies_midway__resumed_after_its_restart(world, halfway, who):
    gateway, processor = halfway
    for worker in (gateway, processor):
        if who in {worker.name, "both"}:
            worker.restart()
    await until(world, has(processor))
    assert pieces(world) == 2, "of three full pieces, the one that had come is not sent again"
    assert processor.journal("release-rejected") == []


async def test_pieces__on_their_way__not_asked_for_again(world, halfway):
    _, processor = halfway
    world.lose = lambda sender, envelope: sender.name == "gateway" and len(envelope.data) > PIECE
    asked = len(processor.agent.answers)
    await world.pass_time(60)
    assert len(processor.agent.answers) == asked
    world.lose = lambda _sender, _envelope: False
    await until(world, has(processor))


async def test_pieces__gateway_lost_its_memory_midway__asked_for_again(world, halfway):
    gateway, processor = halfway
    gateway.runtime.messenger.large.drop_peers({processor.id})
    await until(world, has(processor), within=400)


# the gateway's own limits


@pytest.fixture
async def pen(world, found, release, candidate):
    """A gateway with a release that comes in pieces, and a processor that says what the test writes."""
    gateway, processor = await found(shelves=(), max_size=NARROW)
    await world.switch(processor, active=False)
    await release(heavy(candidate))
    pen = await world.add("pen", Kind.PROCESSOR, agent=Pen)
    await world.until(lambda: pen.runtime.membership.gateway_card() is not None)
    await pen.do(lambda: pen.runtime.messenger.connect(pen.runtime.membership.gateway_card(), "gateway"))
    await world.until(lambda: pen.in_session_with(gateway))
    return pen


@pytest.fixture
def ask(world, pen):
    """Has the pen ask for release 1, and returns the answer."""

    async def ask():
        pen.agent.events.clear()
        expects = (ReleaseAt, ReleaseBundle, ReleaseComing, NoSuchRelease)
        gateway, fetch = world.workers["gateway"].id, FetchRelease("weather", 1)
        await pen.do(lambda: pen.runtime.messenger.request(gateway, fetch, expects, 20.0, "asked"))
        await world.until(lambda: pen.agent.heard(expects) != [])
        return pen.agent.heard(expects)[0]

    return ask


async def test_fetch__again_while_pieces_are_on_their_way__no_second_transfer(world, pen, ask):
    gateway = world.workers["gateway"].runtime.messenger.large
    gateway_pieces = []
    pen.runtime.expects_large = lambda *announced: gateway_pieces.append(announced) or True
    world.lose = lambda _sender, envelope: len(envelope.data) > PIECE
    assert [await ask() for _ in range(3)] == [ReleaseComing(1)] * 3
    assert len(gateway.outgoing) == 1
    assert [kind for _, kind, _ in gateway_pieces] == [release_kind("weather", 1)]


async def test_fetch__two_others_on_their_way_to_it__told_to_ask_later(world, pen, ask):
    gateway = world.workers["gateway"]
    pen.runtime.expects_large = lambda *_: True
    world.lose = lambda _sender, envelope: len(envelope.data) > PIECE
    for number in range(2):
        data = bytes([number]) * 100_000
        await gateway.do(lambda data=data: gateway.runtime.messenger.send_large(pen.id, "other", data))
    assert await ask() == NoSuchRelease(1)


async def test_fetch__pieces_are_refused__counted(world, pen, ask):
    assert await ask() == ReleaseComing(1)
    await world.pass_time(3)
    assert world.workers["gateway"].metric("releases_undelivered") == 1


def test_pack_release__any_lengths__taken_apart_as_it_was():
    for manifest, artefact in ((b"", b""), (b"m", b""), (bytes(MANIFEST), bytes(ARTEFACT))):
        bundle = ReleaseBundle(7, LARGEST_TICKET, manifest, artefact)
        assert unpack_release(pack_release(bundle)) == bundle
        assert len(pack_release(bundle)) <= LARGEST_RELEASE


@pytest.mark.parametrize("lie", [b"", b"\xff" * 9, b"\x81" * 5000, b"\xdf\xff\xff\xff\xff"])
def test_unpack_release__garbage__refused(lie):
    with pytest.raises(MessageRefused):
        unpack_release(lie)
