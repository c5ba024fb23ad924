"""A lake whose process can be killed before any numbered step: each write, each commit, each change of a file."""

from quietfleet.storage import AuditLog, Database, FsspecFiles, Lake
from quietfleet.testbed.mortal import FileWatch, MortalDatabase, Steps

DAY = 86_400
START = 1_700_000_000.0 // DAY * DAY
MONTH = 30 * DAY
ASKED = {"who": "tester", "why": "test"}


class Killed(BaseException):
    """Nothing that is done after it outlives the process."""


class LastSteps(Steps):
    """Past the fatal step nothing happens any more, whatever cleans up."""

    def __init__(self, fatal=0):
        super().__init__(self._kill, fatal)

    def take(self, name):
        self.names.append(name)
        if self.fatal and len(self.names) >= self.fatal:
            self._die()

    def _kill(self):
        raise Killed

    @property
    def deadly(self):
        return bool(self.fatal) and len(self.names) >= self.fatal


class LakeWorld:
    """One process after another on one folder."""

    def __init__(self, folder):
        self.folder = folder
        self.start()

    def start(self):
        self.steps = LastSteps()
        self.watch = FileWatch([self.folder / "month"], self.steps)
        self.database = MortalDatabase(self.folder / "worker.db", self.steps)
        self.audit = AuditLog(self.database)
        self.lake = Lake(
            self.database,
            FsspecFiles("file", str(self.folder / "month")),
            bytes(32),
            retention=MONTH,
            trail=self.audit.append,
            clock=lambda: START,
        )
        self.watch.start()

    def stop(self):
        self.watch.stop()
        self.steps.fatal = 0
        self.database.close()

    def again(self):
        """A new process finds what the last one left."""
        self.stop()
        with Database(self.folder / "worker.db") as database:
            database.check()
        self.start()

    def killed(self, act, fatal):
        """Act, and die before the step of that number; False if it came to the end before."""
        self.steps.begin()
        self.steps.fatal = fatal
        try:
            act(self.lake)
        except BaseException:
            if not self.steps.deadly:
                raise
            self.again()
            return True
        finally:
            self.steps.fatal = 0
        return False

    def readings(self):
        found = self.lake.scan(**ASKED)
        return {(device, time): values["temp"] for device, rows in found.items() for time, values in rows}

    def names(self):
        place = self.folder / "month"
        return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())

    def sound(self):
        """Every file that is there counts, and opens."""
        self.lake.sweep()
        assert self.lake.check() == []
        assert self.names() == sorted(part.name for part in self.lake._index.parts())
        self.audit.verify()
