"""Web3 Secret Storage, version 3: what Ethereum's encrypted key files hold, over `cryptography` alone."""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from quietfleet.crypto._keccak import keccak256
from quietfleet.crypto._keys import PrivateKey

Random = Callable[[int], bytes]

_VERSION: Final = 3
_CIPHER: Final = "aes-128-ctr"
_SIZE: Final = 32  # bytes drawn from the passphrase: a cipher's key, and what the MAC is made under
_BLOCK: Final = 16
_R: Final = 8
_P: Final = 1
_MOST_MEMORY: Final = 1 << 30  # bytes that a file may make scrypt take: four times geth's standard
_MOST_ROUNDS: Final = 100_000_000
_HASHES: Final = {"sha256": hashes.SHA256, "sha512": hashes.SHA512}


class WrongPassphrase(ValueError):
    """The file's MAC was made under another passphrase."""


def lock(secret: bytes, passphrase: bytes, work: int, random: Random) -> dict[str, Any]:
    """Return the content of a key file for a private key, behind scrypt with N = `work`."""
    salt, iv = random(_SIZE), random(_BLOCK)
    kdf = {"dklen": _SIZE, "n": work, "r": _R, "p": _P, "salt": salt.hex()}
    derived = _scrypt(passphrase, kdf)
    sealed = _ctr(derived, iv, secret)
    return {
        "address": PrivateKey.from_bytes(secret).public.id[2:].lower(),
        "crypto": {
            "cipher": _CIPHER,
            "cipherparams": {"iv": iv.hex()},
            "ciphertext": sealed.hex(),
            "kdf": "scrypt",
            "kdfparams": kdf,
            "mac": _mac(derived, sealed).hex(),
        },
        "id": str(uuid.UUID(bytes=random(_BLOCK), version=4)),
        "version": _VERSION,
    }


def unlock(content: Mapping[str, Any], passphrase: bytes) -> bytes:
    """Return the private key; WrongPassphrase, or ValueError, KeyError, TypeError or AttributeError for no key file."""
    content = _lowered(content)
    crypto = content["crypto"]
    if content["version"] != _VERSION or crypto["cipher"] != _CIPHER:
        raise ValueError("another version, or another cipher")
    derived = _KDFS[crypto["kdf"]](passphrase, crypto["kdfparams"])
    sealed = _bytes(crypto["ciphertext"])
    if not hmac.compare_digest(_mac(derived, sealed), _bytes(crypto["mac"])):
        raise WrongPassphrase
    iv = _bytes(crypto["cipherparams"]["iv"])
    return _ctr(derived, bytes(_BLOCK - len(iv)) + iv, sealed)  # some write it without its leading zeros


def _scrypt(passphrase: bytes, kdf: Mapping[str, Any]) -> bytes:
    n, r, p = int(kdf["n"]), int(kdf["r"]), int(kdf["p"])
    if 128 * r * (n + p + 2) > _MOST_MEMORY:  # RFC 7914: what its steps hold
        raise ValueError("a work without end")
    return Scrypt(_bytes(kdf["salt"]), _length(kdf), n, r, p).derive(passphrase)


def _pbkdf2(passphrase: bytes, kdf: Mapping[str, Any]) -> bytes:
    family, _, name = kdf["prf"].partition("-")
    rounds = int(kdf["c"])
    if family != "hmac" or rounds > _MOST_ROUNDS:
        raise ValueError("another function, or a work without end")
    return PBKDF2HMAC(_HASHES[name](), _length(kdf), _bytes(kdf["salt"]), rounds).derive(passphrase)


_KDFS: Final = {"scrypt": _scrypt, "pbkdf2": _pbkdf2}


def _length(kdf: Mapping[str, Any]) -> int:
    if (length := int(kdf["dklen"])) != _SIZE:
        raise ValueError(f"{length} bytes of key")
    return length


def _mac(derived: bytes, sealed: bytes) -> bytes:
    return keccak256(derived[_BLOCK:_SIZE] + sealed)


def _ctr(derived: bytes, iv: bytes, content: bytes) -> bytes:
    run = Cipher(algorithms.AES(derived[:_BLOCK]), modes.CTR(iv)).encryptor()
    return run.update(content) + run.finalize()


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _lowered(content: Mapping[str, Any]) -> dict[str, Any]:
    """Write names small: some programs spell `Crypto`."""
    return {name.lower(): _lowered(value) if isinstance(value, dict) else value for name, value in content.items()}
