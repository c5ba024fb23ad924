"""Rows behave alike in a file and in Redis: against a plain dictionary, and where two writers meet."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quietfleet.errors import ErasureDelayed, Fenced, SettingsError, StoreUnavailable
from quietfleet.storage import Guard, SqliteStore, open_store
from quietfleet.storage._redis import open_redis
from quietfleet.testbed.redis import RedisServer

IDS = st.binary(min_size=1, max_size=3)
ACTS = st.recursive(
    st.one_of(
        st.tuples(st.just("put"), IDS, st.binary(max_size=8)),
        st.tuples(st.just("delete"), IDS),
        st.tuples(st.just("delete_all"), st.lists(st.binary(max_size=2), max_size=2)),
        st.tuples(st.just("put_many"), st.dictionaries(IDS, st.binary(max_size=8), max_size=4)),
        st.tuples(st.just("delete_many"), st.lists(IDS, max_size=4)),
    ),
    lambda acts: st.tuples(st.sampled_from(["keep", "undo"]), st.lists(acts, max_size=6)),
    max_leaves=20,
)
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


class Undo(Exception):
    pass


def run(store, table, model, act):
    """Do one thing to a table and to its model, and hold the one against the other."""
    match act:
        case "put", row_id, row:
            table.put(row_id, row)
            model[row_id] = row
        case "delete", row_id:
            table.delete(row_id)
            model.pop(row_id, None)
        case "put_many" | "delete_many" | "delete_all" as verb, some:
            run_many(table, model, verb, some)
        case ending, acts:
            inner = dict(model)
            with suppress(Undo), store.transaction():
                for one in acts:
                    run(store, table, inner, one)
                end(ending)
            if ending == "keep":
                model.clear()
                model.update(inner)
    agree(table, model)


def run_many(table, model, verb, some):
    match verb:
        case "put_many":
            table.put_many(some.items())
            model |= some
        case "delete_many":
            table.delete_many(iter(some))
            gone = some
        case "delete_all":
            table.delete_all(*some)
            gone = [row_id for row_id in model if row_id.startswith(tuple(some))]
    for row_id in gone if verb != "put_many" else ():
        model.pop(row_id, None)


def end(ending):
    if ending == "undo":
        raise Undo


def agree(table, model):
    assert table.all() == sorted(model.items())
    assert table.ids() == sorted(model)
    for prefix in {row_id[:1] for row_id in model} | {b"\xff"}:
        assert table.all(prefix) == sorted((i, row) for i, row in model.items() if i.startswith(prefix))
        assert table.ids(prefix) == sorted(i for i in model if i.startswith(prefix))
    for row_id in [*model, b"not there"]:
        assert table.get(row_id) == model.get(row_id)


@SHARED
@given(acts=st.lists(ACTS, max_size=12))
def test_rows__any_nesting_of_transactions__as_a_dictionary_would(openings, acts):
    store = openings()()
    table, model = store.table("things"), {}
    for act in acts:
        run(store, table, model, act)
    store.close()


@pytest.fixture
def two(openings):
    """Two writers of one store."""
    opening = openings()
    one, other = opening(), opening()
    yield one, other
    one.close()
    other.close()


def test_transaction__under_way__nobody_else_sees_it_yet(two):
    one, other = two
    mine, theirs = one.table("things"), other.table("things")
    with one.transaction():
        mine.put(b"1", b"a")
        assert theirs.all() == []
    assert theirs.all() == [(b"1", b"a")]


def test_guard__row_as_noted__commits(two):
    one, other = two
    other.table("views").put(b"v", b"1")
    one.guard = Guard("views", b"v", b"1")
    one.table("things").put(b"1", b"a")
    assert other.table("things").all() == [(b"1", b"a")]


def put_all(store, rows):
    with store.transaction():
        for row_id, row in rows.items():
            store.table("things").put(row_id, row)


def read_and_put_around(store, table, meanwhile):
    with store.transaction():
        assert table.all() == []
        meanwhile()
        table.put(b"1", b"mine")


@pytest.mark.parametrize("kept", [None, b"2"])
def test_guard__row_is_another_one__nothing_is_written(two, kept):
    one, other = two
    if kept is not None:
        other.table("views").put(b"v", kept)
    one.table("things").put(b"1", b"before")
    one.guard = Guard("views", b"v", b"1")
    with pytest.raises(Fenced):
        put_all(one, {b"1": b"after", b"2": b"after"})
    assert other.table("things").all() == [(b"1", b"before")]


def test_guard__row_ought_not_to_be_there_and_is__nothing_is_written(two):
    one, other = two
    one.guard = Guard("views", b"v", None)
    one.table("things").put(b"1", b"a")
    other.table("views").put(b"v", b"1")
    with pytest.raises(Fenced):
        one.table("things").put(b"1", b"b")
    assert other.table("things").get(b"1") == b"a"


def test_contended_table__both_read_and_write__one_of_them_is_refused_or_waits(two):
    one = two[0]
    if isinstance(one, SqliteStore):
        pytest.skip("a file has one writer at a time: the second waits")
    mine, theirs = (store.table("epochs", contended=True) for store in two)
    with pytest.raises(Fenced):
        read_and_put_around(one, mine, lambda: theirs.put(b"1", b"theirs"))
    assert mine.all() == [(b"1", b"theirs")]


def test_table_without_contention__another_row_was_written_meanwhile__commits(two):
    one, other = two
    if isinstance(one, SqliteStore):
        pytest.skip("a file has one writer at a time")
    with one.transaction():
        assert one.table("mail").all() == []
        other.table("mail").put(b"2", b"theirs")
        one.table("mail").put(b"1", b"mine")
    assert other.table("mail").ids() == [b"1", b"2"]


def test_redis__killed_and_back__says_so_undoes_the_step_and_has_kept_what_it_confirmed(redis_server, tmp_path):
    with RedisServer(tmp_path / "own", "word") as server:
        store = open_store(server.url, tmp_path.joinpath, "word", "space")
        table = store.table("things")
        table.put(b"1", b"kept")
        server.kill()
        with pytest.raises(StoreUnavailable), store.transaction():
            table.put(b"1", b"lost")
        with pytest.raises(StoreUnavailable):
            table.get(b"1")
        server.start()
        assert table.all() == [(b"1", b"kept")]


def test_redis__wrong_password__unavailable_and_the_password_in_no_sentence(redis_server, tmp_path):
    store = open_store(redis_server.url, tmp_path.joinpath, "not the word", "space")
    with pytest.raises(StoreUnavailable) as refused:
        store.table("things").get(b"1")
    assert "not the word" not in str(refused.value)


@pytest.mark.parametrize("where", ["redis://:secret@host/0", "redis://host/0?password=secret", "oracle.db", "ftp://x"])
def test_open_store__address_that_will_not_do__one_sentence_without_the_password(where, tmp_path):
    with pytest.raises(SettingsError, match=r"\[oracle\] store") as refused:
        open_store(where, tmp_path.joinpath, None, "space")
    assert "secret" not in str(refused.value)


def test_open_store__file_that_cannot_be_made__unavailable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable):
        open_store("sqlite:file/shared.db", tmp_path.joinpath, None, "space")


def test_open_store__several_processes_at_once__the_tables_are_made_once(tmp_path):
    program = (
        "import sys; from quietfleet.storage import SqliteStore\n"
        "store = SqliteStore(sys.argv[1])\n"
        "tables = [store.table(f'table_{number}') for number in range(20)]\n"
        "[table.put(sys.argv[2].encode(), b'x') for table in tables]\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "shared.db")]
    started = [subprocess.Popen([*command, str(number)]) for number in range(4)]
    assert [process.wait(60) for process in started] == [0] * 4
    assert SqliteStore(tmp_path / "shared.db").table("table_19").ids() == [b"0", b"1", b"2", b"3"]


SECRET = b"what a session was about, erased"


def kept(folder):
    """Whether any file below a folder has the secret in it."""
    return any(SECRET in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_truncate_log__rows_were_erased__none_of_them_is_in_any_file(tmp_path):
    store = SqliteStore(tmp_path / "shared.db")
    table = store.table("things")
    table.put(b"1", SECRET)
    assert kept(tmp_path)
    table.delete(b"1")
    assert kept(tmp_path)
    store.truncate_log()
    assert not kept(tmp_path)
    assert (tmp_path / "shared.db-wal").stat().st_size == 0
    store.close()


def test_truncate_log__rows_were_erased_from_a_server__its_file_of_commands_is_written_anew(redis_server):
    store = open_redis(redis_server.url, redis_server.password, "space-to-erase")
    table = store.table("things")
    table.put(b"1", SECRET)
    table.delete(b"1")
    assert kept(redis_server.folder)
    store.truncate_log()
    settle(store)
    assert not kept(redis_server.folder)
    store.close()


def settle(store):
    """Wait until the server has written its file; it tells nobody when it has."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        state = store._client.info("persistence")
        if not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]:
            return
        time.sleep(0.02)
    pytest.fail("the server went on writing")


def test_truncate_log__somebody_else_is_in_a_transaction__is_delayed_or_done_and_nothing_is_lost(two):
    one, other = two
    one.table("things").put(b"1", b"a")
    with suppress(ErasureDelayed):
        one.truncate_log()
    assert other.table("things").all() == [(b"1", b"a")]
