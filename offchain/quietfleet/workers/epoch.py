"""Preparing a configuration version: the oracle and the gateway draw their keys before the chain names them."""

from __future__ import annotations

import secrets

import msgspec

from quietfleet.crypto import PrivateKey
from quietfleet.session import Epochs, epoch_commitment
from quietfleet.settings import Settings
from quietfleet.storage import Database


class PreparedEpoch(msgspec.Struct, frozen=True, omit_defaults=True):
    """The public part of what was drawn: what the configuration on chain will say of it."""

    version: int
    worker: str
    card_digest: str
    epoch_key_commitment: str = ""


def prepare_epoch(settings: Settings, identity: PrivateKey, version: int, *, epoch_key: bool) -> PreparedEpoch:
    """Draw and store a worker's keys for `version`, also beside the running worker; the oracle's include the epoch key."""
    drawn = secrets.token_bytes(32) if epoch_key else b""
    with Database(settings.path(settings.worker.state) / "worker.db") as database:
        card = Epochs(database, identity, secrets.token_bytes).prepare(version, drawn).card
    commitment = "0x" + epoch_commitment(drawn).hex() if drawn else ""
    return PreparedEpoch(version, card.worker, "0x" + card.digest.hex(), commitment)
