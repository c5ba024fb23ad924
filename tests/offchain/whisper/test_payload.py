from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quietfleet.crypto import PrivateKey, PublicKey, keccak256
from quietfleet.errors import CryptoError, PayloadError
from quietfleet.whisper import (
    MAX_PAYLOAD,
    Opened,
    decode_envelope,
    open_asymmetric,
    open_symmetric,
    password_key,
    room,
    seal_asymmetric,
    seal_symmetric,
)
from quietfleet.whisper.payload import read_plaintext, write_plaintext

KEY = bytes(range(32))
SIGNER = PrivateKey.from_bytes(b"\x03" * 32)
RECEIVER = PrivateKey.from_bytes(b"\x04" * 32)
SIGNERS = st.sampled_from([None, SIGNER])


def _open(mode: str, data: bytes, shared_key: bytes, receiver: PrivateKey) -> Opened:
    return open_symmetric(shared_key, data) if mode.startswith("sym") else open_asymmetric(receiver, data)


def _check(opened: Opened, vector: dict[str, Any]) -> None:
    assert opened.payload == vector["payload"]
    assert opened.signer == (PublicKey.from_bytes(vector["recovered_pub"][1:]) if vector["signed"] else None)


def _rewrite(vector: dict[str, Any], sender: PrivateKey) -> bytes:
    """Write the vector's plaintext again from its payload and its padding."""
    opened = read_plaintext(vector["plaintext"])
    end = len(vector["plaintext"]) - (65 if vector["signed"] else 0)
    padding = vector["plaintext"][end - opened.padding_len : end]
    signer = sender if vector["signed"] else None
    return write_plaintext(vector["payload"], signer=signer, random=lambda size: padding[:size])


def test_open__envelope_from_geth__gives_payload_padding_and_signer(
    geth_envelope: dict[str, Any], shared_key: bytes, receiver: PrivateKey
) -> None:
    data = decode_envelope(geth_envelope["envelope_rlp"]).data
    opened = _open(geth_envelope["mode"], data, shared_key, receiver)
    _check(opened, geth_envelope)
    assert opened.padding_len == geth_envelope["padding_len"]


def test_open__message_from_waku__gives_payload_and_signer(
    waku_message: dict[str, Any], shared_key: bytes, receiver: PrivateKey
) -> None:
    _check(_open(waku_message["mode"], waku_message["waku_payload"], shared_key, receiver), waku_message)


def test_write__payload_and_padding_from_geth__gives_geths_plaintext_and_signature(
    geth_envelope: dict[str, Any], sender: PrivateKey
) -> None:
    if "plaintext" in geth_envelope:
        assert _rewrite(geth_envelope, sender) == geth_envelope["plaintext"]


def test_write__payload_and_padding_from_waku__gives_wakus_plaintext_and_signature(
    waku_message: dict[str, Any], sender: PrivateKey
) -> None:
    if "plaintext" in waku_message:
        assert _rewrite(waku_message, sender) == waku_message["plaintext"]


def test_seal__randomness_of_a_waku_message__gives_wakus_bytes(
    waku_message: dict[str, Any], sender: PrivateKey, shared_key: bytes
) -> None:
    if waku_message["mode"] == "asymmetric" or "plaintext" not in waku_message:
        return  # its ephemeral key was thrown away, or its padding is not recorded
    plaintext, data = waku_message["plaintext"], waku_message["waku_payload"]
    end = len(plaintext) - (65 if waku_message["signed"] else 0)
    draws = iter([plaintext[end - read_plaintext(plaintext).padding_len : end], data[-12:]])
    signer = sender if waku_message["signed"] else None
    assert seal_symmetric(shared_key, waku_message["payload"], signer=signer, random=lambda _: next(draws)) == data


def test_password_key__case_from_geth__is_geths(geth_password: dict[str, Any]) -> None:
    assert password_key(geth_password["password"]) == geth_password["key"]


@given(st.binary(max_size=700), SIGNERS)
def test_open_symmetric__anything_sealed__gives_it_back(payload: bytes, signer: PrivateKey | None) -> None:
    data = seal_symmetric(KEY, payload, signer=signer)
    opened = open_symmetric(KEY, data)
    assert (opened.payload, opened.signer) == (payload, signer.public if signer else None)
    assert (len(data) - 28) % 256 == 0
    assert 1 <= opened.padding_len <= 256


@given(st.binary(max_size=700), SIGNERS)
def test_open_asymmetric__anything_sealed__gives_it_back(payload: bytes, signer: PrivateKey | None) -> None:
    opened = open_asymmetric(RECEIVER, seal_asymmetric(RECEIVER.public, payload, signer=signer))
    assert (opened.payload, opened.signer) == (payload, signer.public if signer else None)


@pytest.mark.parametrize(
    ("size", "signer", "padding"), [(254, None, 256), (253, None, 1), (189, SIGNER, 256), (188, SIGNER, 1)]
)
def test_write__payload_at_the_edge_of_a_block__pads_as_published(
    size: int, signer: PrivateKey | None, padding: int
) -> None:
    assert read_plaintext(write_plaintext(bytes(size), signer=signer)).padding_len == padding


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_535, 65_536, MAX_PAYLOAD])
def test_write__sizes_around_a_length_byte__read_back(size: int) -> None:
    plaintext = write_plaintext(bytes(size))
    assert read_plaintext(plaintext).payload == bytes(size)
    assert plaintext[0] == (1 if size < 1 << 8 else 2 if size < 1 << 16 else 3)


def test_write__payload_of_16_mib__is_refused_before_it_looks_signed() -> None:
    with pytest.raises(PayloadError):
        write_plaintext(bytes(MAX_PAYLOAD + 1))


@given(st.integers(1, 3000), st.booleans())
def test_room__any_size_class__is_the_longest_payload_that_fits(pad_to: int, signed: bool) -> None:
    signer, longest = (SIGNER if signed else None), room(pad_to, signed=signed)
    if longest >= 0:
        assert len(write_plaintext(bytes(longest), signer=signer, pad_to=pad_to)) == pad_to
    with pytest.raises(PayloadError):
        write_plaintext(bytes(longest + 1), signer=signer, pad_to=pad_to)


@given(st.binary(max_size=100), SIGNERS, st.integers(200, 2000))
def test_seal__size_class__every_message_is_equally_long(
    payload: bytes, signer: PrivateKey | None, pad_to: int
) -> None:
    symmetric = seal_symmetric(KEY, payload, signer=signer, pad_to=pad_to)
    asymmetric = seal_asymmetric(RECEIVER.public, payload, signer=signer, pad_to=pad_to)
    assert (len(symmetric), len(asymmetric)) == (pad_to + 28, pad_to + 113)
    assert open_symmetric(KEY, symmetric).payload == open_asymmetric(RECEIVER, asymmetric).payload == payload


def test_open__another_key__is_refused() -> None:
    with pytest.raises(CryptoError):
        open_symmetric(bytes(32), seal_symmetric(KEY, b"secret"))
    with pytest.raises(CryptoError):
        open_asymmetric(SIGNER, seal_asymmetric(RECEIVER.public, b"secret"))


def test_read__v_written_as_27_or_28__recovers_the_same_signer() -> None:
    plaintext = bytearray(write_plaintext(b"x", signer=SIGNER))
    plaintext[-1] += 27
    assert read_plaintext(bytes(plaintext)).signer == SIGNER.public


def test_read__signed_byte_changed__is_not_the_signers() -> None:
    plaintext = bytearray(write_plaintext(b"x", signer=SIGNER))
    plaintext[2] ^= 1
    try:
        signer = read_plaintext(bytes(plaintext)).signer
    except PayloadError:
        return
    assert signer != SIGNER.public


def test_read__signature_of_zeros__is_refused() -> None:
    plaintext = write_plaintext(b"x", signer=SIGNER)
    with pytest.raises(PayloadError):
        read_plaintext(plaintext[:-65] + bytes(65))


def test_read__no_length_bytes__is_all_padding_as_in_geth() -> None:
    assert read_plaintext(b"\x00" + bytes(9)) == Opened(b"", None, 9)


def test_read__longer_length_field_than_needed__is_read_as_in_geth() -> None:
    assert read_plaintext(b"\x03\x02\x00\x00abpad") == Opened(b"ab", None, 3)


@pytest.mark.parametrize(
    "plaintext",
    [b"", b"\x01", b"\x01\x01", b"\x02\x01", b"\x03\xff\xff\xff" + bytes(100), b"\x04", b"\x05" + bytes(65)],
)
def test_read__contradicts_itself__is_refused(plaintext: bytes) -> None:
    with pytest.raises(PayloadError):
        read_plaintext(plaintext)


def test_read__payload_reaching_into_the_signature__is_refused() -> None:
    framed = b"\x05\x0a" + bytes(9)
    with pytest.raises(PayloadError, match="shorter than it says"):
        read_plaintext(framed + SIGNER.sign(keccak256(framed)))


@settings(max_examples=300)
@given(st.integers(0, 7), st.binary(max_size=200))
def test_read__noise__is_refused_or_accounts_for_every_byte(flags: int, rest: bytes) -> None:
    try:
        opened = read_plaintext(bytes((flags,)) + rest)
    except PayloadError:
        return
    overhead = (flags & 3) + (65 if flags & 4 else 0)
    assert len(opened.payload) + opened.padding_len + overhead == len(rest)
    assert opened.payload in rest
