from __future__ import annotations

from dataclasses import replace

import pytest
import rlp
from hypothesis import given, settings
from hypothesis import strategies as st
from mixnet_world import DOMAIN, NOW, Chain, Register, descriptor_of, node_key

from quietfleet.errors import DescriptorError
from quietfleet.mixnet import (
    MAX_DESCRIPTOR,
    OnionKeys,
    RelayBook,
    Verdict,
    coarse_expiry,
    decode_descriptor,
    peel,
    sign_descriptor,
)

HOUR = 3600
GOOD = descriptor_of(1)


# descriptors


def test_descriptor__written_and_read__is_the_same():
    read = decode_descriptor(GOOD.encode())
    read.verify(DOMAIN)
    assert read == GOOD
    assert read.id == node_key(1).public.id
    assert read.address == node_key(1).public.address


@settings(max_examples=200)
@given(st.binary(max_size=600))
def test_decode_descriptor__random_bytes__is_a_descriptor_error_or_canonical(raw):
    try:
        descriptor = decode_descriptor(raw)
    except DescriptorError:
        return
    assert descriptor.encode() == raw


@settings(max_examples=300)
@given(st.integers(0, len(GOOD.encode()) - 1), st.integers(1, 255))
def test_attack__descriptor_with_one_byte_changed__does_not_verify(place, flip):
    raw = bytearray(GOOD.encode())
    raw[place] ^= flip
    with pytest.raises(DescriptorError):
        decode_descriptor(bytes(raw)).verify(DOMAIN)


def test_decode_descriptor__signature_in_its_other_encoding__is_refused():
    raw = GOOD.encode()
    with pytest.raises(DescriptorError):
        decode_descriptor(raw[:-1] + bytes((raw[-1] + 27,)))


@settings(max_examples=60)
@given(st.integers(0, len(GOOD.encode()) - 1))
def test_decode_descriptor__cut_short_or_followed__is_refused(size):
    with pytest.raises(DescriptorError):
        decode_descriptor(GOOD.encode()[:size])
    with pytest.raises(DescriptorError):
        decode_descriptor(GOOD.encode() + bytes(size + 1))


@pytest.mark.parametrize("depth", [50, 255, 100_000])
def test_attack__descriptor_of_nested_lists__is_refused_without_following_them(depth):
    with pytest.raises(DescriptorError):
        decode_descriptor(b"\xc1" * depth + b"\xc0")


@pytest.mark.parametrize(
    "fields",
    [
        {0: bytes(63)},
        {1: b""},
        {1: b"relay example"},
        {1: b"relay.example\n"},
        {1: b"a" * 254},
        {1: b"\xff\xfe"},
        {1: b"user@host"},
        {2: b""},
        {2: b"\x01\x00\x00"},
        {2: b"\x00\x50"},
        {3: bytes(33)},
        {4: bytes(6)},
        {5: b""},
        {6: bytes(64)},
        {7: b"more"},
        {6: None},
    ],
)
def test_decode_descriptor__field_out_of_bounds__is_refused(fields):
    parts = dict(enumerate(rlp.decode(GOOD.encode()))) | fields
    raw = rlp.encode([part for _, part in sorted(parts.items()) if part is not None])
    with pytest.raises(DescriptorError):
        decode_descriptor(raw)


def test_descriptor__longest_host__fits_the_limit():
    keys = node_key(1), DOMAIN
    longest = sign_descriptor(*keys, "a" * 253, 65_535, bytes(32), (1 << 40) - 2, (1 << 40) - 1)
    assert len(longest.encode()) <= MAX_DESCRIPTOR
    assert decode_descriptor(longest.encode()) == longest


def test_verify__for_another_fleet__is_refused():
    with pytest.raises(DescriptorError):
        GOOD.verify(bytes(32))


@pytest.mark.parametrize("domain", [b"", bytes(31), bytes(33)])
def test_verify__domain_of_another_size__is_refused(domain):
    with pytest.raises(DescriptorError):
        GOOD.verify(domain)


# the book


def test_accept__new_descriptor__is_fresh_once(book, register):
    register.enrol(1)
    assert [book.accept(GOOD, NOW) for _ in range(2)] == [Verdict.FRESH, Verdict.KNOWN]
    assert [relay.descriptor for relay in book.live(NOW)] == [GOOD]
    assert book.live(NOW)[0].owner == "owner 1"


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (NOW - 121, Verdict.FROM_FUTURE),
        (NOW - 120, Verdict.FRESH),
        (NOW + 12 * HOUR - 1, Verdict.FRESH),
        (NOW + 12 * HOUR, Verdict.EXPIRED),
    ],
)
def test_accept__at_the_edges_of_its_time__is_judged_by_it(book, register, now, verdict):
    register.enrol(1)
    assert book.accept(GOOD, now) == verdict


@pytest.mark.parametrize(("lifetime", "verdict"), [(24 * HOUR, Verdict.FRESH), (24 * HOUR + 1, Verdict.LIVES_TOO_LONG)])
def test_accept__living_for_a_day_and_longer__is_taken_and_refused(book, register, lifetime, verdict):
    register.enrol(1)
    assert book.accept(descriptor_of(1, lifetime=lifetime), NOW) == verdict


def test_accept__newer_of_the_same_relay__takes_its_place(book, register):
    register.enrol(1)
    newer = descriptor_of(1, NOW + 60)
    assert [book.accept(one, NOW + 60) for one in (GOOD, newer, GOOD)] == [
        Verdict.FRESH,
        Verdict.FRESH,
        Verdict.OUTDATED,
    ]
    assert [relay.descriptor for relay in book.live(NOW + 60)] == [newer]


def test_attack__two_descriptors_of_one_second__the_first_stays(book, register):
    register.enrol(1)
    other = sign_descriptor(node_key(1), DOMAIN, "elsewhere", 1, bytes(32), NOW, NOW + HOUR)
    book.accept(GOOD, NOW)
    assert book.accept(other, NOW) == Verdict.OUTDATED


def test_attack__forged_descriptor_of_a_registered_relay__is_refused(book, register):
    register.enrol(1)
    stranger = sign_descriptor(node_key(9), DOMAIN, "here", 1, bytes(32), NOW, NOW + HOUR)
    forged = replace(GOOD, onion=bytes(32))
    posing = replace(stranger, node_id=GOOD.node_id)
    assert [book.accept(one, NOW) for one in (forged, posing)] == [Verdict.FORGED] * 2
    assert len(book) == 0


def test_attack__sybil_descriptors_of_unregistered_keys__none_is_kept(book):
    assert {book.accept(descriptor_of(number), NOW) for number in range(50)} == {Verdict.UNREGISTERED}
    assert len(book) == 0


def test_attack__relay_renews_without_end__four_an_hour_are_taken(book, register):
    register.enrol(1)
    verdicts = [book.accept(descriptor_of(1, NOW - 100 + step), NOW) for step in range(20)]
    assert verdicts == [Verdict.FRESH] * 4 + [Verdict.TOO_OFTEN] * 16
    assert book.accept(descriptor_of(1, NOW + HOUR), NOW + HOUR) == Verdict.FRESH


def test_live__relay_retired_on_chain__is_gone_at_once(book, register):
    register.enrol(1)
    book.accept(GOOD, NOW)
    register.retire(1)
    assert book.live(NOW) == []
    assert book.find(GOOD.address, NOW) is None
    register.enrol(1, "somebody else")
    assert book.live(NOW)[0].owner == "somebody else"


def test_live__about_to_expire__is_found_for_forwarding_but_not_chosen_any_more(book, register):
    register.enrol(1)
    book.accept(GOOD, NOW)
    late = GOOD.expires - 300
    assert (len(book.live(late - 1)), book.live(late)) == (1, [])
    assert book.find(GOOD.address, GOOD.expires - 1) is not None
    assert book.find(GOOD.address, GOOD.expires) is None


def test_prune__expired_and_retired__are_forgotten(book, register):
    for number in range(4):
        register.enrol(number)
        book.accept(descriptor_of(number, lifetime=HOUR * (number + 1)), NOW)
    register.retire(3)
    assert book.prune(NOW + 2 * HOUR) == 3
    assert [relay.descriptor for relay in book.live(NOW + 2 * HOUR)] == [descriptor_of(2, lifetime=3 * HOUR)]


def test_accept__book_full__makes_room_of_what_is_over_only():
    register = Register()
    book = RelayBook(DOMAIN, register.owner_of, capacity=2)
    for number in range(4):
        register.enrol(number)
    assert [book.accept(descriptor_of(number, lifetime=HOUR), NOW) for number in range(3)] == [
        Verdict.FRESH,
        Verdict.FRESH,
        Verdict.FULL,
    ]
    assert book.accept(descriptor_of(1, NOW + 60), NOW + 60) == Verdict.FRESH
    assert book.accept(descriptor_of(3, NOW + HOUR), NOW + HOUR) == Verdict.FRESH


def test_descriptors__for_a_new_peer__are_all_live_ones(book, register):
    for number in range(3):
        register.enrol(number)
        book.accept(descriptor_of(number), NOW)
    assert {one.id for one in book.descriptors(NOW)} == {node_key(number).public.id for number in range(3)}


# a relay's own keys


def test_refresh__every_six_hours__issues_one_and_erases_what_expired():
    keys = OnionKeys(node_key(1), DOMAIN, "relay.example", 30303)
    assert keys.current is None
    issued = [keys.refresh(NOW + hour * HOUR) for hour in range(24)]
    assert [hour for hour, one in enumerate(issued) if one] == [0, 6, 12, 18]
    assert keys.current == issued[18]
    assert len(keys.private_keys) == 2


def test_refresh__each_descriptor__is_genuine_fresh_and_of_its_own_key(book, register):
    register.enrol(1)
    keys = OnionKeys(node_key(1), DOMAIN, "relay.example", 30303)
    first, second = keys.refresh(NOW), keys.refresh(NOW + 6 * HOUR)
    assert book.accept(first, NOW) == book.accept(second, NOW + 6 * HOUR) == Verdict.FRESH
    assert first.onion != second.onion


def test_refresh__descriptor_expired__its_key_opens_nothing_any_more():
    chain = Chain()
    packet = chain.build()
    held = chain.keys[0].private_keys
    assert peel(held, packet, NOW)
    chain.keys[0].refresh(chain.path[0].expires)
    assert not set(held) & set(chain.keys[0].private_keys)


def test_onion_keys__after_a_restart__do_not_open_what_was_recorded_before():
    again = OnionKeys(node_key(0), DOMAIN, "relay.example", 30303)
    again.refresh(NOW)
    assert again.current.onion != Chain().path[0].onion
    assert coarse_expiry(NOW) > NOW


@pytest.mark.parametrize("onion", [bytes(32), (1).to_bytes(32, "little"), ((1 << 255) - 19).to_bytes(32, "little")])
def test_attack__onion_key_of_low_order__is_refused(book, register, onion):
    register.enrol(1)
    descriptor = sign_descriptor(node_key(1), DOMAIN, "relay.example", 30303, onion, NOW, NOW + 3600)
    assert book.accept(descriptor, NOW) is Verdict.FORGED


def test_outdo__descriptor_told_of_ourselves__only_a_lost_newer_one_of_ours_is_renewed():
    keys, before = (OnionKeys(node_key(1), DOMAIN, "relay.example", 30303) for _ in range(2))
    lost, ours = before.refresh(NOW + 30), keys.refresh(NOW)
    assert keys.outdo(ours, NOW) is None
    assert keys.outdo(descriptor_of(1, issued=NOW - 1), NOW) is None
    renewed = keys.outdo(lost, NOW)
    assert (renewed, renewed.issued) == (keys.current, lost.issued + 1)
    assert keys.outdo(lost, NOW) is None
    forged = replace(lost, issued=lost.issued + HOUR)
    with pytest.raises(DescriptorError):
        keys.outdo(forged, NOW)
