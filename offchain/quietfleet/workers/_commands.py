"""A processor has its sensors' actuators moved: what its rules make of a forecast, and what came of it.

No command follows from anything but a forecast of a proven model on a sound device's own readings: not from what stood
in for them, not while a release is on trial, not for a device that is set aside. Each is for a time and said again
before that is over, so that whatever happens to this worker its devices go back to their safe values by themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from quietfleet.actuators.commands import MOST, Command, Did
from quietfleet.actuators.limits import UNKNOWN
from quietfleet.clock import waits
from quietfleet.rollout.device import RESTING
from quietfleet.workers._outcomes import signed_by
from quietfleet.workers.messages import CommandEffect, EffectHeard

if TYPE_CHECKING:
    from quietfleet.session import Received
    from quietfleet.settings import CommandSection
    from quietfleet.workers._devices import Devices
    from quietfleet.workers._model_slot import ModelSlot
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers.messages import Recommendation

RENEW: Final = 1 / 3
"""The share of a command's time that is left when it is said again."""
KEPT: Final = 7 * 86_400.0  # seconds for which what was said is kept
DAY: Final = 86_400.0
_SCHEMA: Final = [
    """CREATE TABLE commands (
       number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, device TEXT NOT NULL, actuator TEXT NOT NULL,
       value REAL NOT NULL, issued REAL NOT NULL, until REAL NOT NULL, did TEXT, reason TEXT, signature BLOB) STRICT""",
]


class _Issued(NamedTuple):
    value: float
    issued: float
    until: float
    did: str | None
    reason: str | None


class Commands:
    """Issues commands and takes in what came of them, in the caller's transaction."""

    def __init__(self, runtime: Runtime, slot: ModelSlot, devices: Devices) -> None:
        self._runtime = runtime
        self._rules = runtime.settings.processor.commands
        self._slot = slot
        self._devices = devices
        runtime.database.migrate("commands", _SCHEMA)

    def beside(self, device: str, said: Recommendation) -> Recommendation:
        """Add to a recommendation what the device's actuators are to do about it."""
        due = [rule for rule in self._decided(device, said) if self._due(device, rule)][:MOST]
        return msgspec.structs.replace(said, commands=[self._issue(device, rule) for rule in due]) if due else said

    def _decided(self, device: str, said: Recommendation) -> list[CommandSection]:
        """For each actuator the first rule that fits."""
        if not self._rules or not self._proven(device, said):
            return []
        decided: dict[str, CommandSection] = {}
        for rule in self._rules:
            if _fits(rule, device, said):
                decided.setdefault(rule.actuator, rule)
        return list(decided.values())

    def _proven(self, device: str, said: Recommendation) -> bool:
        sound = self._devices.quarantined().get(device) is None
        return said.forecast is not None and not said.fallback and sound and self._slot.state in RESTING

    def _due(self, device: str, rule: CommandSection) -> bool:
        """Whether anything is to be said: not while the same is in force for long enough, nor after a refusal."""
        last, now = self._last(device, rule.actuator), self._runtime.clock.now()
        if last is None or last.issued > now:  # also when the clock was set back
            return True
        if last.reason == UNKNOWN:  # it has none: perhaps another day
            return not waits(now, last.issued + DAY, DAY)
        if now >= last.until:
            return True
        if last.did in {Did.REFUSED, Did.FAILED}:
            return False
        return last.value != rule.value or last.until - now < RENEW * (last.until - last.issued)

    def _last(self, device: str, actuator: str) -> _Issued | None:
        found = """SELECT value, issued, until, did, reason FROM commands WHERE device = ? AND actuator = ?
                   ORDER BY number DESC LIMIT 1"""
        row = self._runtime.database.execute(found, (device, actuator)).fetchone()
        return _Issued(*row) if row else None

    def _issue(self, device: str, rule: CommandSection) -> Command:
        now = self._runtime.clock.now()
        command = Command(self._runtime.random(16), rule.actuator, rule.value, now + rule.lasts)
        execute = self._runtime.database.execute
        execute("DELETE FROM commands WHERE until < ?", (now - KEPT,))
        row = (command.id, device, command.actuator, command.value, now, command.until)
        execute("INSERT INTO commands (id, device, actuator, value, issued, until) VALUES (?, ?, ?, ?, ?, ?)", row)
        self._runtime.metrics.count("commands", did="issued")
        self._runtime.note(
            "command-issued", sensor=device, actuator=rule.actuator, value=rule.value, until=command.until
        )
        return command

    def take(self, event: Received, body: CommandEffect) -> None:
        """Enter what a device says of a command that it was given; of others nothing is believed, nor answered."""
        effect, signature = body.signed.effect, body.signed.signature
        wrong, known = self._wrong(event.peer, body)
        if wrong:
            self._runtime.metrics.count("effects_refused", reason=wrong)
            return
        if not known:
            entry = (effect.did, effect.reason, signature, effect.command)
            self._runtime.database.execute("UPDATE commands SET did = ?, reason = ?, signature = ? WHERE id = ?", entry)
            self._runtime.metrics.count("commands", did=effect.did.value)
            self._runtime.note("command-effect", sensor=event.peer, **self._told(body))
        self._runtime.messenger.reply(event, EffectHeard(effect.command))

    def _wrong(self, device: str, body: CommandEffect) -> tuple[str, bool]:
        """Return a word for what is wrong with it, empty if nothing is, and whether it was heard before."""
        effect = body.signed.effect
        found = "SELECT signature FROM commands WHERE id = ? AND device = ?"
        row = self._runtime.database.execute(found, (effect.command, device)).fetchone()
        if row is None:
            return "unasked", False
        if row[0] is not None:
            return ("" if row[0] == body.signed.signature else "twice"), True
        return ("" if signed_by(self._runtime, device, effect.digest, body.signed.signature) else "forged"), False

    def _told(self, body: CommandEffect) -> dict[str, Any]:
        effect = body.signed.effect
        found = "SELECT actuator, value FROM commands WHERE id = ?"
        actuator, asked = self._runtime.database.execute(found, (effect.command,)).fetchone()
        plain = {name: getattr(effect, name) for name in ("reason", "value", "channel", "before", "after")}
        signature = body.signed.signature.hex()
        return {"actuator": actuator, "asked": asked, "did": effect.did.value, **plain, "signature": signature}


def _fits(rule: CommandSection, device: str, said: Recommendation) -> bool:
    forecast, confidence = said.forecast, said.confidence
    if forecast is None or confidence is None or confidence < rule.confidence:
        return False
    if rule.sensors and device.lower() not in {one.lower() for one in rule.sensors}:
        return False
    over = rule.above is None or forecast > rule.above
    under = rule.below is None or forecast < rule.below
    return over and under and (not rule.advice or said.advice in rule.advice)
