"""The gateway's releases on their way through the fleet: proposed → approved → open → completed.

Each step is one transaction, taken from where the chain says the channel stands, so that a gateway killed between two
steps goes on with the next one. A release goes out in one wave, to every processor at once: its group root covers a
single salted leaf that stands for all of them.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from quietfleet.chain.channel import ChannelHead, ReleaseRecord, ReleaseState, Report, Terms
from quietfleet.chain.releases import ReleasesContract
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.types import Kind
from quietfleet.chain.wallet import Receipt, Wallet
from quietfleet.chain.waves import Place, group_root
from quietfleet.clock import waits
from quietfleet.crypto import PrivateKey, keccak256
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._state import State

LOOK_EVERY: Final = 2.0  # seconds between two looks at a release that waits for somebody
WITHIN: Final = 60  # seconds after which a processor that has said nothing counts as silent
OPEN_FOR: Final = 30 * 86_400  # seconds within which a release has to reach the fleet
GATE: Final = {"failed_at_most": "as many as succeeded", "heard_within_seconds": WITHIN}
GATE_HASH: Final = keccak256(msgspec.json.encode(GATE, order="deterministic"))

_WANTED: Final = "to release"
_OUTCOMES: Final = "outcomes"


class Rollout:
    """Takes one channel's releases through the contract, with the account that publishes."""

    def __init__(self, runtime: Runtime, state: State, publisher: PrivateKey, channel: bytes) -> None:
        self._runtime = runtime
        self._state = state
        self._publisher = publisher
        self._channel = channel
        self._look_due = 0.0

    def submit(self, manifest_hash: bytes) -> None:
        """Have a manifest released, in place of one that still waits for its proposal."""
        self._state.set(_WANTED, manifest_hash.hex())
        self._look_due = 0.0

    @property
    def due(self) -> bool:
        """Whether there may be a step to take."""
        if waits(self._runtime.clock.now(), self._look_due, LOOK_EVERY):
            return False
        rolling = self._runtime.replica.channel(self._channel).head.state is ReleaseState.ROLLING
        return rolling or self._state.get(_WANTED) is not None

    def heard(self, processor: str, sequence: int, *, installed: bool) -> None:
        """Remember how the newest release went on a processor, under its pseudonym."""
        if sequence == self._runtime.replica.channel(self._channel).head.sequence:
            outcomes = {**self._outcomes(sequence), processor: installed}
            self._state.set(_OUTCOMES, {"sequence": sequence, "outcomes": outcomes})

    async def step(self) -> None:
        """Take the step that is due, if it is ours to take; else look again later."""
        self._look_due = self._runtime.clock.now() + LOOK_EVERY  # also when the chain refuses
        async with ChainClient(self._runtime.settings.chain.rpc, self._runtime.deployment) as client:
            releases = ReleasesContract(client, Wallet(self._publisher.to_bytes(), client))
            head = await releases.head(self._channel)
            taken = await (self._close(releases, head) if _rolling(head) else self._open(releases, head))
        if taken:
            self._look_due = 0.0

    async def _open(self, releases: ReleasesContract, head: ChannelHead) -> bool:
        """Bring the wanted manifest a step nearer to the fleet."""
        wanted = self._state.get(_WANTED)
        if wanted is None:
            return False
        manifest_hash = bytes.fromhex(wanted)
        record = await releases.release(self._channel, manifest_hash)
        if self._is_over(head, record):
            return self._forget(head, record)
        match head.state:
            case ReleaseState.PAUSED:
                return False
            case _ if record.sequence == 0:
                receipt = await releases.propose(self._channel, self._terms(manifest_hash))
                return self._note("release-proposed", receipt, manifest=wanted)
            case ReleaseState.PROPOSED:
                return await self._approve(releases, record.sequence)
            case _:
                receipt = await releases.open_wave(self._channel, record.sequence)
                return self._note("release-opened", receipt, sequence=record.sequence)

    async def _approve(self, releases: ReleasesContract, sequence: int) -> bool:
        """Approve what this very account proposed, where the service named it for that; else a person does."""
        if await releases.approver() != releases.address:
            return False
        return self._note("release-approved", await releases.approve(self._channel, sequence), sequence=sequence)

    def _is_over(self, head: ChannelHead, record: ReleaseRecord) -> bool:
        expired = 0 < record.sequence == head.sequence and self._runtime.clock.now() > head.expires_at
        return record.completed or record.revoked or expired or record.sequence not in {0, head.sequence}

    def _forget(self, head: ChannelHead, record: ReleaseRecord) -> bool:
        if not record.completed:
            self._runtime.note("release-given-up", sequence=record.sequence, newest=head.sequence)
        self._state.set(_WANTED, None)
        return True

    async def _close(self, releases: ReleasesContract, head: ChannelHead) -> bool:
        """Complete a release once all processors have been heard of, or their time is over; stop one that fails."""
        manifest_hash = self._own(head)
        if manifest_hash is None:
            return False
        counts = self._counts(head.sequence)
        counted = {
            "sequence": head.sequence,
            "succeeded": counts.succeeded,
            "failed": counts.failed,
            "silent": counts.silent,
        }
        if counts.failed > counts.succeeded:
            return self._note("release-stopped", await releases.pause(self._channel, head.sequence), **counted)
        waited = self._runtime.clock.now() >= head.since + WITHIN
        if counts.silent and not (waited and counts.succeeded):
            return False  # what nobody has committed cannot be called complete
        receipt = await releases.finalise(self._channel, manifest_hash, 0, counts)
        return self._note("release-completed", receipt, **counted)

    def _own(self, head: ChannelHead) -> bytes | None:
        """The manifest of the newest release, if we have read of it and it is one of ours."""
        known = self._runtime.replica.channel(self._channel)
        if known.head.sequence != head.sequence:
            return None
        manifest_hash = known.releases[-1].manifest_hash
        return manifest_hash if self._state.get(f"manifest:{manifest_hash.hex()}") else None

    def _outcomes(self, sequence: int) -> dict[str, bool]:
        kept = self._state.get(_OUTCOMES, {"sequence": 0})
        return dict(kept["outcomes"]) if kept["sequence"] == sequence else {}

    def _counts(self, sequence: int) -> Report:
        outcomes = self._outcomes(sequence)
        processors = sum(one.usable for one in self._runtime.replica.workers(kind=Kind.PROCESSOR))
        succeeded = sum(outcomes.values())
        return Report(succeeded, len(outcomes) - succeeded, max(0, processors - len(outcomes)))

    def _terms(self, manifest_hash: bytes) -> Terms:
        everybody = Place(self._runtime.random(32), 1, manifest_hash, self._runtime.random(32))
        return Terms(
            manifest_hash=manifest_hash,
            group_root=group_root([everybody]),
            gate_hash=GATE_HASH,
            not_before=0,
            expires_at=int(self._runtime.clock.now()) + OPEN_FOR,
            soak=0,
            wave_count=1,
        )

    def _note(self, kind: str, receipt: Receipt, **detail: Any) -> bool:
        transaction = "0x" + receipt.transaction.hex()
        self._runtime.note(kind, **detail, block=receipt.block, transaction=transaction)
        return True


def _rolling(head: ChannelHead) -> bool:
    return head.state is ReleaseState.ROLLING
