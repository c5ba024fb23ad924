"""The oracle as rotator, when a worker may no longer know: it ends the present epoch at once, with new keys.

Theory of operation. Whoever loses the right to work takes the newest epoch's key along; every version seen up to then
is *burnt*. While a burnt one may still be in use and nothing forbids it, the oracle draws its keys of the next version,
asks the gateway to do the same, and rotates with no grace. What is lost meanwhile is part of the same rotation: keys
are granted only later, to whoever may have them then. It ends when the chain shows newer keys, whoever brought them.

Everything that has to survive is written down before it is acted upon, and the chain is asked before it is written to:
a step may run any number of times. The pace is bounded for everybody, and tighter for one owner; see `Budget`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from quietfleet.chain.service import NOBODY, Rotation, ServiceContract
from quietfleet.chain.types import Change, Configuration, ConfigurationChanged, Kind, WorkerChanged
from quietfleet.crypto import PrivateKey
from quietfleet.errors import KeystoreError
from quietfleet.session import epoch_commitment
from quietfleet.settings import OracleSection
from quietfleet.workers._account import account
from quietfleet.workers._budget import Budget, Purse
from quietfleet.workers._state import State
from quietfleet.workers.messages import EpochPrepared, PrepareEpoch

if TYPE_CHECKING:
    from quietfleet.workers._runtime import Runtime

PATIENCE: Final = 10.0  # seconds for which a gateway that is there is waited for
ASK_EVERY: Final = 30.0  # seconds between two times a gateway that was left out is asked
LOOK_EVERY: Final = 2.0  # seconds between two questions to the chain
KEYED: Final = frozenset({Kind.SENSOR, Kind.PROCESSOR, Kind.GATEWAY})  # the kinds that get epoch keys

_MEMORY: Final = "rotation"


class Memory(msgspec.Struct):
    """What has to survive: versions, times in Unix seconds, and the worker ids and addresses that the chain shows."""

    seen: int = 0  # the newest version that the chain ever had
    burnt: int = 0  # keys up to this version's may be known to somebody who may not have them
    waiting: bool = False  # a burnt version may be in use
    since: float = 0.0
    due: float = 0.0
    cause: str = ""  # the owner whose share is used
    left_out: str = ""  # the gateway that a rotation of ours did without
    asked: int = 0  # the version that keys were drawn for
    asked_at: float = 0.0
    digest: str = ""  # of the gateway's card of that version


class Rotator:
    """Decides when to end an epoch, and does it with the account that may."""

    def __init__(self, runtime: Runtime, rotator: PrivateKey, section: OracleSection) -> None:
        self._runtime = runtime
        self._rotator = rotator
        self._purse = Purse(runtime, Budget(section.rotate_every, section.rotate_most))
        self._state = State(runtime.database)
        self._look_due = self._ask_due = 0.0
        self.recover()

    # what the chain says

    def on_change(self, change: Change) -> None:
        """Note in order what the chain says of configurations and of whoever lost the right to their keys."""
        if isinstance(change, ConfigurationChanged) and change.configuration is not None:
            self.memory.seen = max(self.memory.seen, change.configuration.version)
        elif isinstance(change, WorkerChanged) and _lost(change) and change.id != self._runtime.id:
            assert change.before is not None
            self._burn(change.before.owner)
        self._keep()

    def tick(self) -> None:
        """Take in what the chain has, and draw keys when a rotation is due."""
        latest, previous = self._runtime.replica.configuration()
        if latest is None:
            return
        now, memory = self._runtime.clock.now(), self.memory
        self._catch_up(latest, previous, now)
        if latest.oracle == self._runtime.id and not self._runtime.registry.stale:
            self._mend(latest)
            if self._wanted(latest) and not memory.asked and now >= self._allowed(latest, now):
                self._begin(latest, now)
            if memory.asked and not memory.digest and now >= self._ask_due:
                self._ask(now)
        self._keep()
        self._runtime.metrics.gauge("rotation_waits", now - memory.since if memory.waiting else 0.0)

    def prepared(self, peer: str, word: EpochPrepared) -> None:
        """Take note of the gateway's card."""
        if self.memory.asked == word.version and peer == self._gateway():
            self.memory.digest = word.digest.hex()
            self._keep()

    @property
    def busy(self) -> bool:
        """Whether a rotation is under way: no other is to be begun."""
        return bool(self.memory.asked and self.memory.waiting)

    @property
    def due(self) -> bool:
        """Whether it is time for `step`."""
        memory, now = self.memory, self._runtime.clock.now()
        if not memory.asked or now < self._look_due:
            return False
        if memory.digest:
            return True
        return memory.waiting and (not self._gateway() or now >= memory.asked_at + PATIENCE)

    async def step(self) -> None:
        """Rotate at once, unless the chain has gone on, or is to have a transaction of ours from before."""
        self._look_due = self._runtime.clock.now() + LOOK_EVERY  # also when the chain refuses
        async with account(self._runtime, self._rotator) as (client, wallet):
            service = ServiceContract(client, wallet)
            proven, _ = await service.configuration()
            latest, _ = self._runtime.replica.configuration()
            if latest is None or proven != msgspec.structs.replace(latest, keys_from=0) or not self.due_for(latest):
                return  # the chain has gone on meanwhile, or the endpoint is of two minds
            rotation = self._rotation(latest)
            if rotation is None:
                return
            with self._runtime.transaction():
                self._purse.pay(latest.version + 1, self.memory.cause, self._runtime.clock.now())
            named = rotation.gateway != NOBODY
            self._runtime.note("rotating", version=latest.version + 1, gateway_named=named)
            receipt = await service.rotate_at_once(rotation)
        self._runtime.metrics.count("rotations_made")
        self._runtime.note("rotated", version=latest.version + 1, block=receipt.block)

    def due_for(self, latest: Configuration) -> bool:
        """Whether keys are drawn for the version after `latest`, and `latest` is one of ours."""
        return latest.oracle == self._runtime.id and self.memory.asked == latest.version + 1

    def recover(self) -> None:
        """Go by what is stored: at the start, or after a step that was undone."""
        stored = self._state.get(_MEMORY)
        self.memory = msgspec.convert(stored, Memory) if stored else Memory()
        self._kept = stored

    def status(self) -> dict[str, Any]:
        """What `quietfleet status` shows."""
        memory = self.memory
        waits = {"since": memory.since, "due": memory.due} if memory.waiting else None
        spent = self._purse.spent(self._runtime.clock.now())
        return {"waits": waits, "version": memory.asked or None, "last_hour": len(spent)}

    # deciding

    def _burn(self, owner: str) -> None:
        """Count every version seen so far as known outside, and find out when that owner's share allows to act."""
        memory, now = self.memory, self._runtime.clock.now()
        if not memory.seen:
            return
        latest, previous = self._runtime.replica.configuration()
        if latest is not None and not _in_use(previous, latest, memory.burnt, now):
            self._done(latest)  # what was waited for is over, and must not lend this one its time
        earliest = self._purse.earliest(owner, now)
        if not memory.waiting or earliest < memory.due:
            memory.due, memory.cause = earliest, owner
        memory.burnt = memory.seen
        self._wait(now)

    def _wait(self, now: float) -> None:
        if not self.memory.waiting:
            self.memory.waiting, self.memory.since = True, now
            self._runtime.note("rotation-wanted", version=self.memory.burnt)

    def _catch_up(self, latest: Configuration, previous: Configuration | None, now: float) -> None:
        """Leave behind what the chain has done, whoever did it; begin anew what it has undone."""
        memory = self.memory
        memory.seen = max(memory.seen, latest.version)
        if memory.asked and latest.version >= memory.asked:
            memory.asked, memory.digest = 0, ""
        if memory.asked and memory.asked > latest.version + 1:  # a reorganisation
            memory.asked, memory.digest = 0, ""
        if _in_use(previous, latest, memory.burnt, now):
            self._wait(now)
        else:
            self._done(latest)

    def _done(self, latest: Configuration) -> None:
        if self.memory.waiting:
            self.memory.waiting, self.memory.cause, self.memory.due = False, "", 0.0
            self._runtime.note("rotation-done", version=latest.epoch)

    def _mend(self, latest: Configuration) -> None:
        """A configuration that names keys of ours that are not here serves nobody: end it like a burnt one."""
        epochs, memory = self._runtime.messenger.epochs, self.memory
        if memory.waiting or memory.asked:
            return
        held = epochs.secrets(latest.epoch)
        whole = held is not None and held.card.digest == latest.oracle_card_digest
        if not whole or epochs.granted(latest.epoch, self._runtime.clock.now()) is None:
            self._runtime.note("rotation-keys-missing", version=latest.version)
            self._burn("")

    def _wanted(self, latest: Configuration) -> bool:
        left_out = self.memory.left_out if latest.gateway == NOBODY else ""
        return self.memory.waiting or (bool(left_out) and self._runtime.registry.usable(left_out))

    def _allowed(self, latest: Configuration, now: float) -> float:
        if self._purse.paid(latest.version + 1):  # begun by a leader before us, or before a restart
            return now
        return max(self._purse.earliest(None, now), self.memory.due)

    # acting

    def _begin(self, latest: Configuration, now: float) -> None:
        """Draw our keys of the next version; the gateway's are asked for beside it."""
        version, memory = latest.version + 1, self.memory
        epochs = self._runtime.messenger.epochs
        fresh = self._runtime.random(32) if epochs.epoch_key(version) is None else b""
        try:
            epochs.prepare(version, fresh)
        except KeystoreError as error:
            self._runtime.note("rotation-refused", reason=str(error))
            memory.due = now + ASK_EVERY
            return
        memory.asked, memory.asked_at, memory.digest = version, now, ""
        self._ask_due = now

    def _ask(self, now: float) -> None:
        self._ask_due = now + ASK_EVERY
        gateway = self._gateway()
        if gateway:
            self._runtime.tell(gateway, PrepareEpoch(self.memory.asked))

    def _gateway(self) -> str:
        """The gateway to name, if there is one that may work: the present one, or the one that was left out."""
        latest, _ = self._runtime.replica.configuration()
        named = latest.gateway if latest is not None and latest.gateway != NOBODY else self.memory.left_out
        return named if named and self._runtime.registry.usable(named) else ""

    def _rotation(self, latest: Configuration) -> Rotation | None:
        """What to put on chain: new keys, the same limits, and the gateway if its card is here."""
        memory, epochs = self.memory, self._runtime.messenger.epochs
        secrets, key = epochs.secrets(memory.asked), epochs.epoch_key(memory.asked)
        if secrets is None or key is None:
            memory.asked = 0  # drawn by nobody, or undone: begin again
            return None
        gateway = self._gateway() if memory.digest else ""
        if not gateway and latest.gateway != NOBODY:
            memory.left_out = latest.gateway
        self._keep()
        return Rotation(
            oracle=self._runtime.id,
            epoch_key_commitment=epoch_commitment(key),
            oracle_card_digest=secrets.card.digest,
            gateway=gateway or NOBODY,
            gateway_card_digest=bytes.fromhex(memory.digest) if gateway else bytes(32),
            min_pow=latest.min_pow,
            max_ttl=latest.max_ttl,
            max_size=latest.max_size,
        )

    def _keep(self) -> None:
        now = msgspec.to_builtins(self.memory)
        if now != self._kept:
            self._kept = now
            self._state.set(_MEMORY, now)


def prepare_for(runtime: Runtime, peer: str, request: PrepareEpoch) -> None:
    """A gateway's answer to the oracle: its card of the next version, drawn once; to anybody else nothing."""
    latest = runtime.messenger.epochs.latest
    if latest is None or latest.oracle != peer or request.version != latest.version + 1:
        runtime.metrics.count("epochs_not_prepared")
        return
    try:
        card = runtime.messenger.epochs.prepare(request.version).card
    except KeystoreError as error:
        runtime.note("epoch-not-prepared", reason=str(error))
        return
    runtime.note("epoch-prepared", version=request.version)
    runtime.messenger.notify(peer, EpochPrepared(request.version, card.digest))


def _lost(change: WorkerChanged) -> bool:
    """Whether a worker that could hold epoch keys may not have them any more: switched off, or another's now."""
    before, after = change.before, change.after
    if before is None or not before.usable or before.kind not in KEYED:
        return False
    return change.lost or (after is not None and after.owner != before.owner)


def _in_use(previous: Configuration | None, latest: Configuration, burnt: int, now: float) -> bool:
    """Whether a key of a burnt version may still be used: in force, or tolerated, or in force until the next is."""
    if latest.epoch <= burnt:
        return True
    return previous is not None and previous.epoch <= burnt and now < latest.active_from + latest.grace
