"""The gateway's releases on their way through the fleet: it drives `quietfleet.rollout.fleet` over the contract.

Each step is one transaction, taken from where the chain says the channel stands and from what processors reported, so
that a gateway killed between two steps goes on with the next one. A plan, that is who is in which wave under what name,
is written down before it is proposed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from quietfleet.chain.channel import Channel, ChannelHead, Release, ReleaseRecord, ReleaseState
from quietfleet.chain.releases import ReleasesContract
from quietfleet.chain.types import Kind
from quietfleet.chain.wallet import Receipt
from quietfleet.clock import waits
from quietfleet.crypto import PrivateKey, derive
from quietfleet.rollout import (
    Condition,
    Counts,
    Gate,
    OutcomeReport,
    Plan,
    Reason,
    SignedReport,
    Step,
    Ticket,
    Verdict,
    judge,
    make_plan,
    next_step,
)
from quietfleet.storage import SealedColumn
from quietfleet.workers._account import account
from quietfleet.workers._outcomes import Outcomes, Tally
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._state import State

LOOK_EVERY: Final = 2.0  # seconds between two looks at a release that waits for somebody
OPEN_FOR: Final = 30 * 86_400  # seconds within which a release has to reach the fleet
REMEMBERED: Final = 8  # releases whose reports are kept

_WANTED: Final = "to release"
_MARK: Final = "judged"


class _Mark(msgspec.Struct, frozen=True):
    """What the gateway made of the newest release: it paused the wave opened at `since`, for good if condemned.

    Once somebody has resumed it, failures heard before `forgiven` do not count.
    """

    sequence: int = 0
    since: int = 0
    condemned: bool = False
    forgiven: float = 0.0


class _Draft(msgspec.Struct, frozen=True):
    """What is to be released: a manifest, those of workers that get one of their own, and whether a person asked."""

    manifest: bytes
    personal: dict[str, bytes] = {}
    asked: bool = False


class _Found(NamedTuple):
    """What a step is taken from."""

    condition: Condition
    manifest: bytes
    tally: Tally | None
    target: Release | None


class Rollout:
    """Takes one channel's releases through the contract, with the account that publishes."""

    def __init__(self, runtime: Runtime, state: State, publisher: PrivateKey, channel: bytes) -> None:
        self._runtime = runtime
        self._state = state
        self._publisher = publisher
        self._channel = channel
        self._look_due = 0.0
        secret = derive(runtime.identity.to_bytes(), "storage", b"rollout")
        self._sealed = SealedColumn(secret, "state.rollout", random=runtime.random)
        self._outcomes = Outcomes(runtime, state, channel)
        self._plans: dict[bytes, Plan] = {}

    def submit(self, manifest_hash: bytes, personal: Mapping[str, bytes] | None = None, *, asked: bool = False) -> None:
        """Have a manifest released, in place of one that still waits for its proposal.

        `personal` has the manifest's digest of each processor that gets one of its own in the same release. What a
        person `asked` for gives way to another person's word alone, not to what was trained meanwhile.
        """
        waiting = self._wanted
        if waiting is not None and waiting.asked and not asked and waiting.manifest != manifest_hash:
            self._runtime.note("release-not-submitted", manifest=manifest_hash.hex(), reason="a person's waits")
            return
        self._keep(_WANTED, _Draft(manifest_hash, dict(personal or {}), asked))
        self._look_due = 0.0

    @property
    def due(self) -> bool:
        """Whether there may be a step to take."""
        if waits(self._runtime.clock.now(), self._look_due, LOOK_EVERY):
            return False
        under_way = self._runtime.replica.channel(self._channel).head.state in _UNDER_WAY
        return under_way or self._state.get(_WANTED) is not None

    # processors

    def ticket(self, peer: str, sequence: int) -> tuple[Ticket, bool] | None:
        """Return a processor's ticket for a release of ours, and whether its wave is open; None if there is none."""
        known = self._runtime.replica.channel(self._channel)
        release = _numbered(known, sequence)
        plan = self._plan(release.manifest_hash) if release else None
        if release is None or plan is None or release.manifest_hash in known.revoked or sequence < known.head.floor:
            return None
        proof, head = plan.proof(peer), known.head
        rolling = head.sequence == sequence and head.state is ReleaseState.ROLLING
        if not rolling and sequence not in known.completed:
            return None
        ticket = Ticket(release.terms.digest, plan.gate.canonical, *msgspec.structs.astuple(proof))
        opened = sequence in known.completed or proof.wave <= head.wave
        if opened:
            self._outcomes.joined(plan, peer, sequence)
        return ticket, opened

    def heard(self, peer: str, signed: SignedReport) -> None:
        """Remember how a release went on a processor, also one that is over."""
        known, sequence = self._runtime.replica.channel(self._channel), signed.report.sequence
        release = _numbered(known, sequence)
        plan = self._plan(release.manifest_hash) if release else None
        if plan is None or sequence <= known.head.sequence - REMEMBERED:
            wrong = "unknown release"
        elif self._is_early(known, plan.wave(plan.name(peer)), signed.report):
            wrong = "wave not open"
        else:
            wrong = self._outcomes.take(peer, plan, sequence, signed)
        if wrong:
            self._runtime.metrics.count("outcomes_refused", reason=wrong)
            return
        self._runtime.metrics.count("outcomes_heard", outcome=signed.report.outcome, reason=signed.report.reason)
        if known.head.state not in _UNDER_WAY or sequence != known.head.sequence:
            self._runtime.note("outcome-late", sequence=sequence, outcome=signed.report.outcome)

    @staticmethod
    def _is_early(known: Channel, wave: int, report: OutcomeReport) -> bool:
        """Whether somebody speaks of what is not open to them; that it is not they may say."""
        opened = known.head.sequence != report.sequence or not known.head.wave or wave <= known.head.wave
        return not opened and report.reason is not Reason.NOT_OUR_WAVE

    # steps

    async def step(self) -> None:
        """Take the step that is due, if it is ours to take; else look again later."""
        self._look_due = self._runtime.clock.now() + LOOK_EVERY  # also when the chain refuses
        async with account(self._runtime, self._publisher) as (client, wallet):
            releases = ReleasesContract(client, wallet)
            head = await releases.head(self._channel)
            manifest = self._subject(head)
            taken = manifest is not None and await self._take(releases, head, manifest)
        if taken:
            self._look_due = 0.0

    async def _take(self, releases: ReleasesContract, head: ChannelHead, manifest: bytes) -> bool:
        record = await releases.release(self._channel, manifest)
        approves = head.state is ReleaseState.PROPOSED and await releases.approver() == releases.address
        found = self._found(head, manifest, record, approves=approves)
        step, why = next_step(found.condition)
        if step is Step.LEAVE:
            return self._forget(head, record.sequence, manifest, why)
        acts = {
            Step.PROPOSE: self._propose,
            Step.APPROVE: self._approve,
            Step.OPEN: self._open,
            Step.PAUSE: self._pause,
            Step.ROLL_BACK: self._roll_back,
            Step.FINALISE: self._finalise,
        }
        return await acts[step](releases, found, why) if step in acts else False

    def _found(self, head: ChannelHead, manifest: bytes, record: ReleaseRecord, *, approves: bool) -> _Found:
        """Put together what the fleet's machine goes by."""
        plan, mark = self._plan(manifest), self._marked(head)
        tally = self._outcomes.tally(plan, head, mark.forgiven) if plan and head.state in _UNDER_WAY else None
        now, target = self._runtime.clock.now(), self._target(head)
        said = judge(plan.gate, tally.counts, now=now, since=head.since) if plan and tally else (Verdict.WAIT, "")
        condition = Condition(
            head=head,
            sequence=record.sequence,
            now=now,
            completed=record.completed,
            revoked=record.revoked,
            judgement=said,
            target=target is not None,
            approves=approves,
            condemned=mark.sequence if mark.condemned else 0,
        )
        return _Found(condition, manifest, tally, target)

    async def _propose(self, releases: ReleasesContract, found: _Found, _why: str) -> bool:
        plan = self._plan(found.manifest) or self._make_plan(found.manifest)
        expires = int(self._runtime.clock.now()) + OPEN_FOR
        receipt = await releases.propose(self._channel, plan.terms(not_before=0, expires_at=expires))
        return self._note("release-proposed", receipt, manifest=found.manifest.hex(), waves=plan.wave_count)

    async def _approve(self, releases: ReleasesContract, found: _Found, _why: str) -> bool:
        """Approve what this very account proposed, where the service named it for that; else a person does."""
        sequence = found.condition.head.sequence
        receipt = await releases.approve(self._channel, sequence, found.manifest)
        return self._note("release-approved", receipt, sequence=sequence)

    async def _open(self, releases: ReleasesContract, found: _Found, _why: str) -> bool:
        head = found.condition.head
        receipt = await releases.open_wave(self._channel, head.sequence)
        return self._note("release-opened", receipt, sequence=head.sequence, wave=head.wave + 1, of=head.wave_count)

    async def _finalise(self, releases: ReleasesContract, found: _Found, _why: str) -> bool:
        if found.tally is None:
            return False
        receipt = await releases.finalise(self._channel, found.manifest, 0, found.tally.report)
        return self._note("release-completed", receipt, **_counted(found))

    async def _pause(self, releases: ReleasesContract, found: _Found, why: str) -> bool:
        head, condemned = found.condition.head, found.condition.judgement[0] is Verdict.ROLL_BACK
        self._mark(_Mark(head.sequence, head.since, condemned=condemned))
        receipt = await releases.pause(self._channel, head.sequence)
        return self._note("release-stopped", receipt, **_counted(found), why=why, condemned=condemned)

    async def _roll_back(self, releases: ReleasesContract, found: _Found, _why: str) -> bool:
        head, target = found.condition.head, found.target
        if target is None:
            return False
        receipt = await releases.roll_back(self._channel, target.manifest_hash)
        back = {"sequence": head.sequence + 1, "bad": head.sequence, "manifest": target.manifest_hash.hex()}
        return self._note("release-rolled-back", receipt, **back)

    def _forget(self, head: ChannelHead, sequence: int, manifest: bytes, why: str) -> bool:
        wanted = self._wanted
        if wanted is None or wanted.manifest != manifest:
            return False
        if why != "completed":
            self._runtime.note("release-given-up", sequence=sequence, newest=head.sequence, why=why)
        with self._runtime.transaction():
            self._state.set(_WANTED, None)
            self._outcomes.forget(head.sequence - REMEMBERED)
        return True

    def _subject(self, head: ChannelHead) -> bytes | None:
        """The manifest to take a step with: the one on its way, if it is ours, else the one that waits."""
        if head.state not in _UNDER_WAY:
            return self._wanted.manifest if self._wanted else None
        known = self._runtime.replica.channel(self._channel)
        if known.head.sequence != head.sequence:
            return None  # we have yet to read what happened
        manifest = known.releases[-1].manifest_hash
        return manifest if self._plan(manifest) else None

    def _target(self, head: ChannelHead) -> Release | None:
        """The newest release that reached the whole fleet, to go back to."""
        known = self._runtime.replica.channel(self._channel)
        return next(
            (
                one
                for one in reversed(known.releases)
                if one.sequence in known.completed
                and one.manifest_hash not in known.revoked
                and one.sequence != head.sequence
            ),
            None,
        )

    # what is kept

    @property
    def _wanted(self) -> _Draft | None:
        kept = self._kept(_WANTED)
        return msgspec.msgpack.decode(kept, type=_Draft) if kept else None

    def _plan(self, manifest: bytes) -> Plan | None:
        if manifest not in self._plans and (kept := self._kept(_plan_row(manifest))):
            self._plans[manifest] = msgspec.msgpack.decode(kept, type=Plan)
        return self._plans.get(manifest)

    def _make_plan(self, manifest: bytes) -> Plan:
        section, wanted = self._runtime.settings.rollout, self._wanted
        fields = {name: getattr(section, name) for name in Gate.__struct_fields__}
        members = [one.id for one in self._runtime.replica.workers(kind=Kind.PROCESSOR) if one.usable]
        plan = make_plan(
            manifest,
            members,
            seed=self._runtime.random(32),
            gate=Gate(**fields),
            waves=section.waves,
            personal=wanted.personal if wanted else None,
        )
        self.adopt(plan)
        return plan

    def adopt(self, plan: Plan) -> None:
        """Write a plan down."""
        with self._runtime.transaction():
            self._keep(_plan_row(plan.manifest_hash), plan)
        self._plans[plan.manifest_hash] = plan

    def recover(self) -> None:
        """Forget what a rolled-back transaction may not have written."""
        self._plans.clear()

    def _marked(self, head: ChannelHead) -> _Mark:
        """What was made of this very release; somebody may have resumed it since."""
        kept = self._state.get(_MARK)
        mark = msgspec.convert(kept, _Mark) if kept else _Mark()
        if mark.sequence != head.sequence:
            return _Mark()
        if head.state is ReleaseState.ROLLING and head.since != mark.since and not mark.forgiven:
            mark = _Mark(head.sequence, mark.since, forgiven=head.since)
            self._mark(mark)
        return mark

    def _mark(self, mark: _Mark) -> None:
        with self._runtime.transaction():
            self._state.set(_MARK, msgspec.to_builtins(mark))

    def _keep(self, name: str, value: msgspec.Struct) -> None:
        self._state.set(name, self._sealed.seal(msgspec.msgpack.encode(value), row=name.encode()).hex())

    def _kept(self, name: str) -> bytes | None:
        kept = self._state.get(name)
        return self._sealed.open(bytes.fromhex(kept), row=name.encode()) if kept else None

    def _note(self, kind: str, receipt: Receipt, **detail: Any) -> bool:
        transaction = "0x" + receipt.transaction.hex()
        self._runtime.note(kind, **detail, block=receipt.block, transaction=transaction)
        return True


_UNDER_WAY: Final = frozenset({ReleaseState.ROLLING, ReleaseState.PAUSED})


def _numbered(known: Channel, sequence: int) -> Release | None:
    return known.releases[sequence - 1] if 0 < sequence <= len(known.releases) else None


def _plan_row(manifest: bytes) -> str:
    return f"plan:{manifest.hex()}"


def _counted(found: _Found) -> dict[str, int]:
    counts = found.tally.counts if found.tally else Counts(0, 0, 0)
    return {
        "sequence": found.condition.head.sequence,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "silent": counts.silent,
    }
