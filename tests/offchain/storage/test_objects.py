import hashlib

import pytest

from quietfleet.errors import ObjectCorrupt, ObjectMissing, StorageError
from quietfleet.storage import ObjectStore


@pytest.fixture
def store(tmp_path):
    return ObjectStore(tmp_path / "objects")


def file_of(store, name):
    return next(path for path in store.directory.rglob("*") if path.is_file() and path.name == name[2:])


def test_put__bytes__come_back_under_their_hash(store):
    name = store.put(b"model")
    assert name == hashlib.sha256(b"model").hexdigest()
    assert name in store
    assert store.get(name) == b"model"


def test_put__same_bytes_twice__stores_one_file(store):
    assert store.put(b"model") == store.put(b"model")
    assert sum(path.is_file() for path in store.directory.rglob("*")) == 1


def test_put__stored_copy_is_damaged__repairs_it(store):
    name = store.put(b"model")
    file_of(store, name).write_bytes(b"mud")
    store.put(b"model")
    assert store.get(name) == b"model"


def test_get__nothing_stored__says_missing(store):
    with pytest.raises(ObjectMissing):
        store.get("0" * 64)


def test_get__bytes_changed_on_disk__says_corrupt(store):
    name = store.put(b"model")
    file_of(store, name).write_bytes(b"mud")
    with pytest.raises(ObjectCorrupt):
        store.get(name)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "0" * 63, "0" * 62 + "/x"])
def test_get__name_is_no_hash__never_becomes_a_path(store, name):
    with pytest.raises(StorageError, match="SHA-256"):
        store.get(name)


def test_remove__stored_object__is_missing_afterwards(store):
    name = store.put(b"model")
    store.remove(name)
    store.remove(name)
    assert name not in store


def test_put__disk_fails_before_the_rename__leaves_no_half_object(store, monkeypatch):
    def fail(_descriptor):
        raise OSError

    monkeypatch.setattr("quietfleet.storage._folder.os.fsync", fail)
    with pytest.raises(OSError):
        store.put(b"model")
    assert not [path for path in store.directory.rglob("*") if path.is_file()]
