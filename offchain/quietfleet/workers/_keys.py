"""A worker's messaging keys on disk, and the next one, prepared for its owner to put on chain.

`keystore.json` holds the first key, which names the worker and guards what it stores, for life; a later one is in
`keystore.<epoch>.json` beside it, under the same passphrase. A key counts from the block in which the chain has it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from quietfleet.chain.deployment import load_deployment
from quietfleet.chain.new_key import KeyProof
from quietfleet.chain.replica import Replica
from quietfleet.chain.types import WorkerState
from quietfleet.crypto import PrivateKey, PublicKey
from quietfleet.crypto.keystore import create_keystore, is_light, load_keystore
from quietfleet.errors import KeystoreError, NotEnrolled
from quietfleet.session import Identity
from quietfleet.settings import Settings
from quietfleet.storage import AuditLog, Database
from quietfleet.workers._state import State
from quietfleet.workers.files import write_private

if TYPE_CHECKING:
    from quietfleet.workers._runtime import Runtime

VALID = 7 * 86_400  # seconds in which the owner may use a proof that the worker laid out by itself
RETRY = 3600.0  # seconds after which a key that could not be drawn is tried again
PROOF = "new-key.json"
IN_USE, OFFERED = "key in use", "key offered"


class Keyring(Identity):
    """A worker's keys, each read when it is first needed: opening a keystore takes a second by design."""

    def __init__(self, settings: Settings, first: PrivateKey, passphrase: str, replica: Replica) -> None:
        super().__init__(first)
        self._file = settings.path(settings.worker.keystore)
        self._passphrase = passphrase
        self._replica = replica
        self._read: dict[int, PrivateKey | None] = {0: first}

    @property
    def epoch(self) -> int:
        """Which key the chain knows this worker by, as far as it was read."""
        state = self._replica.worker(self.id)
        return state.epoch if state else 0

    @property
    def present(self) -> PrivateKey | None:
        state = self._replica.worker(self.id)
        key = self._key(state.epoch if state else 0)
        return key if key is not None and (state is None or state.key == key.public.id) else None

    def require_present(self) -> None:
        """Raise `KeystoreError`, saying what to do, if the key the chain knows this worker by is not here."""
        if self.present is None:
            cure = "put it back and restart, or have the next key put on chain"
            raise KeystoreError(f"{self.file(self.epoch)} does not hold the key the chain knows this worker by: {cure}")

    def key_of(self, public_key: bytes) -> PrivateKey | None:
        address = PublicKey.from_bytes(public_key).id
        use = self._replica.worker_of(address)
        key = self._key(use.epoch if use and use.worker == self.id else 0)
        return key if key is not None and key.public.id == address else None

    def file(self, epoch: int) -> Path:
        """Where the key of an epoch is kept."""
        return self._file.with_suffix(f".{epoch}{self._file.suffix}") if epoch else self._file

    @property
    def waiting(self) -> str:
        """The name of the next key's file, if that is drawn and not yet on chain."""
        file = self.file(self.epoch + 1)
        return file.name if file.exists() else ""

    def next(self) -> PrivateKey:
        """Return the key of the next epoch: the one that waits, or else a fresh one, stored before anyone hears of it.

        It costs as much to guess as the first. Raises `KeystoreError`.
        """
        epoch = self.epoch + 1
        file = self.file(epoch)
        if file.exists():
            key = load_keystore(file, self._passphrase)
        else:
            key = PrivateKey.generate()
            create_keystore(file, key, self._passphrase, light=is_light(self._file))
        self._read[epoch] = key
        return key

    def _key(self, epoch: int) -> PrivateKey | None:
        if epoch not in self._read:
            try:
                self._read[epoch] = load_keystore(self.file(epoch), self._passphrase)
            except KeystoreError:
                self._read[epoch] = None
        return self._read[epoch]


class Schedule:
    """Prepares the next key when the present one has been in use for as long as its owner wants it to be."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._every = runtime.settings.keys.rotate_every
        self._state = State(runtime.database)
        self._not_before = 0.0

    def replaced(self) -> None:
        """Take note that the present key has just come into use."""
        self._state.set(IN_USE, [self._runtime.keyring.epoch, self._runtime.clock.now()])

    def tick(self) -> None:
        """Lay the proof out for the owner when it is due, and again before its deadline or for another owner."""
        now = self._runtime.clock.now()
        if not self._every or now < self._not_before or not self._runtime.registry.usable(self._runtime.id):
            return
        worker = self._runtime.replica.worker(self._runtime.id)
        assert worker is not None
        if now < self._in_use_since(worker) + self._every or now < self._offered_until(worker):
            return
        try:
            self._offer(worker, now)
        except KeystoreError as error:
            self._not_before = now + RETRY
            self._runtime.note("key-not-prepared", reason=str(error))

    def _offer(self, worker: WorkerState, now: float) -> None:
        proof = prove(self._runtime.settings, self._runtime.keyring, worker, int(now) + VALID)
        write_private(self._runtime.folder / PROOF, proof.to_json().decode())
        self._state.set(OFFERED, [proof.epoch, proof.owner, now + VALID / 2])
        self._runtime.note("key-prepared", epoch=proof.epoch, deadline=proof.deadline)

    def _in_use_since(self, worker: WorkerState) -> float:
        epoch, since = self._state.get(IN_USE, (0, worker.since))
        return float(since if epoch == worker.epoch else worker.since)

    def _offered_until(self, worker: WorkerState) -> float:
        epoch, owner, until = self._state.get(OFFERED, (0, "", 0.0))
        return float(until) if (epoch, owner) == (worker.epoch + 1, worker.owner) else 0.0


def prove(settings: Settings, keyring: Keyring, state: WorkerState, deadline: int) -> KeyProof:
    """Return the public proof of the next key; the private one stays in its keystore."""
    place = load_deployment(settings.path(settings.chain.deployment))
    return KeyProof.sign(
        keyring.next(),
        place.chain_id,
        place.service.address,
        worker=keyring.id,
        owner=state.owner,
        epoch=state.epoch + 1,
        deadline=deadline,
    )


def prepare_key(settings: Settings, first: PrivateKey, passphrase: str, valid: int) -> KeyProof:
    """Prepare the next key, also beside the running worker; `NotEnrolled` for a worker that is not on chain.

    KeystoreError for a relay: its key is the node that others dial, and lasts as long as it is enrolled.
    """
    if settings.network.listen:
        raise KeystoreError("a relay keeps the key that its enode names: enrol a new relay and retire this one")
    path = settings.path(settings.worker.state) / "worker.db"
    with Database(path) as database, database.transaction():
        replica = Replica(database, first.to_bytes())
        keyring = Keyring(settings, first, passphrase, replica)
        state = replica.worker(keyring.id)
        if state is None or state.retired:
            raise NotEnrolled(keyring.id)
        now = time.time()
        proof = prove(settings, keyring, state, int(now) + valid)
        AuditLog(database).append("key-prepared", {"epoch": proof.epoch, "deadline": proof.deadline}, now)
        return proof
