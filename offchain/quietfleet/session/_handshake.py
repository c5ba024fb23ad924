"""The hybrid post-quantum handshake: two sealed shares, both identities signed into one transcript.

The initiator seals `Hello` to the responder's hybrid key (HPKE, ML-KEM-768 + X25519, RFC 9180 single shot), the
responder seals `Welcome` back twice: to a hybrid key drawn for this one call, and around that to the key on the
initiator's card. Each brings 32 random bytes; each signs what it has seen with the messaging key of the card it shows.
The root key needs both shares. Who does not hold a card's HPKE key can neither answer nor call under it; and the call's
key lives in memory until the answer is there, so that nothing that is left afterwards opens a recorded handshake.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from quietfleet.crypto import PrivateKey, derive, keccak256, recover
from quietfleet.crypto.hpke import HPKE_PUBLIC_SIZE, HpkePrivateKey, hpke_open, hpke_seal
from quietfleet.errors import CardRefused, CryptoError, HandshakeRefused, MessageRefused
from quietfleet.session._card import Card, decode_card, encode_card
from quietfleet.session._foreign import Finite, read

Id = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Share = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]

MAX_AGE = 120.0  # seconds a Hello stays acceptable; older ones are replays or very late


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """The first message: who I am, my share of the key, the hybrid key to answer to, why I call."""

    hello_id: Id
    card: bytes
    share: Share
    answer_to: Annotated[bytes, msgspec.Meta(min_length=HPKE_PUBLIC_SIZE, max_length=HPKE_PUBLIC_SIZE)]
    purpose: Annotated[str, msgspec.Meta(max_length=64)]
    at: Finite
    signature: bytes


class Welcome(msgspec.Struct, frozen=True, array_like=True):
    """The answer: the other share, signed over the whole exchange."""

    hello_id: Id
    share: Share
    signature: bytes


_HELLOS: Final = msgspec.msgpack.Decoder(Hello)
_WELCOMES: Final = msgspec.msgpack.Decoder(Welcome)


def make_hello(
    identity: PrivateKey, own: Card, peer: Card, purpose: str, now: float, seed: bytes, domain: bytes, answer_to: bytes
) -> Hello:
    """Compose a Hello; `seed` is 48 random bytes (16 name the attempt, 32 are the share)."""
    unsigned = Hello(seed[:16], encode_card(own), seed[16:48], answer_to, purpose, now, b"")
    return msgspec.structs.replace(unsigned, signature=identity.sign(_hello_digest(unsigned, peer, domain)))


def seal_hello(hello: Hello, peer: Card) -> bytes:
    """Seal a Hello so that only the holder of the peer's current key reads it; raises `HandshakeRefused`."""
    return _seal(peer.hpke_public, msgspec.msgpack.encode(hello), b"quietfleet hello" + peer.digest)


def open_hello(private: HpkePrivateKey, own: Card, data: bytes, now: float, domain: bytes) -> tuple[Hello, Card]:
    """Open and check a Hello; raises `HandshakeRefused`."""
    try:
        hello = read(_HELLOS, hpke_open(private, data, b"quietfleet hello" + own.digest))
        card = decode_card(hello.card)
        _check_signer(_hello_digest(hello, own, domain), hello.signature, card)
    except (CryptoError, CardRefused, MessageRefused) as error:
        raise HandshakeRefused(str(error)) from error
    if abs(now - hello.at) > MAX_AGE:
        raise HandshakeRefused("too old or from the future")
    if card.version != own.version:
        raise HandshakeRefused("the two cards are of different configuration versions")
    return hello, card


def make_welcome(identity: PrivateKey, hello: Hello, own: Card, share: bytes, domain: bytes) -> Welcome:
    """Compose the answer to `hello` with 32 random bytes of `share`."""
    signature = identity.sign(_welcome_digest(hello, own, share, domain))
    return Welcome(hello.hello_id, share, signature)


def seal_welcome(welcome: Welcome, hello: Hello, peer: Card) -> bytes:
    """Seal a Welcome to the key its Hello brought, and to that of the caller's card; raises `HandshakeRefused`."""
    inner = _seal(hello.answer_to, msgspec.msgpack.encode(welcome), b"quietfleet welcome" + hello.hello_id)
    return _seal(peer.hpke_public, inner, b"quietfleet welcome" + peer.digest)


def open_welcome(
    keys: Sequence[HpkePrivateKey], own: Card, data: bytes, hello: Hello, peer: Card, domain: bytes
) -> Welcome:
    """Open and check the answer to our `hello`; `keys` are the card's and the call's; raises `HandshakeRefused`."""
    card_key, call_key = keys
    try:
        inner = hpke_open(card_key, data, b"quietfleet welcome" + own.digest)
        plain = hpke_open(call_key, inner, b"quietfleet welcome" + hello.hello_id)
        welcome = read(_WELCOMES, plain)
        _check_signer(_welcome_digest(hello, peer, welcome.share, domain), welcome.signature, peer)
    except (CryptoError, MessageRefused) as error:
        raise HandshakeRefused(str(error)) from error
    return welcome


def root_key(hello: Hello, welcome: Welcome, responder: Card, domain: bytes) -> bytes:
    """Derive the 32-byte root both sides share, bound to the whole transcript."""
    transcript = _welcome_digest(hello, responder, welcome.share, domain)
    return derive(hello.share + welcome.share, "session root", transcript)


def welcome_key(hello: Hello) -> bytes:
    """The outer symmetric key of the answer: only the two of them know the share it comes from."""
    return derive(hello.share, "welcome")


def _seal(public: bytes, plain: bytes, info: bytes) -> bytes:
    try:
        return hpke_seal(public, plain, info)
    except CryptoError as error:
        raise HandshakeRefused(str(error)) from error


def _check_signer(digest: bytes, signature: bytes, card: Card) -> None:
    if recover(digest, signature).to_bytes() != card.public_key:
        raise HandshakeRefused("signed by another key")


def _hello_digest(hello: Hello, responder: Card, domain: bytes) -> bytes:
    unsigned = msgspec.structs.replace(hello, signature=b"")
    return keccak256(b"quietfleet hello" + keccak256(domain) + responder.digest + msgspec.msgpack.encode(unsigned))


def _welcome_digest(hello: Hello, responder: Card, share: bytes, domain: bytes) -> bytes:
    return keccak256(b"quietfleet welcome" + _hello_digest(hello, responder, domain) + keccak256(share))
