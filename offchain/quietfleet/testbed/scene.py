"""Where the story is played: the fleet and its people, what the chain and the journals say of it, and the screen."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from quietfleet.chain.deployment import Deployment
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.types import Kind
from quietfleet.clock import ReplayClock, SystemClock
from quietfleet.storage import AuditEntry, AuditLog, Database
from quietfleet.testbed.fleet import Fleet, Member
from quietfleet.testbed.probe import snapshot
from quietfleet.testbed.screen import Screen
from quietfleet.testbed.telling import told

DAY: Final = 86_400.0
SPEED: Final = DAY / 4  # a day of data in four seconds: a week, the oldest that is taken, outlasts any wait
FIRST_DAY: Final = "2013-03-20"


class Owners(Protocol):
    """The people of the story: each verb is what they type in `ape run` or `ape console`."""

    def deploy(self, *, approver: str) -> Path:
        """Deploy the contracts; return the deployment file."""
        ...

    def appoint(self, publisher: str, gateway: str) -> None:
        """Let an account publish releases for a gateway."""
        ...

    def name(self, workers: dict[str, str]) -> None:
        """Write the workers' names and ids into the owners' address book."""
        ...

    def rotate(self, epoch: dict[str, Any], *, lead: int, grace: int) -> None:
        """Set the next messaging configuration."""
        ...

    def disable(self, name: str) -> None:
        """Switch a device off."""
        ...

    def enable(self, name: str) -> None:
        """Switch a device on."""
        ...


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the closing table: what happened, how we know, and whether it did."""

    claim: str
    evidence: str
    holds: bool


@dataclass
class Scene:
    """The fleet, its people, and the screen it is told on."""

    folder: Path
    url: str
    owners: Owners
    screen: Screen
    seed: int = 2013
    lines: list[Line] = field(default_factory=list)
    fleet: Fleet = field(init=False)
    deployment: Deployment = field(init=False)
    relays: list[str] = field(default_factory=list)
    replay_epoch: float = 0.0
    _shown: dict[str, int] = field(default_factory=dict)

    @property
    def founded(self) -> bool:
        """Whether there is a fleet yet."""
        return hasattr(self, "fleet")

    def stop(self) -> None:
        """Stop every worker."""
        if self.founded:
            self.fleet.stop()

    # what happened

    def line(self, claim: str, evidence: str, *, holds: bool) -> None:
        self.lines.append(Line(claim, evidence, holds))

    def client(self) -> ChainClient:
        return ChainClient(self.url, self.deployment)

    def copy(self, member: Member, suffix: str) -> Path:
        target = self.folder / f"{member.name}-{suffix}.db"
        snapshot(member.folder / "state" / "worker.db", target)
        return target

    def fault(self, name: str, **faults: bool) -> None:
        (self.fleet.members[name].folder / "faults.json").write_text(json.dumps(faults))
        self.screen.tell(name, "fault injected: " + ", ".join(f"{k} {'on' if v else 'off'}" for k, v in faults.items()))

    def data_time(self) -> float:
        return ReplayClock(SystemClock(), at(FIRST_DAY), self.replay_epoch, SPEED).now()

    def sensors(self) -> list[str]:
        return [m.name for m in self.fleet.members.values() if m.kind is Kind.SENSOR]

    def processors(self) -> list[str]:
        return [m.name for m in self.fleet.members.values() if m.kind is Kind.PROCESSOR]

    def processor_of(self, sensor: str) -> str:
        """The processor that answered a sensor last, by name."""
        return self.name_of(self.last(sensor, "recommendation").detail["processor"])

    def name_of(self, worker: str) -> str:
        return next(member.name for member in self.fleet.members.values() if member.id == worker)

    def has(self, name: str, kind: str, **detail: Any) -> bool:
        return any(all(e.detail.get(k) == v for k, v in detail.items()) for e in self.fleet.journal(name, kind))

    def since(self, name: str, kind: str, moment: float) -> list[AuditEntry]:
        return [entry for entry in self.fleet.journal(name, kind) if entry.at >= moment]

    def first(self, name: str, kind: str, **detail: Any) -> AuditEntry:
        return next(e for e in self.fleet.journal(name, kind) if all(e.detail.get(k) == v for k, v in detail.items()))

    def maybe_last(self, name: str, kind: str) -> AuditEntry | None:
        entries = self.fleet.journal(name, kind)
        return entries[-1] if entries else None

    def last(self, name: str, kind: str) -> AuditEntry:
        return self.fleet.journal(name, kind)[-1]

    def forecasts(self, name: str) -> list[AuditEntry]:
        return [e for e in self.fleet.journal(name, "recommendation") if e.detail["forecast"] is not None]

    # the screen

    def audit(self) -> None:
        """Check what holds for every worker at any time: whole audit trails, and no step that failed."""
        if not self.founded:
            return
        entries, failed = 0, 0.0
        for name, member in self.fleet.members.items():
            path = member.folder / "state" / "worker.db"
            if path.exists():
                with Database.observe(path) as database:
                    entries += AuditLog(database, create=False).verify()
                failed += self.fleet.metric(name, "quietfleet_steps_failed_total")
        self.line(
            f"the audit trails are whole: {entries} entries; no worker failed a step",
            f"journals: {len(self.fleet.members)} hash chains verified; metrics: {failed:.0f} steps failed",
            holds=entries > 0 and failed == 0,
        )

    async def watch(self) -> None:
        """Show what the journals say, as it is written."""
        while True:
            await asyncio.sleep(0.25)
            if not self.founded:
                continue
            for name in self.fleet.members:
                for entry in self.fleet.journal(name, after=self._shown.get(name, 0)):
                    self._shown[name] = entry.sequence
                    sentence = told(entry)
                    if sentence:
                        self.screen.tell(name, sentence)
            self.screen.show([self._row(name) for name in self.fleet.members])

    def _row(self, name: str) -> dict[str, Any]:
        status = self.fleet.status(name)
        state = "running" if self.fleet.members[name].running else "down"
        return {
            "name": name,
            "links": status.get("peers", ""),
            "block": status.get("block", ""),
            "configuration": status.get("configuration") or "",
            "sessions": len(status.get("sessions", [])) or "",
            "model": status.get("release") or "",
            "state": state,
        }


def at(date: str) -> float:
    return datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()
