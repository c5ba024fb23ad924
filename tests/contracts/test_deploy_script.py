from __future__ import annotations

import json

import pytest
from mirrors import FEE, ZERO

from quietfleet.errors import DeploymentExists, ParametersError


@pytest.fixture
def deploy(deployment_script, project, service_owner):
    return lambda **parameters: deployment_script.deploy(project, service_owner, parameters)


def test_deploy__with_a_fee_alone__gives_every_role_to_the_deployer(deploy, project, chain, service_owner):
    record = deploy(fee=FEE)
    service = project.Service.at(record["contracts"]["Service"]["address"])
    releases = project.ModelReleases.at(record["contracts"]["ModelReleases"]["address"])
    assert (service.owner(), service.fee(), service.rotator()) == (service_owner, FEE, ZERO)
    assert (releases.owner(), releases.publisher()) == (service_owner, service_owner)
    assert record["chain_id"] == chain.chain_id
    assert record["parameters"]["rotator"] == record["deployer"] == service_owner.address


def test_deploy__with_roles__names_them(deploy, project, rotator, publisher):
    record = deploy(fee=0, rotator=rotator.address, publisher=publisher.address.lower())
    assert project.Service.at(record["contracts"]["Service"]["address"]).rotator() == rotator
    assert project.ModelReleases.at(record["contracts"]["ModelReleases"]["address"]).publisher() == publisher


def test_deploy__any__records_transaction_and_block(deploy, networks):
    record = deploy(fee=FEE)
    for contract in record["contracts"].values():
        receipt = networks.provider.get_receipt(contract["tx"])
        assert (receipt.contract_address, receipt.block_number) == (contract["address"], contract["block"])
        assert {"type": "constructor"}.items() <= contract["abi"][0].items()


@pytest.mark.parametrize(
    ("parameters", "about"),
    [
        ({}, "fee: missing"),
        ({"fee": 1.5}, "fee: 1.5 is no uint256"),
        ({"fee": -1}, "fee: -1 is no uint256"),
        ({"fee": 1, "fees": 2}, "fees means nothing here"),
        ({"fee": 1, "publisher": "bob"}, "publisher: 'bob' is no address"),
        ({"fee": 1, "owner": "0x" + "aa" * 20, "rotator": "0x" + "bb" * 20}, "only the owner can name one"),
    ],
)
def test_deploy__with_a_mistake__says_so_and_sends_nothing(parameters, about, deploy, service_owner):
    before = service_owner.nonce
    with pytest.raises(ParametersError, match=about):
        deploy(**parameters)
    assert service_owner.nonce == before


@pytest.mark.parametrize("text", ["nonsense", "[1", ""])
def test_load_parameters__no_mapping__says_so(text, deployment_script, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParametersError):
        deployment_script.load_parameters(path)


def test_write__then_deploy_again__is_refused(deployment_script, tmp_path):
    deployment_script.refuse_to_replace(tmp_path, 7)
    path = deployment_script.write(tmp_path, {"chain_id": 7})
    assert json.loads(path.read_text()) == {"chain_id": 7}
    with pytest.raises(DeploymentExists):
        deployment_script.refuse_to_replace(tmp_path, 7)
