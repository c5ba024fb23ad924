"""What is erased is in no byte on the disk: not in the clear, and not sealed either."""

import pytest
from lake_world import ASKED, DAY, MONTH, START, LakeWorld

from quietfleet.errors import ErasureDelayed, FileRefused
from quietfleet.storage import Database, Hold, certificates

DEVICE = "pseudonym-of-the-porch"
LATE = START + MONTH + DAY / 2
PIECE = 40  # bytes of a sealed file that are looked for


@pytest.fixture
def world(tmp_path):
    opened = LakeWorld(tmp_path)
    yield opened
    opened.stop()


def fill(world, rows=300):
    """Enough for many pages; return every secret of the device: its name, its sealed rows, its sealed files."""
    for device in (DEVICE, "another"):
        readings = [(START + number * 100.0, {"channel-of-the-porch": 21.5 + number}) for number in range(rows)]
        assert world.lake.append(device, readings, **ASKED) == rows
    bodies = [body for device, _, body in world.lake._index.rows(world.lake._index.generations()) if device == DEVICE]
    world.lake.flush()
    return [DEVICE.encode(), b"channel-of-the-porch", *bodies, *pieces(world)]


def pieces(world):
    files = [(world.folder / "month" / name).read_bytes() for name in world.names()]
    return [data[at : at + PIECE] for data in files for at in range(0, len(data) - PIECE, PIECE)]


def found(world, secrets):
    disk = b"".join(path.read_bytes() for path in sorted(world.folder.rglob("*")) if path.is_file())
    return [secret for secret in secrets if secret in disk]


ERASURES = {
    "retention": lambda lake: lake.erase(LATE + DAY),
    "forget": lambda lake: lake.forget(DEVICE, now=LATE, **ASKED),
    "day": lambda lake: lake.erase_day(int(START // DAY), **ASKED),
}


@pytest.mark.parametrize("how", ERASURES)
def test_erase__whichever_way__no_byte_of_it_is_left_in_folder_database_or_log(world, how):
    secrets = fill(world)
    assert len(found(world, secrets)) > len(secrets) // 10, "the sealed file is found as long as it is there"
    assert ERASURES[how](world.lake)
    assert found(world, secrets) == []
    world.again()
    assert found(world, secrets) == []


def test_forget__only_in_the_database_yet__no_byte_of_it_is_left(world):
    world.lake.append(DEVICE, [(START, {"temp": 1.0})], **ASKED)
    assert found(world, [DEVICE.encode()])
    assert world.lake.forget(DEVICE, now=LATE, **ASKED) == 1
    assert found(world, [DEVICE.encode()]) == []


def test_forget__somebody_reads_the_database__certified_only_once_the_log_is_empty(world):
    secrets = fill(world)
    world.database.execute("PRAGMA busy_timeout=1")
    with Database.observe(world.folder / "worker.db") as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM lake_part").fetchone()
        with pytest.raises(ErasureDelayed):
            world.lake.forget(DEVICE, now=LATE, **ASKED)
        assert list(certificates(world.audit)) == []
    world.lake.sweep()
    assert [one["rows"] for one in certificates(world.audit)] == [300]
    assert found(world, secrets) == []


def test_append__forgotten_device_sends_again__old_rows_refused_and_new_ones_taken(world):
    fill(world, rows=3)
    world.lake.forget(DEVICE, now=LATE, **ASKED)
    world.again()
    assert world.lake.append(DEVICE, [(START, {"temp": 1.0}), (LATE + 1, {"temp": 2.0})], **ASKED) == 1
    assert world.lake.append("another", [(START + 50.0, {"temp": 1.0})], **ASKED) == 1
    assert [time for time, _ in world.lake.scan([DEVICE], **ASKED)[DEVICE]] == [LATE + 1]


def test_erase__a_held_file_is_damaged__all_else_goes_and_it_is_told(world):
    for day in (0, 1):
        world.lake.append(DEVICE, [(START + day * DAY, {"temp": 1.0})], **ASKED)
    world.lake.flush()
    world.lake.hold(Hold("case", None, START, START + DAY, "counsel", "a claim", START))
    first = world.names()[0]
    (world.folder / "month" / first).write_bytes(b"damaged")
    with pytest.raises(FileRefused):
        world.lake.erase(LATE + 5 * DAY)
    assert world.names() == [first]
    assert [one["rows"] for one in certificates(world.audit)] == [1]
