from __future__ import annotations

from collections.abc import Callable

import pytest

from quietfleet.crypto import PrivateKey, keccak256, recover
from quietfleet.crypto.eip712 import compact, ethereum_signature, typed_digest, word
from quietfleet.errors import CryptoError

CONTRACT = "0x" + "5f" * 20


@pytest.mark.parametrize("number", range(8))
def test_compact__signature_of_either_parity__holds_r_s_and_the_parity(device: PrivateKey, number: int) -> None:
    signature = device.sign(keccak256(b"%d" % number))
    short = compact(signature)
    assert (len(short), short[:32]) == (64, signature[:32])
    vs = int.from_bytes(short[32:], "big")
    assert (vs % 2**255, vs >> 255) == (int.from_bytes(signature[32:64], "big"), signature[64])
    assert compact(ethereum_signature(signature)) == short


@pytest.mark.parametrize("number", range(8))
def test_ethereum_signature__of_either_parity__v_is_27_or_28(device: PrivateKey, number: int) -> None:
    digest = keccak256(b"%d" % number)
    signature = device.sign(digest)
    written = ethereum_signature(signature)
    assert written == signature[:64] + bytes([27 + signature[64]])
    assert ethereum_signature(written) == written
    assert recover(digest, written) == device.public


def test_sign__in_the_tests_above__gives_both_parities(device: PrivateKey) -> None:
    assert {device.sign(keccak256(b"%d" % number))[64] for number in range(8)} == {0, 1}


@pytest.mark.parametrize("write", [compact, ethereum_signature])
def test_compact__not_a_signature__raises(write: Callable[[bytes], bytes]) -> None:
    with pytest.raises(CryptoError):
        write(bytes(64))


def test_word__numbers_addresses_and_words__take_32_bytes() -> None:
    assert word(1) == bytes(31) + b"\x01"
    assert word(CONTRACT) == bytes(12) + b"\x5f" * 20
    assert word(b"\x02" * 32) == b"\x02" * 32
    with pytest.raises(CryptoError):
        word(b"\x02" * 31)


def test_typed_digest__another_chain_contract_type_or_value__differs() -> None:
    terms = (1, CONTRACT, "A(uint256 x,bytes32 y)", 3, bytes(32))
    others = [(2, *terms[1:]), (1, "0x" + "60" * 20, *terms[2:]), (1, CONTRACT, "B(uint256 x,bytes32 y)", *terms[3:])]
    others += [(*terms[:3], 4, bytes(32)), (*terms[:3], 3, b"\x01" * 32)]
    assert len({typed_digest(*one) for one in [terms, *others]}) == 6
