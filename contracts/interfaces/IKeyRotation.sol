// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Under which key a worker speaks
/// @notice A worker keeps its id for life; its messaging key may be replaced. A key serves one worker, once: those that
/// were replaced never come back, for anybody.
interface IKeyRotation {
    /// @notice A new messaging key for a worker, with the proof that somebody holds it: EIP-712
    /// `RotateKey(address worker,address owner,uint16 epoch,uint256 deadline)` by that key, for the worker's owner and
    /// next epoch.
    /// @param id The worker.
    /// @param x First half of its new public messaging key.
    /// @param y Second half of it.
    /// @param deadline Last second at which the proof is valid, in unix seconds.
    /// @param r First half of the signature.
    /// @param vs Second half of it with the parity in the highest bit (ERC-2098); s is low.
    struct NewKey {
        address id;
        bytes32 x;
        bytes32 y;
        uint256 deadline;
        bytes32 r;
        bytes32 vs;
    }

    /// @notice Emitted when a worker's messaging key is replaced.
    /// @param key The address of the public key (x, y).
    /// @param epoch One more than that of the key before.
    event KeyRotated(address indexed id, address indexed key, bytes32 x, bytes32 y, uint16 epoch, uint32 sequence);

    /// The worker has had all the keys it can have.
    error KeysExhausted(address id);

    /// @notice Replaces a worker's messaging key: its owner, or an operator with the right.
    function rotateKey(NewKey calldata next) external;

    /// @notice Replaces the keys of several workers: all of them, or none when one cannot be.
    function rotateKeyBatch(NewKey[] calldata next) external;
}
