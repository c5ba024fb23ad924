from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from quietfleet.crypto import PrivateKey, recover
from quietfleet.crypto.consent import consent_digest, rotate_key_digest, take_over_digest

CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
OWNER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
TERMS: dict[str, Any] = {
    "chain_id": 31337,
    "contract": CONTRACT,
    "owner": OWNER,
    "kind": 1,
    "deadline": 1_800_000_000,
}


def _typed(struct: str, fields: dict[str, str], chain_id: int, contract: str, *values: Any) -> Any:
    return encode_typed_data(
        {"name": "Quietfleet", "version": "1", "chainId": chain_id, "verifyingContract": contract},
        {struct: [{"name": name, "type": kind} for name, kind in fields.items()]},
        dict(zip(fields, values, strict=True)),
    )


ENROL = {"owner": "address", "kind": "uint8", "deadline": "uint256"}
ROTATE_KEY = {"worker": "address", "owner": "address", "epoch": "uint16", "deadline": "uint256"}
TAKE_OVER = {"worker": "address", "from": "address", "sequence": "uint32", "deadline": "uint256"}


@pytest.mark.parametrize("change", [{}, {"chain_id": 1}, {"kind": 5}, {"deadline": 2**256 - 1}, {"owner": CONTRACT}])
def test_consent_digest__any_terms__signs_as_eth_account_does(device: PrivateKey, change: dict[str, Any]) -> None:
    terms = TERMS | change
    signed = Account.sign_message(_typed("Enrol", ENROL, *terms.values()), device.to_bytes())
    assert recover(consent_digest(**terms), bytes(signed.signature)) == device.public


@pytest.mark.parametrize(
    ("digest", "struct", "fields"),
    [(rotate_key_digest, "RotateKey", ROTATE_KEY), (take_over_digest, "TakeOver", TAKE_OVER)],
)
def test_digest__other_actions__sign_as_eth_account_does(
    device: PrivateKey, digest: Any, struct: str, fields: dict[str, str]
) -> None:
    terms = (31337, CONTRACT, CONTRACT, OWNER, 7, 1_800_000_000)
    signed = Account.sign_message(_typed(struct, fields, *terms), device.to_bytes())
    assert recover(digest(*terms), bytes(signed.signature)) == device.public


@pytest.mark.parametrize(
    "change", [{"chain_id": 1}, {"contract": OWNER}, {"owner": CONTRACT}, {"kind": 2}, {"deadline": 1_800_000_001}]
)
def test_consent_digest__any_term_changed__differs(change: dict[str, Any]) -> None:
    assert consent_digest(**(TERMS | change)) != consent_digest(**TERMS)
