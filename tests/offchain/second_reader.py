"""A second implementation in miniature, written from docs/protocol.md alone: it imports nothing of the package.

What is standard elsewhere comes from libraries: AES, X25519, ML-KEM, secp256k1, Keccak, RLP and msgpack.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

import coincurve
import msgspec
import rlp
import sha3
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CLASSES = (512, 4096, 32_768, 114_688)


# conventions


def keccak(*parts):
    return sha3.keccak_256(b"".join(parts)).digest()


def expand(key, info, length):
    block, out = b"", b""
    for number in range(1, -(-length // 32) + 1):
        block = hmac.digest(key, block + info + bytes((number,)), "sha256")
        out += block
    return out[:length]


def derive(secret, label, *context, length=32):
    parts = (b"quietfleet/1/" + label.encode(), *context)
    info = b"".join(len(part).to_bytes(4, "big") + part for part in parts) + length.to_bytes(4, "big")
    return expand(hmac.digest(bytes(32), secret, "sha256"), info, length)


def unseal(key, data, associated=b""):
    return AESGCM(key).decrypt(data[-12:], data[:-12], associated)


def schedule(suite, shared, info):
    """RFC 9180's key and nonce in base mode."""

    def extract(label, text, salt=bytes(32)):
        return hmac.digest(salt, b"HPKE-v1" + suite + label + text, "sha256")

    context = b"\0" + extract(b"psk_id_hash", b"") + extract(b"info_hash", info)
    secret = extract(b"secret", b"", shared)

    def part(label, length):
        return expand(secret, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context, length)

    return AESGCM(part(b"key", 32)), part(b"base_nonce", 12)


def unonce(secret, data, info):
    """Open what was sealed to a one-time key; `secret` is its private half."""
    private = X25519PrivateKey.from_private_bytes(secret)
    ephemeral, own = data[:32], private.public_key().public_bytes_raw()
    dh = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    kem = b"KEM" + bytes.fromhex("0020")
    prk = hmac.digest(bytes(32), b"HPKE-v1" + kem + b"eae_prk" + dh, "sha256")
    info_of_kem = (32).to_bytes(2, "big") + b"HPKE-v1" + kem + b"shared_secret" + ephemeral + own
    cipher, nonce = schedule(b"HPKE" + bytes.fromhex("002000010002"), expand(prk, info_of_kem, 32), info)
    return cipher.decrypt(nonce, data[32:], b"")


def unhpke(secret, data, info):
    """Open with ML-KEM's seed (64) ‖ X25519's secret (32)."""
    mlkem, x25519 = MLKEM768PrivateKey.from_seed_bytes(secret[:64]), X25519PrivateKey.from_private_bytes(secret[64:])
    first, second, sealed = data[:1088], data[1088:1120], data[1120:]
    own = x25519.public_key().public_bytes_raw()
    both = mlkem.decapsulate(first) + x25519.exchange(X25519PublicKey.from_public_bytes(second))
    shared = hashlib.sha3_256(both + second + own + bytes.fromhex("5c2e2f2f5e5c")).digest()
    cipher, nonce = schedule(b"HPKE" + bytes.fromhex("647a00010002"), shared, info)
    return cipher.decrypt(nonce, sealed, b"")


def signer(digest, signature):
    point = coincurve.PublicKey.from_signature_and_message(signature, digest, hasher=None)
    return point.format(compressed=False)[1:]


def signed(public_key, digest, signature):
    """Check r ‖ s ‖ v, with s in the lower half."""
    low = int.from_bytes(signature[32:64], "big") <= coincurve.utils.GROUP_ORDER_INT // 2
    return len(signature) == 65 and low and signer(digest, signature) == public_key


pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode


# link


def ecies_keys(shared):
    material = hashlib.sha256(b"\0\0\0\1" + shared).digest()
    return material[:16], hashlib.sha256(material[16:]).digest()


def ecdh(private, public_key):
    """The bare X coordinate: 32 bytes."""
    return coincurve.PublicKey(b"\4" + public_key).multiply(private.secret).format(compressed=False)[1:33]


def ecies_seal(public_key, text, ephemeral, iv, associated):
    key, mac = ecies_keys(ecdh(ephemeral, public_key))
    body = iv + Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor().update(text)
    return ephemeral.public_key.format(compressed=False) + body + hmac.digest(mac, body + associated, "sha256")


def ecies_open(private, data, associated):
    key, mac = ecies_keys(ecdh(private, data[1:65]))
    body, tag = data[65:-32], data[-32:]
    assert tag == hmac.digest(mac, body + associated, "sha256")
    return Cipher(algorithms.AES(key), modes.CTR(body[:16])).decryptor().update(body[16:])


def xor(one, other):
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


class Direction:
    """One direction of a link: its stream and its running MAC."""

    def __init__(self, aes, mac, start):
        self._stream = Cipher(algorithms.AES(aes), modes.CTR(bytes(16))).encryptor()
        self._block = Cipher(algorithms.AES(mac), modes.ECB()).encryptor()  # noqa: S305 -- as RLPx has it
        self._state = sha3.keccak_256(start)

    def _mac(self, seed=None):
        digest = self._state.digest()[:16]
        self._state.update(xor(self._block.update(digest), digest if seed is None else seed))
        return self._state.digest()[:16]

    def seal(self, content):
        header = self._stream.update(len(content).to_bytes(3, "big") + bytes.fromhex("c28080") + bytes(10))
        header_mac = self._mac(header)
        body = self._stream.update(content + bytes(-len(content) % 16))
        self._state.update(body)
        return header + header_mac + body + self._mac()

    def open(self, data):
        """Return a frame's content and what follows it."""
        assert data[16:32] == self._mac(data[:16])
        size = int.from_bytes(self._stream.update(data[:16])[:3], "big")
        end = 32 + size + -size % 16
        self._state.update(data[32:end])
        assert data[end : end + 16] == self._mac()
        return self._stream.update(data[32:end])[:size], data[end + 16 :]


class Dialler:
    """The initiating side of a handshake."""

    def __init__(self, key, peer, random):
        self._key, self._peer, self._ephemeral = key, peer, coincurve.PrivateKey(random(32))
        self._nonce = random(32)
        signature = self._ephemeral.sign_recoverable(xor(ecdh(key, peer), self._nonce), hasher=None)
        text = rlp.encode([signature, key.public_key.format(compressed=False)[1:], self._nonce, 4]) + random(150)
        size = (len(text) + 113).to_bytes(2, "big")
        self.auth = size + ecies_seal(peer, text, coincurve.PrivateKey(random(32)), random(16), size)

    def directions(self, data):
        """Take the ack; return the outgoing and the incoming direction, and what follows."""
        end = 2 + int.from_bytes(data[:2], "big")
        ack, rest = data[:end], data[end:]
        ephemeral, nonce, _ = rlp.decode(ecies_open(self._key, ack[2:], ack[:2]), strict=False)
        shared = ecdh(self._ephemeral, ephemeral)
        aes = keccak(shared, keccak(shared, keccak(nonce, self._nonce)))
        mac = keccak(shared, aes)
        out = Direction(aes, mac, xor(mac, nonce) + self.auth)
        return out, Direction(aes, mac, xor(mac, self._nonce) + ack), rest


# envelopes


def integer(raw, size):
    assert len(raw) <= size
    assert raw[:1] != b"\0"
    return int.from_bytes(raw, "big")


def read_envelope(raw):
    expiry, ttl, topic, data, nonce = rlp.decode(raw)
    assert len(topic) == 4
    return integer(expiry, 4), integer(ttl, 4), topic, data, integer(nonce, 8)


def proof_of_work(raw):
    _, ttl, _, _, nonce = read_envelope(raw)
    unmined = rlp.encode(rlp.decode(raw)[:4])
    digest = keccak(unmined, nonce.to_bytes(8, "big"))
    return 2.0 ** (256 - int.from_bytes(digest, "big").bit_length()) / (len(unmined) * ttl)


def topic_bits(topic):
    return [topic[j] + 256 * (topic[3] >> j & 1) for j in range(3)]


def takes(bloom, topic):
    return all(bloom[bit // 8] >> bit % 8 & 1 for bit in topic_bits(topic))


def topic_in(bloom, entropy):
    positions = [bit for bit in range(512) if bloom[bit // 8] >> bit % 8 & 1]
    bits = [positions[int.from_bytes(entropy[4 * j : 4 * j + 4], "big") % len(positions)] for j in range(3)]
    high = sum((bit >> 8) << j for j, bit in enumerate(bits))
    return bytes([*(bit & 255 for bit in bits), entropy[12] & 0xF8 | high])


def read_payload(plain):
    size = plain[0] & 3
    begin = 1 + size
    return plain[begin : begin + int.from_bytes(plain[1:begin], "little")]


def open_payload(key, data):
    assert len(data) - 28 in CLASSES
    return read_payload(unseal(key, data))


def seal_payload(key, payload, random):
    size = max(1, (len(payload).bit_length() + 7) // 8)
    plain = bytes((size,)) + len(payload).to_bytes(size, "little") + payload
    plain += random(next(each for each in CLASSES if each >= len(plain)) - len(plain))
    iv = random(12)
    return AESGCM(key).encrypt(iv, plain, b"") + iv


# stem/1


def read_descriptor(raw, fleet):
    fields = rlp.decode(raw)
    assert [len(fields[n]) for n in (0, 3, 6)] == [64, 32, 65]
    assert signed(fields[0], keccak(b"quietfleet/1/relay descriptor", fleet, rlp.encode(fields[:6])), fields[6])
    port, issued, expires = integer(fields[2], 2), integer(fields[4], 5), integer(fields[5], 5)
    return keccak(fields[0])[-20:], fields[1].decode(), port, fields[3], issued, expires


def read_archive_ask(raw):
    request, since, until, bloom, cursor = rlp.decode(raw)
    assert (len(request), len(bloom)) == (8, 64)
    assert len(cursor) in (0, 16)
    return request, integer(since, 4), integer(until, 4), bloom, cursor


def read_archive(raw):
    request, envelopes, cursor = rlp.decode(raw)
    return request, [rlp.encode(envelope) for envelope in envelopes], cursor


def read_work_ask(raw):
    request, expiry, ttl, topic, data, target = rlp.decode(raw)
    return request, integer(expiry, 4), integer(ttl, 4), topic, data, double(target)


def double(raw):
    return unpack(b"\xcb" + raw.rjust(8, b"\0"))


def read_work(raw):
    request, nonce = rlp.decode(raw)
    return request, int.from_bytes(nonce, "big") if nonce else None


# sessions


class Card:
    """A card, checked."""

    def __init__(self, raw):
        fields = unpack(raw)
        self.version, self.worker, self.key, self.hpke, self.bloom, signature = fields
        assert [len(each) for each in (self.worker, self.key, self.hpke, self.bloom)] == [20, 64, 1216, 64]
        assert sum(byte.bit_count() for byte in self.bloom) >= 32
        assert signed(self.key, keccak(b"quietfleet card", pack([*fields[:5], b""])), signature)
        self.digest = keccak(pack(fields))
        self.contact = derive(self.hpke, "contact", self.key)


def announcement(domain, version):
    seed = derive(domain, "announcement", version.to_bytes(4, "big"))
    return derive(seed, "announcement key"), derive(seed, "announcement topic", length=4)


class Call:
    """A handshake as its two sides see it; `hello` and `welcome` are envelopes' topics and data."""

    def __init__(self, domain, responder, hpke, hello):
        topic, data = hello
        assert takes(responder.bloom, topic)
        sealed = open_payload(responder.contact, data)
        fields = unpack(unhpke(hpke, sealed, b"quietfleet hello" + responder.digest))
        self.id, card, self.share, self.answer_to, self.purpose, self.at, signature = fields
        assert [len(each) for each in (self.id, self.share, self.answer_to)] == [16, 32, 1216]
        self.responder, self.initiator = responder, Card(card)
        self._digest = keccak(b"quietfleet hello", keccak(domain), responder.digest, pack([*fields[:6], b""]))
        assert signed(self.initiator.key, self._digest, signature)

    def root(self, hpke, call_key, welcome):
        """Open the Welcome with the initiator's two keys; return the root of the first version."""
        topic, data = welcome
        assert topic == topic_in(self.initiator.bloom, derive(self.share, "welcome topic", length=13))
        outer = open_payload(derive(self.share, "welcome"), data)
        inner = unhpke(hpke, outer, b"quietfleet welcome" + self.initiator.digest)
        hello_id, share, signature = unpack(unhpke(call_key, inner, b"quietfleet welcome" + self.id))
        assert hello_id == self.id
        digest = keccak(b"quietfleet welcome", self._digest, keccak(share))
        assert signed(self.responder.key, digest, signature)
        return derive(self.share + share, "session root", digest)


def chains(root, version, epoch_key):
    """Return the first chain keys of a version, to responder and to initiator, and the root of the next version."""
    base = derive(root, "epoch", version.to_bytes(4, "big"), epoch_key)
    return derive(base, "to responder"), derive(base, "to initiator"), derive(root, "next root")


def keys(chain, bloom, count):
    """Return the message keys of a chain by topic."""
    found = {}
    for _ in range(count):
        found[topic_in(bloom, derive(chain, "topic", length=13))] = derive(chain, "message")
        chain = derive(chain, "chain")
    return found


def read_packet(payload):
    assert payload[:1] == b"\2"
    fields = unpack(payload[1:])
    fields += [None, None, [], []][len(fields) - 5 :]
    names = ("id", "parent", "mode", "reply_by", "body", "conversation", "after", "passed", "heard")
    packet = dict(zip(names, fields[:9], strict=True))
    return {**packet, "body": unpack(packet["body"])}


def write_packet(message_id, mode, reply_by, body):
    return b"\2" + pack([message_id, None, mode, reply_by, pack(body)])


# the chain

CONFIGURATION = (
    b"Configuration(uint32 version,uint40 activeFrom,uint32 grace,uint48 minPow,uint32 maxTtl,uint32 maxSize,"
    b"address oracle,address gateway,bytes32 epochKeyCommitment,bytes32 oracleCardDigest,"
    b"bytes32 gatewayCardDigest,uint48 previousBlock)"
)
EIP_712 = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"


def word(value):
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")


def tie(deal_id, terms, seeker_key, provider_key):
    return keccak(pack([deal_id, terms, seeker_key, provider_key]))


def purpose(deal_id, digest):
    return "deal:" + deal_id + base64.urlsafe_b64encode(digest[:19]).decode().rstrip("=")


def configuration_digest(domain, *fields):
    """The fields are numbers and bytes, in the order of the type."""
    named = keccak(keccak(EIP_712), keccak(b"Quietfleet"), keccak(b"1"), domain[:32], word(domain[32:]))
    return keccak(b"\x19\x01", named, keccak(keccak(CONFIGURATION), *map(word, fields)))
