"""Envelopes and bundles of strangers, and the content of messages sealed by somebody who has the key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import rlp
from fuzz_rlp import whole
from harness import drawn, target

from quietfleet.crypto import PrivateKey, ecies_seal, seal
from quietfleet.errors import CryptoError, EnvelopeError, PayloadError
from quietfleet.whisper import (
    Envelope,
    Opened,
    decode_envelope,
    encode_bundle,
    open_asymmetric,
    open_symmetric,
    split_bundle,
)
from quietfleet.whisper.payload import read_plaintext, write_plaintext

VECTORS: Final = json.loads((Path(__file__).parents[1] / "offchain/vectors/whisper_v6.json").read_text())
KEY, PRIVATE = b"\x0a" * 32, PrivateKey.from_bytes(b"\x0b" * 32)
_SHARED: Final = 3
_WIDTHS: Final = (4, 4, None, None, 8)  # bytes of the numbers among an envelope's fields


def _geth_envelopes() -> list[bytes]:
    return [bytes.fromhex(vector["envelope_rlp"][2:]) for vector in VECTORS["envelopes"]]


def _envelope_seeds() -> Iterator[bytes]:
    yield from (raw for raw in _geth_envelopes() if len(raw) <= 700)
    yield Envelope(0, 0, bytes(4), b"", 0).encode()
    yield Envelope(2**32 - 1, 2**32 - 1, b"\xff" * 4, b"\x7f", 2**64 - 1).encode()
    yield bytes(rlp.encode([b"\0", b"", bytes(4), b"", b""]))
    yield bytes(rlp.encode([b"", b"", bytes(4), b"", b"", b""]))
    yield bytes(rlp.encode([b"", b"", bytes(4), [[b""]], b""]))


@target(_envelope_seeds)
def whisper_envelope(data: bytes) -> None:
    expected = _as_envelope(whole(data))
    try:
        envelope = decode_envelope(data)
    except EnvelopeError:
        assert expected is None
        return
    fresh = Envelope(envelope.expiry, envelope.ttl, envelope.topic, envelope.data, envelope.nonce)
    assert envelope == expected == fresh
    assert fresh.encode() == data
    assert fresh.hash == envelope.hash
    assert fresh.work == envelope.work
    without = Envelope(envelope.expiry, envelope.ttl, envelope.topic, envelope.data, envelope.nonce)
    assert without.encode_without_nonce() == envelope.encode_without_nonce()


def _as_envelope(item: Any) -> Envelope | None:
    """Read what the `rlp` package made of it by the book: five strings, numbers short and without leading zeros."""
    if not isinstance(item, list) or len(item) != 5 or not all(isinstance(field, bytes) for field in item):
        return None
    for field, width in zip(item, _WIDTHS, strict=True):
        if width and (len(field) > width or field[:1] == b"\0"):
            return None
    expiry, ttl, topic, data, nonce = item
    numbers = [int.from_bytes(each) for each in (expiry, ttl, nonce)]
    return Envelope(numbers[0], numbers[1], topic, data, numbers[2]) if len(topic) == 4 else None


def _bundle_seeds() -> Iterator[bytes]:
    small = [raw for raw in _geth_envelopes() if len(raw) <= 400][:3]
    yield encode_bundle(decode_envelope(raw) for raw in small)
    yield encode_bundle([])
    yield bytes(rlp.encode([[b"no envelope"], []]))
    yield bytes(rlp.encode([b"no list"]))


@target(_bundle_seeds, 2048)
def whisper_bundle(data: bytes) -> None:
    expected = whole(data)
    try:
        parts = split_bundle(data)
    except EnvelopeError:
        assert not isinstance(expected, list) or not all(isinstance(item, list) for item in expected)
        return
    if expected is not None:
        assert parts == [bytes(rlp.encode(item)) for item in expected]
    good = []
    for part in parts:
        with suppress(EnvelopeError):
            good.append(decode_envelope(part))
    if len(good) == len(parts):
        assert encode_bundle(good) == data


def _payload_seeds() -> Iterator[bytes]:
    for kind in (b"\x00", b"\x01", b"\x02"):
        for signer in (None, PRIVATE):
            yield kind + write_plaintext(b"a payload", signer=signer, random=bytes)
        yield kind
        yield kind + b"\x03\xff\xff\xff"
        yield kind + b"\x04" + bytes(65)
        yield kind + b"\xff"
    yield b"\x03" + seal(KEY, write_plaintext(b"sealed", random=bytes), random=bytes)
    yield b"\x04" + ecies_seal(PRIVATE.public, write_plaintext(b"sealed", random=bytes), drawn())


@target(_payload_seeds, 700)
def whisper_payload(data: bytes) -> None:
    """Plaintexts bare and sealed under the right key, and anything in the place of what is sealed."""
    kind, body = (data[:1] or b"\0")[0] % 5, data[1:]
    with suppress(PayloadError, *([CryptoError] if kind >= _SHARED else [])):
        opened = _open(kind, body)
        if kind < _SHARED:
            _account(opened, body)


def _open(kind: int, body: bytes) -> Opened:
    match kind:
        case 0:
            return read_plaintext(body)
        case 1:
            return open_symmetric(KEY, seal(KEY, body, random=drawn()))
        case 2:
            return open_asymmetric(PRIVATE, ecies_seal(PRIVATE.public, body, drawn()))
        case 3:
            return open_symmetric(KEY, body)
        case _:
            return open_asymmetric(PRIVATE, body)


def _account(opened: Opened, body: bytes) -> None:
    """Every byte is flags, length, payload, padding or signature."""
    signed = bool(body[0] & 4)
    assert (opened.signer is not None) == signed
    assert 1 + (body[0] & 3) + len(opened.payload) + opened.padding_len + 65 * signed == len(body)
    assert opened.payload in body
