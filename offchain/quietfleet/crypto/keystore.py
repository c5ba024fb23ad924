"""Private keys at rest: Ethereum's encrypted key file (version 3), readable by its owner alone."""

from __future__ import annotations

import json
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from quietfleet.crypto._key_file import WrongPassphrase, lock, unlock
from quietfleet.crypto._keys import PrivateKey, checksum_address
from quietfleet.errors import CryptoError, KeystoreError

_SCRYPT_N: Final = 1 << 18  # geth's standard: a second and 256 MB
_LIGHT_SCRYPT_N: Final = 1 << 12  # geth's light: for demonstrations and small devices


def create_keystore(path: Path, private_key: PrivateKey, passphrase: str, *, light: bool = False) -> None:
    """Write the key encrypted under `passphrase` to a new file of mode 0600; KeystoreError if the path is taken."""
    work = _LIGHT_SCRYPT_N if light else _SCRYPT_N
    content = lock(private_key.to_bytes(), passphrase.encode(), work, secrets.token_bytes)
    _write_new(path, json.dumps(content).encode())


def load_keystore(path: Path, passphrase: str) -> PrivateKey:
    """Read a key back; KeystoreError if others may read the file, it is no key file, or the passphrase is wrong."""
    content = _read_private(path)
    try:
        return PrivateKey.from_bytes(unlock(json.loads(content), passphrase.encode()))
    except WrongPassphrase:
        raise KeystoreError(f"{path}: the passphrase is wrong") from None
    except (KeyError, TypeError, ValueError, AttributeError, MemoryError, OverflowError, CryptoError) as error:
        raise KeystoreError(f"{path}: this is not an Ethereum key file") from error


def is_light(path: Path) -> bool:
    """Tell whether a key file is cheap to open and to guess; KeystoreError if it cannot be read."""
    try:
        return int(json.loads(_read_private(path))["crypto"]["kdfparams"]["n"]) < _SCRYPT_N
    except (KeyError, TypeError, ValueError) as error:
        raise KeystoreError(f"{path}: this is not an Ethereum key file") from error


def keystore_address(path: Path) -> str | None:
    """Return the account a key file says it holds, unproven; None if it does not say. KeystoreError if unreadable."""
    try:
        address = json.loads(_read_private(path)).get("address")
        return None if address is None else checksum_address(bytes.fromhex(str(address).removeprefix("0x")))
    except (AttributeError, ValueError) as error:
        raise KeystoreError(f"{path}: this is not an Ethereum key file") from error


def _write_new(path: Path, content: bytes) -> None:
    """Have the whole file there or none: a kill in between leaves at most a scratch file, which nobody reads."""
    try:
        _link_new(path, content)
    except FileExistsError:
        raise KeystoreError(f"{path}: a file is already there, and a key is never overwritten") from None
    except OSError as error:
        raise KeystoreError(f"{path}: {error.strerror}") from error


def _link_new(path: Path, content: bytes) -> None:
    if os.path.lexists(path):
        raise FileExistsError
    import tempfile  # noqa: PLC0415 - who reads a key has no use for it

    descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # its owner's alone
    scratch = Path(made)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        path.hardlink_to(scratch)  # unlike a rename, this overwrites nothing
    finally:
        scratch.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut, before anybody hears of the key."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise KeystoreError(f"{path}: others may read this file; make it yours alone with chmod 600")
            return file.read()
    except OSError as error:
        raise KeystoreError(f"{path}: {error.strerror}") from error
