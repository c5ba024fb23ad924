"""Identities, handshakes, conversations and the connection table: who talks to whom, and when that ends."""

from quietfleet.session._calls import GATEWAY, ORACLE
from quietfleet.session._card import Card, EpochSecrets, decode_card, encode_card
from quietfleet.session._codec import Codec, Mode, Packet
from quietfleet.session._decisions import Decision, Rule
from quietfleet.session._departures import SIZE_CLASSES, Transmission
from quietfleet.session._epochs import Epochs, epoch_commitment
from quietfleet.session._foreign import Finite
from quietfleet.session._identity import Identity
from quietfleet.session._large_wire import MAX_LARGE
from quietfleet.session._states import State
from quietfleet.session._static import STATIC
from quietfleet.session._timing import Timing
from quietfleet.session._vault import Vault
from quietfleet.session.events import (
    CardMet,
    CardSeen,
    Closed,
    Event,
    Expired,
    Ignored,
    LargeEnded,
    LargeReceived,
    Opened,
    Received,
    VersionRetired,
)
from quietfleet.session.messenger import Messenger, Registry

__all__ = [
    "GATEWAY",
    "MAX_LARGE",
    "ORACLE",
    "SIZE_CLASSES",
    "STATIC",
    "Card",
    "CardMet",
    "CardSeen",
    "Closed",
    "Codec",
    "Decision",
    "EpochSecrets",
    "Epochs",
    "Event",
    "Expired",
    "Finite",
    "Identity",
    "Ignored",
    "LargeEnded",
    "LargeReceived",
    "Messenger",
    "Mode",
    "Opened",
    "Packet",
    "Received",
    "Registry",
    "Rule",
    "State",
    "Timing",
    "Transmission",
    "Vault",
    "VersionRetired",
    "decode_card",
    "encode_card",
    "epoch_commitment",
]
