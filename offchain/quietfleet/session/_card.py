"""Identity cards: what a worker shows to be reached, signed by the key the chain knows it by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from quietfleet.crypto import PrivateKey, PublicKey, derive, keccak256, recover
from quietfleet.crypto.hpke import HPKE_PRIVATE_SIZE, HPKE_PUBLIC_SIZE, HpkePrivateKey
from quietfleet.errors import CardRefused, CryptoError, MessageRefused
from quietfleet.session._foreign import read
from quietfleet.whisper import BLOOM_SIZE, draw_bloom

BLOOM_BITS: Final = 512  # of 512: every node takes everything, so a narrower bloom would only tie its topics together


class Card(msgspec.Struct, frozen=True, array_like=True):
    """A worker's reachable self for one configuration version.

    `public_key` is 64 bytes x‖y, `hpke_public` the hybrid key first messages are sealed to, `bloom` the 64 bytes every
    topic sent to this worker lies inside, `signature` 65 bytes by the identity key over the rest.
    """

    version: Annotated[int, msgspec.Meta(ge=1, lt=2**32)]
    public_key: bytes
    hpke_public: bytes
    bloom: bytes
    signature: bytes

    @property
    def worker(self) -> str:
        """The worker id: the checksummed address of the identity key."""
        return PublicKey.from_bytes(self.public_key).id

    @property
    def digest(self) -> bytes:
        """32 bytes naming this card; the configuration carries the oracle's and the gateway's."""
        return keccak256(encode_card(self))

    @property
    def contact_key(self) -> bytes:
        """The symmetric key around first messages to this worker: known to whoever holds the card."""
        return derive(self.hpke_public, "contact", self.public_key)


_CARDS: Final = msgspec.msgpack.Decoder(Card)


@dataclass(frozen=True, slots=True)
class EpochSecrets:
    """A worker's own keys for one configuration version, and the card that shows their public half."""

    hpke: HpkePrivateKey
    card: Card


def draw_secrets(identity: PrivateKey, version: int, random: Callable[[int], bytes]) -> EpochSecrets:
    """Draw fresh keys and a fresh bloom for `version`."""
    hpke = HpkePrivateKey(random(HPKE_PRIVATE_SIZE))
    bloom = draw_bloom(random(32), BLOOM_BITS)
    unsigned = Card(version, identity.public.to_bytes(), hpke.public_bytes, bloom, b"")
    signature = identity.sign(_digest_to_sign(unsigned))
    return EpochSecrets(hpke, msgspec.structs.replace(unsigned, signature=signature))


def encode_card(card: Card) -> bytes:
    """Encode a card as msgpack; the same card always gives the same bytes."""
    return msgspec.msgpack.encode(card)


def decode_card(data: bytes) -> Card:
    """Decode and check a card; raises `CardRefused` when it is malformed or its signature is not its own."""
    try:
        card = read(_CARDS, data)
        signer = recover(_digest_to_sign(card), card.signature)
    except (MessageRefused, CryptoError) as error:
        raise CardRefused(str(error)) from error
    if signer.to_bytes() != card.public_key:
        raise CardRefused("signed by another key")
    if len(card.bloom) != BLOOM_SIZE or len(card.hpke_public) != HPKE_PUBLIC_SIZE:
        raise CardRefused("a field has the wrong size")
    return card


def _digest_to_sign(card: Card) -> bytes:
    unsigned = msgspec.structs.replace(card, signature=b"")
    return keccak256(b"quietfleet card" + encode_card(unsigned))
