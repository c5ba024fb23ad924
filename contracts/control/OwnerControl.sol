// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

import {SignatureExpired, Unchanged, ZeroAddress} from "../interfaces/Errors.sol";
import {IOwnerControl} from "../interfaces/IOwnerControl.sol";
import {ACTIVE, PENDING, RETIRED, SUSPENDED, WorkerWord} from "../registry/WorkerWord.sol";
import {Operators} from "./Operators.sol";

/// @title The owner's hand on a device
/// @dev Only the worker's owner passes it on or retires it; the service owner can suspend, and nothing more.
abstract contract OwnerControl is IOwnerControl, Operators {
    /* CONSTANTS */

    /// @notice The most bytes of a recipient's signature: room for a committee behind a contract, not for cargo.
    uint256 internal constant MAX_SIGNATURE = 1024;

    bytes32 internal constant TAKE_OVER_TYPEHASH =
        keccak256("TakeOver(address worker,address from,uint32 sequence,uint256 deadline)");

    /* STORAGE */

    mapping(address id => address) private _offeredTo;

    /* SWITCHES */

    /// @inheritdoc IOwnerControl
    function setActive(address id, bool active) external {
        _setActive(id, active);
    }

    /// @inheritdoc IOwnerControl
    function setActiveBatch(address[] calldata ids, bool active) external {
        _requireBatch(ids.length);
        for (uint256 i = 0; i < ids.length; ++i) {
            _setActive(ids[i], active);
        }
    }

    /// @inheritdoc IOwnerControl
    function setSuspended(address id, bool suspended) external onlyOwner {
        (Slot storage slot, WorkerWord word) = _workerSlot(id);
        require(!word.has(RETIRED), WorkerRetired(id));
        emit SuspendedChanged(id, suspended, _save(slot, _switched(word, SUSPENDED, suspended)));
    }

    /* TRANSFER */

    /// @inheritdoc IOwnerControl
    function offerTransfer(address id, address to) external {
        (Slot storage slot, WorkerWord word) = _ownSlot(id);
        _requireSettled(id, word);
        require(to != address(0), ZeroAddress());
        require(to != msg.sender && to != _offeredTo[id], Unchanged());
        _offeredTo[id] = to;
        emit TransferOffered(id, to, _save(slot, word));
    }

    /// @inheritdoc IOwnerControl
    function cancelTransfer(address id) external {
        (Slot storage slot, WorkerWord word) = _ownSlot(id);
        require(_offeredTo[id] != address(0), Unchanged());
        delete _offeredTo[id];
        emit TransferCancelled(id, _save(slot, word));
    }

    /// @inheritdoc IOwnerControl
    function acceptTransfer(address id) external {
        require(_offeredTo[id] == msg.sender, NotOffered(id, msg.sender));
        Slot storage slot = _slots[id];
        _pass(id, slot, slot.word, msg.sender);
    }

    /// @inheritdoc IOwnerControl
    function transferSigned(address id, address to, uint256 deadline, bytes calldata signature) external {
        (Slot storage slot, WorkerWord word) = _ownSlot(id);
        _requireSettled(id, word);
        require(to != address(0), ZeroAddress());
        require(to != msg.sender, Unchanged());
        require(block.timestamp <= deadline, SignatureExpired(deadline, block.timestamp));
        require(signature.length <= MAX_SIGNATURE, SignatureTooLong(signature.length, MAX_SIGNATURE));
        bytes32 terms = keccak256(abi.encode(TAKE_OVER_TYPEHASH, id, msg.sender, word.sequence(), deadline));
        bool agreed = SignatureChecker.isValidSignatureNowCalldata(to, _hashTypedDataV4(terms), signature);
        require(agreed, NotAgreed(id, to));
        _pass(id, slot, word, to);
    }

    /* END */

    /// @inheritdoc IOwnerControl
    function retire(address id) external {
        (Slot storage slot, WorkerWord word) = _ownSlot(id);
        require(!word.has(RETIRED), WorkerRetired(id));
        delete _offeredTo[id];
        emit Retired(id, msg.sender, _save(slot, word.withFlags(word.flags() & SUSPENDED | RETIRED)));
    }

    /* VIEWS */

    /// @inheritdoc IOwnerControl
    function pendingOwner(address id) external view returns (address) {
        return _offeredTo[id];
    }

    /* INTERNAL */

    function _requireSettled(address id, WorkerWord word) internal pure {
        if (!word.has(RETIRED | PENDING)) return; // one test where nothing is wrong: batches pay it 400 times
        require(!word.has(RETIRED), WorkerRetired(id));
        revert WorkerPending(id);
    }

    /* PRIVATE */

    function _setActive(address id, bool active) private {
        (Slot storage slot, WorkerWord word) = _entrustedSlot(id, active ? SWITCH_ON : SWITCH_OFF);
        _requireSettled(id, word);
        emit ActiveChanged(id, msg.sender, active, _save(slot, _switched(word, ACTIVE, active)));
    }

    function _pass(address id, Slot storage slot, WorkerWord word, address to) private {
        delete _offeredTo[id];
        emit OwnerChanged(id, word.holder(), to, _save(slot, word.withHolder(to)));
    }

    function _switched(WorkerWord word, uint8 flag, bool on) private pure returns (WorkerWord) {
        require(word.has(flag) != on, Unchanged());
        return word.toggled(flag);
    }
}
