from __future__ import annotations

import pytest
from coincurve.utils import GROUP_ORDER_INT
from eth_keys import keys as eth_keys
from eth_utils import to_checksum_address
from hypothesis import given, settings
from hypothesis import strategies as st

from quietfleet.crypto import PrivateKey, PublicKey, keccak256, recover
from quietfleet.errors import CryptoError

DIGEST = keccak256(b"message")
SECRETS = st.integers(1, GROUP_ORDER_INT - 1).map(lambda number: number.to_bytes(32, "big"))


def _flip_s(signature: bytes) -> bytes:
    high = GROUP_ORDER_INT - int.from_bytes(signature[32:64], "big")
    return signature[:32] + high.to_bytes(32, "big") + bytes((signature[64] ^ 1,))


@settings(max_examples=25)
@given(SECRETS)
def test_public__any_secret__matches_an_independent_implementation(secret: bytes) -> None:
    public = PrivateKey.from_bytes(secret).public
    expected = eth_keys.PrivateKey(secret).public_key
    assert public.to_bytes() == expected.to_bytes()
    assert public.address == expected.to_canonical_address()
    assert public.id == to_checksum_address(expected.to_canonical_address())


@pytest.mark.parametrize("secret", [b"\x00" * 32, b"\xff" * 32, GROUP_ORDER_INT.to_bytes(32, "big"), b"\x01" * 31])
def test_private_key__not_in_the_group__is_refused(secret: bytes) -> None:
    with pytest.raises(CryptoError):
        PrivateKey.from_bytes(secret)


def test_private_key__refused__error_does_not_show_it() -> None:
    with pytest.raises(CryptoError) as caught:
        PrivateKey.from_bytes(b"\xff" * 32)
    assert caught.value.__cause__ is None
    assert "ff" * 4 not in str(caught.value)


@pytest.mark.parametrize("raw", [b"", b"\x01" * 63, b"\x04" + b"\x01" * 64, b"\x01" * 64, b"\x00" * 64])
def test_public_key__not_on_the_curve__is_refused(raw: bytes) -> None:
    with pytest.raises(CryptoError):
        PublicKey.from_bytes(raw)


def test_public_key__same_bytes__equal_and_same_hash(device: PrivateKey, stranger: PrivateKey) -> None:
    again = PublicKey.from_bytes(device.public.to_bytes())
    assert {device.public, again} == {again}
    assert device.public != stranger.public
    assert device.public != device.public.to_bytes()


def test_generate__given_randomness__uses_it() -> None:
    assert PrivateKey.generate(lambda size: b"\x05" * size).to_bytes() == b"\x05" * 32


def test_generate__first_draw_outside_the_group__draws_again() -> None:
    draws = iter([b"\xff" * 32, b"\x05" * 32])
    assert PrivateKey.generate(lambda _: next(draws)).to_bytes() == b"\x05" * 32


def test_generate__broken_randomness__stops_with_an_error() -> None:
    with pytest.raises(CryptoError):
        PrivateKey.generate(lambda size: b"\x00" * size)


def test_repr__private_key__shows_the_id_and_no_secret(device: PrivateKey) -> None:
    assert device.public.id in repr(device)
    assert device.to_bytes().hex() not in repr(device)
    assert str(device.to_bytes()) not in repr(device)


@settings(max_examples=25)
@given(SECRETS, st.binary(min_size=32, max_size=32))
def test_sign__any_key_and_digest__is_rfc6979_with_low_s_and_v_0_or_1(secret: bytes, digest: bytes) -> None:
    signature = PrivateKey.from_bytes(secret).sign(digest)
    assert signature == eth_keys.PrivateKey(secret).sign_msg_hash(digest).to_bytes()
    assert int.from_bytes(signature[32:64], "big") <= GROUP_ORDER_INT // 2
    assert signature[64] in (0, 1)


def test_sign__digest_of_wrong_size__is_refused(device: PrivateKey) -> None:
    with pytest.raises(CryptoError):
        device.sign(b"short")


@pytest.mark.parametrize("offset", [0, 27])
def test_recover__either_form_of_v__gives_the_signer(device: PrivateKey, offset: int) -> None:
    signature = device.sign(DIGEST)
    assert recover(DIGEST, signature[:64] + bytes((signature[64] + offset,))) == device.public


def test_recover__another_digest__gives_another_key(device: PrivateKey) -> None:
    assert recover(keccak256(b"other"), device.sign(DIGEST)) != device.public


def test_recover__high_s__is_refused(device: PrivateKey) -> None:
    with pytest.raises(CryptoError, match="half the group's order"):
        recover(DIGEST, _flip_s(device.sign(DIGEST)))


@pytest.mark.parametrize("v", [2, 3, 26, 29, 255])
def test_recover__impossible_v__is_refused(device: PrivateKey, v: int) -> None:
    with pytest.raises(CryptoError):
        recover(DIGEST, device.sign(DIGEST)[:64] + bytes((v,)))


@pytest.mark.parametrize(
    "signature",
    [b"", b"\x00" * 64, b"\x00" * 65, b"\xff" * 32 + b"\x01" * 32 + b"\x00", b"\x01" * 32 + b"\x00" * 33],
)
def test_recover__malformed__is_refused(signature: bytes) -> None:
    with pytest.raises(CryptoError):
        recover(DIGEST, signature)


def test_recover__digest_of_wrong_size__is_refused(device: PrivateKey) -> None:
    with pytest.raises(CryptoError):
        recover(DIGEST[:31], device.sign(DIGEST))


@settings(max_examples=25)
@given(SECRETS, SECRETS)
def test_ecdh__any_two_keys__both_sides_get_the_bare_x_coordinate(one: bytes, other: bytes) -> None:
    mine, theirs = PrivateKey.from_bytes(one), PrivateKey.from_bytes(other)
    product = int.from_bytes(one, "big") * int.from_bytes(other, "big") % GROUP_ORDER_INT
    expected = PrivateKey.from_bytes(product.to_bytes(32, "big")).public.to_bytes()[:32]
    assert mine.ecdh(theirs.public) == theirs.ecdh(mine.public) == expected
