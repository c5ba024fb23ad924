"""The month in a bucket of a real S3 server: the same as on a disk, and nothing lost while it is away."""

import socket

import pytest
from lake_world import ASKED, DAY, MONTH, START

from quietfleet.errors import FileRefused, SettingsError, StoreOutOfReach
from quietfleet.storage import AuditLog, Database, Lake, _files, _lake_steps, certificates, open_files

boto3 = pytest.importorskip("boto3", reason="moto is not installed")
s3fs = pytest.importorskip("s3fs", reason="the extra `s3` is not installed")
ThreadedMotoServer = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer
LATE = START + MONTH + DAY / 2


@pytest.fixture(scope="module")
def server():
    serving = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    serving.start()
    host, port = serving.get_host_and_port()
    yield f"http://{host}:{port}"
    serving.stop()


@pytest.fixture
def s3(server, monkeypatch):
    """A fresh bucket, and the client that its keeper has."""
    s3fs.S3FileSystem.clear_instance_cache()
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "fleet",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="fleet")
    yield client
    for one in client.list_objects_v2(Bucket="fleet").get("Contents", []):
        client.delete_object(Bucket="fleet", Key=one["Key"])
    client.delete_bucket(Bucket="fleet")


@pytest.fixture
def database(tmp_path):
    with Database(tmp_path / "worker.db") as opened:
        yield opened


@pytest.fixture
def lake(s3, database, tmp_path):
    return opened(database, tmp_path)


def opened(database, folder):
    files = open_files("s3://fleet/month", folder)
    trail = AuditLog(database).append
    return Lake(database, files, bytes(32), retention=MONTH, trail=trail, clock=lambda: START)


def fill(lake, hour=0):
    for device in ("leaf", "root"):
        lake.append(device, [(START + hour * 3600.0, {"temp": 1.0}), (START + 20 * 3600.0, {"temp": 2.0})], **ASKED)


def keys(client):
    return [one["Key"] for one in client.list_objects_v2(Bucket="fleet").get("Contents", [])]


def test_bucket__written_merged_erased_and_forgotten__holds_what_counts_and_no_more(
    lake, s3, database, tmp_path, monkeypatch
):
    monkeypatch.setattr(_lake_steps, "FILES_A_DAY", 2)
    for hour in range(3):
        fill(lake, hour)
        lake.flush()
    assert len(keys(s3)) == 1, "a day's files are put together"
    kept = s3.get_object(Bucket="fleet", Key=keys(s3)[0])["Body"].read()
    assert b"PAR1" not in kept
    again = opened(database, tmp_path)
    assert [len(rows) for rows in again.scan(**ASKED).values()] == [4, 4]
    assert again.erase(LATE) == 6
    assert again.forget("leaf", now=LATE, **ASKED) == 1
    assert {device: len(rows) for device, rows in again.scan(**ASKED).items()} == {"root": 1}
    assert again.check() == []
    assert again.erase(LATE + DAY) == 1
    assert keys(s3) == []
    assert [one["rows"] for one in certificates(AuditLog(database))] == [6, 1, 1]


def test_bucket__objects_changed_and_planted__refused_and_told(lake, s3):
    fill(lake)
    lake.flush()
    (key,) = keys(s3)
    s3.put_object(Bucket="fleet", Key=key, Body=b"another")
    s3.put_object(Bucket="fleet", Key="month/planted", Body=b"x")
    with pytest.raises(FileRefused):
        lake.scan(**ASKED)
    assert len(lake.check()) == 2


def test_bucket__keeps_versions__refused_as_nothing_would_be_erased(s3, tmp_path):
    s3.put_bucket_versioning(Bucket="fleet", VersioningConfiguration={"Status": "Enabled"})
    with pytest.raises(SettingsError, match="keeps versions"):
        open_files("s3://fleet/month", tmp_path)


def test_bucket__out_of_reach__typed_error_nothing_lost_and_goes_on(s3, server, database, tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "_TIMEOUTS", {"connect_timeout": 1, "read_timeout": 1, "retries": {"max_attempts": 0}})
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        s3fs.S3FileSystem.clear_instance_cache()
        away = opened(database, tmp_path)
        fill(away)
        for step in (away.flush, lambda: away.erase(LATE), lambda: away.forget("leaf", now=START, **ASKED), away.sweep):
            with pytest.raises(StoreOutOfReach):
                step()
        assert [len(rows) for rows in away.scan(**ASKED).values()] == [2, 2]
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    s3fs.S3FileSystem.clear_instance_cache()
    lake = opened(database, tmp_path)
    lake.flush()
    assert len(keys(s3)) == 1
    assert [len(rows) for rows in lake.scan(**ASKED).values()] == [2, 2]
    assert lake.check() == []
