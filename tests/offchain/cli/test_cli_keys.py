from __future__ import annotations

import json
import stat

import pytest

from quietfleet.chain.consent import Consent
from quietfleet.chain.types import Kind
from quietfleet.crypto.keystore import load_keystore
from quietfleet.errors import ConsentInvalid

OWNER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
CONSENT = ("consent", "porch.json", "--deployment", "31337.json", "--kind", "sensor")


def test_keygen__new_file__private_and_prints_the_id_it_holds(run, tmp_path):
    result = run("keygen", "porch.json", "--light")
    assert result.exit_code == 0
    path = tmp_path / "porch.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_keystore(path, "correct horse").public.id == result.stdout.strip()


def test_keygen__without_light__key_costs_as_much_to_guess_as_an_ethereum_account(run, tmp_path):
    run("keygen", "porch.json")
    assert json.loads((tmp_path / "porch.json").read_text())["crypto"]["kdfparams"]["n"] == 1 << 18


def test_keygen__file_is_there__kept_as_it_is(refused, device, tmp_path):
    before = (tmp_path / "porch.json").read_bytes()
    assert "never overwritten" in refused("keygen", "porch.json", "--light")
    assert (tmp_path / "porch.json").read_bytes() == before


@pytest.mark.parametrize("passphrase", [None, ""])
def test_keygen__no_passphrase__says_which_variables_and_writes_nothing(refused, tmp_path, passphrase):
    said = refused("keygen", "porch.json", "--light", passphrase=passphrase)
    assert "QUIETFLEET_PASSPHRASE_FILE" in said
    assert list(tmp_path.iterdir()) == []


def test_keygen__folder_is_missing__says_so(refused):
    assert "No such file" in refused("keygen", "nowhere/porch.json", "--light")


def test_consent__signed__is_what_the_contract_accepts(run, device, deployment):
    result = run(*CONSENT, "--owner", OWNER, "--valid", "60")
    signed = Consent.from_json(result.stdout.encode())
    signed.check(31337, deployment.service.address, signed.deadline)
    assert signed.id == device.public.id
    assert (signed.owner, signed.kind) == (OWNER, Kind.SENSOR)
    for chain, contract, now in [
        (1, deployment.service.address, 0),
        (31337, "0x" + "33" * 20, 0),
        (31337, deployment.service.address, signed.deadline + 1),
    ]:
        with pytest.raises(ConsentInvalid):
            signed.check(chain, contract, now)


def test_consent__owner_in_small_letters__same_owner(run, device, deployment):
    result = run(*CONSENT, "--owner", OWNER.lower())
    assert Consent.from_json(result.stdout.encode()).owner == OWNER


@pytest.mark.parametrize(
    ("owner", "says"),
    [("bob", "no address"), (OWNER[:-1], "no address"), (OWNER[2:], "no address"), (OWNER[:-3] + "d66", "mistake")],
)
def test_consent__owner_mistyped__refused_before_anything_is_signed(run, device, deployment, owner, says):
    result = run(*CONSENT, "--owner", owner)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


@pytest.mark.parametrize("kind", ["toaster", "1"])
def test_consent__unknown_kind__names_the_known_ones(run, device, deployment, kind):
    result = run("consent", "porch.json", "--deployment", "31337.json", "--owner", OWNER, "--kind", kind)
    assert result.exit_code == 2
    assert "processor" in result.stderr


def test_consent__wrong_passphrase__says_so(refused, device, deployment):
    assert "passphrase is wrong" in refused(*CONSENT, "--owner", OWNER, passphrase="incorrect horse")


def test_consent__no_deployment__says_so(refused, device):
    assert "deploy again or name the right file" in refused(*CONSENT, "--owner", OWNER)


def test_consent__keystore_readable_by_others__refused(refused, device, deployment, tmp_path):
    (tmp_path / "porch.json").chmod(0o644)
    assert "chmod 600" in refused(*CONSENT, "--owner", OWNER)


def test_consent__keystore_is_something_else__says_so(refused, deployment, tmp_path):
    (tmp_path / "porch.json").write_text("{}")
    (tmp_path / "porch.json").chmod(0o600)
    assert "not an Ethereum key file" in refused(*CONSENT, "--owner", OWNER)
