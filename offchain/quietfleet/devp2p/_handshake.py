"""The RLPx handshake: two packets, after which both sides hold the same secrets.

The initiator knows the recipient's key and proves its own by signing what only the two can compute. Neither side has
proved anything until its first frame, which needs the secrets: a packet alone can be a recording.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quietfleet.crypto import PrivateKey, PublicKey, ecies_seal, recover
from quietfleet.devp2p._packets import NONCE_SIZE, Ack, Auth, Packet, PacketReader, seal_packet
from quietfleet.devp2p._secrets import Agreed, Secrets, xor
from quietfleet.errors import CryptoError, FrameError

Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Shaken:
    """A finished handshake: with whom, the secrets, what to answer, and what came behind the peer's packet."""

    peer: PublicKey
    secrets: Secrets
    reply: bytes
    rest: bytes


class Initiator:
    """The side that dials: it knows whom, and speaks first with `auth`."""

    def __init__(self, key: PrivateKey, peer: PublicKey, random: Random) -> None:
        self._peer = peer
        self._ephemeral = PrivateKey.generate(random)
        self._nonce = random(NONCE_SIZE)
        self._reader = PacketReader(key, Ack.OLD_SIZE)
        signature = self._ephemeral.sign(xor(key.ecdh(peer), self._nonce))
        self.auth = seal_packet(peer, Auth(signature, key.public.to_bytes(), self._nonce).fields(), random)

    def feed(self, data: bytes) -> Shaken | None:
        """Take bytes in; return the outcome when the ack is whole; FrameError if it is none."""
        packet = self._reader.feed(data)
        if packet is None:
            return None
        ack = Ack.from_old(packet.text) if packet.old else Ack.from_list(packet.text)
        agreed = Agreed(self.auth, packet.wire, self._nonce, ack.nonce, self._ephemeral.ecdh(_point(ack.ephemeral)))
        return Shaken(self._peer, Secrets.derive(agreed, initiator=True), b"", self._reader.rest())


class Recipient:
    """The side that was dialled: it learns from the auth who dials, and answers in the auth's format."""

    def __init__(self, key: PrivateKey, random: Random) -> None:
        self._key = key
        self._random = random
        self._reader = PacketReader(key, Auth.OLD_SIZE)

    def feed(self, data: bytes) -> Shaken | None:
        """Take bytes in; return the outcome when the auth is whole; FrameError if it is none."""
        packet = self._reader.feed(data)
        if packet is None:
            return None
        auth = Auth.from_old(packet.text) if packet.old else Auth.from_list(packet.text)
        peer = _point(auth.static)
        signer = _signer(xor(self._key.ecdh(peer), auth.nonce), auth.signature)
        ephemeral, nonce = PrivateKey.generate(self._random), self._random(NONCE_SIZE)
        reply = self._answer(peer, Ack(ephemeral.public.to_bytes(), nonce), packet)
        agreed = Agreed(packet.wire, reply, auth.nonce, nonce, ephemeral.ecdh(signer))
        return Shaken(peer, Secrets.derive(agreed, initiator=False), reply, self._reader.rest())

    def _answer(self, peer: PublicKey, ack: Ack, question: Packet) -> bytes:
        if question.old:
            return ecies_seal(peer, ack.to_old(), self._random)
        return seal_packet(peer, ack.fields(), self._random)


def _point(raw: bytes) -> PublicKey:
    try:
        return PublicKey.from_bytes(raw)
    except CryptoError as error:
        raise FrameError(str(error), cause="bad_handshake") from error


def _signer(digest: bytes, signature: bytes) -> PublicKey:
    try:
        return recover(digest, signature)
    except CryptoError as error:
        raise FrameError(str(error), cause="bad_handshake") from error
