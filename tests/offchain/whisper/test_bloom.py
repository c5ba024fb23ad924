from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from quietfleet.errors import BloomError
from quietfleet.whisper import (
    FULL_BLOOM,
    TOPIC_ENTROPY,
    admits,
    aggregate,
    bloom_mask,
    draw_bloom,
    geth_topic_bloom,
    matches,
    read_bloom,
    topic_bloom,
    topic_mask,
    topic_within,
)

TOPICS = st.binary(min_size=4, max_size=4)
BLOOMS = st.one_of(
    st.binary(min_size=64, max_size=64),
    st.lists(TOPICS, max_size=5).map(lambda topics: aggregate(topic_bloom(topic) for topic in topics)),
)
ENTROPY = st.binary(min_size=TOPIC_ENTROPY, max_size=TOPIC_ENTROPY)


def _positions(bloom: bytes) -> set[int]:
    return {bit for bit in range(512) if bloom[bit // 8] & 1 << bit % 8}


def test_geth_topic_bloom__case_from_geth__is_geths(geth_bloom: dict[str, Any]) -> None:
    assert geth_topic_bloom(geth_bloom["topic"]) == geth_bloom["bloom"]


def test_geth_topic_bloom__topic_of_a_geth_envelope__is_geths(geth_envelope: dict[str, Any]) -> None:
    assert geth_topic_bloom(geth_envelope["topic"]) == geth_envelope["bloom"]


def test_topic_bloom__published_case__sets_the_three_bits() -> None:
    bloom = topic_bloom(bytes((0, 0, 255, 6)))
    assert {at: value for at, value in enumerate(bloom) if value} == {0: 1, 32: 1, 63: 128}


def test_topic_bloom__two_bits_in_one_byte__keeps_both_where_geth_keeps_the_last() -> None:
    topic = bytes((0, 1, 2, 0))
    assert (topic_bloom(topic)[0], geth_topic_bloom(topic)[0]) == (0b111, 0b100)


@given(TOPICS)
def test_topic_bloom__any_topic__has_the_bits_eip_627_names(topic: bytes) -> None:
    expected = {topic[j] + 256 * (topic[3] >> j & 1) for j in range(3)}
    assert _positions(topic_bloom(topic)) == expected
    assert _positions(geth_topic_bloom(topic)) <= expected


@given(BLOOMS, BLOOMS)
def test_matches__any_two_blooms__asks_for_every_bit(bloom: bytes, wanted: bytes) -> None:
    assert matches(bloom, wanted) == (_positions(wanted) <= _positions(bloom))
    assert matches(aggregate([bloom, wanted]), wanted)


@given(BLOOMS, TOPICS)
def test_admits__any_topic__is_matching_its_bloom(bloom: bytes, topic: bytes) -> None:
    assert admits(bloom, topic) == matches(bloom, topic_bloom(topic))
    assert admits(bloom, topic) == (topic_mask(topic) & ~bloom_mask(bloom) == 0)
    assert admits(FULL_BLOOM, topic)


@given(st.lists(BLOOMS, max_size=4))
def test_aggregate__any_blooms__is_their_union(blooms: list[bytes]) -> None:
    assert _positions(aggregate(blooms)) == set().union(*map(_positions, blooms))


@given(BLOOMS, ENTROPY)
def test_topic_within__any_bloom__lies_inside_it(bloom: bytes, entropy: bytes) -> None:
    assume(any(bloom))
    topic = topic_within(bloom, entropy)
    assert admits(bloom, topic)
    assert topic == topic_within(bloom, entropy)


def test_topic_within__all_entropy__uses_every_bit_of_the_bloom_and_the_free_ones() -> None:
    bloom = draw_bloom(b"seed", 16)
    topics = [topic_within(bloom, bytes((0, 0, 0, i % 16) * 3) + bytes((i,))) for i in range(256)]
    assert aggregate(map(topic_bloom, topics)) == bloom
    assert {topic[3] & 0b1111_1000 for topic in topics} == set(range(0, 256, 8))


def test_topic_within__empty_bloom__is_refused() -> None:
    with pytest.raises(BloomError):
        topic_within(bytes(64), bytes(TOPIC_ENTROPY))


@pytest.mark.parametrize("size", [0, TOPIC_ENTROPY - 1, TOPIC_ENTROPY + 1])
def test_topic_within__wrong_amount_of_entropy__is_refused(size: int) -> None:
    with pytest.raises(BloomError):
        topic_within(FULL_BLOOM, bytes(size))


@given(st.binary(max_size=40), st.integers(1, 512))
def test_draw_bloom__any_seed__has_that_many_bits_and_is_repeatable(seed: bytes, bits: int) -> None:
    assert len(_positions(draw_bloom(seed, bits))) == bits
    assert draw_bloom(seed, bits) == draw_bloom(seed, bits)


def test_draw_bloom__many_seeds__favour_no_position() -> None:
    counts = [0] * 512
    for seed in range(200):
        for bit in _positions(draw_bloom(seed.to_bytes(2, "big"))):
            counts[bit] += 1
    assert sum(counts) == 200 * 64
    assert 5 <= min(counts) <= max(counts) <= 50  # 25 expected, standard deviation 5


def test_draw_bloom__another_seed__differs() -> None:
    assert draw_bloom(b"one") != draw_bloom(b"other")


@pytest.mark.parametrize("bits", [-1, 0, 513])
def test_draw_bloom__impossible_number_of_bits__is_refused(bits: int) -> None:
    with pytest.raises(BloomError):
        draw_bloom(b"seed", bits)


def test_read_bloom__nothing_announced__wants_everything() -> None:
    assert read_bloom(b"") == FULL_BLOOM
    assert read_bloom(bytes(64)) == bytes(64)


@pytest.mark.parametrize("size", [1, 63, 65])
def test_read_bloom__wrong_size__is_refused(size: int) -> None:
    with pytest.raises(BloomError):
        read_bloom(bytes(size))
