from __future__ import annotations

import json
import stat
import time

import msgspec
import pytest

from quietfleet.chain.consent import Consent
from quietfleet.chain.events import Enrolled, KeyRotated, OwnerChanged, Retired
from quietfleet.chain.new_key import KeyProof
from quietfleet.chain.types import Kind
from quietfleet.crypto import PrivateKey
from quietfleet.crypto.keystore import create_keystore, load_keystore
from quietfleet.errors import ProofInvalid
from quietfleet.session import Identity
from quietfleet.storage import AuditLog, Database

OWNER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
BUYER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
PREPARE = ("prepare-key", "-s", "worker.toml")
PREPARE_EPOCH = ("prepare-epoch", "-s", "worker.toml", "--version")


@pytest.fixture
def enrolled(worker, read):
    read(Enrolled(worker.public.id, OWNER, Kind.SENSOR, worker.public.to_bytes()))
    return worker


@pytest.fixture
def rotate(enrolled, read, tmp_path):
    """Puts a prepared key on chain, as its owner would."""

    def rotate(proof, sequence=2):
        key = bytes.fromhex(proof.public_key[2:])
        address = load_keystore(tmp_path / f"porch.{proof.epoch}.json", "correct horse").public.id
        read(KeyRotated(proof.worker, address, key, proof.epoch, sequence))

    return rotate


@pytest.fixture
def prepare(run):
    return lambda *words: KeyProof.from_json(run(*PREPARE, *words).stdout.encode())


def test_prepare_key__first_time__proof_is_what_the_contract_accepts(prepare, enrolled, deployment, tmp_path):
    proof = prepare("--valid", "60")
    assert (proof.worker, proof.owner, proof.epoch) == (enrolled.public.id, OWNER, 1)
    assert 0 < proof.deadline - time.time() <= 60
    proof.check(31337, deployment.service.address, proof.deadline, owner=OWNER, epoch=1)
    kept = load_keystore(tmp_path / "porch.1.json", "correct horse")
    assert proof.public_key == "0x" + kept.public.to_bytes().hex()
    assert kept.public != enrolled.public


def test_prepare_key__shown__everything_but_the_private_key(run, enrolled, tmp_path):
    result = run("--log-level", "debug", *PREPARE)
    kept = load_keystore(tmp_path / "porch.1.json", "correct horse")
    assert set(json.loads(result.stdout)) == {"worker", "owner", "epoch", "public_key", "deadline", "signature"}
    for secret in (kept, enrolled):
        assert secret.to_bytes().hex() not in result.output.lower()
    assert "correct horse" not in result.output


def test_prepare_key__stored__private_and_as_costly_to_guess_as_the_first(prepare, enrolled, tmp_path):
    prepare()
    path = tmp_path / "porch.1.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    work = [json.loads(file.read_text())["crypto"]["kdfparams"]["n"] for file in (path, tmp_path / "porch.json")]
    assert work == [1 << 12, 1 << 12]


def test_prepare_key__first_key_is_a_full_keystore__so_is_the_next(prepare, enrolled, tmp_path):
    (tmp_path / "porch.json").unlink()
    create_keystore(tmp_path / "porch.json", enrolled, "correct horse")
    prepare()
    assert json.loads((tmp_path / "porch.1.json").read_text())["crypto"]["kdfparams"]["n"] == 1 << 18


def test_prepare_key__again__same_key_with_a_fresh_deadline(prepare, enrolled, deployment):
    first, again = prepare("--valid", "60"), prepare("--valid", "6000")
    assert again.public_key == first.public_key
    assert again.deadline > first.deadline
    again.check(31337, deployment.service.address, again.deadline, owner=OWNER, epoch=1)


def test_prepare_key__again_for_another_owner__same_key_signed_for_that_one(prepare, enrolled, read, deployment):
    first = prepare()
    read(OwnerChanged(enrolled.public.id, OWNER, BUYER, 2))
    again = prepare()
    assert (again.public_key, again.owner) == (first.public_key, BUYER)
    with pytest.raises(ProofInvalid, match="belongs to"):
        first.check(31337, deployment.service.address, 0, owner=BUYER, epoch=1)


def test_prepare_key__the_one_before_is_on_chain__another_key_for_the_epoch_after(prepare, rotate, tmp_path):
    first = prepare()
    rotate(first)
    second = prepare()
    assert (second.worker, second.epoch) == (first.worker, 2)
    assert second.public_key != first.public_key
    assert sorted(path.name for path in tmp_path.glob("porch*")) == ["porch.1.json", "porch.2.json", "porch.json"]


def test_prepare_key__done__stands_in_the_journal(prepare, enrolled, tmp_path):
    proof = prepare()
    with Database(tmp_path / "state" / "worker.db") as database:
        entries = [entry.detail for entry in AuditLog(database).entries(kind="key-prepared")]
    assert entries == [{"epoch": 1, "deadline": proof.deadline}]


def test_prepare_key__worker_not_on_chain__refused_and_nothing_drawn(refused, worker, tmp_path):
    assert "have it enrolled" in refused(*PREPARE)
    assert not (tmp_path / "porch.1.json").exists()


def test_prepare_key__worker_retired__refused_and_nothing_drawn(refused, enrolled, read, tmp_path):
    read(Retired(enrolled.public.id, OWNER, 2))
    assert enrolled.public.id in refused(*PREPARE)
    assert not (tmp_path / "porch.1.json").exists()


def test_prepare_key__wrong_passphrase__nothing_drawn(refused, enrolled, tmp_path):
    assert "passphrase is wrong" in refused(*PREPARE, passphrase="x")
    assert not (tmp_path / "porch.1.json").exists()


def test_prepare_key__waiting_key_is_spoilt__named_and_kept(prepare, refused, enrolled, tmp_path):
    prepare()
    (tmp_path / "porch.1.json").write_text("{}")
    assert "porch.1.json" in refused(*PREPARE)
    assert (tmp_path / "porch.1.json").read_text() == "{}"


def test_prepare_epoch__after_the_key_was_replaced__card_of_the_same_worker_by_the_new_key(
    run, prepare, rotate, enrolled, tmp_path
):
    before = json.loads(run(*PREPARE_EPOCH, 1).stdout)
    rotate(prepare())
    after = json.loads(run(*PREPARE_EPOCH, 2).stdout)
    assert before["worker"] == after["worker"] == enrolled.public.id
    assert [json.loads(run(*PREPARE_EPOCH, version).stdout) for version in (1, 2)] == [before, after]


def test_prepare_epoch__new_key_is_on_chain_and_not_here__refused(run, refused, prepare, rotate, tmp_path):
    proof = prepare()
    rotate(proof)
    (tmp_path / "porch.1.json").rename(tmp_path / "elsewhere")
    assert "porch.1.json" in refused(*PREPARE_EPOCH, 1)
    (tmp_path / "elsewhere").rename(tmp_path / "porch.1.json")
    assert run(*PREPARE_EPOCH, 1).exit_code == 0


def test_prepare_epoch__another_key_in_the_file_than_on_chain__refused(refused, prepare, rotate, tmp_path):
    rotate(prepare())
    (tmp_path / "porch.1.json").unlink()
    create_keystore(tmp_path / "porch.1.json", PrivateKey.generate(), "correct horse", light=True)
    assert "porch.1.json" in refused(*PREPARE_EPOCH, 1)


# what an owner is handed


@pytest.fixture
def proof(deployment):
    key = PrivateKey.from_bytes(b"\7" * 32)
    return KeyProof.sign(key, 31337, deployment.service.address, worker=BUYER, owner=OWNER, epoch=3, deadline=100)


def check(proof, place, **change):
    at = {"chain_id": 31337, "contract": place.service.address, "now": 100, "owner": OWNER, "epoch": 3}
    proof.check(**(at | change))


def test_proof__for_this_very_rotation__accepted(proof, deployment):
    check(proof, deployment)
    check(KeyProof.from_json(proof.to_json()), deployment)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epoch": 4}, "the next one is 4"),  # the same proof again, once it was used
        ({"epoch": 2}, "the next one is 2"),
        ({"owner": BUYER}, "belongs to"),
        ({"now": 101}, "deadline"),
        ({"chain_id": 1}, "signed by"),
        ({"contract": BUYER}, "signed by"),
    ],
)
def test_proof__for_another_rotation__refused(proof, deployment, change, says):
    with pytest.raises(ProofInvalid, match=says):
        check(proof, deployment, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"worker": OWNER},
        {"deadline": 101},
        {"public_key": "0x" + Identity(PrivateKey.from_bytes(b"\1" * 32)).present.public.to_bytes().hex()},
        {"public_key": "0x"},
        {"signature": "0x" + "00" * 65},
        {"signature": "zz"},
        {"worker": "nobody"},
        {"deadline": -1},
    ],
)
def test_proof__altered_after_signing__refused(proof, deployment, change):
    with pytest.raises(ProofInvalid):
        check(msgspec.structs.replace(proof, **change), deployment, now=-2)


def test_proof__signed_as_something_else__refused(proof, deployment):
    key = PrivateKey.from_bytes(b"\7" * 32)
    consent = Consent.sign(
        key, 31337, deployment.service.address, owner=OWNER, kind=Kind.SENSOR, deadline=proof.deadline
    )
    signature = "0x" + (consent.signature + bytes([27]))[:65].hex()
    with pytest.raises(ProofInvalid):
        check(msgspec.structs.replace(proof, signature=signature), deployment)


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"worker": 1}'])
def test_proof__file_is_something_else__refused(text):
    with pytest.raises(ProofInvalid):
        KeyProof.from_json(text)
