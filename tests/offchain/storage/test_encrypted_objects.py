"""Objects on a shelf nobody trusts: what comes back is what was put there, or an error that says what is wrong."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quietfleet.crypto import seal
from quietfleet.errors import ObjectCorrupt, ObjectMissing, ObjectSealed, ObjectTooLarge, StorageError
from quietfleet.storage import (
    EncryptedObjects,
    FolderShelf,
    Reference,
    open_object,
    seal_object,
    sealed_size,
    swarm_address,
)
from quietfleet.storage._encrypted import _USE

MOST = 100_000
MODEL = bytes(range(256)) * 40


class Shelf:
    """Keeps bytes in memory, and hands out what a test put there instead."""

    def __init__(self):
        self.kept = {}

    def put(self, address, data):
        self.kept[address] = data

    def get(self, address, _most):
        return self.kept[address]


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def objects(shelf):
    return EncryptedObjects(shelf, most=MOST)


@pytest.fixture
def folder(tmp_path):
    return FolderShelf(tmp_path / "objects")


@pytest.mark.parametrize("data", [b"", b"x", MODEL, bytes(MOST)])
def test_put__any_bytes__come_back_by_their_reference(data, objects, shelf):
    reference = objects.put(data)
    assert objects.get(reference) == data
    assert swarm_address(shelf.kept[reference.address]) == reference.address


def test_put__the_same_twice__shares_nothing(objects, shelf):
    first, second = objects.put(MODEL), objects.put(MODEL)
    assert first.address != second.address
    assert first.key != second.key
    assert MODEL[:64] not in b"".join(shelf.kept.values())


def test_put__on_a_folder__survives_and_is_named_by_its_address(folder, tmp_path):
    reference = EncryptedObjects(folder).put(MODEL)
    assert EncryptedObjects(FolderShelf(tmp_path / "objects")).get(reference) == MODEL
    (path,) = (one for one in (tmp_path / "objects").rglob("*") if one.is_file())
    assert path.parent.name + path.name == reference.address.hex()
    assert path.stat().st_mode & 0o077 == 0


def test_get__never_put__says_missing(folder):
    with pytest.raises(ObjectMissing):
        EncryptedObjects(folder).get(Reference(bytes(32), bytes(32)))


@pytest.mark.parametrize(
    "change",
    [
        lambda sealed: sealed[:-1],
        lambda sealed: sealed + b"\0",
        lambda sealed: bytes([sealed[0] ^ 1]) + sealed[1:],
        lambda sealed: sealed[:4096],
        lambda _: b"",
        lambda _: seal_object(MODEL)[1],
    ],
    ids=["truncated", "longer", "one bit", "a chunk of it", "nothing", "another object"],
)
def test_get__shelf_hands_out_something_else__is_corrupt(change, objects, shelf):
    reference = objects.put(MODEL)
    shelf.kept[reference.address] = change(shelf.kept[reference.address])
    with pytest.raises(ObjectCorrupt):
        objects.get(reference)


def test_get__with_another_key__stays_sealed(objects):
    reference = objects.put(MODEL)
    with pytest.raises(ObjectSealed):
        objects.get(Reference(reference.address, bytes(32)))


@pytest.mark.parametrize(
    "framed",
    [
        b"",
        b"\x01",
        (2**63).to_bytes(8, "little") + bytes(4052),
        (4061).to_bytes(8, "little") + bytes(4052),
        (3).to_bytes(8, "little") + b"abc" + bytes(4048) + b"!",
        (3).to_bytes(8, "little") + b"abc" + bytes(9000),
    ],
    ids=["empty", "no length", "far too long", "a byte too long", "something behind", "padded otherwise"],
)
def test_open__sealed_but_not_framed_as_an_object__is_refused(framed):
    """Who made the key made these bytes, too; the reader is not to trip over them."""
    key = bytes(32)
    sealed = seal(key, framed, associated=_USE)
    with pytest.raises(ObjectSealed):
        open_object(Reference(swarm_address(sealed), key), sealed)


def test_open__sealed_for_another_use__stays_sealed():
    sealed = seal(bytes(32), (1).to_bytes(8, "little") + b"x" + bytes(4059))
    with pytest.raises(ObjectSealed):
        open_object(Reference(swarm_address(sealed), bytes(32)), sealed)


def test_put__beyond_the_limit__keeps_nothing(objects, shelf):
    with pytest.raises(ObjectTooLarge):
        objects.put(bytes(MOST + 1))
    assert shelf.kept == {}


def test_get__far_larger_than_the_limit__is_refused_before_it_is_read(tmp_path, folder):
    reference = EncryptedObjects(folder).put(MODEL)
    (path,) = (one for one in (tmp_path / "objects").rglob("*") if one.is_file())
    os.truncate(path, 1 << 40)  # a sparse file
    with pytest.raises(ObjectTooLarge):
        EncryptedObjects(folder).get(reference)


def test_get__of_a_larger_limit__is_too_large_for_a_smaller_one(folder):
    reference = EncryptedObjects(folder).put(MODEL)
    with pytest.raises(ObjectTooLarge):
        EncryptedObjects(folder, most=4000).get(reference)


@given(st.integers(0, 2**40))
@example(0)
def test_sealed_size__any__is_enough_and_a_sixteenth_more_at_most(size):
    least = max(size + 36, 4096)
    assert least <= sealed_size(size) <= least * 17 / 16
    assert sealed_size(size) <= sealed_size(size + 1)


def test_sealed_size__up_to_the_limit__takes_few_values():
    assert len({sealed_size(size) for size in range(0, 1 << 20, 64)}) < 200


def test_reference__as_bytes__is_address_and_key_and_shows_no_key():
    reference = Reference(b"a" * 32, b"k" * 32)
    assert bytes(reference) == b"a" * 32 + b"k" * 32
    assert Reference.from_bytes(bytes(reference)) == reference
    assert "k" * 32 not in repr(reference)


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_reference__of_another_size__is_refused(size):
    with pytest.raises(StorageError, match="32 bytes each"):
        Reference.from_bytes(bytes(size))
