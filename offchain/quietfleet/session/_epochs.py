"""Configuration versions as this worker lives them: own keys, the epoch key, and when each must be gone."""

from __future__ import annotations

import msgspec

from quietfleet.chain.types import Configuration
from quietfleet.crypto import derive, keccak256
from quietfleet.crypto.hpke import HpkePrivateKey
from quietfleet.errors import HandshakeRefused, KeystoreError
from quietfleet.session._card import BLOOM_BITS, EpochSecrets, decode_card, draw_secrets, encode_card
from quietfleet.session._identity import Identity
from quietfleet.session._vault import Random, Vault
from quietfleet.storage import Rows


class _Epoch(msgspec.Struct, array_like=True):
    hpke: bytes
    card: bytes
    epoch_key: bytes = b""
    meeting_hpke: bytes = b""
    meeting_card: bytes = b""


def epoch_commitment(epoch_key: bytes) -> bytes:
    """The 32 bytes the chain shows of an epoch key; the key is random, so the commitment tells nothing."""
    return keccak256(b"quietfleet epoch key" + epoch_key)


def service_digests(configuration: Configuration) -> tuple[bytes, bytes]:
    """The digests of the two cards a configuration names."""
    return configuration.oracle_card_digest, configuration.gateway_card_digest


class Epochs:
    """Keys of one worker per configuration version; one that keeps the keys of an earlier version goes by that one.

    A version is live while it is in force, announced, or within the grace of its successor; afterwards its keys are
    erased and nothing sealed under them opens again.
    """

    def __init__(self, rows: Rows, identity: Identity, random: Random, bits: int = BLOOM_BITS) -> None:
        self._bits = bits
        self._identity = identity
        self._random = random
        self._vault = Vault(rows, "session_epochs", identity.secret, random, contended=True)
        self.latest: Configuration | None = None
        self.previous: Configuration | None = None
        self._secrets: dict[int, EpochSecrets] = {}
        self._meeting: dict[int, EpochSecrets] = {}
        self._keys: dict[int, bytes] = {}
        self.load()

    def load(self) -> None:
        """Read what is stored: at start, after a rolled-back transaction, or when keys were prepared beside us."""
        self._secrets, self._meeting, self._keys = {}, {}, {}
        for row_id, row in self._vault.all(_Epoch):
            version = int.from_bytes(row_id, "big")
            secrets = self._read(row.hpke, row.card)
            if secrets is None:
                continue
            self._secrets[version] = secrets
            meeting = self._read(row.meeting_hpke, row.meeting_card) if row.meeting_card else None
            if meeting is not None:
                self._meeting[version] = meeting
            if row.epoch_key:
                self._keys[version] = row.epoch_key

    def adopt(self, latest: Configuration | None, previous: Configuration | None, now: float) -> set[int]:
        """Take note of the chain's configuration; draw own keys for a live version that has none that can be shown.

        An epoch key that is not the one a configuration commits to belongs to a chain that was reorganised: it goes,
        and its version is returned.
        """
        self.latest, self.previous = latest, previous
        swapped = {one.epoch for one in (latest, previous) if one is not None and self._mismatch(one)}
        for version in swapped:
            self._store(version, self._secrets[version], b"")
        for version in self.live(now):
            if not self._complete(version, now):
                self.load()
            if not self._complete(version, now):
                self._redraw(version, now)
        return swapped

    def prepare(self, version: int, epoch_key: bytes = b"") -> EpochSecrets:
        """Draw and store keys for `version` ahead of its announcement; an oracle also brings the epoch key.

        What was drawn before stays: the chain may name it by now. Raises `KeystoreError` without the present key.
        """
        if version not in self._secrets:
            self.load()  # it may have been drawn beside us
        secrets = self._secrets.get(version) or self._draw(version)
        self._store(version, secrets, self._keys.get(version) or epoch_key)
        return secrets

    def secrets(self, version: int) -> EpochSecrets | None:
        """Return our keys for `version`, if it is live: those of the card that oracles see, or that is announced."""
        return self._secrets.get(version)

    def meeting(self, version: int) -> EpochSecrets | None:
        """Return the keys of our other card for `version`: for all who are no oracle, and no oracle ever sees it.

        Whoever holds a card recognises a call to it; so an oracle that brokered a deal does not recognise its call.
        """
        return self._meeting.get(version) if self._identity.present is not None else None

    def faces(self) -> list[EpochSecrets]:
        """The keys of every card that we may be called by."""
        return [*self.all_secrets(), *self._meeting.values()]

    def all_secrets(self) -> list[EpochSecrets]:
        """Every version's keys we hold, newest first."""
        return [self._secrets[version] for version in sorted(self._secrets, reverse=True)]

    def epoch_key(self, version: int) -> bytes | None:
        """Return the epoch key of `version`, if we hold it."""
        return self._keys.get(version)

    def keyed(self) -> list[int]:
        """The versions whose epoch key we hold, newest first."""
        return sorted(self._keys, reverse=True)

    def granted(self, version: int, now: float) -> bytes | None:
        """The key of `version` for whoever may have it: only of a live configuration, and only the committed one."""
        announced = (one for one in (self.latest, self.previous) if one is not None and one.epoch == version)
        configuration = next(announced, None)
        if configuration is None or version not in self.live(now) or self._mismatch(configuration):
            return None
        return self._keys.get(version)

    def set_epoch_key(self, configuration: Configuration, key: bytes) -> None:
        """Store an epoch key; raises `HandshakeRefused` when it is not the one the chain committed to."""
        if epoch_commitment(key) != configuration.epoch_key_commitment:
            raise HandshakeRefused("the epoch key does not match its commitment on chain")
        secrets = self._secrets.get(configuration.epoch)
        if secrets is not None:
            self._store(configuration.epoch, secrets, key)

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
        epochs = [self.latest.epoch] + ([self.previous.epoch] if tolerated and self.previous else [])
        return list(dict.fromkeys(epochs))

    def pins(self, digest: bytes, now: float) -> bool:
        """Whether a live configuration names the very card of that digest: it stands, whatever became of its key."""
        live = self.live(now)
        named = (service_digests(one) for one in (self.latest, self.previous) if one and one.epoch in live)
        return any(digest in pair for pair in named)

    def outlived(self, now: float) -> list[int]:
        """Versions whose keys are here and should be gone."""
        if self.latest is None:
            return []
        live = self.live(now)
        return [version for version in self._secrets if version not in live and version < self.latest.epoch]

    def retire(self, now: float) -> list[int]:
        """Erase every version that is no longer live; return those that were."""
        gone = self.outlived(now)
        for version in gone:
            self._erase(version)
        return gone

    def _complete(self, version: int, now: float) -> bool:
        return self._presentable(version, now) and self._can_meet(version)

    def _presentable(self, version: int, now: float) -> bool:
        """Whether our card of `version` is one that others take: by our present key, or pinned."""
        secrets, present = self._secrets.get(version), self._identity.present
        if secrets is None:
            return False
        by_present_key = present is not None and secrets.card.public_key == present.public.to_bytes()
        return by_present_key or self.pins(secrets.card.digest, now)

    def _can_meet(self, version: int) -> bool:
        """Whether our other card is by our present key, as it must be: no configuration names it."""
        meeting, present = self._meeting.get(version), self._identity.present
        return present is None or (meeting is not None and meeting.card.public_key == present.public.to_bytes())

    def _redraw(self, version: int, now: float) -> None:
        """Draw what can be shown under the present key; without that key, give up what cannot be shown any more."""
        if self._identity.present is not None:
            kept = self._secrets[version] if self._presentable(version, now) else self._draw(version)
            self._store(version, kept, self._keys.get(version, b""))
        elif version in self._secrets:
            self._erase(version)

    def _read(self, hpke: bytes, encoded: bytes) -> EpochSecrets | None:
        card = decode_card(encoded)
        signer = self._identity.key_of(card.public_key)
        return EpochSecrets(HpkePrivateKey.from_bytes(hpke), card, signer) if signer else None

    def _draw(self, version: int, bloom: bytes | None = None) -> EpochSecrets:
        signer = self._identity.present
        if signer is None:
            raise KeystoreError("the key the chain knows this worker by is not here")
        return draw_secrets(self._identity.id, signer, version, self._random, self._bits, bloom)

    def _erase(self, version: int) -> None:
        self._vault.delete(version.to_bytes(4, "big"))
        del self._secrets[version]
        self._meeting.pop(version, None)
        self._keys.pop(version, None)

    def _mismatch(self, configuration: Configuration) -> bool:
        key = self._keys.get(configuration.epoch)
        return key is not None and epoch_commitment(key) != configuration.epoch_key_commitment

    def _store(self, version: int, secrets: EpochSecrets, epoch_key: bytes) -> None:
        """Keep our keys; the other card's are drawn where they are missing, in the same bloom: a second one costs."""
        if self._identity.present is not None and not self._can_meet(version):
            self._meeting[version] = self._draw(version, secrets.card.bloom)
        row = _Epoch(secrets.hpke.to_bytes(), encode_card(secrets.card), epoch_key)
        meeting = self._meeting.get(version)
        if meeting is not None:
            row.meeting_hpke, row.meeting_card = meeting.hpke.to_bytes(), encode_card(meeting.card)
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
