"""docs/protocol.md suffices for a second implementation: what the package says is read by `second_reader`.

Onion packets are read in `mixnet/test_mixnet_second_reading.py`.
"""

from __future__ import annotations

import ast
import random as randomness
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coincurve
import msgspec
import pytest
import rlp
import second_reader as reader

from quietfleet.chain.configuration import configuration_digest
from quietfleet.chain.types import Configuration
from quietfleet.clock import ManualClock
from quietfleet.crypto import PrivateKey, checksum_address, keccak256
from quietfleet.crypto.onetime import OneTimeKey
from quietfleet.devp2p import HelloReceived, MessageReceived, Profile, Session
from quietfleet.dispatch import Capability, Offer, Proposal, SeekerMachine, Terms, Wish
from quietfleet.metrics import Metrics
from quietfleet.mixnet import sign_descriptor
from quietfleet.network.link import SHH, STEM
from quietfleet.network.stemwire import ArchiveAsk, ArchivePage, WorkAsk, WorkDone, read_descriptors, tell_descriptors
from quietfleet.network.wire import Status
from quietfleet.session import Codec, Identity, Messenger, Mode, Received, epoch_commitment
from quietfleet.settings import NetworkSection
from quietfleet.storage import Database
from quietfleet.whisper import Envelope, admits, decode_envelope, mine, pow_of, topic_bloom
from quietfleet.workers._network import entries
from quietfleet.workers.messages import Readings, Recommendation, make_codec

DOMAIN = (31337).to_bytes(32, "big") + bytes(range(20))
FLEET = keccak256(DOMAIN)
NOW = 1_700_000_000


class Question(msgspec.Struct, frozen=True, tag="question/1"):
    text: str


class Answer(msgspec.Struct, frozen=True, tag="answer/1"):
    text: str


class Everyone:
    """A registry in which all may work together, each under its first key."""

    def can_cooperate(self, a, b):
        return a != b

    def speaks_for(self, worker, key):
        return worker == key

    def usable(self, worker):
        return bool(worker)

    def stopped(self, worker):
        return not worker


@dataclass
class Party:
    """A real messenger, and all it sent."""

    messenger: Messenger
    sent: list[Any]

    def send(self, other):
        self.messenger.tick()
        for transmission in iter(self.messenger.next_transmission, None):
            self.sent.append(transmission)
            for event in other.messenger.receive(transmission.topic, transmission.data):
                if isinstance(event, Received) and event.packet.mode is Mode.REQUEST:
                    other.messenger.reply(event, Answer(event.body.text.upper()))

    def last(self):
        return self.sent[-1].topic, self.sent[-1].data


class Meeting:
    """Two workers; the first calls the second. Blooms are narrow, so that topics say something."""

    def __init__(self, folder):
        self.clock, self.random, self.folder = ManualClock(), randomness.Random(11), folder
        self.epoch_keys = {}
        self.previous = self.latest = None
        self.a, self.b = self.party("a"), self.party("b")
        self.rotate()

    def party(self, name):
        identity = Identity(PrivateKey.from_bytes(self.random.randbytes(32)))
        codec = Codec(Question, answers=(Answer,))
        rest = (Everyone(), Metrics(), self.clock, self.random.randbytes, DOMAIN, lambda _peer, _purpose: True)
        database = Database(self.folder / f"{name}.db")
        return Party(Messenger(identity, database, codec, *rest, bloom_bits=64), [])

    def rotate(self):
        """Bring a version into force of which `a` is the gateway."""
        version = self.latest.version + 1 if self.latest else 1
        key = self.epoch_keys[version] = self.random.randbytes(32)
        gateway = self.a.messenger
        limits = (int(self.clock.now()), 10, 0.0, 60, 131_072)
        digests = (bytes(32), gateway.epochs.prepare(version).card.digest)
        latest = Configuration(version, *limits, self.b.messenger.id, gateway.id, epoch_commitment(key), *digests)
        self.previous, self.latest = self.latest, latest
        for party in (self.a, self.b):
            party.messenger.adopt(self.latest, self.previous)
            party.messenger.set_epoch_key(latest, key)

    def exchange(self):
        for _ in range(2):
            self.a.send(self.b)
            self.b.send(self.a)


def hpke_of(party, version=1):
    return party.messenger.epochs.meeting(version).hpke.to_bytes()


def card_of(party):
    """The card as it travels."""
    return msgspec.msgpack.encode(party.messenger.own_card())


@pytest.fixture
def meeting(tmp_path):
    return Meeting(tmp_path)


@pytest.fixture
def call(meeting):
    """Hello and Welcome of a call from `a` to `b`, read; and the root they lead to."""
    a, b = meeting.a, meeting.b
    a.messenger.connect(b.messenger.own_card(), "deal:" + "5" * 32)
    (attempt,) = a.messenger._calls._attempts.values()
    a.send(b)
    b.send(a)
    read = reader.Call(DOMAIN, reader.Card(card_of(b)), hpke_of(b), a.last())
    root = read.root(hpke_of(a), attempt.answer_to.to_bytes(), b.last())
    return read, root


def opened(keys, transmissions):
    """Return the packets of those transmissions that come under one of these keys."""
    mine_ = [one for one in transmissions if one.topic in keys]
    return [reader.read_packet(reader.open_payload(keys[one.topic], one.data)) for one in mine_]


def test_reader__imports_nothing_of_the_package():
    tree = ast.parse(Path(reader.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= {
        *sys.stdlib_module_names,
        *("coincurve", "cryptography", "msgspec", "rlp", "sha3"),
    }


def test_hello__opened__shows_caller_purpose_and_time(meeting, call):
    read, _ = call
    assert bytes.fromhex(meeting.a.messenger.id[2:]) == read.initiator.worker
    assert (read.purpose, read.at) == ("deal:" + "5" * 32, meeting.clock.now())
    assert {len(one.data) for party in (meeting.a, meeting.b) for one in party.sent[:1]} == {4096 + 28}
    assert len(reader.open_payload(read.responder.contact, hello_of(meeting)[1])) == 3968
    assert len(reader.open_payload(reader.derive(read.share, "welcome"), meeting.b.sent[0].data)) == 2392


def test_hello__for_another_contract__is_not_signed(meeting, call):
    with pytest.raises(AssertionError):
        reader.Call(DOMAIN[:-1] + b"\xff", reader.Card(card_of(meeting.b)), hpke_of(meeting.b), hello_of(meeting))


def hello_of(meeting):
    return meeting.a.sent[0].topic, meeting.a.sent[0].data


def test_session__from_the_root_on__every_message_of_both_directions_opens(meeting, call):
    read, root = call
    a, b = meeting.a.messenger, meeting.b.messenger
    there, back, _ = reader.chains(root, 1, meeting.epoch_keys[1])
    asked = [a.request(b.id, Question(f"number {n}"), (Answer,), 90.0) for n in range(3)]
    meeting.exchange()
    said = opened(reader.keys(there, read.responder.bloom, 8), meeting.a.sent)
    assert [packet["body"]["type"] for packet in said] == ["ready/1", *["question/1"] * 3]
    assert [packet["id"] for packet in said[1:]] == asked
    assert [packet["mode"] for packet in said] == [2, 1, 1, 1]
    answers = opened(reader.keys(back, read.initiator.bloom, 8), meeting.b.sent)
    texts = [{"type": "answer/1", "text": f"NUMBER {n}"} for n in range(3)]
    assert [packet["body"] for packet in answers] == texts
    assert [packet["parent"] for packet in answers] == asked
    assert [packet["heard"] for packet in answers] == [[said[0]["id"]], [], []]
    assert len(meeting.a.sent) + len(meeting.b.sent) == 2 + len(said) + len(answers)


def test_session__message_written_by_the_reader__is_heard(meeting, call):
    read, root = call
    there, _, _ = reader.chains(root, 1, meeting.epoch_keys[1])
    topic, key = list(reader.keys(there, read.responder.bloom, 3).items())[2]  # the two before may come later
    body = {"type": "question/1", "text": "by another implementation"}
    packet = reader.write_packet(b"i" * 16, 2, meeting.clock.now() + 30, body)
    events = meeting.b.messenger.receive(topic, reader.seal_payload(key, packet, meeting.random.randbytes))
    assert [event.body for event in events if isinstance(event, Received)] == [Question(body["text"])]


def test_session__version_after_version__roots_ratchet_and_epoch_keys_come_in(meeting, call):
    read, root = call
    meeting.exchange()
    _, _, root = reader.chains(root, 1, b"")
    meeting.rotate()
    meeting.a.messenger.notify(meeting.b.messenger.id, Question("in the second"))
    meeting.exchange()
    meeting.clock.advance(1)
    meeting.exchange()
    there, back, _ = reader.chains(root, 2, meeting.epoch_keys[2])
    said = opened(reader.keys(there, read.responder.bloom, 2), meeting.a.sent)
    assert [packet["body"] for packet in said] == [{"type": "question/1", "text": "in the second"}]
    assert len(opened(reader.keys(back, read.initiator.bloom, 2), meeting.b.sent)) == 1
    assert opened(reader.keys(reader.chains(root, 2, b"")[0], read.responder.bloom, 2), meeting.a.sent) == []


def test_conversation__packets_of_one__say_what_comes_before_and_what_was_given_up(meeting, call):
    read, root = call
    a, b = meeting.a.messenger, meeting.b.messenger
    meeting.exchange()
    first = a.notify(b.id, Question("first"))
    given_up = a.notify(b.id, Question("lost"), within=1.0, conversation=first)
    third = a.notify(b.id, Question("third"), conversation=first)
    meeting.clock.advance(2)
    a.tick()
    fourth = a.notify(b.id, Question("fourth"), conversation=first)
    meeting.a.send(meeting.b)
    there = reader.chains(root, 1, meeting.epoch_keys[1])[0]
    packets = {one["id"]: one for one in opened(reader.keys(there, read.responder.bloom, 8), meeting.a.sent)}
    place = ("conversation", "after", "passed")
    assert [packets[first][name] for name in place] == [None, None, []]
    assert [packets[third][name] for name in place] == [first, first, [given_up]]
    assert [packets[fourth][name] for name in place] == [first, third, [given_up]]


def test_card__announced__opens_for_anyone_and_has_the_digest_of_the_configuration(meeting):
    meeting.a.messenger.announce()
    (sent,) = iter(meeting.a.messenger.next_transmission, None)
    key, topic = reader.announcement(DOMAIN, 1)
    card = reader.Card(reader.open_payload(key, sent.data))
    assert sent.topic == topic
    assert card.digest == meeting.latest.gateway_card_digest
    assert (card.version, "0x" + card.worker.hex()) == (1, meeting.a.messenger.id.lower())


def test_card__of_somebody_else__is_not_signed(meeting):
    fields = reader.unpack(card_of(meeting.a))
    fields[1] = bytes(20)
    with pytest.raises(AssertionError):
        reader.Card(reader.pack(fields))


def test_body__of_readings_and_their_answer__is_as_the_table_says():
    readings = msgspec.msgpack.encode(Readings(7, [(1.5, {"temperature": 21.25})]))
    assert reader.unpack(readings) == {"type": "readings/1", "first": 7, "rows": [[1.5, {"temperature": 21.25}]]}
    advice = {"type": "recommendation/1", "accepted": 1, "advice": "close the window"}
    assert make_codec().body(reader.pack(advice)) == Recommendation(1, "close the window")


def test_body__of_an_offer__is_as_the_table_says():
    capability = {"name": "forecast", "version": 1, "request_schema": "readings/1", "reply_schema": "recommendation/1"}
    offer = {"type": "dispatch.offer/1", "offer_id": "a" * 32, "capability": capability, "attributes": {"site": "x"}}
    offer["attributes"]["floors"] = ["first", "second"]
    offer |= {"capacity": 8, "expires": 1.5e9, "reply_keys": [b"k" * 32], "price": 2.5}
    attributes = {"site": "x", "floors": ("first", "second")}
    read = Offer("a" * 32, Capability(**capability), attributes, 8, 1.5e9, (b"k" * 32,), 2.5)
    assert make_codec().body(reader.pack(offer)) == read
    assert reader.unpack(msgspec.msgpack.encode(read)) == offer


def test_introduction__between_two_machines__card_and_purpose_read():
    terms = Terms(Capability("forecast", 1, "readings/1", "recommendation/1"), {"site": "x"}, 1.5e9, 2.5)
    keys = {side: OneTimeKey(bytes([number]) * 32) for number, side in enumerate(("seeker", "provider"), start=1)}
    publics = keys["seeker"].public_bytes, keys["provider"].public_bytes
    seeker = SeekerMachine(Wish("forecast", max_price=3.0), lambda size: b"\x01" * size)
    seeker.start(NOW)
    seeker.receive(Proposal("a" * 32, terms, initiator=True, own_key=publics[0], other_key=publics[1]), NOW)
    (accept,) = seeker.accept(b"the card", NOW)
    tie = reader.tie("a" * 32, msgspec.to_builtins(terms), *publics)
    sealed = reader.unpack(msgspec.msgpack.encode(accept))["card"]
    assert reader.unonce(b"\x02" * 32, sealed, b"quietfleet deal" + tie + b"\x01") == b"the card"
    assert seeker.tie.name == reader.purpose("a" * 32, tie).removeprefix("deal:")


def test_descriptor__in_a_message__read_and_its_signature_checked():
    key = PrivateKey.from_bytes(b"\x03" * 32)
    descriptor = sign_descriptor(key, FLEET, "relay.example", 30303, b"\x07" * 32, NOW, NOW + 3600)
    (message,) = tell_descriptors([descriptor])
    (raw,) = (rlp.encode(one) for one in rlp.decode(message.payload))
    read = reader.read_descriptor(raw, FLEET)
    assert read == (key.public.address, "relay.example", 30303, b"\x07" * 32, NOW, NOW + 3600)
    with pytest.raises(AssertionError):
        reader.read_descriptor(raw, bytes(32))


def test_descriptor__written_as_the_page_says__is_taken():
    key = coincurve.PrivateKey(b"\x04" * 32)
    times = [each.to_bytes(4, "big") for each in (NOW, NOW + 60)]
    fields = [key.public_key.format(compressed=False)[1:], b"::1", b"\x76\x5f", b"\x01" * 32, *times]
    digest = reader.keccak(b"quietfleet/1/relay descriptor", FLEET, rlp.encode(fields))
    raw = rlp.encode([[*fields, key.sign_recoverable(digest, hasher=None)]])
    (descriptor,) = read_descriptors(raw)
    descriptor.verify(FLEET)
    assert (descriptor.host, descriptor.port) == ("::1", 30303)


def an_envelope(data=b"sealed"):
    return mine(NOW + 20, 20, b"\x01\x02\x03\x05", data, 0.5, start=99)


def test_back_fill__question_and_answer__read():
    bloom, envelopes = bytes(63) + b"\x01", [an_envelope(), an_envelope(b"another")]
    ask = ArchiveAsk(b"request!", NOW, NOW + 240, bloom, b"c" * 16)
    assert reader.read_archive_ask(ask.encode().payload) == (b"request!", NOW, NOW + 240, bloom, b"c" * 16)
    page = ArchivePage(b"request!", tuple(one.encode() for one in envelopes)).encode()
    assert (page.capability, ask.encode().code, page.code) == ("stem", 3, 4)
    request, raws, cursor = reader.read_archive(page.payload)
    assert (request, cursor) == (b"request!", b"")
    assert [decode_envelope(raw) for raw in raws] == envelopes


def test_work__question_and_answer__read():
    draft = an_envelope()
    ask = WorkAsk(b"request!", draft, 0.25).encode()
    fields = (NOW + 20, 20, b"\x01\x02\x03\x05", b"sealed", 0.25)
    assert reader.read_work_ask(ask.payload) == (b"request!", *fields)
    assert reader.read_work(WorkDone(b"request!", 5).encode().payload) == (b"request!", 5)
    assert reader.read_work(WorkDone(b"request!", None).encode().payload) == (b"request!", None)
    written = rlp.encode([b"request!", (NOW + 20).to_bytes(4, "big"), b"\x14", *fields[2:4], b"\x3f\xd0" + bytes(6)])
    assert WorkAsk.decode(written) == WorkAsk(b"request!", Envelope(*fields[:4], 0), 0.25)


def test_envelope__mined__has_the_work_that_the_page_computes():
    envelope = an_envelope()
    raw = envelope.encode()
    assert reader.read_envelope(raw) == (NOW + 20, 20, b"\x01\x02\x03\x05", b"sealed", envelope.nonce)
    assert reader.proof_of_work(raw) == pow_of(envelope) >= 0.5
    assert reader.keccak(raw) == envelope.hash


@pytest.mark.parametrize("topic", [b"\x00\x00\x00\x00", b"\x01\x02\x03\x05", b"\xff\x80\x07\xff"])
def test_topic__its_bits__are_those_of_its_bloom(topic):
    bloom = topic_bloom(topic)
    assert reader.takes(bloom, topic)
    assert admits(bloom, topic)
    assert sum(byte.bit_count() for byte in bloom) == len(set(reader.topic_bits(topic)))


def test_relays_to_begin_with__of_a_list__are_the_three_that_the_page_says():
    first, urls = b"\x2a" * 32, []
    for number in range(1, 17):
        point = coincurve.PrivateKey(number.to_bytes(32, "big")).public_key.format(compressed=False)
        urls.append(f"enode://{point[1:].hex()}@relay-{number}.example:30303")
    seed = reader.derive(first, "entry order")
    least = sorted(urls, key=lambda url: reader.keccak(seed, url.encode()))[:3]
    chosen = entries(NetworkSection(), tuple(urls), PrivateKey.from_bytes(first))
    assert [str(enode) for enode in chosen] == least


def test_status__read__is_requirement_and_bloom():
    bloom = b"\x0f" * 64
    version, work, wanted, light = rlp.decode(Status(0.2, bloom).encode())
    assert (version, reader.double(work), wanted, light) == (b"\x06", 0.2, bloom, b"")


def test_link__dialled_by_the_reader__opens_and_carries_messages_both_ways():
    theirs, ours = PrivateKey.from_bytes(b"\x02" * 32), coincurve.PrivateKey(b"\x05" * 32)
    session = Session(Profile(theirs, (SHH, STEM)))
    dialler = reader.Dialler(ours, theirs.public.to_bytes(), randomness.Random(5).randbytes)
    assert session.feed(dialler.auth) == []
    outward, inward, rest = dialler.directions(session.output())
    hello, rest = inward.open(rest)
    version, _, capabilities, _, node_id = rlp.decode(hello[1:])
    assert (hello[:1], version, capabilities) == (b"\x80", b"\x05", [[b"shh", b"\x06"], [b"stem", b"\x01"]])
    assert (node_id, rest) == (theirs.public.to_bytes(), b"")
    own = [b"\x05", b"", [[b"shh", b"\x06"], [b"stem", b"\x01"]], b"", ours.public_key.format(compressed=False)[1:]]
    ask = b"\x01\x00\xc0"  # a snappy block of one byte
    frames = outward.seal(b"\x80" + rlp.encode(own)) + outward.seal(bytes((0x81, 16 + 128)) + ask)
    opened_, asked = session.feed(frames)
    assert isinstance(opened_, HelloReceived)
    assert asked == MessageReceived("stem", 0, b"\xc0")
    session.send("shh", 1, b"\xc0")
    content, _ = inward.open(session.output())
    assert content == bytes((17,)) + ask


def test_configuration__hashed_as_the_page_says__has_its_digest():
    oracle, gateway = PrivateKey.from_bytes(b"\x08" * 32).public, PrivateKey.from_bytes(b"\x09" * 32).public
    digests = (b"\x01" * 32, b"\x02" * 32, b"\x03" * 32)
    one = Configuration(7, NOW, 60, 0.25, 600, 131_072, oracle.id, gateway.id, *digests, previous_block=99)
    contract = checksum_address(DOMAIN[32:])
    fields = (7, NOW, 60, 250_000_000, 600, 131_072, oracle.address, gateway.address, *digests, 99)
    assert reader.configuration_digest(DOMAIN, *fields) == configuration_digest(one, 31337, contract)
