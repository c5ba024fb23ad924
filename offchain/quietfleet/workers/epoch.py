"""Preparing a configuration version: the oracle and the gateway draw their keys before the chain names them."""

from __future__ import annotations

import secrets
from contextlib import AbstractContextManager, closing, nullcontext

import msgspec

from quietfleet.chain.replica import Replica
from quietfleet.crypto import PrivateKey
from quietfleet.errors import EpochError
from quietfleet.session import Epochs, epoch_commitment
from quietfleet.settings import Settings
from quietfleet.storage import Database, Rows
from quietfleet.workers._keys import Keyring
from quietfleet.workers._replicas import open_shared


class PreparedEpoch(msgspec.Struct, frozen=True, omit_defaults=True):
    """The public part of what was drawn: what the configuration on chain will say of it."""

    version: int
    worker: str
    card_digest: str
    epoch_key_commitment: str = ""


def prepare_epoch(
    settings: Settings, first: PrivateKey, passphrase: str, version: int, *, epoch_key: bool
) -> PreparedEpoch:
    """Draw and store a worker's keys for `version`, also beside the running worker; the oracle adds the epoch key.

    Keys drawn before are shown again, never drawn anew: the chain may name them by now. Raises `EpochError` when the
    chain has `version` already and its keys are not here, `KeystoreError` when the worker's present key is not.
    """
    path = settings.path(settings.worker.state) / "worker.db"
    with (
        Database(path) as database,
        _rows(settings, first, database) as rows,
        database.transaction(),
        rows.transaction(),
    ):
        replica = Replica(database, first.to_bytes())
        keyring = Keyring(settings, first, passphrase, replica)
        keyring.require_present()
        epochs = Epochs(rows, keyring, secrets.token_bytes)
        missing_key = epoch_key and epochs.epoch_key(version) is None
        if epochs.secrets(version) is None or missing_key:
            _refuse_late(replica, version)
        epochs.prepare(version, secrets.token_bytes(32) if missing_key else b"")
        return _public(epochs, version, epoch_key=epoch_key)


def _rows(settings: Settings, first: PrivateKey, database: Database) -> AbstractContextManager[Rows]:
    """Where the running worker has its keys too: the store that its replicas share, if they do."""
    if not settings.oracle.store:
        return nullcontext(database)
    return closing(open_shared(settings, first.to_bytes(), secrets.token_bytes(16), {}))


def _refuse_late(replica: Replica, version: int) -> None:
    latest, _ = replica.configuration()
    if latest is not None and version <= latest.version:
        raise EpochError(f"the chain has version {version} and its keys are not here; the next is {latest.version + 1}")


def _public(epochs: Epochs, version: int, *, epoch_key: bool) -> PreparedEpoch:
    kept, key = epochs.secrets(version), epochs.epoch_key(version)
    assert kept is not None
    commitment = "0x" + epoch_commitment(key).hex() if epoch_key and key else ""
    return PreparedEpoch(version, kept.card.worker, "0x" + kept.card.digest.hex(), commitment)
