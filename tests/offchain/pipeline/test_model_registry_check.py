"""Whoever can write the gateway's files tries to change which model is what: every way is found, and named."""

from __future__ import annotations

import hashlib
import json

import pytest

from quietfleet.pipeline.registry import Registry, Stage
from quietfleet.pipeline.registry_catalogue import Catalogue
from quietfleet.pipeline.registry_check import check, orphans
from quietfleet.storage import AuditLog, Database, ObjectStore

KEY = b"k" * 32
BOTH = {"who": "anna", "approved_by": "ben", "at": 1.0, "why": "better"}


def manifest(number, artifact):
    named = {"sha256": hashlib.sha256(artifact).hexdigest(), "size": len(artifact)}
    return json.dumps({"models": {"default": named, "personal": {}}, "number": number}).encode()


@pytest.fixture
def database(tmp_path):
    with Database(tmp_path / "gateway.db") as opened:
        yield opened


@pytest.fixture
def registry(database, tmp_path):
    made = Registry(database, ObjectStore(tmp_path / "objects"), record=AuditLog(database).append, key=KEY)
    for number in (1, 2):
        made.register("forecast", manifest(number, b"a%d" % number), b"a%d" % number, at=number)
    made.promote("forecast", 1, Stage.PRODUCTION, **BOTH)
    return made


@pytest.fixture
def tamper(database):
    """The attacker: any statement, whatever the file's own rules say."""

    def run(statement, *parameters):
        for trigger in ("model_move_no_update", "model_move_no_delete"):
            database.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute(statement, parameters)

    return run


@pytest.fixture
def found(registry, database):
    """The faults, as an operator reads them."""
    return lambda by=registry: [str(one) for one in check(by, AuditLog(database))]


def path_of(tmp_path, name):
    return tmp_path / "objects" / name[:2] / name[2:]


def test_verify__nobody_touched_it__finds_nothing(found):
    assert found() == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE model_move SET version = 2 WHERE alias = 'production'", "is another in audit entry"),
        ("UPDATE model_move SET who = 'carl'", "is another in audit entry"),
        ("UPDATE model_move SET tag = x'00'", "was not written by this gateway"),
        ("DELETE FROM model_move WHERE alias = 'production'", "is gone, though audit entry"),
        (
            "INSERT INTO model_move VALUES (99, 'forecast', 2, 'production', '', 'anna', 'ben', 2.0, 'x', x'')",
            "move 99 of production by anna is not in the audit log",
        ),
        ("DELETE FROM model_version WHERE version = 2", "it is gone, though audit entry"),
        ("UPDATE model_version SET at = 0.5 WHERE version = 2", "registered as something else"),
        ("UPDATE model_version SET run = 'other' WHERE version = 2", "registered as something else"),
        (
            "INSERT INTO model_version (name, version, manifest, at) VALUES ('forecast', 7, 'x', 1.0)",
            "does not know of its registration",
        ),
    ],
)
def test_attack__a_line_is_changed_removed_or_added__found_and_named(tamper, found, statement, words):
    tamper(statement)
    assert any(words in one for one in found()), found()


def test_attack__move_and_audit_entry_both_made_up_without_the_key__the_tag_tells(registry, database, tmp_path, found):
    forged = Registry(database, ObjectStore(tmp_path / "objects"), record=AuditLog(database).append, key=b"z" * 32)
    forged.promote("forecast", 2, Stage.PRODUCTION, **BOTH)
    assert any("was not written by this gateway" in one for one in found())
    assert found(Catalogue(database, ObjectStore(tmp_path / "objects"))) == []
    assert not registry.genuine(registry.history()[-1])


def test_attack__another_models_bytes_under_this_version__found_by_its_manifest(tamper, registry, found):
    other = registry.entry("forecast", 2).artifacts["default"]
    tamper("UPDATE model_artifact SET object = ? WHERE version = 1", other)
    assert "forecast 1: its artefacts are not those that its manifest names" in found()


def test_verify__disk_lied__the_object_is_named(registry, tmp_path, found):
    one = registry.entry("forecast", 1)
    path_of(tmp_path, one.manifest).write_bytes(b"mud")
    path_of(tmp_path, registry.entry("forecast", 2).artifacts["default"]).unlink()
    faults = found()
    assert any(f"forecast 1: manifest is damaged, {one.manifest}" in fault for fault in faults)
    assert any("forecast 2: artefact default is missing" in fault for fault in faults)


def test_orphans__a_crash_left_one__are_named_and_are_no_fault(registry, found):
    stray = registry.objects.put(b"left behind")
    assert (orphans(registry), found()) == ([stray], [])
