"""Message payloads against hand-made bytes, geth's own status, and random bytes."""

from __future__ import annotations

import contextlib

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.errors import WireError
from quietfleet.network.wire import MAX_MESSAGE, Status, bundles, decode_pow, encode_pow, iter_list, string
from quietfleet.whisper import Envelope, encode_bundle

GETH_STATUS = bytes.fromhex("cc06883fc999999999999a8080")  # what go-ethereum 1.9.7 sends with its default settings


def test_encode__defaults__equals_geth_status():
    assert Status(0.2).encode() == GETH_STATUS
    assert Status.decode(GETH_STATUS) == Status(0.2)


def test_decode__all_fields_and_more__ignores_the_unknown_rest():
    payload = rlp.encode([6, 0, b"\x0f" * 64, 1, b"later", b"fields"])
    assert Status.decode(payload) == Status(0.0, b"\x0f" * 64)


def test_decode__version_alone__means_no_requirement_and_all_topics():
    assert Status.decode(b"\xc1\x06") == Status(0.0)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xc0", id="no version"),
        pytest.param(b"\xc1\x05", id="version 5"),
        pytest.param(b"\x06", id="no list"),
        pytest.param(b"\xc1\x06\x00", id="trailing byte"),
        pytest.param(rlp.encode([6, [1]]), id="a list for the proof of work"),
        pytest.param(bytes.fromhex("ca06887ff8000000000000"), id="NaN"),
        pytest.param(bytes.fromhex("ca0688bff0000000000000"), id="minus one"),
        pytest.param(bytes.fromhex("ca06887ff0000000000000"), id="infinity"),
        pytest.param(rlp.encode([6, b"\1" * 9]), id="nine bytes of a double"),
        pytest.param(rlp.encode([6, 0, b"\1" * 63]), id="short bloom"),
    ],
)
def test_decode__broken_status__raises_wire_error(payload):
    with pytest.raises(WireError):
        Status.decode(payload)


@given(st.floats(min_value=0, allow_infinity=False, allow_nan=False))
def test_decode_pow__any_finite_requirement__survives_the_wire(value):
    assert decode_pow(encode_pow(value)) == value


def test_encode_pow__a_half__equals_geth_bytes():
    assert encode_pow(0.5) == bytes.fromhex("883fe0000000000000")


def test_decode_pow__a_list__raises_wire_error():
    with pytest.raises(WireError):
        decode_pow(rlp.encode([1]))


def test_bundles__more_than_fits__keeps_every_message_within_the_limit():
    envelopes = [Envelope(2_000_000_000, 60, b"tppc", bytes(300_000), nonce) for nonce in range(8)]
    payloads = [encode_bundle(batch) for batch in bundles(envelopes)]
    assert all(len(payload) <= MAX_MESSAGE for payload in payloads)
    assert [item for payload in payloads for item in iter_list(payload)] == [each.encode() for each in envelopes]
    assert len(payloads) == 3


def test_bundles__one_envelope_above_the_limit__goes_alone():
    envelopes = [Envelope(2_000_000_000, 60, b"tppc", bytes(size), 0) for size in (10, 2 * MAX_MESSAGE, 20)]
    assert list(bundles(envelopes)) == [[each] for each in envelopes]


def test_bundles__nothing__makes_no_message():
    assert list(bundles([])) == []


def test_iter_list__deeply_nested__does_not_recurse():
    payload = b""
    for _ in range(5_000):
        payload = rlp.codec.length_prefix(len(payload), 0xC0) + payload
    assert [len(item) for item in iter_list(payload)] == [len(next(iter_list(payload)))]


@given(st.binary(max_size=200))
def test_decode__random_bytes__raises_nothing_but_wire_error(payload):
    for decode in (Status.decode, decode_pow, string, lambda data: list(iter_list(data))):
        with contextlib.suppress(WireError):
            decode(payload)


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_iter_list__what_rlp_encoded__gives_back_each_item(strings):
    assert [string(item) for item in iter_list(rlp.encode(strings))] == strings
