"""A lake against a plain model: whatever is asked of it, in whatever order, killed at whatever step."""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from lake_world import ASKED, MONTH, START, LakeWorld

from quietfleet.errors import HoldInForce
from quietfleet.storage import Hold, _lake_steps, _lake_work, certificates
from quietfleet.storage._parquet import Parquet

HOUR = 3600.0
DEVICES = st.sampled_from(["leaf", "root", "tip"])
HOURS = st.lists(st.integers(0, 71), min_size=1, max_size=6)  # from the oldest that is kept
NAMES = st.sampled_from(["case", "claim"])


class LakeMachine(RuleBasedStateMachine):
    """The model: values by device and time; what is refused; holds; how many readings went."""

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.usual = _lake_steps.FILES_A_DAY, _lake_work.Parquet
        shared = Parquet()
        _lake_steps.FILES_A_DAY, _lake_work.Parquet = 2, lambda: shared
        self.world = LakeWorld(self.folder)
        self.kept, self.refused, self.holds, self.gone, self.count = {}, {}, {}, 0, 0
        self.cut = START

    def teardown(self):
        if hasattr(self, "world"):
            self.world.stop()
            _lake_steps.FILES_A_DAY, _lake_work.Parquet = self.usual
            shutil.rmtree(self.folder)

    @rule(device=DEVICES, hours=HOURS)
    def append(self, device, hours):
        times = list(dict.fromkeys(self.cut + hour * HOUR for hour in hours))
        self.count += 1
        new = [time for time in times if (device, time) not in self.kept and time > self.refused.get(device, 0)]
        rows = [(time, {"temp": float(self.count)}) for time in times]
        assert self.world.lake.append(device, rows, **ASKED) == len(new)
        self.kept |= {(device, time): float(self.count) for time in new}

    @rule()
    def flush(self):
        self.world.lake.flush()
        assert self.world.lake.waiting == 0

    @rule(hours=st.integers(1, 40))
    def erase(self, hours):
        self.cut += hours * HOUR
        self.erased(self.world.lake.erase(self.cut + MONTH), self.due())

    @rule(device=DEVICES)
    def forget(self, device):
        stay = [key for key in self.kept if key[0] == device and self.held(key)]
        go = [key for key in self.kept if key[0] == device and not self.held(key)]
        try:
            self.world.lake.forget(device, now=self.cut + HOUR, **ASKED)
            assert not stay
        except HoldInForce:
            assert stay
        self.never_again(device)
        self.erased(len(go), go)

    @rule(name=NAMES, device=DEVICES | st.none(), first=st.integers(0, 40), length=st.integers(1, 40))
    def hold(self, name, device, first, length):
        since = self.cut + first * HOUR
        hold = Hold(name, device, since, since + length * HOUR, "counsel", "a claim", START)
        if name not in self.holds:
            self.world.lake.hold(hold)
            self.holds[name] = hold

    @rule(name=NAMES)
    def release(self, name):
        if self.holds.pop(name, None):
            self.world.lake.release_hold(name, **ASKED)

    @rule(what=st.sampled_from(["flush", "erase", "forget"]), device=DEVICES, fatal=st.integers(1, 70))
    def crash(self, what, device, fatal):
        """It is asked again after a death, and comes to what it would have come to."""
        self.cut += HOUR * (what == "erase")
        go = {"flush": [], "erase": self.due(), "forget": [key for key in self.kept if key[0] == device]}[what]
        go = [key for key in go if not self.held(key)]

        def act(lake):
            with suppress(HoldInForce):
                match what:
                    case "flush":
                        lake.flush()
                    case "erase":
                        lake.erase(self.cut + MONTH)
                    case _:
                        lake.forget(device, now=self.cut + HOUR, **ASKED)

        if what == "forget":
            self.never_again(device)
        if self.world.killed(act, fatal):
            act(self.world.lake)
        self.erased(len(go), go)

    def never_again(self, device):
        files = [part.newest for part in self.world.lake._index.parts() if device in part.devices]
        rest = [self.world.lake.forgotten(device), self.cut + HOUR]
        self.refused[device] = max([*rest, *files, *(time for name, time in self.kept if name == device)])

    def due(self):
        return [key for key in self.kept if key[1] < self.cut and not self.held(key)]

    def held(self, key):
        return any(hold.covers(*key) for hold in self.holds.values())

    def erased(self, count, gone):
        assert count == len(gone)
        self.gone += count
        for key in gone:
            del self.kept[key]

    @invariant()
    def reads_what_is_kept(self):
        if hasattr(self, "world"):
            assert self.world.readings() == self.kept
            assert self.world.lake.devices() == sorted({device for device, _ in self.kept})

    @invariant()
    def keeps_no_other_file_and_tells_each_erasure_once(self):
        if hasattr(self, "world"):
            self.world.sound()
            assert sum(one["rows"] for one in certificates(self.world.audit)) == self.gone


TestLake = LakeMachine.TestCase
TestLake.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
