"""What peers of an open link say: `shh/6`, `stem/1`, and addresses as operators and the chain's list write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import rlp
from fuzz_mixnet import DESCRIPTOR
from harness import Script, target

from quietfleet.crypto import PrivateKey
from quietfleet.errors import AddressError, WireError
from quietfleet.network.address import Address, Enode
from quietfleet.network.stemwire import (
    MAX_DESCRIPTORS,
    ArchiveAsk,
    ArchivePage,
    WorkAsk,
    WorkDone,
    read_descriptors,
    tell_descriptors,
)
from quietfleet.network.wire import (
    MAX_MESSAGE,
    Status,
    bundles,
    decode_bloom,
    decode_pow,
    encode_bloom,
    encode_pow,
    iter_list,
)
from quietfleet.whisper import Envelope, encode_bundle, split_bundle

LARGEST: Final = 2048  # an envelope that may be alone in a page
ENVELOPE: Final = Envelope(1_700_000_060, 60, b"\x01\x02\x03\x04", bytes(range(64)), 77)
ENODE: Final = Enode(PrivateKey.from_bytes(b"\x01" * 32).public.to_bytes(), Address("relay.example", 30303))


def _wire_seeds() -> Iterator[bytes]:
    yield from (b"\x00" + Status(least).encode() for least in (0.0, 0.2, 1e300))
    yield b"\x00" + Status(1.0, b"\x80" * 64).encode()
    yield b"\x00" + bytes(rlp.encode([6]))
    yield from (b"\x01" + encode_pow(least) for least in (0.0, 2.5))
    yield from (b"\x01" + bytes(rlp.encode(raw)) for raw in (b"\x7f\xf0" + bytes(6), b"\xff" * 8, b"\x80" + bytes(7)))
    yield b"\x02" + encode_bloom(b"\x01" * 64)
    yield b"\x03" + encode_bundle([ENVELOPE, ENVELOPE])


@target(_wire_seeds)
def network_wire(data: bytes) -> None:
    kind, payload = data[:1], data[1:]
    with suppress(WireError):
        match (kind or b"\0")[0] % 4:
            case 0:
                status = Status.decode(payload)
                assert Status.decode(status.encode()) == status
                _check_pow(status.min_pow)
            case 1:
                least = decode_pow(payload)
                _check_pow(least)
                assert decode_pow(encode_pow(least)) == least
            case 2:
                assert encode_bloom(decode_bloom(payload)) == payload
            case _:
                items = list(iter_list(payload))
                assert sum(map(len, items)) <= len(payload)


def _check_pow(least: float) -> None:
    assert math.isfinite(least)
    assert least >= 0


def _bundles_seeds() -> Iterator[bytes]:
    yield b"\x00\x10\x20\x30"
    yield b"\xff" * 9
    yield bytes([255, 255, 255, 255, 1, 255, 0, 255])


@target(_bundles_seeds, 64)
def network_bundles(data: bytes) -> None:
    """Envelopes of any sizes, up to one that fills a message: each in one message, in order, none too long."""
    script, envelopes = Script(data), []
    while script and len(envelopes) < 6:
        size = script.number(256) ** 2 * 17
        envelopes.append(Envelope(100, 10, b"\0\0\0\0", bytes(size % (MAX_MESSAGE - 64)), len(envelopes)))
    messages = [encode_bundle(batch) for batch in bundles(envelopes)]
    assert all(len(message) <= MAX_MESSAGE for message in messages)
    assert [part for message in messages for part in split_bundle(message)] == [each.encode() for each in envelopes]


def _stem_seeds() -> Iterator[bytes]:
    yield b"\x00" + next(tell_descriptors([DESCRIPTOR] * 2)).payload
    yield b"\x01" + ArchiveAsk(b"requestr", 1, 1_700_000_000, b"\xff" * 64).encode().payload
    yield b"\x01" + ArchiveAsk(b"requestr", 0, 2**32 - 1, b"\x01" * 64, b"c" * 16).encode().payload
    yield b"\x02" + ArchivePage(b"requestr", (ENVELOPE.encode(),) * 2, b"c" * 16).encode().payload
    yield b"\x02" + ArchivePage(b"requestr", ()).encode().payload
    yield b"\x03" + WorkAsk(b"requestr", ENVELOPE, 2.5).encode().payload
    yield from (b"\x04" + WorkDone(b"requestr", nonce).encode().payload for nonce in (None, 0, 2**64 - 1))


_Decoder = Callable[[bytes], Any]
STEM: Final[tuple[_Decoder, ...]] = (
    ArchiveAsk.decode,
    lambda payload: ArchivePage.decode(payload, LARGEST),
    WorkAsk.decode,
    WorkDone.decode,
)


@target(_stem_seeds, 2048)
def network_stemwire(data: bytes) -> None:
    kind, payload = (data[:1] or b"\0")[0] % 5, data[1:]
    with suppress(WireError):
        if kind == 0:
            descriptors = list(read_descriptors(payload))
            assert len(descriptors) <= MAX_DESCRIPTORS
            assert [message.payload for message in tell_descriptors(descriptors)] == [payload] * bool(descriptors)
        else:
            message = STEM[kind - 1](payload)
            encoded = message.encode().payload
            assert STEM[kind - 1](encoded) == message
            assert encoded == payload or kind == 3  # where a double's leading zeros may be left out or not


def _address_seeds() -> Iterator[bytes]:
    yield str(ENODE).encode()
    yield str(Enode(ENODE.node_id, Address("::1", 0))).encode() + b"?discport=30301"
    yield from (b"relay.example:30303", b"127.0.0.1:0", b"[::1]:65535", b":1", b"a:65536", b"[]:1", b"a:b:1")
    yield b"enode://" + b"ab " * 42 + b"ab@relay.example:30303"  # spaces, which bytes.fromhex passes over


@target(_address_seeds)
def network_address(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    with suppress(AddressError):
        address = Address.parse(text)
        assert Address.parse(str(address)) == address
        assert 0 <= address.port < 1 << 16
    with suppress(AddressError):
        enode = Enode.parse(text)
        assert len(enode.node_id) == 64
        assert Enode.parse(str(enode)) == enode
