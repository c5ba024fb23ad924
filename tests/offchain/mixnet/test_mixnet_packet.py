from __future__ import annotations

from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mixnet_world import DELAYS, NOW, Chain, descriptor_of

from quietfleet.errors import EnvelopeTooLarge, MixnetError, PacketRefused
from quietfleet.mixnet import (
    CAPACITIES,
    HOPS,
    PACKET_SIZES,
    Drop,
    Fault,
    Flood,
    Forward,
    Mix,
    ReplayCache,
    build,
    coarse_expiry,
    draw_delays,
    peel,
    sign_descriptor,
    size_class,
    tag_of,
)
from quietfleet.mixnet.packet import _ROUTING, SLOT_SIZE, _agree
from quietfleet.session.messenger import SIZE_CLASSES
from quietfleet.whisper import Envelope

CHAIN = Chain()
KEYS = [keys.private_keys for keys in CHAIN.keys]
WORST_SEAL = 113


def walk(packet: bytes, hops: int = HOPS) -> list:
    """Peel as far as `hops` relays, each with its own keys."""
    seen = []
    for number in range(hops):
        seen.append(peel(KEYS[number], packet, NOW))
        packet = getattr(seen[-1], "packet", b"")
    return seen


def links(packet: bytes) -> list[bytes]:
    """Return the packet as it stands on each of its three links."""
    return [packet, *(step.packet for step in walk(packet, HOPS - 1))]


def fault_of(packet: bytes, hop: int, now: float = NOW) -> str:
    with pytest.raises(PacketRefused) as refused:
        peel(KEYS[hop], packet, now)
    return refused.value.reason


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(PACKET_SIZES) - 2), st.data())
def test_peel__what_was_built__comes_out_at_the_third_hop_alone(index, data):
    envelope = data.draw(st.binary(min_size=1, max_size=min(CAPACITIES[index], 5000)))
    guard, middle, last = walk(CHAIN.build(envelope, index))
    assert (guard.next, middle.next) == (CHAIN.path[1].address, CHAIN.path[2].address)
    assert last == Flood(envelope, DELAYS[2], coarse_expiry(NOW))
    assert (guard.delay, middle.delay) == DELAYS[:2]


@pytest.mark.parametrize("index", range(len(PACKET_SIZES)))
def test_build__fullest_envelope_of_a_class__has_the_class_size_on_each_link(index):
    packet = CHAIN.build(bytes(CAPACITIES[index]), index)
    assert {len(link) for link in links(packet)} == {PACKET_SIZES[index]}
    assert walk(packet)[-1].envelope == bytes(CAPACITIES[index])


def test_build__cover__is_dropped_at_the_third_hop():
    guard, middle, last = walk(CHAIN.build(None))
    assert isinstance(guard, Forward)
    assert isinstance(middle, Forward)
    assert last == Drop(DELAYS[2], coarse_expiry(NOW))


def test_size_class__session_classes_however_sealed__have_one_each():
    for overhead in (28, WORST_SEAL):
        worst = [
            Envelope((1 << 32) - 1, 1 << 31, b"topi", bytes(size + overhead), (1 << 64) - 1) for size in SIZE_CLASSES
        ]
        assert [size_class(len(envelope.encode())) for envelope in worst] == list(range(len(PACKET_SIZES)))


def test_size_class__larger_than_any__is_refused():
    assert size_class(CAPACITIES[-1]) == len(CAPACITIES) - 1
    with pytest.raises(EnvelopeTooLarge):
        size_class(CAPACITIES[-1] + 1)


def test_build__envelope_larger_than_its_class__is_refused():
    with pytest.raises(EnvelopeTooLarge):
        CHAIN.build(bytes(CAPACITIES[0] + 1), 0)


@pytest.mark.parametrize("hops", [0, 1, 2, 4])
def test_build__not_three_hops__is_refused(hops):
    path = [descriptor_of(number) for number in range(hops)]
    with pytest.raises(MixnetError):
        build(path, b"e", [0.1] * hops, coarse_expiry(NOW), 0)


@pytest.mark.parametrize("delay", [-0.001, 65.536, float("nan"), float("inf")])
def test_build__delay_that_cannot_be_written__is_refused(delay):
    with pytest.raises(MixnetError):
        build(CHAIN.path, b"e", [0.1, delay, 0.1], coarse_expiry(NOW), 0)


def test_build__relay_with_a_key_of_low_order__is_refused():
    weak = sign_descriptor(CHAIN.keys[0]._node_key, bytes(32), "h", 1, bytes(32), NOW, NOW + 60)
    with pytest.raises(MixnetError):
        build([weak, *CHAIN.path[1:]], b"e", DELAYS, coarse_expiry(NOW), 0)


def test_draw_delays__many__have_their_means_and_never_exceed_what_can_be_written(rng):
    drawn = [draw_delays(0.2, rng) for _ in range(4000)]
    for hop, mean in zip(zip(*drawn, strict=True), (0.1, 0.5, 1.4), strict=True):
        assert sum(hop) / len(hop) == pytest.approx(mean, rel=0.06)
    assert max(draw_delays(1e9, rng)) <= 65.535


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([b"\x00", b"\xff", b"ab"]), st.integers(0, CAPACITIES[0] - 2))
def test_links__compared_place_by_place__no_more_alike_than_chance(byte, length):
    stages = links(CHAIN.build(byte * (1 + length // len(byte))))
    for one, other in [(0, 1), (1, 2), (0, 2)]:
        alike = sum(a == b for a, b in zip(stages[one], stages[other], strict=True))
        assert alike < 25  # of 896 random bytes 3.5 are expected; 25 comes once in 10^14


def test_links__no_piece_of_one__is_found_in_another():
    stages = links(CHAIN.build(bytes(CAPACITIES[0])))
    for number, stage in enumerate(stages):
        pieces = {stage[at : at + 8] for at in range(len(stage) - 8)}
        for other in stages[number + 1 :]:
            assert not pieces & {other[at : at + 8] for at in range(len(other) - 8)}


def test_links__each_byte_over_many_packets__looks_random_on_every_link():
    counts = [[0] * 256 for _ in range(HOPS)]
    for _ in range(60):
        for number, stage in enumerate(links(CHAIN.build(b"e"))):
            for value in stage[32:]:  # an X25519 key's top bit is always clear
                counts[number][value] += 1
    for count in counts:
        mean = sum(count) / 256
        assert sum((seen - mean) ** 2 / mean for seen in count) < 400  # chi-squared, 255 degrees: mean 255, sd 23


def test_filler__at_every_hop__is_what_the_sender_bound_into_the_slot():
    """A wrong filler fails the next hop's seal: that all three open is the proof, here for many keys."""
    for seed in range(20):
        chain = Chain(seed)
        packet = chain.build(b"e")
        for keys in chain.keys[:-1]:
            packet = peel(keys.private_keys, packet, NOW).packet
        assert peel(chain.keys[-1].private_keys, packet, NOW) == Flood(b"e", DELAYS[2], coarse_expiry(NOW))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, HOPS - 1), st.integers(0, PACKET_SIZES[0] - 1), st.integers(1, 255))
def test_peel__one_byte_changed_on_any_link__is_refused_by_the_relay_it_reaches(link, place, flip):
    packet = bytearray(links(CHAIN.build())[link])
    packet[place] ^= flip
    assert fault_of(bytes(packet), link) == Fault.SEALED


def test_attack__guard_tags_each_part__the_honest_middle_passes_nothing_on():
    seen_by_middle = links(CHAIN.build())[1]
    for place in (0, 31, 32, SLOT_SIZE - 1, SLOT_SIZE, 2 * SLOT_SIZE, 3 * SLOT_SIZE, -1):
        tagged = bytearray(seen_by_middle)
        tagged[place] ^= 0x80
        assert fault_of(bytes(tagged), 1) == Fault.SEALED


def test_attack__slots_of_one_packet_before_the_body_of_another__are_refused():
    one, other = CHAIN.build(b"one"), CHAIN.build(b"other")
    assert fault_of(one[: 3 * SLOT_SIZE] + other[3 * SLOT_SIZE :], 0) == Fault.SEALED
    assert fault_of(one[:SLOT_SIZE] + other[SLOT_SIZE:], 0) == Fault.SEALED


def test_attack__top_bit_of_the_ephemeral_key__does_not_make_a_second_packet_of_it():
    """X25519 ignores that bit, so the shared secret is the same; the keys are bound to the bytes."""
    packet = bytearray(CHAIN.build())
    packet[31] ^= 0x80
    assert fault_of(bytes(packet), 0) == Fault.SEALED


def test_peel__by_any_relay_but_the_next__is_refused():
    packet = CHAIN.build()
    assert [fault_of(packet, hop) for hop in (1, 2)] == [Fault.SEALED] * 2
    stranger = [X25519PrivateKey.from_private_bytes(bytes(range(32)))]
    with pytest.raises(PacketRefused):
        peel(stranger, packet, NOW)


def test_peel__without_keys__is_refused():
    with pytest.raises(PacketRefused):
        peel((), CHAIN.build(), NOW)


def test_peel__older_key_of_the_relay__still_opens():
    chain = Chain()
    packet = chain.build()
    chain.keys[0].refresh(NOW + 6 * 3600)
    assert len(chain.keys[0].private_keys) == 2
    assert isinstance(peel(chain.keys[0].private_keys, packet, NOW), Forward)


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f", b"\xff" * 32])
def test_peel__ephemeral_key_of_low_order__is_refused(point):
    assert fault_of(point + CHAIN.build()[32:], 0) == Fault.SEALED


@pytest.mark.parametrize(
    "size", [0, 1, 31, 32, SLOT_SIZE, *(s - 1 for s in PACKET_SIZES), *(s + 1 for s in PACKET_SIZES)]
)
def test_attack__probe_with_a_size_that_no_class_has__refused_before_any_cryptography(size):
    assert fault_of(bytes(size), 0) == Fault.SIZE


def test_attack__packet_cut_or_stretched_to_another_class__is_refused():
    small, large = CHAIN.build(), CHAIN.build(index=1)
    assert fault_of(small + bytes(PACKET_SIZES[1] - PACKET_SIZES[0]), 0) == Fault.SEALED
    assert fault_of(large[: PACKET_SIZES[0]], 0) == Fault.SEALED


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PACKET_SIZES[:2]), st.randoms(use_true_random=False))
def test_peel__random_bytes_of_a_right_size__are_refused(size, random):
    assert fault_of(random.randbytes(size), 0) == Fault.SEALED


@given(st.floats(0, 1e9, allow_nan=False))
def test_coarse_expiry__any_time__is_a_whole_minute_one_to_two_minutes_ahead(now):
    expiry = coarse_expiry(now)
    assert expiry % 60 == 0
    assert 60 < expiry - now <= 120


@pytest.mark.parametrize("skew", [-59, 0, 59])
def test_peel__relay_clock_off_by_less_than_a_minute__is_taken(skew):
    assert isinstance(peel(KEYS[0], CHAIN.build(), NOW + skew), Forward)


def test_peel__outside_of_its_time__is_refused():
    packet, expiry = CHAIN.build(), coarse_expiry(NOW)
    assert isinstance(peel(KEYS[0], packet, expiry - 0.001), Forward)
    assert fault_of(packet, 0, expiry) == Fault.EXPIRED
    assert isinstance(peel(KEYS[0], packet, expiry - 180), Forward)
    assert fault_of(packet, 0, expiry - 180.001) == Fault.FROM_FUTURE


def test_attack__sender_marks_packets_with_an_odd_expiry__refused():
    odd = build(CHAIN.path, b"e", DELAYS, coarse_expiry(NOW) + 1, 0)
    assert fault_of(odd, 0) == Fault.ROUTING


@pytest.mark.parametrize(
    ("command", "address"),
    [(0, bytes(20)), (1, bytes(20)), (2, b"a" * 20), (3, b"a" * 20), (4, b"a" * 20), (4, bytes(20))],
)
def test_peel__routing_that_contradicts_itself__is_refused(command, address):
    seal, _ = _agree(CHAIN.path[0].onion, CHAIN.random)
    odd = seal(_ROUTING.pack(command, 0, coarse_expiry(NOW), address), bytes(PACKET_SIZES[0] - SLOT_SIZE))
    assert fault_of(odd, 0) == Fault.ROUTING


def test_build__empty_envelope__is_refused_at_the_exit():
    packet = links(CHAIN.build(b""))[-1]
    assert fault_of(packet, 2) == Fault.BODY


def test_attack__replay__is_opened_once_by_each_relay():
    relays = [Mix(keys, ReplayCache()) for keys in CHAIN.keys]
    first = links(CHAIN.build())
    for relay, packet in zip(relays, first, strict=True):
        relay.open(packet, NOW)
        with pytest.raises(PacketRefused) as refused:
            relay.open(packet, NOW + 30)
        assert refused.value.reason == Fault.REPLAYED


def test_attack__replay_after_the_cache_forgot_it__is_over():
    relay, packet = Mix(CHAIN.keys[0], ReplayCache()), CHAIN.build()
    relay.open(packet, NOW)
    with pytest.raises(PacketRefused) as refused:
        relay.open(packet, coarse_expiry(NOW))
    assert refused.value.reason in {Fault.REPLAYED, Fault.EXPIRED}
    relay._replays.prune(coarse_expiry(NOW))
    assert len(relay._replays) == 0
    with pytest.raises(PacketRefused):
        relay.open(packet, coarse_expiry(NOW))


def test_attack__junk_under_a_packets_tag__does_not_burn_the_packet():
    relay, packet = Mix(CHAIN.keys[0], ReplayCache()), CHAIN.build()
    with pytest.raises(PacketRefused):
        relay.open(tag_of(packet) + bytes(len(packet) - 32), NOW)
    assert isinstance(relay.open(packet, NOW), Forward)


def test_mix__cache_full__refuses_rather_than_risk_a_replay():
    relay = Mix(CHAIN.keys[0], ReplayCache(capacity=1))
    relay.open(CHAIN.build(), NOW)
    with pytest.raises(PacketRefused) as refused:
        relay.open(CHAIN.build(), NOW)
    assert refused.value.reason == Fault.FULL


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(-90, 90)), max_size=60))
def test_replay_cache__any_order_of_tags_and_times__never_takes_one_twice_nor_grows_past_its_bound(steps):
    cache, taken, now = ReplayCache(capacity=8), set(), float(NOW)
    for tag, minute, move in steps:
        now += move
        key = (bytes((tag, minute)), (NOW // 60 + minute) * 60)  # a packet's tag comes with one expiry
        if cache.spend(*key, now):
            assert key not in taken
            taken.add(key)
        assert len(cache) <= 8


def test_build__same_everything_but_randomness__has_nothing_in_common():
    one = build(CHAIN.path, b"e", DELAYS, coarse_expiry(NOW), 0, Random(1).randbytes)
    other = build(CHAIN.path, b"e", DELAYS, coarse_expiry(NOW), 0, Random(2).randbytes)
    assert sum(a == b for a, b in zip(one, other, strict=True)) < 25
