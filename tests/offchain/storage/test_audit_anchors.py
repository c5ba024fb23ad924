"""Anchors of the audit log: what they bind the keeper to, and what an outsider can check without the log."""

import msgspec
import pytest

from quietfleet.errors import AuditBroken, ProofRefused
from quietfleet.storage import AuditAnchors, AuditLog, AuditProof, Database

KEEPER, OTHER = "0x" + "11" * 20, "0x" + "22" * 20
PLACE = {"chain_id": 31337, "contract": "0x" + "33" * 20}


@pytest.fixture
def database(tmp_path):
    with Database(tmp_path / "worker.db") as opened:
        yield opened


@pytest.fixture
def trail(database):
    log = AuditLog(database)
    write(log, 5)
    return log


@pytest.fixture
def anchors(database, trail):
    return AuditAnchors(database, trail)


@pytest.fixture
def anchored(anchors):
    """The log with its first five entries anchored in block 7."""
    anchors.anchored(anchors.next(KEEPER, 100.0, zeros), 7)
    anchors.name(zeros)
    return anchors


def zeros(size):
    return bytes(size)


def write(log, count):
    for number in range(count):
        log.append("noted", {"number": number, "share": 0.1}, at=100.5 + number)


def proof_of(anchors, sequence):
    return AuditProof.from_json(anchors.prove(sequence, **PLACE).to_json())


def test_next__killed_before_a_block_had_it__is_the_same_again(database, trail, anchors):
    drawn = anchors.next(KEEPER, 100.0, zeros)
    write(trail, 3)
    again = AuditAnchors(database, trail).next(KEEPER, 200.0, lambda size: b"\x01" * size)
    assert again == drawn
    assert (drawn.number, drawn.size) == (1, 5)


def test_next__after_a_block_had_it__covers_what_came_since(trail, anchored):
    write(trail, 3)
    drawn = anchored.next(KEEPER, 200.0, zeros)
    assert (drawn.number, drawn.size) == (2, 8)
    assert drawn.commitment != anchored.all()[0].commitment


def test_next__by_another_account__counts_from_one(anchored):
    assert anchored.next(OTHER, 200.0, zeros).number == 1


def test_next__nothing_new__shows_nothing_of_that(anchored):
    drawn = anchored.next(KEEPER, 200.0, lambda size: b"\x01" * size)
    assert drawn.size == 5
    assert drawn.commitment != anchored.all()[0].commitment


def test_verify__untouched__is_the_length(trail, anchored):
    write(trail, 3)
    assert anchored.verify() == 8


def test_verify__the_whole_log_written_anew__tells_which_anchor_it_breaks(database, trail, anchored):
    for trigger in ("audit_no_update", "audit_no_delete"):
        database.execute(f"DROP TRIGGER {trigger}")
    database.execute("DELETE FROM audit")
    write(trail, 4)
    trail.append("noted", {"number": 99}, at=1.0)
    assert trail.verify() == 5  # the chain of hashes is sound in itself
    with pytest.raises(AuditBroken, match="5 entries that was anchored as number 1"):
        anchored.verify()


def test_verify__cut_below_an_anchor__tells_which(database, trail, anchored):
    database.execute("DROP TRIGGER audit_no_delete")
    database.execute("DELETE FROM audit WHERE sequence > 3")
    assert trail.verify() == 3
    with pytest.raises(AuditBroken, match="anchored as number 1"):
        anchored.verify()


@pytest.mark.parametrize("sequence", range(1, 6))
def test_prove__every_entry__convinces_an_outsider(trail, anchored, sequence):
    write(trail, 2)
    proof = proof_of(anchored, sequence)
    proof.check()
    assert proof.detail["number"] == sequence - 1
    assert proof.commitment == anchored.all()[0].commitment.hex()


@pytest.mark.parametrize("sequence", [0, -1, 6])
def test_prove__what_no_anchor_covers__is_refused(trail, anchored, sequence):
    write(trail, 3)
    with pytest.raises(ProofRefused, match=f"no anchor covers entry {sequence}"):
        anchored.prove(sequence, **PLACE)


def test_prove__under_an_anchor_in_no_block__is_refused(anchors):
    anchors.name(zeros)
    anchors.next(KEEPER, 100.0, zeros)
    with pytest.raises(ProofRefused, match="no anchor"):
        anchors.prove(1, **PLACE)


@pytest.mark.parametrize(
    "lie",
    [
        {"detail": {"number": 9, "share": 0.1}},
        {"at": 1.0},
        {"kind": "other"},
        {"sequence": 2},
        {"size": 6},
        {"previous": "00" * 32},
        {"way": []},
        {"root": "00" * 32},
        {"salt": "ff" * 32},
        {"commitment": "00" * 32},
        {"root": "no hex"},
        {"number": 2, "way": ["zz"]},
    ],
)
def test_check__anything_changed__is_refused(anchored, lie):
    with pytest.raises(ProofRefused):
        msgspec.structs.replace(proof_of(anchored, 3), **lie).check()


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"chain_id": 1}', b"[" * 100_000])
def test_from_json__no_proof__is_refused(text):
    with pytest.raises(ProofRefused, match="not a proof"):
        AuditProof.from_json(text)
