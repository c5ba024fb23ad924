from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.crypto import keccak256
from quietfleet.errors import EnvelopeError
from quietfleet.whisper import Envelope, decode_envelope, encode_bundle, split_bundle

ENVELOPES = st.builds(
    Envelope,
    expiry=st.integers(0, 2**32 - 1),
    ttl=st.integers(0, 2**32 - 1),
    topic=st.binary(min_size=4, max_size=4),
    data=st.binary(max_size=300),
    nonce=st.integers(0, 2**64 - 1),
)
FIELDS: list[Any] = [b"\x65\x53\xf1\x32", b"\x32", b"topi", b"data", b"\x07"]


def test_decode__envelope_from_geth__reads_every_field_and_its_hash(geth_envelope: dict[str, Any]) -> None:
    envelope = decode_envelope(geth_envelope["envelope_rlp"])
    assert (envelope.expiry, envelope.ttl, envelope.nonce, envelope.topic) == (
        geth_envelope["expiry"],
        geth_envelope["ttl"],
        geth_envelope["nonce"],
        geth_envelope["topic"],
    )
    assert (len(envelope.data), envelope.size) == (geth_envelope["data_len"], geth_envelope["size"])
    assert envelope.hash == geth_envelope["hash"]


def test_encode__same_fields_as_geth__gives_the_same_bytes(geth_envelope: dict[str, Any]) -> None:
    decoded = decode_envelope(geth_envelope["envelope_rlp"])
    fresh = replace(decoded)
    assert fresh.encode() == geth_envelope["envelope_rlp"]
    if "rlp_without_nonce" in geth_envelope:
        assert fresh.encode_without_nonce() == geth_envelope["rlp_without_nonce"]
        assert decoded.encode_without_nonce() == geth_envelope["rlp_without_nonce"]


@given(ENVELOPES)
def test_decode__anything_encoded__gives_it_back(envelope: Envelope) -> None:
    fields = [envelope.expiry, envelope.ttl, envelope.topic, envelope.data]
    raw = rlp.encode([*fields, envelope.nonce])
    assert envelope.encode() == raw
    assert envelope.encode_without_nonce() == replace(envelope).encode_without_nonce() == rlp.encode(fields)
    assert decode_envelope(raw) == envelope
    assert decode_envelope(raw).hash == keccak256(raw)


@given(st.one_of(st.binary(max_size=80), st.lists(st.binary(max_size=9), min_size=4, max_size=6).map(rlp.encode)))
def test_decode__noise__is_refused_or_canonical(noise: bytes) -> None:
    try:
        envelope = decode_envelope(noise)
    except EnvelopeError:
        return
    assert replace(envelope).encode() == noise


@given(ENVELOPES, st.data())
def test_decode__one_byte_changed__is_refused_or_another_envelope(envelope: Envelope, data: st.DataObject) -> None:
    raw = bytearray(envelope.encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        changed = decode_envelope(bytes(raw))
    except EnvelopeError:
        return
    assert changed != envelope
    assert replace(changed).encode() == bytes(raw)


@given(ENVELOPES, st.data())
def test_decode__cut_short_or_followed_by_more__is_refused(envelope: Envelope, data: st.DataObject) -> None:
    raw = envelope.encode()
    with pytest.raises(EnvelopeError):
        decode_envelope(raw[: data.draw(st.integers(0, len(raw) - 1))])
    with pytest.raises(EnvelopeError):
        decode_envelope(raw + b"\x00")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, b"\x00\x01"),
        (0, b"\x00"),
        (0, b"\x01" * 5),
        (1, b"\x01" * 5),
        (2, b"top"),
        (2, b"topic"),
        (2, [b"t", b"o", b"p", b"i"]),
        (3, []),
        (4, b"\x01" * 9),
        (4, b"\x00\x01"),
    ],
)
def test_decode__field_of_wrong_size_or_kind__is_refused(field: int, value: Any) -> None:
    fields = list(FIELDS)
    decode_envelope(rlp.encode(fields))
    fields[field] = value
    with pytest.raises(EnvelopeError):
        decode_envelope(rlp.encode(fields))


@pytest.mark.parametrize("fields", [[], FIELDS[:4], [*FIELDS, b""], [FIELDS], b"data"])
def test_decode__another_shape__is_refused(fields: Any) -> None:
    with pytest.raises(EnvelopeError):
        decode_envelope(rlp.encode(fields))


@pytest.mark.parametrize(
    "raw",
    [
        "cf846553f1323284746f70698180818107",  # a nonce below 128 with a prefix
        "d0846553f1323284746f7069b80164617461" + "07",  # a short string with a long prefix
        "f80f846553f1323284746f70698464617461" + "07",  # a short list with a long prefix
        "f9000f846553f1323284746f7069846461746107",  # a length that begins with zero
        "81",
        "b8",
        "f8",
        "bfffffffffffffffff",
        "ffffffffffffffffff",
    ],
)
def test_decode__not_canonical__is_refused(raw: str) -> None:
    with pytest.raises(EnvelopeError):
        decode_envelope(bytes.fromhex(raw))


def test_decode__nested_a_hundred_thousand_deep__is_refused_at_once() -> None:
    with pytest.raises(EnvelopeError):
        decode_envelope(b"\xc1" * 100_000 + b"\xc0")


@pytest.mark.parametrize(
    "changes",
    [
        {"expiry": -1},
        {"expiry": 2**32},
        {"ttl": -1},
        {"ttl": 2**32},
        {"nonce": -1},
        {"nonce": 2**64},
        {"topic": b"abc"},
    ],
)
def test_envelope__field_out_of_range__is_refused(make_envelope: Callable[..., Envelope], changes: Any) -> None:
    with pytest.raises(EnvelopeError):
        make_envelope(**changes)


def test_sent__any_envelope__is_expiry_less_ttl(make_envelope: Callable[..., Envelope], now: int) -> None:
    assert make_envelope(expiry=now + 30, ttl=30).sent == now
    assert make_envelope(expiry=10, ttl=11).sent == -1


@given(st.lists(ENVELOPES, max_size=5))
def test_split_bundle__encoded_bundle__gives_each_envelope(envelopes: list[Envelope]) -> None:
    bundle = encode_bundle(envelopes)
    assert bundle == rlp.encode([rlp.decode(envelope.encode()) for envelope in envelopes])
    assert [decode_envelope(part) for part in split_bundle(bundle)] == envelopes


@given(ENVELOPES)
def test_split_bundle__one_bad_envelope__spares_the_others(envelope: Envelope) -> None:
    good, bad = split_bundle(rlp.encode([rlp.decode(envelope.encode()), [b"nonsense"]]))
    assert decode_envelope(good) == envelope
    with pytest.raises(EnvelopeError):
        decode_envelope(bad)


@pytest.mark.parametrize("raw", ["", "80", "c1", "c0c0", "c180", "c2c1", "c2c2", "c2c0c1"])
def test_split_bundle__not_a_list_of_lists__is_refused(raw: str) -> None:
    with pytest.raises(EnvelopeError):
        split_bundle(bytes.fromhex(raw))
