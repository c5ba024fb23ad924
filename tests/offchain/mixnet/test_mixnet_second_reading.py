"""The packet as docs/protocol.md describes it, written a second time without the package's own code."""

from __future__ import annotations

from hashlib import sha256
from hmac import digest as hmac_digest

import pytest
import rlp
from coincurve import PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from mixnet_world import DELAYS, DOMAIN, NOW, Chain, descriptor_of

from quietfleet.crypto import keccak256
from quietfleet.mixnet import PACKET_SIZES, Flood, peel

SLOT = 75
EXPIRY = (NOW // 60 + 2) * 60


def hkdf(secret, *context, length):
    parts = (b"quietfleet/1/onion hop", *context)
    info = b"".join(len(part).to_bytes(4, "big") + part for part in parts) + length.to_bytes(4, "big")
    key, block, out = hmac_digest(bytes(32), secret, "sha256"), b"", b""
    for number in range(1, 4):
        block = hmac_digest(key, block + info + bytes((number,)), sha256)
        out += block
    return out[:length]


def stream(key, size):
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(size))


def xor(one, other):
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def open_one(private, packet):
    shared = private.exchange(X25519PublicKey.from_public_bytes(packet[:32]))
    keys = hkdf(shared, packet[:32], private.public_key().public_bytes_raw(), length=64)
    routing = AESGCM(keys[:32]).decrypt(bytes(12), packet[32:SLOT], packet[SLOT:])
    shifted = packet[SLOT : 3 * SLOT] + bytes(SLOT) + packet[3 * SLOT :]
    return routing, xor(shifted, stream(keys[32:], len(shifted)))


def wrap(path, envelope, size):
    """Build backwards, one layer at a time, with the fillers computed on their own."""
    ephemerals = [X25519PrivateKey.from_private_bytes(bytes((number,)) * 32) for number in (7, 8, 9)]
    keys = []
    for ephemeral, relay in zip(ephemerals, path, strict=True):
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(relay.onion))
        keys.append(hkdf(shared, ephemeral.public_key().public_bytes_raw(), relay.onion, length=64))
    streams = [stream(key[32:], size) for key in keys]
    first = streams[0][2 * SLOT : 3 * SLOT]
    filler = xor(first, streams[1][SLOT : 2 * SLOT]) + streams[1][2 * SLOT : 3 * SLOT]
    body = (len(envelope).to_bytes(4, "big") + envelope).ljust(size - 3 * SLOT, b"\0")
    rest = filler + xor(body, streams[2][3 * SLOT :])
    follow = [(1, path[1].address), (1, path[2].address), (2, bytes(20))]
    packet = b""
    for number in (2, 1, 0):
        command, address = follow[number]
        routing = bytes((command,)) + round(DELAYS[number] * 1000).to_bytes(2, "big") + EXPIRY.to_bytes(4, "big")
        sealed = AESGCM(keys[number][:32]).encrypt(bytes(12), routing + address, rest)
        packet = ephemerals[number].public_key().public_bytes_raw() + sealed + rest
        if number:
            inner = xor(packet, streams[number - 1])
            assert packet[2 * SLOT : 3 * SLOT] == streams[number - 1][2 * SLOT : 3 * SLOT]
            rest = inner[: 2 * SLOT] + inner[3 * SLOT :]
    return packet


@pytest.mark.parametrize("index", range(len(PACKET_SIZES)))
def test_packet__read_as_the_protocol_says__is_what_was_built(index):
    chain = Chain()
    packet = chain.build(b"an envelope", index)
    for number, keys in enumerate(chain.keys):
        routing, packet = open_one(keys.private_keys[0], packet)
        assert routing[0] == (1, 1, 2)[number]
        assert int.from_bytes(routing[1:3], "big") == DELAYS[number] * 1000
        assert int.from_bytes(routing[3:7], "big") == EXPIRY
        assert routing[7:] == (chain.path[number + 1].address if number < 2 else bytes(20))
    body = packet[3 * SLOT :]
    assert body == (len(b"an envelope").to_bytes(4, "big") + b"an envelope").ljust(len(body), b"\0")


@pytest.mark.parametrize("size", PACKET_SIZES)
def test_packet__written_as_the_protocol_says__is_opened_by_three_relays(size):
    chain = Chain()
    packet = wrap(chain.path, b"an envelope", size)
    for keys in chain.keys[:2]:
        packet = peel(keys.private_keys, packet, NOW).packet
    assert peel(chain.keys[2].private_keys, packet, NOW) == Flood(b"an envelope", DELAYS[2], EXPIRY)


def test_descriptor__signature_checked_as_the_protocol_says__is_the_node_keys():
    fields = rlp.decode(descriptor_of(3).encode())
    digest = keccak256(b"quietfleet/1/relay descriptor" + DOMAIN + rlp.encode(fields[:6]))
    assert (
        PublicKey.from_signature_and_message(fields[6], digest, hasher=None).format(compressed=False)[1:] == fields[0]
    )
