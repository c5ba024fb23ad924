"""A sensor's actuators: what it lets its processor have them do, and the safe value they are at otherwise.

A command is a state for a time. From what the database says is in force follows where each actuator is to be, and after
every commit whatever is elsewhere is moved there, aside. So a kill at any moment loses nothing and moves nothing twice:
what starts again reads where the actuator is. An actuator is back at its safe value when its command runs out, when the
session ends in which it came, when its device is switched off or has lost sight of the chain, and when the worker ends.
What came of each command is measured, signed, and told until it was heard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from quietfleet.actuators import limits as limit
from quietfleet.actuators.commands import Command, Did, Effect
from quietfleet.actuators.drivers import Driver, FileDriver, Simulated
from quietfleet.clock import waits
from quietfleet.session import Received
from quietfleet.workers._motions import HANGS, Motion, Start
from quietfleet.workers._orders import Order, Orders, State
from quietfleet.workers._retries import Retries
from quietfleet.workers.messages import CommandEffect, EffectHeard

if TYPE_CHECKING:
    from quietfleet.clock import Clock
    from quietfleet.settings import Settings
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers._source import Reading

ABOUT: Final = "effect"
ANSWER_WITHIN: Final = 60.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between two tries of an actuator that fails
UNTOLD: Final = 32  # commands of which something is still to be said; of more nothing is
REPEATED: Final = 60.0  # seconds within which the same refusal is entered once
LAST_MOMENT: Final = 2.0  # seconds that a worker that ends waits for its actuators
REPLACED: Final = "replaced"
PARTED: Final = "its session ended"
OUT: Final = "switched off, or out of sight of the chain"


class Actuators:
    """Takes commands, moves, measures and tells; in the caller's transaction but for `after` and `close`.

    `works_with(peer)` says whether we are in session with that processor.
    """

    def __init__(
        self,
        runtime: Runtime,
        drivers: Mapping[str, Driver],
        works_with: Callable[[str], bool],
        start: Start | None = None,
    ) -> None:
        self._runtime = runtime
        self._limits = {one.name: one for one in runtime.settings.sensor.actuators}
        self._drivers = drivers
        self._works_with = works_with
        self._start = start or Motion
        self._orders = Orders(runtime.database)
        self._motions: dict[str, Motion] = {}
        self._at: dict[str, float] = {}  # where each was last known to be
        self._faults: dict[str, str] = {}
        self._again: dict[str, tuple[float, float]] = {}  # when one that failed is tried again, after which pause
        self._retries = {name: Retries(runtime.random, FIRST_PAUSE, LONGEST_PAUSE) for name in drivers}
        self._newest: dict[str, tuple[float, float]] = {}
        self._entered: dict[tuple[str, str], float] = {}
        self._aims = self._aim()
        if drivers:
            runtime.closing.append(self.close)

    # commands

    def take(self, peer: str, commands: Sequence[Command]) -> None:
        """Take what a processor we are in session with recommends; each command once."""
        for command in commands:
            if not self._orders.known(command):
                self._take(peer, command)
        self._aims = self._aim()

    def _take(self, peer: str, command: Command) -> None:
        now, limits = self._runtime.clock.now(), self._limits.get(command.actuator)
        present = self._orders.present(command.actuator)
        wrong = limit.UNKNOWN
        if limits is not None:
            where = present.value if present else limits.safe
            last = self._orders.last_taken(command.actuator)
            wrong = limit.objection(limits, command, limit.Present(where, last), now)
        if wrong or limits is None:
            self._refuse(peer, command, wrong, now)
            return
        if present is not None:
            self._end(present, REPLACED)
        until = limit.until(limits, command, now)
        self._orders.take(peer, command, until, now)
        self._at.pop(command.actuator, None)  # also one that changes nothing is held against where it really is
        self._runtime.metrics.count("commands", did="taken")
        self._note("command-taken", command.actuator, value=command.value, until=until, processor=peer)

    def _refuse(self, peer: str, command: Command, why: str, now: float) -> None:
        """Leave a command; who says the same again and again fills neither the journal nor the disk."""
        self._runtime.metrics.count("commands", did="refused")
        about = (command.actuator if command.actuator in self._limits else "", why)
        if not waits(now, self._entered.get(about, -REPEATED) + REPEATED, REPEATED):
            self._entered[about] = now
            self._note("command-refused", command.actuator, value=command.value, reason=why, processor=peer)
        if len(self._orders.to_tell()) < UNTOLD:
            self._say(self._orders.take(peer, command, now, None), Did.REFUSED, why)

    # what follows

    def measured(self, readings: Iterable[Reading]) -> None:
        """Remember what the channels that feel actuators read last."""
        felt = {one.effect for one in self._limits.values()} - {""}
        for at, fields in readings if felt else ():
            self._newest |= {name: (at, fields[name]) for name in felt & fields.keys()}

    def tick(self) -> None:
        """See what has moved, end what may not go on, and say what came of it."""
        if self._drivers:
            self._look()
            self.lapse()
            self._measure()
        self._tell()

    def lapse(self) -> None:
        """End what has run out, or what nobody stands for any more."""
        now = self._runtime.clock.now()
        for order in self._orders.all_present():
            if why := self._over(order, now):
                self._end(order, why)
        self._aims = self._aim()

    def _over(self, order: Order, now: float) -> str:
        limits = self._limits.get(order.actuator)
        if limits is None:
            return limit.UNKNOWN
        if not limits.low <= order.value <= limits.high:  # they were narrowed since
            return limit.BEYOND
        if not waits(now, order.until, limits.hold):  # also when the clock was set back
            return limit.EXPIRED
        if not self._works_with(order.peer):
            return PARTED
        return "" if self._runtime.registry.usable(self._runtime.id) else OUT

    def _end(self, order: Order, why: str) -> None:
        if order.answer is None:
            self._say(order, Did.LAPSED if order.state is State.TAKEN else Did.MOVED, why)
        self._orders.over(order)
        self._note("command-over", order.actuator, value=order.value, reason=why)

    def _look(self) -> None:
        """Take note of drivers that came back, or should have."""
        now = self._runtime.clock.now()
        for name, motion in list(self._motions.items()):
            if motion.over:
                del self._motions[name]
                self._moved(name, motion, now)
            elif motion.hangs(now):
                self._failed(name, motion.value, HANGS)

    def _moved(self, name: str, motion: Motion, now: float) -> None:
        if motion.fault or motion.read is None:
            pause = self._retries[name].pause()
            self._again[name] = now + pause, pause
            self._failed(name, motion.value, motion.fault)
            return
        if self._faults.pop(name, ""):
            self._note("actuator-works", name)
        self._retries[name].succeeded()
        self._at[name] = motion.value
        order = self._orders.present(name)
        if order is None and motion.value == self._limits[name].safe:
            self._note("actuator-safe", name, value=motion.read)
        elif order is not None and order.state is State.TAKEN and order.value == motion.value:
            _, before = self._newest.get(self._limits[name].effect, (0.0, None))
            self._orders.moved(order, self._runtime.data_clock.now(), before, motion.read)
            self._runtime.metrics.count("commands", did="moved")
            self._note("actuated", name, value=motion.read)

    def _failed(self, name: str, value: float, why: str) -> None:
        self._at.pop(name, None)
        if self._faults.get(name) != why:
            self._faults[name] = why
            self._runtime.metrics.count("actuator_faults")
            self._note("actuator-fault", name, value=value, reason=why)
        order = self._orders.present(name)
        if order is not None and order.value == value:
            if order.answer is None:
                self._say(order, Did.FAILED, why)
            self._orders.over(order)
            self._aims = self._aim()

    # what came of it

    def _measure(self) -> None:
        """Once an actuator's time to settle is over, what its channel reads is the effect."""
        for order in self._orders.all_present():
            if order.state is not State.IN_FORCE or order.since is None or order.answer is not None:
                continue
            limits = self._limits[order.actuator]
            at, after = self._newest.get(limits.effect, (0.0, None))
            if not limits.effect or at >= order.since + limits.settle:
                self._say(order, Did.MOVED, "", after)

    def _say(self, order: Order, did: Did, why: str, after: float | None = None) -> None:
        limits = self._limits.get(order.actuator)
        channel = limits.effect if limits and did is Did.MOVED else ""
        effect = Effect(order.id, did, why, order.read, max(0.0, order.since or 0.0), channel, order.before, after)
        self._orders.answer(order, effect.signed(self._runtime.keyring.present or self._runtime.identity))
        if did is Did.MOVED:
            self._note("command-effect", order.actuator, channel=channel, before=order.before, after=after, reason=why)

    def _tell(self) -> None:
        """Tell each processor we are with of one command after the other; what ended with its session stays ours."""
        for order in self._orders.to_tell():
            if order.answer is None or not self._works_with(order.peer):
                continue
            if not self._runtime.messenger.asks(order.peer, ABOUT):
                body = CommandEffect(order.answer)
                self._runtime.messenger.request(order.peer, body, (EffectHeard,), ANSWER_WITHIN, ABOUT)

    def heard(self, event: Received, answer: EffectHeard) -> None:
        """A processor has heard what came of a command."""
        self._orders.told(event.peer, answer.command)

    # where they are to be

    def _aim(self) -> dict[str, float]:
        follow = {order.actuator: order.value for order in self._orders.all_present()} if self._drivers else {}
        return {name: follow.get(name, self._limits[name].safe) for name in self._drivers}

    def after(self) -> None:
        """Move what is not where it is to be; outside of any transaction."""
        for name, aim in self._aims.items():
            if name in self._motions or self._at.get(name) == aim:
                continue
            now = self._runtime.clock.now()
            if name in self._again and waits(now, *self._again[name]):
                continue
            self._at.pop(name, None)
            self._motions[name] = self._start(self._drivers[name], aim, now)

    def recover(self) -> None:
        """Read anew where each is: what memory says of that may not have been kept."""
        self._at.clear()
        self._aims = self._aim()

    def close(self) -> None:
        """Leave every actuator at its safe value; one that hangs is left as it is."""
        for name, driver in self._drivers.items():
            motion = self._motions.pop(name, None)
            if motion is not None and not motion.wait(LAST_MOMENT):
                continue
            self._start(driver, self._limits[name].safe, 0.0).wait(LAST_MOMENT)

    def status(self) -> dict[str, Any]:
        """Say of each where it is, and what is wrong with it."""
        return {
            name: {
                "value": self._at.get(name),
                "unit": self._limits[name].unit,
                "in force": self._aims[name] != self._limits[name].safe,
                **({"fault": self._faults[name]} if name in self._faults else {}),
            }
            for name in self._drivers
        }

    def _note(self, kind: str, actuator: str, **detail: Any) -> None:
        self._runtime.note(kind, actuator=actuator, **detail)


def open_drivers(settings: Settings, data_clock: Clock) -> dict[str, Driver]:
    """Open what the settings name; a file that is not there shows itself when it is first moved."""
    drivers: dict[str, Driver] = {}
    for one in settings.sensor.actuators:
        if one.file:
            drivers[one.name] = FileDriver(settings.path(one.file), one.scale, one.digits)
        else:
            drivers[one.name] = Simulated(one, data_clock.now)
    return drivers
