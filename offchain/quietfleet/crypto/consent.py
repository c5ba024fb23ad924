"""What devices and owners sign for the registry, one struct for each action; all times in Unix seconds."""

from __future__ import annotations

from quietfleet.crypto.eip712 import typed_digest


def consent_digest(chain_id: int, contract: str, owner: str, kind: int, deadline: int) -> bytes:
    """Return what a device signs with its messaging key so that this owner may enrol it as this kind.

    An id is used once, so the consent needs no nonce.
    """
    return typed_digest(chain_id, contract, "Enrol(address owner,uint8 kind,uint256 deadline)", owner, kind, deadline)


def rotate_key_digest(chain_id: int, contract: str, worker: str, owner: str, epoch: int, deadline: int) -> bytes:
    """Return what a worker's new messaging key signs to be its key of `epoch`, one more than that of the key before."""
    kind = "RotateKey(address worker,address owner,uint16 epoch,uint256 deadline)"
    return typed_digest(chain_id, contract, kind, worker, owner, epoch, deadline)


def take_over_digest(chain_id: int, contract: str, worker: str, owner: str, sequence: int, deadline: int) -> bytes:
    """Return what a recipient signs to take a worker over from its `owner`; once, since its `sequence` moves on."""
    kind = "TakeOver(address worker,address from,uint32 sequence,uint256 deadline)"
    return typed_digest(chain_id, contract, kind, worker, owner, sequence, deadline)
