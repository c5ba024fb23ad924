"""Any order of rotations, ordinary and at once, against a plain list of the configurations and when each holds."""

from __future__ import annotations

from configurations import LEAD, Configuration, digest_of, given, told
from machines import ContractMachine, act, run
from replay import ServiceReplay

HOUR = 3600
DELAYS = (0, 0, 1, HOUR, LEAD, LEAD + 1)


class ConfigMachine(ContractMachine):
    rotator = None

    def __init__(self):
        super().__init__()
        self.line: list[Configuration] = []
        self.held: list[Configuration] = []  # those that came into force, or still may

    @property
    def newest(self):
        return self.line[-1] if self.line else Configuration(0, 0, 0, *[None] * 8, 0)

    def waits(self):
        """Whether the newest will still wait when the next call is made."""
        return self.newest.activeFrom > self.time + 1

    def set(self, event):
        if event is not None:
            configuration = told(event)
            assert configuration.version == self.newest.version + 1
            if self.held and self.held[-1].activeFrom > self.time:
                self.held.pop()
            self.line.append(configuration)
            self.held.append(configuration)

    @act(ahead=DELAYS, grace=(0, 10, HOUR))
    def rotate(self, ahead, grace):
        now, waiting = self.time + 1, self.waits()
        wanted = now + ahead if ahead else 0
        promised = len(self.held) > 1 and not waiting and now < self.newest.activeFrom + self.newest.grace
        earliest = max(now, self.newest.activeFrom)
        error = "GraceRunning" if promised else None
        if not error and wanted and not earliest <= wanted <= now + LEAD:
            error = "BadActivation"
        event = self.attempt(error, "rotate", given(activeFrom=wanted, grace=grace), sender=self.rotator)
        self.set(event)
        assert error or self.newest.activeFrom == (wanted or earliest)

    @act()
    def rotate_at_once(self):
        self.set(self.attempt(None, "rotateAtOnce", given(grace=0), sender=self.rotator))
        assert self.newest.activeFrom == self.time

    @act(seconds=(2, 8, HOUR, LEAD))
    def wait(self, seconds):
        """Lets time pass; then asks of every configuration there ever was whether it is accepted."""
        self.time += seconds
        self.chain.mine(timestamp=self.time)
        for configuration in self.line[-4:]:
            accepted = bool(self.contract.accepts(digest_of(self.contract, configuration)))
            expected = [self.holds(configuration, self.time + late) for late in (0, 1)]
            assert accepted in expected  # a call may take the latest block's time or the next one's
        due = bool(self.held) and self.held[0].activeFrom <= self.time
        assert due == any(self.holds(configuration, self.time) for configuration in self.held)

    def holds(self, configuration, time):
        if configuration not in self.held[-2:]:
            return False
        if configuration == self.held[-1]:
            return configuration.activeFrom <= time
        return time < self.newest.activeFrom + self.newest.grace

    def check(self):
        replay = ServiceReplay(self.contract)
        assert (replay.newest or [None])[0] == (self.line[-1] if self.line else None)
        replay.check()


def test_configuration__any_order_of_rotations__behaves_as_the_model(chain, service, rotator):
    run(ConfigMachine, 6, 20, chain=chain, contract=service, rotator=rotator)
