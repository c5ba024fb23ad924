"""The onion packet: three relays carry it, each sees where it goes next and nothing else, and all look alike.

packet = slot (75 bytes) ‖ slot ‖ slot ‖ body; slot = ephemeral X25519 key (32) ‖ sealed routing (27) ‖ tag (16)
routing = command (1) ‖ delay in ms (2) ‖ expiry, Unix seconds (4) ‖ address of the next relay (20), big-endian
body, once the last layer is off = length (4) ‖ envelope ‖ zeros

A hop agrees on a secret with its slot's ephemeral key and derives two keys. One opens the routing by AES-256-GCM with
the whole rest of the packet as associated data, so that a packet altered anywhere goes no further than the next honest
relay. The other makes an AES-256-CTR stream. The hop drops its slot, puts a slot of zeros behind the other two, and
encrypts all of it with the stream: the next slot appears, and the last is filled with what only sender and hop know.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from random import Random
from struct import Struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from quietfleet.crypto import derive
from quietfleet.errors import EnvelopeTooLarge, MixnetError, PacketRefused
from quietfleet.mixnet.descriptor import ADDRESS_SIZE, RelayDescriptor

HOPS: Final = 3
PACKET_SIZES: Final = (896, 4_480, 33_152, 115_072)  # bytes; one for each size class of the session layer
EXPIRY_STEP: Final = 60  # seconds; everyone's packets of a minute carry the same expiry
LONGEST_LIFE: Final = (
    3 * EXPIRY_STEP
)  # of a packet as a relay takes it: a step's rounding, a step's life, a step's skew
DELAY_SHARES: Final = (0.5, 2.5, 7.0)  # of guard, middle and exit; measured best for a given total
MAX_DELAY: Final = 65.535  # seconds at one hop

_ROUTING: Final = Struct(f">BHI{ADDRESS_SIZE}s")
_LENGTH: Final = Struct(">I")
_KEY_SIZE: Final = 32
_TAG_SIZE: Final = 16
SLOT_SIZE: Final = _KEY_SIZE + _ROUTING.size + _TAG_SIZE
_SLOTS_SIZE: Final = HOPS * SLOT_SIZE
CAPACITIES: Final = tuple(size - _SLOTS_SIZE - _LENGTH.size for size in PACKET_SIZES)  # largest envelope of each class
_SIZES: Final = frozenset(PACKET_SIZES)
_BLANK: Final = bytes(SLOT_SIZE)
_NONCE: Final = bytes(12)  # each key seals once
_COUNTER: Final = bytes(16)
_NOWHERE: Final = bytes(ADDRESS_SIZE)
_PURPOSE: Final = "onion hop"


class Command(IntEnum):
    """What a hop is told to do."""

    FORWARD = 1
    FLOOD = 2
    DROP = 3


class Fault(StrEnum):
    """Why a packet was refused; the label its counter carries."""

    SIZE = "size"
    SEALED = "sealed"  # to another key, or altered
    EXPIRED = "expired"
    FROM_FUTURE = "from_future"
    ROUTING = "routing"
    BODY = "body"
    REPLAYED = "replayed"
    FULL = "full"  # the replay cache


@dataclass(frozen=True, slots=True)
class Forward:
    """Send `packet` to the relay of this 20-byte address after `delay` seconds."""

    next: bytes
    packet: bytes
    delay: float
    expires: int


@dataclass(frozen=True, slots=True)
class Flood:
    """Start the flood of this encoded envelope after `delay` seconds; it is a stranger's: judge it as one."""

    envelope: bytes
    delay: float
    expires: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Cover traffic at the end of its way; waiting `delay` seconds before forgetting it would show nobody anything."""

    delay: float
    expires: int


Peeled = Forward | Flood | Drop


def size_class(envelope_size: int) -> int:
    """Return the smallest class that an encoded envelope of this size fits; EnvelopeTooLarge if none does."""
    for index, capacity in enumerate(CAPACITIES):
        if envelope_size <= capacity:
            return index
    raise EnvelopeTooLarge(f"{envelope_size} bytes are more than {CAPACITIES[-1]}")


def coarse_expiry(now: float) -> int:
    """Return the expiry for a packet sent now: the same for everyone, 60 to 120 s ahead."""
    return (int(now) // EXPIRY_STEP + 2) * EXPIRY_STEP


def draw_delays(scale: float, rng: Random) -> list[float]:
    """Draw each hop's delay in seconds, exponential around its share of `scale`: the law that tells least.

    A guard that spies knows its own delay, so little is spent there; most is spent where most packets meet, and where
    a spy before it would otherwise recognise what it sent in what is flooded.
    """
    return [min(rng.expovariate(1 / (share * scale)), MAX_DELAY) for share in DELAY_SHARES]


def tag_of(packet: bytes) -> bytes:
    """Return what names a packet on one link for the replay cache: its ephemeral key, which its keys are bound to."""
    return packet[:_KEY_SIZE]


def build(
    path: Sequence[RelayDescriptor],
    envelope: bytes | None,
    delays: Sequence[float],
    expiry: int,
    index: int,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> bytes:
    """Wrap an encoded envelope (None: cover) for guard, middle and exit, each holding it for its delay in seconds.

    `expiry` is a `coarse_expiry`, `index` the size class. EnvelopeTooLarge if the envelope does not fit; MixnetError
    for another number of hops or delays.
    """
    if len(path) != HOPS or len(delays) != HOPS:
        raise MixnetError(f"a path has {HOPS} hops, each with a delay")
    body = _body(envelope, index)
    sealers, streams = zip(*(_agree(relay.onion, random) for relay in path), strict=True)
    orders = _orders(path, delays, expiry, Command.DROP if envelope is None else Command.FLOOD)
    tail = _filler(streams) + _crypt(streams[-1], bytes(_SLOTS_SIZE) + body)[_SLOTS_SIZE:]
    packet: bytes = sealers[-1](orders[-1], tail)
    for sealer, stream, order in zip(sealers[-2::-1], streams[-2::-1], orders[-2::-1], strict=True):
        inner = _crypt(stream, packet)
        packet = sealer(order, inner[: _SLOTS_SIZE - SLOT_SIZE] + inner[_SLOTS_SIZE:])
    return packet


def peel(private_keys: Sequence[X25519PrivateKey], packet: bytes, now: float) -> Peeled:
    """Take our layer off a packet, trying our onion keys in turn; PacketRefused, with its Fault, for anything else.

    Whether it was here before is for a replay cache: ask it for `tag_of` first, and tell it what opened.
    """
    if len(packet) not in _SIZES:
        raise PacketRefused(Fault.SIZE)
    ephemeral, sealed, rest = packet[:_KEY_SIZE], packet[_KEY_SIZE:SLOT_SIZE], packet[SLOT_SIZE:]
    routing, stream = _open(private_keys, ephemeral, sealed, rest)
    command, delay, expires, address = _ROUTING.unpack(routing)
    _check_time(expires, now)
    if (command == Command.FORWARD) == (address == _NOWHERE):
        raise PacketRefused(Fault.ROUTING)
    match command:
        case Command.FORWARD:
            return Forward(address, _shift(stream, rest), delay / 1000, expires)
        case Command.FLOOD:
            return Flood(_unwrap(_shift(stream, rest)), delay / 1000, expires)
        case Command.DROP:
            return Drop(delay / 1000, expires)
        case _:
            raise PacketRefused(Fault.ROUTING)


def _agree(onion: bytes, random: Callable[[int], bytes]) -> tuple[Callable[[bytes, bytes], bytes], bytes]:
    """Draw an ephemeral key towards a relay; return what puts a sealed slot before a rest, and the stream key."""
    private = X25519PrivateKey.from_private_bytes(random(_KEY_SIZE))
    ephemeral = private.public_key().public_bytes_raw()
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(onion))
    except ValueError as error:
        raise MixnetError("a relay's onion key is of low order") from error
    key, stream = _keys(shared, ephemeral, onion)

    def seal(order: bytes, rest: bytes) -> bytes:
        return ephemeral + AESGCM(key).encrypt(_NONCE, order, rest) + rest

    return seal, stream


def _keys(shared: bytes, ephemeral: bytes, onion: bytes) -> tuple[bytes, bytes]:
    """Return the routing key and the stream key of one hop."""
    both = derive(shared, _PURPOSE, ephemeral, onion, length=2 * _KEY_SIZE)
    return both[:_KEY_SIZE], both[_KEY_SIZE:]


def _open(keys: Sequence[X25519PrivateKey], ephemeral: bytes, sealed: bytes, rest: bytes) -> tuple[bytes, bytes]:
    """Return the routing and the stream key under the first key that opens them."""
    for private in keys:
        try:
            shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
            key, stream = _keys(shared, ephemeral, private.public_key().public_bytes_raw())
            return AESGCM(key).decrypt(_NONCE, sealed, rest), stream
        except (ValueError, InvalidTag):  # a point of low order, or not ours
            continue
    raise PacketRefused(Fault.SEALED)


def _check_time(expires: int, now: float) -> None:
    if now >= expires:
        raise PacketRefused(Fault.EXPIRED)
    if expires > now + LONGEST_LIFE:
        raise PacketRefused(Fault.FROM_FUTURE)
    if expires % EXPIRY_STEP:
        raise PacketRefused(Fault.ROUTING)


def _shift(stream: bytes, rest: bytes) -> bytes:
    """Return the packet that the next hop sees, from what follows our slot."""
    left = _SLOTS_SIZE - SLOT_SIZE
    return _crypt(stream, rest[:left] + _BLANK + rest[left:])


def _orders(path: Sequence[RelayDescriptor], delays: Sequence[float], expiry: int, last: Command) -> list[bytes]:
    """Return each hop's routing."""
    if not all(0 <= delay <= MAX_DELAY for delay in delays):
        raise MixnetError(f"a hop waits at most {MAX_DELAY} s")
    follow = [(Command.FORWARD, relay.address) for relay in path[1:]] + [(last, _NOWHERE)]
    return [
        _ROUTING.pack(command, round(delay * 1000), expiry, address)
        for (command, address), delay in zip(follow, delays, strict=True)
    ]


def _filler(streams: Sequence[bytes]) -> bytes:
    """Return the slots behind the last hop's own, as the hops before it will have filled them."""
    filler = b""
    for stream in streams[:-1]:
        lead = bytes(_SLOTS_SIZE - SLOT_SIZE - len(filler))
        filler = _crypt(stream, lead + filler + _BLANK)[len(lead) :]
    return filler


def _body(envelope: bytes | None, index: int) -> bytes:
    envelope = envelope or b""
    if len(envelope) > CAPACITIES[index]:
        raise EnvelopeTooLarge(f"{len(envelope)} bytes are more than {CAPACITIES[index]}")
    return _LENGTH.pack(len(envelope)) + envelope + bytes(CAPACITIES[index] - len(envelope))


def _unwrap(plain: bytes) -> bytes:
    """Return the envelope of a bare packet."""
    begin = _SLOTS_SIZE + _LENGTH.size
    (size,) = _LENGTH.unpack_from(plain, _SLOTS_SIZE)
    if not 0 < size <= len(plain) - begin:
        raise PacketRefused(Fault.BODY)
    return plain[begin : begin + size]


def _crypt(key: bytes, data: bytes) -> bytes:
    """Encrypt or decrypt: counter mode is its own inverse. Each key serves one stream, so it counts from zero."""
    return Cipher(AES(key), CTR(_COUNTER)).encryptor().update(data)
