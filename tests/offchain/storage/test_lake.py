import pytest

from quietfleet.errors import FileRefused, HoldInForce
from quietfleet.storage import AuditLog, Database, FsspecFiles, Hold, Lake, certificates

DAY = 86_400
START = 1_700_000_000.0 // DAY * DAY
MONTH = 30 * DAY
ASKED = {"who": "tester", "why": "test"}


class World:
    def __init__(self, folder):
        self.folder = folder
        self.database = Database(folder / "worker.db")
        self.audit = AuditLog(self.database)
        self.files = FsspecFiles("file", str(folder / "month"))
        self.open()

    def open(self):
        self.lake = Lake(
            self.database, self.files, bytes(32), retention=MONTH, trail=self.audit.append, clock=lambda: START
        )

    def scan(self, **more):
        return self.lake.scan(**ASKED, **more)

    def paths(self):
        return sorted((self.folder / "month").rglob("*.sealed"))


@pytest.fixture
def world(tmp_path):
    opened = World(tmp_path)
    yield opened
    opened.database.close()


def fill(world, days=3, devices=("leaf", "root")):
    for device in devices:
        rows = [(START + day * DAY + hour * 3600.0, {"temp": day + 0.5}) for day in range(days) for hour in (0, 12)]
        assert world.lake.append(device, rows, **ASKED) == len(rows)


def test_append__twice_and_after_a_flush__the_first_stays(world):
    fill(world)
    world.lake.flush()
    assert world.lake.append("leaf", [(START, {"temp": 9.0})], **ASKED) == 0
    assert world.scan()["leaf"][0] == (START, {"temp": 0.5})
    assert len(world.scan()["root"]) == 6
    assert len(world.paths()) == 3


def test_files__searched_for_what_they_hold__nothing_is_readable(world):
    fill(world)
    world.lake.flush()
    kept = b"".join(path.read_bytes() for path in world.paths())
    assert b"PAR1" not in kept
    assert b"leaf" not in kept


def test_erase__past_retention__files_are_gone_and_certified(world):
    fill(world)
    world.lake.flush()
    before = world.paths()
    assert world.lake.erase(START + MONTH + DAY) == 4
    assert not before[0].exists()
    (certificate,) = certificates(world.audit)
    assert (certificate["rows"], certificate["what"], len(certificate["files"])) == (4, "retention", 1)
    assert [len(rows) for rows in world.scan().values()] == [4, 4]


def test_erase__held__stays_until_released(world):
    fill(world)
    world.lake.hold(Hold("case", "leaf", START, START + DAY, "counsel", "a claim", START))
    assert world.lake.erase(START + MONTH + DAY) == 2
    assert world.lake.erase(START + MONTH + DAY) == 0
    assert [len(rows) for rows in world.scan().values()] == [6, 4]
    world.lake.release_hold("case", **ASKED)
    assert world.lake.erase(START + MONTH + DAY) == 2


def test_forget__one_device__all_of_it_and_nothing_else(world):
    fill(world)
    assert world.lake.forget("leaf", now=START, **ASKED) == 6
    assert world.lake.devices() == ["root"]
    assert [one["device"] for one in certificates(world.audit)] == [world.lake.tag("leaf")]


@pytest.mark.parametrize("how", ["retention", "forget", "day"])
def test_salts__a_reading_of_theirs_is_erased__go_with_it_and_no_others(world, how):
    fill(world)
    world.lake.flush()
    first = int(START // DAY)
    salts = world.lake.salts.make([(device, first + day) for device in ("leaf", "root") for day in range(3)])
    assert len(set(salts.values())) == 6
    match how:
        case "retention":
            world.lake.erase(START + MONTH + 3600)  # the first hour of the first day
            gone = {("leaf", first), ("root", first)}
        case "forget":
            world.lake.forget("leaf", now=START, **ASKED)
            gone = {("leaf", first + day) for day in range(3)}
        case "day":
            world.lake.erase_day(first + 1, **ASKED)
            gone = {("leaf", first + 1), ("root", first + 1)}
    world.open()
    assert world.lake.salts.read(salts) == {one: salt for one, salt in salts.items() if one not in gone}


def test_salts__asked_for_again_and_merged_files__stay_the_same(world):
    fill(world, days=1)
    world.lake.flush()
    salts = world.lake.salts.make([("leaf", int(START // DAY))])
    for minute in range(9):
        world.lake.append("leaf", [(START + 60.0 * minute + 1, {"temp": 1.0})], **ASKED)
        world.lake.flush()
    assert world.lake.salts.make(salts) == salts


def test_forget__held__the_rest_goes_and_it_says_so(world):
    fill(world)
    world.lake.hold(Hold("case", None, START, START + DAY, "counsel", "a claim", START))
    with pytest.raises(HoldInForce, match="case"):
        world.lake.forget("leaf", now=START, **ASKED)
    assert len(world.scan()["leaf"]) == 2


def damage(path, how, other):
    data = path.read_bytes()
    match how:
        case "swapped":
            path.write_bytes(other.read_bytes())
        case "truncated":
            path.write_bytes(data[:-1])
        case "longer":
            path.write_bytes(data + b"x")
        case _:
            path.unlink()


@pytest.mark.parametrize("how", ["swapped", "truncated", "longer", "missing"])
def test_file__tampered_with__refused_and_nothing_else_lost(world, how):
    fill(world)
    world.lake.flush()
    first, second, _ = world.paths()
    damage(first, how, second)
    with pytest.raises(FileRefused):
        world.scan()
    told = []
    assert [len(rows) for rows in world.scan(refused=told.append).values()] == [4, 4]
    assert len(told) == len(world.lake.check()) == 1
    assert world.lake.erase_day(int(START // DAY), **ASKED) == 4
    assert world.lake.check() == []


def test_file__rolled_back_or_planted__never_read(world):
    fill(world, days=1)
    world.lake.flush()
    (old,) = world.paths()
    kept = old.read_bytes()
    world.lake.forget("leaf", now=START, **ASKED)
    old.write_bytes(kept)
    assert world.lake.devices() == ["root"]
    assert list(world.scan()) == ["root"]
    assert len(world.lake.check()) == 1


def test_trail__data_is_touched__says_who_why_and_how_much_but_not_which(world):
    fill(world, days=1, devices=("leaf",))
    world.scan(devices=["leaf"])
    (read,) = world.audit.entries(kind="data-read")
    assert (read.detail["who"], read.detail["why"], read.detail["rows"]) == ("tester", "test", 2)
    assert "leaf" not in str([entry.detail for entry in world.audit.entries()])
