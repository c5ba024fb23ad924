"""Identity cards: what a worker shows to be reached, signed by its messaging key.

A card says itself whose it is; that its key is that worker's present one, only the chain can say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Final

import msgspec

from quietfleet.crypto import PrivateKey, PublicKey, checksum_address, derive, keccak256, recover
from quietfleet.crypto.hpke import HPKE_PRIVATE_SIZE, HPKE_PUBLIC_SIZE, HpkePrivateKey
from quietfleet.errors import CardRefused, CryptoError, MessageRefused
from quietfleet.session._foreign import read
from quietfleet.whisper import BLOOM_SIZE, draw_bloom

BLOOM_BITS: Final = 512  # of 512: who takes everything gains nothing by a narrower bloom, which ties topics together
LEAST_BLOOM_BITS: Final = 32  # fewer would name their owner, and none would leave no topic to write to it


class Credential(msgspec.Struct, frozen=True, array_like=True):
    """What a session stands on of a card: whose it is, the address of the key that signed it, its digest."""

    worker: str
    key: str
    digest: bytes


class Card(msgspec.Struct, frozen=True, array_like=True):
    """A worker's reachable self for one configuration version.

    `address` is the worker's id as 20 bytes, `public_key` 64 bytes x‖y of its messaging key, `hpke_public` the hybrid
    key first messages are sealed to, `bloom` the 64 bytes every topic sent to this worker lies inside, `signature` 65
    bytes by the messaging key over the rest.
    """

    version: Annotated[int, msgspec.Meta(ge=1, lt=2**32)]
    address: Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]
    public_key: bytes
    hpke_public: bytes
    bloom: bytes
    signature: bytes

    @property
    def worker(self) -> str:
        """The worker id, which stays when the key is replaced."""
        return checksum_address(self.address)

    @property
    def key(self) -> str:
        """The checksummed address of the messaging key."""
        return PublicKey.from_bytes(self.public_key).id

    @property
    def credential(self) -> Credential:
        """What the chain is asked about."""
        return Credential(self.worker, self.key, self.digest)

    @property
    def digest(self) -> bytes:
        """32 bytes naming this card; the configuration carries the oracle's and the gateway's."""
        return keccak256(encode_card(self))

    @property
    def contact_key(self) -> bytes:
        """The symmetric key around first messages to this worker: known to whoever holds the card."""
        return derive(self.hpke_public, "contact", self.public_key)


_CARDS: Final = msgspec.msgpack.Decoder(Card)


@dataclass(frozen=True)
class EpochSecrets:
    """A worker's own keys for one configuration version, the card that shows their public half, and its signer."""

    hpke: HpkePrivateKey
    card: Card
    signer: PrivateKey

    @cached_property
    def contact_key(self) -> bytes:
        """The card's: every envelope inside our bloom is tried with it, so it is derived once."""
        return self.card.contact_key


def draw_secrets(
    worker: str,
    signer: PrivateKey,
    version: int,
    random: Callable[[int], bytes],
    bits: int = BLOOM_BITS,
    bloom: bytes | None = None,
) -> EpochSecrets:
    """Draw fresh keys for `version`, and a fresh bloom of so many bits if none is given, on a card by `signer`."""
    hpke = HpkePrivateKey(random(HPKE_PRIVATE_SIZE))
    bloom = bloom or draw_bloom(random(32), bits)
    address = bytes.fromhex(worker.removeprefix("0x"))
    unsigned = Card(version, address, signer.public.to_bytes(), hpke.public_bytes, bloom, b"")
    signature = signer.sign(_digest_to_sign(unsigned))
    return EpochSecrets(hpke, msgspec.structs.replace(unsigned, signature=signature), signer)


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
    if int.from_bytes(card.bloom, "big").bit_count() < LEAST_BLOOM_BITS:
        raise CardRefused("its bloom is too narrow")
    return card


def _digest_to_sign(card: Card) -> bytes:
    unsigned = msgspec.structs.replace(card, signature=b"")
    return keccak256(b"quietfleet card" + encode_card(unsigned))
