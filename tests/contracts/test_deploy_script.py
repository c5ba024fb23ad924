from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from eth_utils import to_checksum_address
from mirrors import FEE, FEE_CAP, ZERO
from own_scripts import _common, _founding, _migration, _parameters, _record, _verification

from quietfleet.console import Outbox, Signers
from quietfleet.errors import DeploymentExists, MigrationError, NoSigner, ParametersError, StaleBuild

SOMEBODY, SOMEBODY_ELSE = "0x" + "aa" * 20, "0x" + "bb" * 20
RELAY = f"enode://{64 * 'ab'}@relay.example:30303"
CHANNEL, MANIFEST = "0x" + "11" * 32, "0x" + "22" * 32
COMPILER = Path(__file__).parents[2] / "tools" / "solc"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where records go instead of the project's own folder."""
    for module in (_common, _founding):
        monkeypatch.setattr(module, "deployments", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def outbox(service_owner):
    return Outbox(Signers(lambda: [service_owner]))


@pytest.fixture
def deploy(project, service_owner, outbox):
    def found(**parameters):
        filled = _parameters.filled(project, {"fee": FEE, "fee_cap": FEE_CAP} | parameters, service_owner.address)
        return _founding.found(project, service_owner, filled, outbox)

    return found


@pytest.fixture
def fill(project, service_owner):
    return lambda **parameters: _parameters.filled(project, parameters, service_owner.address)


@pytest.fixture
def rehearsal(service_owner):
    return Outbox(Signers(lambda: [service_owner]), rehearse=True)


def read(path):
    return json.loads(path.read_text())


def functions(outbox):
    return [call.function for call in outbox.calls]


def test_deploy__with_fees_alone__gives_every_role_to_the_deployer(deploy, folder, chain, service_owner):
    desk = deploy()
    service, releases, record = desk.service.facts(), desk.releases.facts(), read(folder / f"{chain.chain_id}.json")
    assert (service["owner"], service["fee"], service["fee_cap"], service["rotator"]) == (
        service_owner,
        FEE,
        FEE_CAP,
        ZERO,
    )
    assert (releases["owner"], releases["approver"], releases["publishers"]) == (service_owner, service_owner, {})
    assert releases["service"] == service["address"] == record["contracts"]["Service"]["address"]
    assert record["parameters"]["approver"] == record["deployer"] == service_owner.address


def test_deploy__with_roles__names_them(deploy, outbox, rotator, approver, publisher):
    desk = deploy(rotator=rotator.address, approver=approver.address, publisher=publisher.address, gateway=SOMEBODY)
    assert (desk.service.facts()["rotator"], desk.releases.facts()["approver"]) == (rotator, approver)
    assert desk.releases.publishers() == {publisher.address: to_checksum_address(SOMEBODY)}
    assert functions(outbox) == ["Service", "ModelReleases", "AuditAnchor", "setRotator", "setPublisher"]


def test_deploy__with_relays__names_them(deploy, outbox, folder, chain):
    desk = deploy(bootstrap=[RELAY])
    assert desk.service.facts()["bootstrap"] == [RELAY]
    assert functions(outbox) == ["Service", "ModelReleases", "AuditAnchor", "setBootstrap"]
    assert read(folder / f"{chain.chain_id}.json")["parameters"]["bootstrap"] == [RELAY]


def test_deploy__any__records_transaction_and_block(deploy, folder, chain, networks):
    deploy()
    for contract in read(folder / f"{chain.chain_id}.json")["contracts"].values():
        receipt = networks.provider.get_receipt(contract["tx"])
        assert (receipt.contract_address, receipt.block_number) == (contract["address"], contract["block"])
        assert {"function", "event", "error"} <= {entry["type"] for entry in contract["abi"]}


@pytest.mark.parametrize(
    ("parameters", "about"),
    [
        ({"fee_cap": 1}, "fee: missing"),
        ({"fee": 1}, "fee_cap: missing"),
        ({"fee": 1.5, "fee_cap": 2}, "fee: 1.5 is no uint96"),
        ({"fee": -1, "fee_cap": 2}, "fee: -1 is no uint96"),
        ({"fee": 1, "fee_cap": 2**96}, "is no uint96"),
        ({"fee": 3, "fee_cap": 2}, "fee: 3 is above the fee_cap of 2"),
        ({"fee": 1, "fee_cap": 2, "fees": 2}, "fees means nothing here"),
        ({"fee": 1, "fee_cap": 2, "approver": "bob"}, "approver: 'bob' is no address"),
        ({"fee": 1, "fee_cap": 2, "owner": ZERO}, "owner: somebody must be"),
        ({"fee": 1, "fee_cap": 2, "bootstrap": RELAY}, "a list of 1 to 16"),
        ({"fee": 1, "fee_cap": 2, "bootstrap": []}, "a list of 1 to 16"),
        ({"fee": 1, "fee_cap": 2, "bootstrap": 17 * [RELAY]}, "a list of 1 to 16"),
        ({"fee": 1, "fee_cap": 2, "bootstrap": ["relay:30303"]}, "bootstrap: .*relay:30303"),
        ({"fee": 1, "fee_cap": 2, "owner": SOMEBODY, "bootstrap": [RELAY]}, "only the owner names them"),
        ({"fee": 1, "fee_cap": 2, "publisher": SOMEBODY}, "name both or neither"),
        ({"fee": 1, "fee_cap": 2, "owner": SOMEBODY, "rotator": SOMEBODY_ELSE}, "only the owner names them"),
        (
            {"fee": 1, "fee_cap": 2, "owner": SOMEBODY, "publisher": SOMEBODY, "gateway": SOMEBODY},
            "only the owner names them",
        ),
    ],
)
def test_parameters__with_a_mistake__are_refused(parameters, about, fill):
    with pytest.raises(ParametersError, match=about):
        fill(**parameters)


def test_parameters__another_owner_without_other_roles__are_taken(fill):
    filled = fill(fee=0, fee_cap=0, owner=SOMEBODY)
    assert filled["owner"] == filled["rotator"] == filled["approver"]
    assert filled["owner"].lower() == SOMEBODY


@pytest.mark.parametrize("text", ["nonsense", "[1", ""])
def test_load__no_mapping__says_so(text, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParametersError):
        _parameters.load(path)


def test_load__the_default_file__is_complete(fill):
    default = _parameters.load(Path(__file__).parents[2] / "scripts" / "params" / "default.yaml")
    assert fill(**default).keys() >= {"owner", "rotator", "approver", "fee", "fee_cap"}


def test_rehearse__any__estimates_and_sends_nothing(project, fill, rehearsal, service_owner, rotator):
    before = service_owner.nonce
    roles = {"rotator": rotator.address, "publisher": SOMEBODY, "gateway": SOMEBODY}
    filled = fill(fee=FEE, fee_cap=FEE_CAP, bootstrap=[RELAY], **roles)
    service, releases = _founding.rehearse(project, service_owner, filled, rehearsal)
    assert service_owner.nonce == before
    deployed, named = ["Service", "ModelReleases", "AuditAnchor"], ["setRotator", "setBootstrap", "setPublisher"]
    assert functions(rehearsal) == deployed + named
    places = [call.contract for call in rehearsal.calls]
    assert places[:2] + places[3:] == [service, releases, service, service, releases]
    assert [call.gas is None for call in rehearsal.calls] == [False] * 3 + [True] * 3
    assert rehearsal.calls[1].arguments["service_"] == service


def test_rehearse__then_deploy__the_contracts_stand_there(project, fill, rehearsal, service_owner, deploy):
    service, releases = _founding.rehearse(project, service_owner, fill(fee=FEE, fee_cap=FEE_CAP), rehearsal)
    desk = deploy()
    assert (desk.service.facts()["address"], desk.releases.facts()["address"]) == (service, releases)


def test_record__a_second_deployment__is_refused_unless_archived(tmp_path):
    _record.require_free(tmp_path, 7)
    assert _record.archive(tmp_path, 7) is None
    _record.write(tmp_path, {"chain_id": 7, "pair": "first"})
    with pytest.raises(DeploymentExists):
        _record.require_free(tmp_path, 7)
    with pytest.raises(DeploymentExists):
        _record.write(tmp_path, {"chain_id": 7, "pair": "second"})
    assert read(tmp_path / "7.json")["pair"] == "first"


def test_record__archived__is_kept_under_the_next_number_with_its_verification(tmp_path):
    for pair in ("first", "second", "third"):
        _record.archive(tmp_path, 7)
        (_record.verification(_record.write(tmp_path, {"chain_id": 7, "pair": pair})) / pair).mkdir(parents=True)
    kept = {path.name: read(path)["pair"] for path in tmp_path.glob("*.json")}
    assert kept == {"7.1.json": "first", "7.2.json": "second", "7.json": "third"}
    assert (tmp_path / "7.1.verify" / "first").exists()
    assert (tmp_path / "7.2.verify" / "second").exists()


@pytest.fixture(scope="session")
def prepared(project):
    return _verification.prepare(project)


@pytest.mark.parametrize("name", ["Service", "ModelReleases", "AuditAnchor"])
def test_verification__recompiled_by_anyone__gives_the_deployed_bytecode(
    name, project, prepared, deploy, folder, chain, networks
):
    deploy()
    record = read(folder / f"{chain.chain_id}.json")
    _verification.write(folder / "verify", project, record, prepared)
    facts, job = read(folder / "verify" / f"{name}.json"), (folder / "verify" / f"{name}.input.json").read_text()
    source, contract = facts["contract"].split(":")
    done = subprocess.run(
        [COMPILER, "--standard-json"], input=job, cwd=folder, capture_output=True, text=True, check=True
    )
    bytecode = json.loads(done.stdout)["contracts"][source][contract]["evm"]["bytecode"]["object"]
    sent = networks.provider.get_receipt(record["contracts"][name]["tx"]).data.hex().removeprefix("0x")
    assert sent == bytecode + facts["constructor_arguments"].removeprefix("0x")
    assert facts["compiler"].startswith("v0.8.30+commit.")


def test_verification__sources_newer_than_the_build__sends_nothing(project, prepared, monkeypatch):
    changed = prepared["Service"] | {"bytecode": "00"}
    monkeypatch.setattr(_verification, "_kept", lambda *_: changed)
    with pytest.raises(StaleBuild, match="Service"):
        _verification.prepare(project)


@pytest.fixture
def old(deploy, publisher, rotator, approver):
    """A service that has a history."""
    desk = deploy(rotator=rotator.address, approver=approver.address, publisher=publisher.address, gateway=SOMEBODY)
    desk.releases.revoke(CHANNEL, MANIFEST)
    desk.service.set_pow_bounds(0.5, 2)
    desk.service.set_bootstrap(RELAY)
    desk.outbox.calls.clear()
    return desk


@pytest.fixture
def move(project, service_owner, old, fill):
    def run(*, resumed=False, **changes):
        parameters = fill(**_migration.parameters_of(old) | changes)
        _migration.migrate(project, service_owner, old, parameters, resumed=resumed)
        return _common.connected(old.outbox)

    return run


MOVE = [
    "setPaused",
    "Service",
    "ModelReleases",
    "AuditAnchor",
    "setRotator",
    "revoke",
    "setPublisher",
    "setPowBounds",
    "setBootstrap",
    "nameSuccessor",
]


def test_migrate__a_service__deploys_its_like_and_points_there(move, old, folder, chain):
    new = move(fee=2 * FEE)
    before, after = old.service.facts(), new.service.facts()
    assert functions(old.outbox) == MOVE
    assert before["successor"] == after["address"] != before["address"]
    assert (before["enrolments_paused"], after["enrolments_paused"]) == (True, False)
    kept = ("owner", "rotator", "fee_cap", "pow_bounds", "bootstrap")
    assert [after[name] for name in kept] == [before[name] for name in kept]
    assert after["fee"] == 2 * FEE
    assert new.releases.is_revoked(CHANNEL, MANIFEST)
    assert new.releases.publishers() == old.releases.publishers()
    archived = read(folder / f"{chain.chain_id}.1.json")["contracts"]["Service"]["address"]
    assert archived == before["address"]


def test_migrate__interrupted_and_resumed__does_what_is_left(move, old, monkeypatch):
    carry = _migration._carry_over
    monkeypatch.setattr(_migration, "_carry_over", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        move()
    monkeypatch.setattr(_migration, "_carry_over", carry)
    old.outbox.calls.clear()
    move(resumed=True)
    assert functions(old.outbox) == MOVE[5:]
    old.outbox.calls.clear()
    move(resumed=True)
    assert functions(old.outbox) == []


def test_migrate__resumed_from_the_newest__is_refused(move, old):
    with pytest.raises(MigrationError, match="the one before"):
        move(resumed=True)
    assert functions(old.outbox) == []


def test_migrate__to_another_owner__is_refused_before_anything_is_sent(move, old):
    with pytest.raises(ParametersError, match="only the owner"):
        move(owner=SOMEBODY)
    with pytest.raises(MigrationError, match="offer both contracts"):
        move(owner=SOMEBODY, rotator=SOMEBODY)
    assert functions(old.outbox) == []


def test_require_owner__somebody_else__is_named(old, service_owner, stranger):
    _migration.require_owner(old, service_owner.address)
    with pytest.raises(MigrationError, match=service_owner.address):
        _migration.require_owner(old, stranger.address)


def test_migrate__rehearsed__lists_the_same_calls_and_sends_nothing(
    project, old, fill, rehearsal, service_owner, folder, chain
):
    before = service_owner.nonce
    desk = _common.connected(rehearsal, folder / f"{chain.chain_id}.json")
    _migration.rehearse(project, service_owner, desk, fill(**_migration.parameters_of(desk)))
    assert service_owner.nonce == before
    assert functions(rehearsal) == [step for step in MOVE if step not in ("setPowBounds", "setBootstrap")]


def test_deploy__signer_is_not_the_owner_of_what_follows__says_so(project, fill, service_owner, stranger, rotator):
    filled = fill(fee=FEE, fee_cap=FEE_CAP, rotator=rotator.address)
    with pytest.raises(NoSigner, match=service_owner.address):
        _founding.found(project, service_owner, filled, Outbox(Signers(lambda: [stranger])))
