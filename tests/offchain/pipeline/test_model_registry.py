"""The model registry: versions, what is meant by which name, where each is in its life; nothing is half there."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from quietfleet.errors import ApprovalMissing, DiskFull, ObjectCorrupt, RegistryError, StorageError
from quietfleet.pipeline.registry import Facts, Registry, Stage
from quietfleet.pipeline.registry_catalogue import Catalogue
from quietfleet.pipeline.registry_check import check
from quietfleet.pipeline.registry_tables import SCHEMA
from quietfleet.storage import AuditLog, Database, ObjectStore, fault_of

ANNA = {"who": "anna", "at": 1.0, "why": "better"}
BOTH = {**ANNA, "approved_by": "ben"}
KEY = bytes(32)
WORKER = "0x" + "ab" * 20


@pytest.fixture
def database(tmp_path):
    with Database(tmp_path / "gateway.db") as opened:
        yield opened


@pytest.fixture
def audit(database):
    return AuditLog(database)


@pytest.fixture
def registry(tmp_path, database, audit):
    return Registry(database, ObjectStore(tmp_path / "objects"), record=audit.append, key=KEY)


@pytest.fixture
def three(registry):
    """Three versions of `forecast`."""
    for number in (1, 2, 3):
        registry.register("forecast", b"m%d" % number, b"a%d" % number, at=number)
    return registry


def files(tmp_path):
    return [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]


# versions


def test_register__new_models__count_up_per_name(registry):
    assert registry.register("forecast", b"m1", b"a1", at=1.0) == 1
    assert registry.register("forecast", b"m2", b"a2", at=2.0) == 2
    assert registry.register("other", b"m1", b"a1", at=3.0) == 1
    assert [(one.name, one.version) for one in registry.versions()] == [("forecast", 1), ("forecast", 2), ("other", 1)]


def test_register__same_manifest_again__keeps_its_version(registry, audit):
    registry.register("forecast", b"m1", b"a1", at=1.0)
    assert registry.register("forecast", b"m1", b"a1", at=9.0) == 1
    assert registry.get("forecast", 1).at == 1.0
    assert len(list(audit.entries(kind="model-registered"))) == 1


def test_register__models_of_single_devices__come_back_beside_the_one_for_everybody(registry):
    given = {"default": b"a1", "leaf": b"a2", "root": b"a3"}
    registry.register("forecast", b"m1", given, at=1.0)
    model = registry.get("forecast", 1)
    assert (model.artifact, dict(model.artifacts)) == (b"a1", given)
    with pytest.raises(RegistryError, match="for everybody"):
        registry.register("forecast", b"m2", {"leaf": b"a2"}, at=1.0)


def test_register__manifest_tells_its_data_and_code__a_version_is_found_by_them(registry, audit):
    manifest = json.dumps({"dataset": {"id": "d" * 64}, "code": "c" * 64, "parent": 4}).encode()
    registry.register("forecast", manifest, b"a", at=1.0, run="0123456789abcdef")
    facts = Facts("d" * 64, "0123456789abcdef", "c" * 64, "4")
    assert registry.entry("forecast", 1).facts == registry.get("forecast", 1).facts == facts
    (entry,) = audit.entries(kind="model-registered")
    assert (entry.detail["run"], entry.detail["dataset"]) == (facts.run, facts.dataset)


@pytest.mark.parametrize("version", [1, 0, -1, "champion"])
def test_get__nothing_there__says_so(registry, version):
    with pytest.raises(RegistryError):
        registry.get("forecast", version)


def test_get__object_damaged_on_disk__is_noticed(registry, tmp_path):
    registry.register("forecast", b"m1", b"a1", at=1.0)
    for file in files(tmp_path):
        file.write_bytes(b"mud")
    with pytest.raises(ObjectCorrupt):
        registry.get("forecast", 1)


def test_register__again_after_damage__is_repaired_and_nothing_else_taken_in(registry, tmp_path):
    registry.register("forecast", b"m1", b"a1", at=1.0)
    for file in files(tmp_path):
        file.write_bytes(b"mud")
    assert registry.register("forecast", b"m1", {"default": b"a1", "leaf": b"not its own"}, at=2.0) == 1
    assert dict(registry.get("forecast", 1).artifacts) == {"default": b"a1"}
    assert len(files(tmp_path)) == 2


def test_open__again__remembers(three, database, tmp_path):
    three.point("forecast", "best", 2, **ANNA)
    again = Registry(database, ObjectStore(tmp_path / "objects"))
    assert (again.get("forecast", 1).artifact, again.resolve("forecast", "best")) == (b"a1", 2)


def test_open__somebodys_before_it_was_made__says_to_start_the_gateway(tmp_path, database):
    with Database.observe(database.path) as observer, pytest.raises(RegistryError, match="start the gateway"):
        Catalogue(observer, ObjectStore(tmp_path / "objects"))


def test_open__written_by_the_version_before__keeps_everything_but_the_workers_address(tmp_path, database):
    database.migrate("registry", SCHEMA[:1])
    database.execute("INSERT INTO model_version VALUES ('forecast', 1, ?, ?, 5.0)", ("a" * 64, "b" * 64))
    database.execute("INSERT INTO model_alias VALUES (1, 'forecast', 'champion', 1, ?, 6.0, 'trained')", (WORKER,))
    opened = Registry(database, ObjectStore(tmp_path / "objects"))
    found = opened.entry("forecast", "champion")
    assert (found.at, found.manifest, found.artifacts) == (5.0, "a" * 64, {"default": "b" * 64})
    assert [move.who for move in opened.history()] == ["gateway"]
    database.truncate_log()
    assert WORKER.encode() not in database.path.read_bytes()


# aliases and stages


def test_point__alias_moves__old_one_stays_in_history(three, audit):
    three.point("forecast", "champion", 1, **ANNA)
    three.point("forecast", "challenger", 2, **ANNA)
    three.point("forecast", "champion", 2, who="owner", at=3.0, why="beats it")
    assert three.get("forecast", "champion").manifest == b"m2"
    moves = [(move.alias, move.version, move.who, move.at, move.why) for move in three.history("forecast")]
    assert moves == [
        ("champion", 1, "anna", 1.0, "better"),
        ("challenger", 2, "anna", 1.0, "better"),
        ("champion", 2, "owner", 3.0, "beats it"),
    ]
    assert [entry.detail for entry in audit.entries(kind="model-moved")] == [move.told() for move in three.history()]


def test_point__taken_away__means_nothing_any_more(three):
    three.point("forecast", "best", 1, **ANNA)
    three.point("forecast", "best", None, **ANNA)
    with pytest.raises(RegistryError, match="no best"):
        three.resolve("forecast", "best")
    with pytest.raises(RegistryError, match="no best"):
        three.point("forecast", "best", None, **ANNA)


@pytest.mark.parametrize(
    ("alias", "version", "words"),
    [
        ("best", 9, {}),
        ("Best!", 1, {}),
        ("production", 1, {"approved_by": "ben"}),
        ("best", 1, {"who": " "}),
        ("best", 1, {"why": ""}),
        ("best", 1, {"who": WORKER}),
        ("best", 1, {"why": f"because {WORKER[2:].upper()} asked"}),
        ("best", 1, {"why": "enode://" + "ab" * 64 + "@10.0.0.1:30303"}),
        ("best", 1, {"who": "anna\n2030-01-01 forged"}),
        ("best", 1, {"why": "x" * 501}),
    ],
)
def test_point__what_the_registry_does_not_take__changes_nothing(three, audit, alias, version, words):
    with pytest.raises(RegistryError):
        three.point("forecast", alias, version, **{**ANNA, **words})
    assert three.history("forecast") == []
    assert list(audit.entries(kind="model-moved")) == []


def test_promote__to_production__takes_the_place_of_the_one_before(three):
    three.promote("forecast", 1, Stage.PRODUCTION, **BOTH)
    three.promote("forecast", 2, Stage.STAGING, **ANNA)
    three.promote("forecast", 2, Stage.PRODUCTION, **BOTH)
    assert [one.stage for one in three.versions("forecast")] == [Stage.ARCHIVED, Stage.PRODUCTION, Stage.NONE]
    assert (three.resolve("forecast", "production"), three.previous("forecast")) == (2, 1)
    assert {move.approved_by for move in three.history() if move.alias == "production"} == {"ben"}


@pytest.mark.parametrize("approved_by", ["", "anna", " Anna "])
def test_promote__nobody_else_approved__production_stays(three, approved_by):
    with pytest.raises(ApprovalMissing, match="two"):
        three.promote("forecast", 1, Stage.PRODUCTION, **ANNA, approved_by=approved_by)
    assert three.history() == []


def test_promote__one_person_may__alone_is_enough(database, tmp_path, three):
    alone = Registry(database, ObjectStore(tmp_path / "objects"), one_person=True)
    alone.promote("forecast", 1, Stage.PRODUCTION, **ANNA)
    assert alone.resolve("forecast", "production") == 1


def test_promote__from_production_to_staging__nothing_is_in_production(three):
    three.promote("forecast", 1, Stage.PRODUCTION, **BOTH)
    three.promote("forecast", 1, Stage.STAGING, **ANNA)
    assert (three.entry("forecast", 1).stage, three.aliases("forecast")) == (Stage.STAGING, {})


def test_promote__there_already_or_no_such_stage__says_so(three):
    three.promote("forecast", 1, Stage.STAGING, **ANNA)
    with pytest.raises(RegistryError, match="already"):
        three.promote("forecast", 1, Stage.STAGING, **ANNA)
    with pytest.raises(RegistryError, match="promoted to"):
        three.promote("forecast", 1, Stage.ARCHIVED, **ANNA)


def test_archive__in_use__is_refused_until_another_is(three):
    three.promote("forecast", 1, Stage.PRODUCTION, **BOTH)
    three.point("forecast", "champion", 1, **ANNA)
    with pytest.raises(RegistryError, match="champion and production"):
        three.archive("forecast", 1, **ANNA)
    three.archive("forecast", 3, **ANNA)
    with pytest.raises(RegistryError, match="already"):
        three.archive("forecast", 3, **ANNA)
    assert three.get("forecast", 3).artifact == b"a3"


def test_withdraw__a_revoked_version__nothing_means_it_any_more(three):
    three.promote("forecast", 1, Stage.PRODUCTION, **BOTH)
    three.point("forecast", "best", 1, **ANNA)
    three.withdraw("forecast", 1, who="gateway", at=2.0, why="revoked on chain")
    assert (three.aliases("forecast"), three.entry("forecast", 1).stage) == ({}, Stage.ARCHIVED)


def test_previous__only_one_ever__says_there_is_none(three):
    with pytest.raises(RegistryError, match="no other"):
        three.previous("forecast")
    three.promote("forecast", 1, Stage.PRODUCTION, **BOTH)
    with pytest.raises(RegistryError, match="no other"):
        three.previous("forecast")


@pytest.mark.parametrize("statement", ["UPDATE model_move SET who = 'ben'", "DELETE FROM model_move"])
def test_history__somebody_rewrites_it__the_file_refuses(three, database, statement):
    three.point("forecast", "best", 1, **ANNA)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        database.execute(statement)


# all or nothing


@pytest.mark.parametrize("room", range(3))
def test_register__disk_full_at_any_file__nothing_is_half_registered(registry, tmp_path, monkeypatch, room):
    registry.register("forecast", b"m0", b"a0", at=1.0)
    before, real, calls = sorted(files(tmp_path)), os.fsync, itertools.count()

    def full(file):
        if next(calls) >= room * 3:  # the file, its folder, the folder above
            raise OSError(errno.ENOSPC, "no room")
        real(file)

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(DiskFull):
            registry.register("forecast", b"m1", {"default": b"a1", "leaf": b"a2"}, at=2.0)
    assert len(registry.versions()) == 1
    assert sorted(files(tmp_path)) == before
    assert registry.register("forecast", b"m1", {"default": b"a1", "leaf": b"a2"}, at=2.0) == 2
    assert registry.get("forecast", 2).artifacts["leaf"] == b"a2"


def test_register__database_full__nothing_is_half_registered(registry, database, audit, tmp_path):
    registry.register("forecast", b"m0", b"a0", at=1.0)
    before = sorted(files(tmp_path))
    database.execute(f"PRAGMA max_page_count = {database.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises((StorageError, sqlite3.Error)) as refused:  # noqa: PT012 - until there is no room
        for number in itertools.count(1):
            registry.register("forecast", b"m%d" % number, {"default": b"a%d" % number, "x" * 4000: b"b"}, at=1.0)
            before = sorted(files(tmp_path))
    assert fault_of(refused.value) is not None
    database.execute("PRAGMA max_page_count = 100000")
    registry.collect()
    assert sorted(files(tmp_path)) == before
    assert len(registry.versions()) == len(list(audit.entries(kind="model-registered")))
    assert all(registry.get(one.name, one.version) for one in registry.versions())


def test_register__small_disk_really_full__typed_and_whole_when_there_is_room(small_disk):
    with Database(small_disk / "worker.db") as database:
        registry = Registry(database, ObjectStore(small_disk / "objects"))
        registry.register("forecast", b"m1", b"a1", at=1.0)
        with pytest.raises(StorageError) as refused:
            registry.register("forecast", b"m2", {"default": b"a", "leaf": bytes(2 << 20)}, at=1.0)
        assert isinstance(refused.value, DiskFull)
        assert [one.version for one in registry.versions()] == [1]
        assert registry.objects.names() == sorted(registry.referred())
        assert registry.register("forecast", b"m2", b"a2", at=1.0) == 2


def test_register__step_around_it_fails__its_objects_are_collected(registry, database, tmp_path):
    registry.register("forecast", b"m1", b"a1", at=1.0)
    before = sorted(files(tmp_path))
    with pytest.raises(ZeroDivisionError), database.transaction():  # noqa: PT012 - all of it is the step
        registry.register("forecast", b"m2", b"a1", at=1.0)
        raise ZeroDivisionError
    (tmp_path / "objects" / ".part-crash").write_bytes(b"half")
    assert len(registry.collect()) == 1
    assert sorted(files(tmp_path)) == before
    assert registry.collect() == []
    assert registry.get("forecast", 1).artifact == b"a1"


def killed_at(step, tmp_path):
    """In a process of its own: register, and be killed before the disk is told for the `step`th time to write."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    calls, real = itertools.count(), os.fsync

    def deadly(file):
        if next(calls) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        real(file)

    os.fsync = deadly
    with Database(tmp_path / "gateway.db") as database:
        log = AuditLog(database)
        registry = Registry(database, ObjectStore(tmp_path / "objects"), record=log.append, key=KEY)
        with database.transaction():
            registry.register("forecast", b"m1", {"default": b"a1", "leaf": b"a2"}, at=1.0)
            registry.promote("forecast", 1, Stage.STAGING, **ANNA)
    os._exit(0)


@pytest.mark.parametrize("step", range(10))
def test_register__killed_at_any_step__all_or_nothing_and_nothing_stays_lying_about(tmp_path, step):
    ended = killed_at(step, tmp_path)
    assert ended in {0, -signal.SIGKILL}
    assert (ended == 0) == (step == 9), "three files, each with two folders, and then it is done"
    with Database(tmp_path / "gateway.db") as database:
        log = AuditLog(database)
        registry = Registry(database, ObjectStore(tmp_path / "objects"), record=log.append, key=KEY)
        registry.collect()
        assert len(registry.versions()) == (ended == 0)
        assert check(registry, log) == []
        assert len(files(tmp_path)) == 3 * (ended == 0)


def test_registry__two_at_once__no_version_twice_and_no_line_lost(tmp_path):
    def work(who):
        with Database(tmp_path / "gateway.db") as database:
            log = AuditLog(database)
            registry = Registry(database, ObjectStore(tmp_path / "objects"), record=log.append, key=KEY)
            for number in range(15):
                version = registry.register("forecast", f"{who} {number}".encode(), b"same", at=1.0)
                registry.point("forecast", "newest", version, who=who, at=1.0, why="made")
                registry.collect()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, ["anna", "ben"]))
    with Database(tmp_path / "gateway.db") as database:
        log = AuditLog(database)
        registry = Registry(database, ObjectStore(tmp_path / "objects"), record=log.append, key=KEY)
        assert [one.version for one in registry.versions()] == list(range(1, 31))
        assert (log.verify(), check(registry, log)) == (60, [])
