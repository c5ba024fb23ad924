"""Relays' descriptors and onion packets, those included whose sender knows the relay and lies inside the layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from struct import pack
from typing import Final

import rlp
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from fuzz_rlp import whole
from harness import Script, drawn, target

from quietfleet.crypto import PrivateKey
from quietfleet.errors import DescriptorError, PacketRefused
from quietfleet.mixnet import (
    CAPACITIES,
    PACKET_SIZES,
    Fault,
    Flood,
    Forward,
    RelayDescriptor,
    build,
    coarse_expiry,
    decode_descriptor,
    peel,
    sign_descriptor,
)
from quietfleet.mixnet.packet import LONGEST_LIFE, SLOT_SIZE, _agree, _crypt

NOW: Final = 1_700_000_000
DOMAIN: Final = bytes(range(32))
NODE: Final = PrivateKey.from_bytes(b"\x09" * 32)
ONION: Final = X25519PrivateKey.from_private_bytes(b"\x08" * 32)
SPARE: Final = X25519PrivateKey.from_private_bytes(b"\x07" * 32)
PUBLIC: Final = ONION.public_key().public_bytes_raw()
DESCRIPTOR: Final = sign_descriptor(NODE, DOMAIN, "relay.example", 30303, PUBLIC, NOW, NOW + 3600)
_ROUTING: Final = 27
_SLOTS: Final = 3 * SLOT_SIZE


def _descriptor_seeds() -> Iterator[bytes]:
    yield DESCRIPTOR.encode()
    yield sign_descriptor(NODE, DOMAIN, "2001:db8::1", 1, bytes(32), 0, 1).encode()
    yield sign_descriptor(NODE, bytes(32), "h" * 253, 65535, bytes(32), 1, 2**40 - 1).encode()
    yield bytes(rlp.encode([bytes(64), b"h", 1, bytes(32), 0, 1, b"\xff" * 64 + b"\0"]))
    yield bytes(rlp.encode([b"\x01" * 64, b"h", 1, bytes(32), 0, 1, bytes(65)]))


@target(_descriptor_seeds, 640)
def mixnet_descriptor(data: bytes) -> None:
    with suppress(DescriptorError):
        descriptor = decode_descriptor(data)
        assert descriptor.encode() == data
        fields = whole(data)
        assert fields is not None
        assert fields[0] == descriptor.node_id
        assert fields[1] == descriptor.host.encode()
        descriptor.verify(DOMAIN)


def _routing(command: int, delay: int = 500, expiry: int | None = None, address: bytes = bytes(20)) -> bytes:
    return pack(">BHI20s", command, delay, coarse_expiry(NOW) if expiry is None else expiry, address)


def _peel_seeds() -> Iterator[bytes]:
    expiry = coarse_expiry(NOW)
    path: list[RelayDescriptor] = [DESCRIPTOR] * 3
    for envelope in (b"an envelope", None):
        yield b"\x00\x00" + build(path, envelope, (0.25, 0.5, 1.0), expiry, 0, drawn())
    yield b"\x01\x00" + _routing(1, address=b"\x05" * 20) + b"rest"
    yield b"\x01\x01" + _routing(2)
    yield b"\x02\x00" + _routing(2) + (5).to_bytes(4) + b"hello"
    yield b"\x02\x00" + _routing(2) + (2**32 - 1).to_bytes(4)
    yield b"\x02\x00" + _routing(2) + CAPACITIES[0].to_bytes(4)
    yield from (b"\x02\x00" + _routing(command) for command in (0, 3, 255))
    yield b"\x01\x00" + _routing(3, expiry=expiry + 1)
    yield b"\x01\x00" + _routing(3, expiry=0)
    yield b"\x01\x00" + _routing(3, expiry=2**32 - 1)
    yield b"\x00\x00" + bytes(32)  # a point of low order


@target(_peel_seeds, PACKET_SIZES[0] + 8)
def mixnet_peel(data: bytes) -> None:
    """Raw bytes of a right or wrong size; or routing and rest correctly sealed; or the body behind the stream too."""
    script = Script(data)
    kind, size = script.number(4), PACKET_SIZES[script.number(2)]
    if kind == 3:
        packet = script.rest()
    elif kind == 0:
        packet = script.rest()[:size].ljust(size, b"\0")
    else:
        packet = _sealed(script.take(_ROUTING).ljust(_ROUTING, b"\0"), script.rest(), size, inside=kind == 2)
    _check(packet)


def _sealed(routing: bytes, content: bytes, size: int, *, inside: bool) -> bytes:
    """Seal a slot as any sender can; `content` follows it, or comes to light in the place of the body."""
    seal, stream = _agree(PUBLIC, drawn(b"peel"))
    room = size - SLOT_SIZE
    if not inside:
        return seal(routing, content[:room].ljust(room, b"\0"))
    body = content[: size - _SLOTS].ljust(size - _SLOTS, b"\0")
    plain = _crypt(stream, bytes(_SLOTS) + body)
    return seal(routing, plain[: _SLOTS - SLOT_SIZE] + plain[_SLOTS:])


def _check(packet: bytes) -> None:
    try:
        peeled = peel([SPARE, ONION], packet, NOW)
    except PacketRefused as refused:
        Fault(refused.reason)
        return
    assert NOW < peeled.expires <= NOW + LONGEST_LIFE
    assert 0 <= peeled.delay < 66
    if isinstance(peeled, Forward):
        assert len(peeled.packet) == len(packet)
        assert len(peeled.next) == 20
    elif isinstance(peeled, Flood):
        assert 0 < len(peeled.envelope) <= len(packet)
