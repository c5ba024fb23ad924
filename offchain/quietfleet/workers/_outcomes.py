"""What processors said of releases, kept sealed at the gateway, and what a gate makes of it."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from quietfleet.chain.channel import ChannelHead, Report
from quietfleet.chain.types import Kind
from quietfleet.crypto import derive, recover
from quietfleet.errors import CryptoError
from quietfleet.rollout import PASSING, Counts, Outcome, Plan, SignedReport, report_root
from quietfleet.rollout.gates import MEANINGFUL
from quietfleet.storage import SealedColumn
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._state import State

THOUSAND: Final = 1000


class _Heard(msgspec.Struct, frozen=True, array_like=True):
    signed: SignedReport
    at: float


class Tally(NamedTuple):
    """How a release stands: the counts of its open waves, the number of those that joined late, and all reports."""

    counts: Counts
    reports: list[SignedReport]

    @property
    def report(self) -> Report:
        """What goes on chain: of a thousand, so that nobody learns how many devices there are."""
        total = max(1, self.counts.total)
        failed, silent = (number * THOUSAND // total for number in (self.counts.failed, self.counts.silent))
        return Report(THOUSAND - failed - silent, failed, silent, report_root(self.reports))


class Outcomes:
    """The reports of one channel's releases, by the names that devices have in each."""

    def __init__(self, runtime: Runtime, state: State, channel: bytes) -> None:
        self._runtime = runtime
        self._state = state
        self._channel = channel
        secret = derive(runtime.identity.to_bytes(), "storage", b"outcomes")
        self._sealed = SealedColumn(secret, "state.outcome", random=runtime.random)

    def take(self, peer: str, plan: Plan, sequence: int, signed: SignedReport) -> str:
        """Keep a report; return a word that says what is wrong with it, empty if nothing is."""
        report = signed.report
        place = plan.proof(peer).pseudonym
        if (report.channel, report.sequence) != (self._channel, sequence):
            return "another release"
        if report.pseudonym != place and (report.outcome is not Outcome.REJECTED or any(report.pseudonym)):
            return "another's name"
        if not signed_by(self._runtime, peer, report.digest, signed.signature):
            return "signature"
        name = plan.name(peer)
        row = _row(sequence, name)
        if report.reason in PASSING and self._state.get(f"outcome:{row}") is not None:
            return ""  # it is counted as heard, and takes no other word's place
        body = msgspec.msgpack.encode(_Heard(signed, self._runtime.clock.now()))
        self._state.set(f"outcome:{row}", self._sealed.seal(body, row=row.encode()).hex())
        return ""

    def joined(self, plan: Plan, peer: str, sequence: int) -> None:
        """Count one that came after the plan was made as a member from now on."""
        name = plan.name(peer).hex()
        if name not in plan.waves:
            self._state.set(f"joined:{_row(sequence, bytes.fromhex(name))}", 1)

    def tally(self, plan: Plan, head: ChannelHead, forgiven: float = 0.0) -> Tally:
        """Count a release's reports as of now; failures heard before `forgiven` count neither for nor against it."""
        everything = self._all(head.sequence)
        heard = {row: one for row, one in everything.items() if one.signed.report.reason not in PASSING}
        joined = self._state.starting(f"joined:{head.sequence:08d}:")
        total = ok = failed = 0
        planned = sum(wave <= head.wave for wave in plan.waves.values())
        ratios, rises = [], []
        for worker in self._runtime.replica.workers(kind=Kind.PROCESSOR):
            name = plan.name(worker.id)
            row = _row(head.sequence, name)
            known = name.hex() in plan.waves or f"joined:{row}" in joined or row in heard
            if not worker.usable or not known or plan.wave(name) > head.wave:
                continue
            one = heard.get(row)
            committed = one is not None and one.signed.report.outcome is Outcome.COMMITTED
            if one is not None and not committed and one.at < forgiven:
                continue
            total, ok, failed = total + 1, ok + committed, failed + (one is not None and not committed)
            if one is not None:
                report = one.signed.report
                ratios += [report.ratio] * (report.compared >= max(1, min(MEANINGFUL, plan.gate.shadow)))
                rises += [report.rise] * (report.watched >= MEANINGFUL)
        reports = [one.signed for one in everything.values()]
        return Tally(Counts(total, ok, failed, tuple(ratios), tuple(rises), planned), reports)

    def forget(self, before: int) -> None:
        """Let go of what was heard of releases older than `before`."""
        for prefix in ("outcome:", "joined:"):
            for name in self._state.starting(prefix):
                if int(name.removeprefix(prefix).partition(":")[0]) < before:
                    self._state.set(name, None)

    def _all(self, sequence: int) -> dict[str, _Heard]:
        kept = self._state.starting(f"outcome:{sequence:08d}:")
        rows = {name.removeprefix("outcome:"): value for name, value in kept.items()}
        return {row: self._open(row, value) for row, value in rows.items()}

    def _open(self, row: str, value: str) -> _Heard:
        return msgspec.msgpack.decode(self._sealed.open(bytes.fromhex(value), row=row.encode()), type=_Heard)


def signed_by(runtime: Runtime, peer: str, digest: bytes, signature: bytes) -> bool:
    """Whether a key of this worker signed it, be it one that was replaced since."""
    try:
        signer = recover(digest, signature).id
    except CryptoError:
        return False
    use = runtime.replica.worker_of(signer)
    return use is not None and use.worker == peer


def _row(sequence: int, name: bytes) -> str:
    return f"{sequence:08d}:{name.hex()}"
