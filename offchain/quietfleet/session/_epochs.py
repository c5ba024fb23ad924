"""Configuration versions as this worker lives them: own keys, the epoch key, and when each must be gone."""

from __future__ import annotations

import msgspec

from quietfleet.chain.types import Configuration
from quietfleet.crypto import PrivateKey, derive, keccak256
from quietfleet.crypto.hpke import HpkePrivateKey
from quietfleet.errors import HandshakeRefused
from quietfleet.session._card import EpochSecrets, decode_card, draw_secrets, encode_card
from quietfleet.session._vault import Random, Vault
from quietfleet.storage import Database


class _Epoch(msgspec.Struct, array_like=True):
    hpke: bytes
    card: bytes
    epoch_key: bytes = b""


def epoch_commitment(epoch_key: bytes) -> bytes:
    """The 32 bytes the chain shows of an epoch key; the key is random, so the commitment tells nothing."""
    return keccak256(b"quietfleet epoch key" + epoch_key)


class Epochs:
    """Keys of one worker per configuration version.

    A version is live while it is in force, announced, or within the grace of its successor; afterwards its keys are
    erased and nothing sealed under them opens again.
    """

    def __init__(self, database: Database, identity: PrivateKey, random: Random) -> None:
        self._identity = identity
        self._random = random
        self._vault = Vault(database, "session_epochs", identity.to_bytes(), random)
        self.latest: Configuration | None = None
        self.previous: Configuration | None = None
        self._secrets: dict[int, EpochSecrets] = {}
        self._keys: dict[int, bytes] = {}
        self.load()

    def load(self) -> None:
        """Read what is stored: at start, after a rolled-back transaction, or when keys were prepared beside us."""
        self._secrets, self._keys = {}, {}
        for row_id, row in self._vault.all(_Epoch):
            version = int.from_bytes(row_id, "big")
            self._secrets[version] = EpochSecrets(HpkePrivateKey.from_bytes(row.hpke), decode_card(row.card))
            if row.epoch_key:
                self._keys[version] = row.epoch_key

    def adopt(self, latest: Configuration | None, previous: Configuration | None, now: float) -> set[int]:
        """Take note of the chain's configuration; draw own keys for a live version seen for the first time.

        An epoch key that is not the one a configuration commits to belongs to a chain that was reorganised: it goes,
        and its version is returned.
        """
        self.latest, self.previous = latest, previous
        swapped = {one.version for one in (latest, previous) if one is not None and self._mismatch(one)}
        for version in swapped:
            self._store(version, self._secrets[version], b"")
        for version in self.live(now):
            if version not in self._secrets:
                self.load()
            if version not in self._secrets:
                self.prepare(version)
        return swapped

    def prepare(self, version: int, epoch_key: bytes = b"") -> EpochSecrets:
        """Draw and store keys for `version` ahead of its announcement; an oracle also brings the epoch key.

        What was drawn before stays: the chain may name it by now.
        """
        secrets = self._secrets.get(version) or draw_secrets(self._identity, version, self._random)
        self._store(version, secrets, self._keys.get(version) or epoch_key)
        return secrets

    def secrets(self, version: int) -> EpochSecrets | None:
        """Return our keys for `version`, if it is live."""
        return self._secrets.get(version)

    def all_secrets(self) -> list[EpochSecrets]:
        """Every version's keys we hold, newest first."""
        return [self._secrets[version] for version in sorted(self._secrets, reverse=True)]

    def epoch_key(self, version: int) -> bytes | None:
        """Return the epoch key of `version`, if we hold it."""
        return self._keys.get(version)

    def granted(self, version: int, now: float) -> bytes | None:
        """The key of `version` for whoever may have it: only of a live configuration, and only the committed one."""
        announced = (one for one in (self.latest, self.previous) if one is not None and one.version == version)
        configuration = next(announced, None)
        if configuration is None or version not in self.live(now) or self._mismatch(configuration):
            return None
        return self._keys.get(version)

    def set_epoch_key(self, configuration: Configuration, key: bytes) -> None:
        """Store an epoch key; raises `HandshakeRefused` when it is not the one the chain committed to."""
        if epoch_commitment(key) != configuration.epoch_key_commitment:
            raise HandshakeRefused("the epoch key does not match its commitment on chain")
        secrets = self._secrets.get(configuration.version)
        if secrets is not None:
            self._store(configuration.version, secrets, key)

    def in_force(self, now: float) -> Configuration | None:
        """The configuration senders use at `now`."""
        if self.latest is None or now >= self.latest.active_from or self.previous is None:
            return self.latest
        return self.previous

    def live(self, now: float) -> list[int]:
        """Versions whose keys may exist at `now`, newest first."""
        if self.latest is None:
            return []
        tolerated = self.previous is not None and now < self.latest.active_from + self.latest.grace
        return [self.latest.version] + ([self.previous.version] if tolerated and self.previous else [])

    def retire(self, now: float) -> list[int]:
        """Erase every version that is no longer live; return those that were."""
        if self.latest is None:
            return []
        live = self.live(now)
        gone = [version for version in self._secrets if version not in live and version < self.latest.version]
        for version in gone:
            self._vault.delete(version.to_bytes(4, "big"))
            self._secrets.pop(version)
            self._keys.pop(version, None)
        return gone

    def _mismatch(self, configuration: Configuration) -> bool:
        key = self._keys.get(configuration.version)
        return key is not None and epoch_commitment(key) != configuration.epoch_key_commitment

    def _store(self, version: int, secrets: EpochSecrets, epoch_key: bytes) -> None:
        row = _Epoch(secrets.hpke.to_bytes(), encode_card(secrets.card), epoch_key)
        self._vault.put(version.to_bytes(4, "big"), row)
        self._secrets[version] = secrets
        self._keys.pop(version, None)
        if epoch_key:
            self._keys[version] = epoch_key


def generation_base(root: bytes, at: int, version: int, epoch_key: bytes) -> tuple[bytes, bytes]:
    """Return the secret that `version`'s chains come from, and the root of the version after it.

    `root` is the session's root of version `at`, no later than `version`; it ratchets once a version whether or not
    that version was ever used, so that two sides agree even if one missed a configuration that was replaced.
    """
    for _ in range(version - at):
        root = derive(root, "next root")
    return derive(root, "epoch", version.to_bytes(4, "big"), epoch_key), derive(root, "next root")
