"""Identities, handshakes, conversations and the connection table: who talks to whom, and when that ends."""

from quietfleet.session._calls import GATEWAY, ORACLE
from quietfleet.session._card import Card, EpochSecrets, decode_card, encode_card
from quietfleet.session._codec import Codec, Mode, Packet
from quietfleet.session._epochs import Epochs, epoch_commitment
from quietfleet.session._foreign import Finite
from quietfleet.session._identity import Identity
from quietfleet.session._vault import Vault
from quietfleet.session.events import CardSeen, Closed, Event, Expired, Ignored, Opened, Received, VersionRetired
from quietfleet.session.messenger import Messenger, Registry, Transmission

__all__ = [
    "GATEWAY",
    "ORACLE",
    "Card",
    "CardSeen",
    "Closed",
    "Codec",
    "EpochSecrets",
    "Epochs",
    "Event",
    "Expired",
    "Finite",
    "Identity",
    "Ignored",
    "Messenger",
    "Mode",
    "Opened",
    "Packet",
    "Received",
    "Registry",
    "Transmission",
    "Vault",
    "VersionRetired",
    "decode_card",
    "encode_card",
    "epoch_commitment",
]
