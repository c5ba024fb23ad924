from __future__ import annotations

import runpy
import sys
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.crypto import _keccak, _keccak_pycryptodome, _keccak_pysha3

BACKENDS = pytest.mark.parametrize("backend", [_keccak_pysha3, _keccak_pycryptodome])
EMPTY = bytes.fromhex("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470")
HELLO = bytes.fromhex("1c8aff950685c2ed4bc3174f3472287b56d9517b9c948127319a09a7a36deac8")


@BACKENDS
def test_keccak256__known_inputs__gives_ethereums_digests(backend: ModuleType) -> None:
    assert backend.keccak256(b"") == EMPTY
    assert backend.keccak256(b"hello") == HELLO


@BACKENDS
def test_keccak256_each__several_suffixes__each_digest_is_of_prefix_and_suffix(backend: ModuleType) -> None:
    suffixes = (b"a", b"bc", b"", b"a")
    assert backend.keccak256_each(b"x" * 200, suffixes) == [backend.keccak256(b"x" * 200 + each) for each in suffixes]


@given(st.binary(max_size=600), st.binary(max_size=20))
def test_backends__any_input__agree(prefix: bytes, suffix: bytes) -> None:
    assert _keccak_pysha3.keccak256(prefix) == _keccak_pycryptodome.keccak256(prefix)
    assert _keccak_pysha3.keccak256_each(prefix, [suffix]) == _keccak_pycryptodome.keccak256_each(prefix, [suffix])


def test_choice__pysha3_missing__falls_back_to_pycryptodome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "quietfleet.crypto._keccak_pysha3", None)
    chosen = runpy.run_path(_keccak.__file__)
    assert chosen["keccak256"] is _keccak_pycryptodome.keccak256


def test_choice__pysha3_there__takes_it() -> None:
    assert _keccak.keccak256 is _keccak_pysha3.keccak256
