"""Keys and sealing, thin over coincurve and cryptography; `hpke`, `keystore` and `consent` are imported by name."""

from quietfleet.crypto._derive import derive
from quietfleet.crypto._ecies import ECIES_OVERHEAD, ecies_open, ecies_seal
from quietfleet.crypto._keccak import absorb, keccak256
from quietfleet.crypto._keys import SIGNATURE_SIZE, PrivateKey, PublicKey, checksum_address, recover
from quietfleet.crypto._sealed import SEAL_OVERHEAD, open_sealed, seal

__all__ = [
    "ECIES_OVERHEAD",
    "SEAL_OVERHEAD",
    "SIGNATURE_SIZE",
    "PrivateKey",
    "PublicKey",
    "absorb",
    "checksum_address",
    "derive",
    "ecies_open",
    "ecies_seal",
    "keccak256",
    "open_sealed",
    "recover",
    "seal",
]
