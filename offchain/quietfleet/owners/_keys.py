"""Owners' keystore files: each is opened only when its account has to sign."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from quietfleet.crypto import PrivateKey
from quietfleet.crypto.keystore import keystore_address, load_keystore
from quietfleet.errors import KeystoreError, NoSigner


class OwnerKeys:
    """The accounts of key files, and of all key files in folders, under one passphrase; KeystoreError if one is none.

    Opening takes a second each, so an account goes by what its file says, which is proven when it signs.
    """

    def __init__(self, files: Iterable[Path], passphrase: Callable[[], str]) -> None:
        self._passphrase = passphrase
        self._opened: dict[str, PrivateKey] = {}
        self._files = {self._address(path): path for path in _key_files(files)}

    @property
    def addresses(self) -> list[str]:
        """The accounts at hand."""
        return list(self._files)

    def open(self, address: str) -> PrivateKey:
        """Return an account's key; NoSigner if it is not at hand, KeystoreError if its file does not give it."""
        if address not in self._files:
            raise NoSigner(address)
        if address not in self._opened:
            self._opened[address] = load_keystore(self._files[address], self._passphrase())
        if self._opened[address].public.id != address:
            raise KeystoreError(f"{self._files[address]}: it says {address}, and holds another account's key")
        return self._opened[address]

    def _address(self, path: Path) -> str:
        said = keystore_address(path)
        if said is not None:
            return said
        key = load_keystore(path, self._passphrase())
        self._opened[key.public.id] = key
        return key.public.id


def _key_files(given: Iterable[Path]) -> Iterator[Path]:
    """Go through files, and the visible ones of folders: geth's carry no suffix."""
    for path in given:
        if path.is_dir():
            yield from (one for one in sorted(path.iterdir()) if one.is_file() and not one.name.startswith("."))
        else:
            yield path
