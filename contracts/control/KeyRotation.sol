// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IKeyRotation} from "../interfaces/IKeyRotation.sol";
import {WorkerWord, newAlias} from "../registry/WorkerWord.sol";
import {OwnerControl} from "./OwnerControl.sol";

/// @title The replacement of messaging keys
/// @dev The word of a later key is its tombstone too: it says which epoch the key had, and only the worker's present
/// epoch speaks for it.
abstract contract KeyRotation is IKeyRotation, OwnerControl {
    bytes32 internal constant ROTATE_KEY_TYPEHASH =
        keccak256("RotateKey(address worker,address owner,uint16 epoch,uint256 deadline)");

    /// @inheritdoc IKeyRotation
    function rotateKey(NewKey calldata next) external {
        _rotateKey(next);
    }

    /// @inheritdoc IKeyRotation
    function rotateKeyBatch(NewKey[] calldata next) external {
        _requireBatch(next.length);
        for (uint256 i = 0; i < next.length; ++i) {
            _rotateKey(next[i]);
        }
    }

    function _rotateKey(NewKey calldata next) private {
        (address id, bytes32 x, bytes32 y) = (next.id, next.x, next.y);
        (Slot storage slot, WorkerWord word) = _entrustedSlot(id, REPLACE_KEY);
        _requireSettled(id, word);
        require(word.epoch() != type(uint16).max, KeysExhausted(id));
        word = word.inNextEpoch();
        uint16 epoch = word.epoch();
        bytes32 proof = keccak256(abi.encode(ROTATE_KEY_TYPEHASH, id, word.holder(), epoch, next.deadline));
        address key = _provenKey(x, y, proof, next.deadline, next.r, next.vs);
        _claim(key, newAlias(id, epoch));
        emit KeyRotated(id, key, x, y, epoch, _save(slot, word));
    }
}
