"""How a relay makes itself known: a short-lived descriptor, signed by the node key that the chain vouches for.

On the wire it is RLP of [node id 64 bytes, host, port u16, onion key 32 bytes, issued u40, expires u40, signature 65
bytes]. The signature is over Keccak-256 of a label, the fleet's domain (32 bytes) and the RLP of the first six fields.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from quietfleet.crypto import SIGNATURE_SIZE, PrivateKey, checksum_address, keccak256, recover, rlp
from quietfleet.errors import CryptoError, DescriptorError

NODE_ID_SIZE: Final = 64
ADDRESS_SIZE: Final = 20
ONION_KEY_SIZE: Final = 32
DOMAIN_SIZE: Final = 32
MAX_DESCRIPTOR: Final = 512
MAX_LIFETIME: Final = 24 * 3600
CLOCK_SKEW: Final = 120  # seconds a descriptor may come from the future
_LABEL: Final = b"quietfleet/1/relay descriptor"
_FIELDS: Final = 7
_PORT_SIZE: Final = 2
_TIME_SIZE: Final = 5
_PROBE: Final = X25519PrivateKey.from_private_bytes(bytes(32))  # any will do: it is clamped
_HOST: Final = re.compile(r"[A-Za-z0-9._:-]{1,253}")


@dataclass(frozen=True, slots=True)
class RelayDescriptor:
    """Where a relay listens and which X25519 key opens its onion layer; `issued` and `expires` in Unix seconds.

    DescriptorError for fields out of bounds; that the signature is genuine is for `verify` to say.
    """

    node_id: bytes
    host: str
    port: int
    onion: bytes
    issued: int
    expires: int
    signature: bytes
    address: bytes = field(init=False, repr=False, compare=False)  # 20 bytes: what names a hop inside a packet
    id: str = field(init=False, compare=False)  # the same as the chain's directory wants it, EIP-55

    def __post_init__(self) -> None:
        sizes = (len(self.node_id), len(self.onion), len(self.signature))
        if sizes != (NODE_ID_SIZE, ONION_KEY_SIZE, SIGNATURE_SIZE):
            raise DescriptorError(f"sizes {sizes}")
        if self.signature[-1] > 1:
            raise DescriptorError("27 and 28 are second ways to write the same signature")
        if not _HOST.fullmatch(self.host) or not 0 < self.port < 1 << 16:
            raise DescriptorError("nowhere to connect to")
        if not 0 <= self.issued < self.expires < 1 << 8 * _TIME_SIZE:
            raise DescriptorError("over before it began")
        object.__setattr__(self, "address", keccak256(self.node_id)[-ADDRESS_SIZE:])
        object.__setattr__(self, "id", checksum_address(self.address))

    def encode(self) -> bytes:
        """Return the RLP."""
        return rlp.encode([*_unsigned(self), self.signature])

    def verify(self, domain: bytes) -> None:
        """Check the signature and that packets can be sealed; DescriptorError if not this node's, for this fleet."""
        try:
            signer = recover(_digest(_unsigned(self), domain), self.signature)
        except CryptoError as error:
            raise DescriptorError("no signature") from error
        if signer.to_bytes() != self.node_id:
            raise DescriptorError("signed by another key")
        try:
            _PROBE.exchange(X25519PublicKey.from_public_bytes(self.onion))
        except ValueError as error:  # or no packet whose path it is drawn for could be built
            raise DescriptorError("an onion key of low order") from error


def sign_descriptor(
    key: PrivateKey, domain: bytes, host: str, port: int, onion: bytes, issued: int, expires: int
) -> RelayDescriptor:
    """Make the descriptor of the relay whose node key this is."""
    blank = RelayDescriptor(key.public.to_bytes(), host, port, onion, issued, expires, bytes(SIGNATURE_SIZE))
    signature = key.sign(_digest(_unsigned(blank), domain))
    return RelayDescriptor(blank.node_id, host, port, onion, issued, expires, signature)


def decode_descriptor(raw: bytes) -> RelayDescriptor:
    """Read one descriptor; DescriptorError for anything but its one canonical RLP. The signature is not checked."""
    if len(raw) > MAX_DESCRIPTOR:
        raise DescriptorError(f"{len(raw)} bytes")
    node_id, host, port, onion, issued, expires, signature = _split(raw)
    try:
        name = host.decode("ascii")
    except UnicodeDecodeError as error:
        raise DescriptorError("nowhere to connect to") from error
    times = _integer(issued, _TIME_SIZE), _integer(expires, _TIME_SIZE)
    return RelayDescriptor(node_id, name, _integer(port, _PORT_SIZE), onion, *times, signature)


def _unsigned(descriptor: RelayDescriptor) -> list[bytes]:
    numbers = [_big_endian(value) for value in (descriptor.port, descriptor.issued, descriptor.expires)]
    return [descriptor.node_id, descriptor.host.encode(), numbers[0], descriptor.onion, *numbers[1:]]


def _digest(fields: Sequence[bytes], domain: bytes) -> bytes:
    if len(domain) != DOMAIN_SIZE:
        raise DescriptorError(f"a domain is {DOMAIN_SIZE} bytes")
    return keccak256(_LABEL + domain + rlp.encode(fields))


def _split(raw: bytes) -> list[bytes]:
    """Return the seven strings of a flat list, without following any nesting a stranger may send."""
    at, end = _item(raw, 0, list)
    fields: list[bytes] = []
    while at < end and len(fields) < _FIELDS:
        begin, at = _item(raw, at, bytes)
        fields.append(raw[begin:at])
    if not at == end == len(raw) or len(fields) != _FIELDS:
        raise DescriptorError("not seven fields")
    return fields


def _item(raw: bytes, at: int, kind: type[bytes | list[bytes]]) -> tuple[int, int]:
    try:
        found, begin, end = rlp.span(raw, at)
    except rlp.RlpError as error:
        raise DescriptorError("not canonical RLP") from error
    if found is not kind:
        raise DescriptorError("a list where a string belongs, or the other way round")
    return begin, end


def _integer(raw: bytes, max_size: int) -> int:
    if len(raw) > max_size or raw[:1] == b"\x00":
        raise DescriptorError(f"not an integer of at most {max_size} bytes")
    return int.from_bytes(raw, "big")


def _big_endian(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
