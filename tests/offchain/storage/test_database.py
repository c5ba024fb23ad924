import sqlite3
import stat
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.errors import ErasureDelayed, StorageError
from quietfleet.storage import Database


class Failed(Exception):
    """A part of a tree of transactions."""


NOTES = ("CREATE TABLE note (text TEXT NOT NULL) STRICT",)


@pytest.fixture
def database(tmp_path):
    with Database(tmp_path / "worker.db") as opened:
        opened.migrate("notes", NOTES)
        yield opened


def notes(database):
    return [text for (text,) in database.execute("SELECT text FROM note ORDER BY rowid")]


def write(database, text):
    database.execute("INSERT INTO note VALUES (?)", (text,))


def write_and_fail(database, text):
    with database.transaction():
        write(database, text)
        raise RuntimeError


def write_outer_and_fail_inner(database):
    with database.transaction():
        write(database, "outer")
        with pytest.raises(RuntimeError):
            write_and_fail(database, "inner")


def write_inner_and_fail_outer(database):
    with database.transaction():
        with database.transaction():
            write(database, "inner")
        raise RuntimeError


def test_open__new_file__only_its_user_can_read_any_of_it(database):
    write(database, "private")
    for file in database.path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_open__new_file__is_durable_and_erases(database):
    settings = {name: database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    assert settings == {"journal_mode": "wal", "synchronous": 2}
    assert database.execute("PRAGMA secure_delete").fetchone()[0] == 1
    assert database.execute("PRAGMA foreign_keys").fetchone()[0] == 1


def test_transaction__succeeds__keeps_everything(database):
    with database.transaction():
        write(database, "one")
        write(database, "two")
    assert notes(database) == ["one", "two"]


def test_transaction__raises__keeps_nothing(database):
    with pytest.raises(RuntimeError):
        write_and_fail(database, "one")
    assert notes(database) == []


def test_execute_many__row_that_does_not_fit__writes_none(database):
    database.execute("CREATE TABLE few (number INTEGER PRIMARY KEY)")
    assert database.execute_many("INSERT INTO few VALUES (?)", ((n,) for n in range(3))) == 3
    with pytest.raises(sqlite3.IntegrityError):
        database.execute_many("INSERT INTO few VALUES (?)", [(7,), (2,)])
    assert database.execute("SELECT count(*) FROM few").fetchone() == (3,)


def test_transaction__nested_one_raises__undoes_only_itself(database):
    write_outer_and_fail_inner(database)
    assert notes(database) == ["outer"]


def test_transaction__outer_one_raises_after_nested_one_succeeded__undoes_both(database):
    with pytest.raises(RuntimeError):
        write_inner_and_fail_outer(database)
    assert notes(database) == []


def test_transaction__deferred_constraint_fails_at_commit__leaves_the_database_usable(database):
    database.migrate(
        "links",
        [
            (
                "CREATE TABLE a (id INTEGER PRIMARY KEY) STRICT;"
                "CREATE TABLE b (a INTEGER REFERENCES a DEFERRABLE INITIALLY DEFERRED) STRICT"
            )
        ],
    )
    with pytest.raises(sqlite3.IntegrityError), database.transaction():
        database.execute("INSERT INTO b VALUES (1)")
    with database.transaction():
        write(database, "after")
    assert notes(database) == ["after"]


def test_migrate__run_again_with_more_steps__runs_only_the_new_ones(database):
    write(database, "kept")
    database.migrate("notes", [*NOTES, "ALTER TABLE note ADD COLUMN mark TEXT"])
    assert database.execute("SELECT text, mark FROM note").fetchall() == [("kept", None)]


def test_migrate__step_fails_halfway__leaves_no_half(database):
    with pytest.raises(sqlite3.OperationalError):
        database.migrate("notes", [*NOTES, "CREATE TABLE more (x TEXT); CREATE TABLE note (x TEXT)"])
    names = {name for (name,) in database.execute("SELECT name FROM sqlite_schema")}
    assert "more" not in names
    assert database.execute("SELECT version FROM schema WHERE component = 'notes'").fetchone() == (1,)


def test_migrate__semicolons_in_strings_and_triggers__stay_whole(database):
    database.migrate(
        "odd",
        [
            (
                "CREATE TABLE odd (x TEXT) STRICT; INSERT INTO odd VALUES ('a;b');"
                "CREATE TRIGGER t AFTER INSERT ON odd BEGIN DELETE FROM note; DELETE FROM note; END;"
            )
        ],
    )
    assert database.execute("SELECT x FROM odd").fetchall() == [("a;b",)]


def test_migrate__written_by_newer_program__refuses(database):
    with pytest.raises(StorageError):
        database.migrate("notes", [])


def test_observe__running_worker__sees_what_is_committed_and_cannot_write(database):
    write(database, "one")
    with Database.observe(database.path) as observer:
        assert notes(observer) == ["one"]
        with pytest.raises(sqlite3.OperationalError):
            write(observer, "two")


def test_observe__no_such_file__says_so_and_creates_nothing(tmp_path):
    with pytest.raises(StorageError):
        Database.observe(tmp_path / "absent.db")
    assert not list(tmp_path.iterdir())


def test_truncate_log__somebody_reads__is_delayed_then_works(database):
    database.execute("PRAGMA busy_timeout=10")
    write(database, "one")
    with Database.observe(database.path) as observer:
        observer.execute("BEGIN")
        notes(observer)
        write(database, "two")
        with pytest.raises(ErasureDelayed):
            database.truncate_log()
    database.truncate_log()
    assert (database.path.parent / "worker.db-wal").stat().st_size == 0


def test_snapshot__somebody_writes_meanwhile__reads_as_of_one_moment(tmp_path):
    with Database(tmp_path / "worker.db") as writer:
        writer.execute("CREATE TABLE kept (number INTEGER) STRICT")
        with Database.observe(tmp_path / "worker.db") as reader:
            with reader.snapshot():
                assert reader.execute("SELECT count(*) FROM kept").fetchone() == (0,)
                writer.execute("INSERT INTO kept VALUES (1)")
                assert reader.execute("SELECT count(*) FROM kept").fetchone() == (0,)
            assert reader.execute("SELECT count(*) FROM kept").fetchone() == (1,)
        with writer.transaction(), pytest.raises(StorageError, match="snapshot"), writer.snapshot():
            pass


@given(st.recursive(st.booleans(), lambda inner: st.lists(st.tuples(inner, st.booleans()), max_size=4), max_leaves=12))
def test_transaction__nested_anyhow_and_some_fail__exactly_what_did_not_fail_is_there(tmp_path_factory, tree):
    """A leaf writes or reads, a list is a transaction of such parts; each part says whether it fails at its end."""
    with Database(tmp_path_factory.mktemp("nested") / "worker.db") as database:
        database.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY) STRICT")
        expected = play(database, tree, count())
        assert [number for (number,) in database.execute("SELECT number FROM numbers ORDER BY number")] == expected


def play(database, part, numbers):
    """Do a part; return what it leaves written."""
    if part is False:
        database.execute("SELECT count(*) FROM numbers").fetchone()
        return []
    if part is True:
        number = next(numbers)
        database.execute("INSERT INTO numbers VALUES (?)", (number,))
        return [number]
    left = []
    for inner, fails in part:
        try:
            with database.transaction():
                wrote = play(database, inner, numbers)
                end(fails=fails)
            left += wrote
        except Failed:
            pass
    return left


def end(*, fails):
    if fails:
        raise Failed
