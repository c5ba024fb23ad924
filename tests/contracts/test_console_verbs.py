from __future__ import annotations

import json

import pytest
from mirrors import FAR, FEE, ZERO, Device, Flag, Kind

from quietfleet.chain.consent import Consent
from quietfleet.chain.types import Kind as OffchainKind
from quietfleet.console import AddressBook, Epoch, Fleet, ServiceVerbs, Signers, open_fleet
from quietfleet.errors import BookError, ConsentInvalid, DeploymentError, EpochError, NoSigner, UnknownWorkerName

EPOCH = {
    "version": 1,
    "oracle": "0x" + "0a" * 20,
    "gateway": ZERO,
    "epoch_key_commitment": "0x" + "01" * 32,
    "oracle_card_digest": "0x" + "02" * 32,
    "gateway_card_digest": "0x" + "00" * 32,
}


@pytest.fixture
def book(tmp_path):
    return AddressBook(tmp_path / "book.json")


@pytest.fixture
def fleet_of(service, book):
    """The fleet as somebody with these accounts sees it."""
    return lambda *accounts: Fleet(service, Signers(lambda: accounts), book, 0)


@pytest.fixture
def verbs(service, book, service_owner):
    return ServiceVerbs(service, Signers(lambda: [service_owner]), book)


@pytest.fixture
def consent_of(service, device_owner):
    def sign(device, deadline=FAR):
        signature = device.consent(service, device_owner, Kind.SENSOR, deadline)
        point = b"".join(device.point)
        return Consent(point, OffchainKind.SENSOR, device_owner.address, deadline, signature)

    return sign


@pytest.fixture
def retired_worker(service, enrol_worker, device_owner):
    worker = enrol_worker()
    service.retire(worker, sender=device_owner)
    return worker


def flags(service, *ids):
    return [Flag(service.worker(id_).flags) for id_ in ids]


def test_enrol__with_a_consent__pays_the_fee_and_remembers_the_name(fleet_of, service, consent_of, device_owner, book):
    new = Device.numbered(50)
    view = fleet_of(device_owner).enrol(consent_of(new), "porch")
    assert "porch" in str(view)
    assert (service.worker(new.id).owner, service.balance, book.id_of("porch")) == (device_owner, FEE, new.id)


def test_enrol__with_an_expired_consent__sends_nothing(fleet_of, consent_of, device, device_owner):
    before = device_owner.nonce
    with pytest.raises(ConsentInvalid):
        fleet_of(device_owner).enrol(consent_of(device(), deadline=1))
    assert device_owner.nonce == before


def test_disable__workers_of_two_owners__signs_for_each(fleet_of, service, enrol_worker, device_owner, other_owner):
    ids = [enrol_worker(), enrol_worker(), enrol_worker(owner=other_owner)]
    fleet = fleet_of(device_owner, other_owner)
    fleet.disable(*ids)
    assert flags(service, *ids) == [Flag(0)] * 3
    fleet.enable(*ids[1:])
    assert flags(service, *ids) == [Flag(0), Flag.ACTIVE, Flag.ACTIVE]


def test_disable__one_is_not_ours__switches_none(fleet_of, service, enrol_worker, device_owner, other_owner):
    ids = [enrol_worker(), enrol_worker(owner=other_owner)]
    with pytest.raises(NoSigner, match=other_owner.address):
        fleet_of(device_owner).disable(*ids)
    assert flags(service, *ids) == [Flag.ACTIVE] * 2


def test_disable__already_off__sends_nothing(fleet_of, enrol_worker, device_owner):
    worker, fleet = enrol_worker(), fleet_of(device_owner)
    fleet.disable(worker)
    before = device_owner.nonce
    fleet.disable(worker)
    assert device_owner.nonce == before


@pytest.mark.parametrize("name", ["nobody", "0x" + "77" * 20])
def test_disable__unknown__says_so(name, fleet_of, device_owner):
    with pytest.raises(UnknownWorkerName, match=name):
        fleet_of(device_owner).disable(name)


def test_status__switched_and_named__shows_it(fleet_of, enrol_worker, device_owner, book):
    on, off = enrol_worker(Kind.GATEWAY), enrol_worker()
    book.add("porch", off)
    fleet = fleet_of(device_owner)
    fleet.disable("porch")
    rows = [(row.id, row.name, row.kind, row.active) for row in fleet.rows()]
    assert rows == [(on, "", "gateway", True), (off, "porch", "sensor", False)]
    assert all(part in str(fleet.status()) for part in (on, off, "porch", device_owner.address))


def test_status__suspended_pending_and_retired__shows_it(fleet_of, verbs, enrol_worker, pending_worker, retired_worker):
    suspended = enrol_worker()
    verbs.suspend(suspended)
    rows = {row.id: (row.active, row.suspended, row.pending, row.retired) for row in fleet_of().rows()}
    assert rows[suspended] == (True, True, False, False)
    assert rows[pending_worker] == (False, False, True, False)
    assert rows[retired_worker] == (False, False, False, True)


def test_rotate__the_next_epoch__sets_it(verbs, service):
    verbs.rotate(Epoch(**EPOCH), lead=100, grace=5, min_pow=0.5)
    latest, _ = service.configuration()
    assert (latest[0], latest[2], latest[3]) == (1, 5, 500_000_000)


def test_rotate__from_a_file__reads_it(verbs, service, tmp_path):
    path = tmp_path / "epoch.json"
    path.write_text(json.dumps(EPOCH))
    verbs.rotate(path)
    assert service.configuration()[0][0] == 1


@pytest.mark.parametrize("version", [0, 2])
def test_rotate__not_the_next_epoch__is_refused(version, verbs):
    with pytest.raises(EpochError, match="the chain is at 0"):
        verbs.rotate(Epoch(**EPOCH | {"version": version}))


def test_rotate__from_a_broken_file__says_so(verbs, tmp_path):
    path = tmp_path / "epoch.json"
    path.write_text("{}")
    with pytest.raises(EpochError, match=r"epoch\.json"):
        verbs.rotate(path)


def test_suspend_and_resume__a_worker__sets_its_flag(verbs, service, enrol_worker):
    worker = enrol_worker()
    verbs.suspend(worker)
    assert flags(service, worker) == [Flag.ACTIVE | Flag.SUSPENDED]
    verbs.resume(worker)
    assert flags(service, worker) == [Flag.ACTIVE]


def test_withdraw__without_address__pays_the_owner(verbs, service, enrol_worker):
    enrol_worker()
    verbs.withdraw()
    assert service.balance == 0


def test_book__broken__says_so(tmp_path):
    path = tmp_path / "book.json"
    path.write_text("[]")
    with pytest.raises(BookError):
        AddressBook(path)


def test_open_fleet__without_deployment__says_so(tmp_path, chain):
    with pytest.raises(DeploymentError):
        open_fleet(tmp_path, chain, list)


def test_open_fleet__from_a_deployment_file__speaks_to_it(deployment_script, project, chain, tmp_path, service_owner):
    deployment_script.write(tmp_path, deployment_script.deploy(project, service_owner, {"fee": FEE}))
    fleet, service = open_fleet(tmp_path, chain, lambda: [service_owner])
    assert (fleet.rows(), service.facts()["fee"]) == ([], FEE)
