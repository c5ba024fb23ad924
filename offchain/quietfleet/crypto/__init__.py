"""Keys and sealing, thin over coincurve and cryptography; `hpke`, `keystore` and `consent` are imported by name."""

from quietfleet.crypto._derive import derive
from quietfleet.crypto._ecies import ECIES_OVERHEAD, ecies_open, ecies_seal
from quietfleet.crypto._keccak import keccak256, keccak256_each, running_keccak
from quietfleet.crypto._keys import SIGNATURE_SIZE, PrivateKey, PublicKey, checksum_address, recover
from quietfleet.crypto._running import RunningKeccak
from quietfleet.crypto._sealed import SEAL_OVERHEAD, open_sealed, seal

__all__ = [
    "ECIES_OVERHEAD",
    "SEAL_OVERHEAD",
    "SIGNATURE_SIZE",
    "PrivateKey",
    "PublicKey",
    "RunningKeccak",
    "checksum_address",
    "derive",
    "ecies_open",
    "ecies_seal",
    "keccak256",
    "keccak256_each",
    "open_sealed",
    "recover",
    "running_keccak",
    "seal",
]
