import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quietfleet.errors import AuditBroken
from quietfleet.storage import AuditHead, AuditLog, Database


@pytest.fixture
def database(tmp_path):
    with Database(tmp_path / "worker.db") as opened:
        yield opened


@pytest.fixture
def trail(database):
    log = AuditLog(database)
    for number in range(5):
        log.append("even" if number % 2 == 0 else "odd", {"number": number}, at=100.0 + number)
    return log


def tamper(database, statement):
    for trigger in ("audit_no_update", "audit_no_delete"):
        database.execute(f"DROP TRIGGER {trigger}")
    database.execute(statement)


def test_append__several__are_chained_in_order(trail):
    entries = list(trail.entries())
    assert [entry.sequence for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry.previous for entry in entries[1:]] == [entry.hash for entry in entries[:-1]]
    assert trail.verify() == 5


def test_append_all__many__are_the_entries_that_one_by_one_would_be(database, trail, tmp_path):
    details = [{"number": number} for number in range(4)]
    trail.append_all("many", details, at=200.0)
    with Database(tmp_path / "other.db") as other:
        single = AuditLog(other)
        for number in range(5):
            single.append("even" if number % 2 == 0 else "odd", {"number": number}, at=100.0 + number)
        for detail in details:
            single.append("many", detail, at=200.0)
        assert list(trail.entries()) == list(single.entries())
    assert trail.verify() == 9


def test_append_all__one_of_them_cannot_be_written__none_is(trail):
    with pytest.raises(ValueError, match="JSON"):
        trail.append_all("many", [{"number": 1}, {"number": float("nan")}], at=200.0)
    assert trail.verify() == 5


def test_entries__after_and_kind__are_chosen(trail):
    assert [entry.detail["number"] for entry in trail.entries(after=2)] == [2, 3, 4]
    assert [entry.detail["number"] for entry in trail.entries(kind="odd")] == [1, 3]
    assert [entry.detail["number"] for entry in trail.entries(after=2, kind="odd")] == [3]


@pytest.mark.parametrize(
    ("statement", "first_broken"),
    [
        ("""UPDATE audit SET detail = '{"number":9}' WHERE sequence = 3""", 3),
        ("UPDATE audit SET at = 0 WHERE sequence = 1", 1),
        ("UPDATE audit SET kind = 'odd' WHERE sequence = 5", 5),
        ("DELETE FROM audit WHERE sequence = 2", 3),
        ("DELETE FROM audit WHERE sequence = 1", 2),
        ("UPDATE audit SET hash = zeroblob(32) WHERE sequence = 4", 4),
        ("UPDATE audit SET previous = zeroblob(32) WHERE sequence = 4", 4),
    ],
)
def test_verify__entry_changed_or_gone__names_the_first_broken_link(database, trail, statement, first_broken):
    tamper(database, statement)
    with pytest.raises(AuditBroken, match=f"entry {first_broken}"):
        trail.verify()


def test_verify__end_cut_off__is_found_by_a_kept_head_only(database, trail):
    kept = trail.head()
    tamper(database, "DELETE FROM audit WHERE sequence > 3")
    assert trail.verify() == 3
    with pytest.raises(AuditBroken, match="entry 5"):
        trail.verify(kept)


def test_verify__grown_since_the_head_was_kept__holds(trail):
    kept = trail.head()
    trail.append("odd", {}, at=1.0)
    assert trail.verify(kept) == 6


def test_verify__empty_trail__holds(database):
    log = AuditLog(database)
    assert log.verify(log.head()) == 0
    assert log.head() == AuditHead(0, bytes(32))


@pytest.mark.parametrize("statement", ["UPDATE audit SET kind = 'x'", "DELETE FROM audit"])
def test_change__written_entry__is_refused_by_the_database(database, trail, statement):
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        database.execute(statement)


def append_and_fail(database, trail):
    with database.transaction():
        trail.append("odd", {}, at=1.0)
        raise RuntimeError


def test_append__surrounding_transaction_fails__writes_nothing(database, trail):
    head = trail.head()
    with pytest.raises(RuntimeError):
        append_and_fail(database, trail)
    assert trail.head() == head
    trail.append("odd", {}, at=1.0)
    assert trail.verify() == 6


def test_entries__observer__reads_and_verifies(database, trail):
    with Database.observe(database.path) as observer:
        assert AuditLog(observer, create=False).verify(trail.head()) == 5


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None)
@given(details=st.lists(st.dictionaries(st.text(), json_values, max_size=3), max_size=5))
def test_append__any_plain_detail__reads_back_and_verifies(tmp_path_factory, details):
    with Database(tmp_path_factory.mktemp("audit") / "worker.db") as database:
        log = AuditLog(database)
        for detail in details:
            log.append("kind", detail, at=1)
        assert [entry.detail for entry in log.entries()] == details
        assert log.verify() == len(details)
