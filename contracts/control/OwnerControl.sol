// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Unchanged, ZeroAddress} from "../interfaces/Errors.sol";
import {IOwnerControl} from "../interfaces/IOwnerControl.sol";
import {WorkerRegistry} from "../registry/WorkerRegistry.sol";

/// @title The owner's hand on a device
/// @dev Only the worker's owner switches, passes on or retires it; the service owner can suspend, and nothing more.
abstract contract OwnerControl is IOwnerControl, WorkerRegistry {
    /* CONSTANTS */

    /// @notice The most workers in one batch, which keeps a batch well below the gas limit of one transaction.
    uint256 public constant MAX_BATCH = 500;

    /* STORAGE */

    mapping(address id => address) private _offeredTo;

    /* SWITCHES */

    /// @inheritdoc IOwnerControl
    function setActive(address id, bool active) external {
        _setActive(id, active);
    }

    /// @inheritdoc IOwnerControl
    function setActive(address[] calldata ids, bool active) external {
        require(ids.length != 0 && ids.length <= MAX_BATCH, BadBatchSize(ids.length, MAX_BATCH));
        for (uint256 i = 0; i < ids.length; ++i) {
            _setActive(ids[i], active);
        }
    }

    /// @inheritdoc IOwnerControl
    function setSuspended(address id, bool suspended) external onlyOwner {
        Worker memory found = _knownWorker(id);
        _requireNotRetired(id, found);
        found.flags = _switched(found.flags, SUSPENDED, suspended);
        emit SuspendedChanged(id, suspended, _save(id, found));
    }

    /* TRANSFER */

    /// @inheritdoc IOwnerControl
    function offerTransfer(address id, address to) external {
        _settledWorker(id);
        require(to != address(0), ZeroAddress());
        require(to != msg.sender && to != _offeredTo[id], Unchanged());
        _offeredTo[id] = to;
        emit TransferOffered(id, msg.sender, to);
    }

    /// @inheritdoc IOwnerControl
    function cancelTransfer(address id) external {
        _ownWorker(id);
        require(_offeredTo[id] != address(0), Unchanged());
        _endOffer(id);
    }

    /// @inheritdoc IOwnerControl
    function acceptTransfer(address id) external {
        require(_offeredTo[id] == msg.sender, NotOffered(id, msg.sender));
        delete _offeredTo[id];
        Worker memory found = _workers[id];
        address from = found.owner;
        found.owner = msg.sender;
        emit OwnerChanged(id, from, msg.sender, _save(id, found));
    }

    /* END */

    /// @inheritdoc IOwnerControl
    function retire(address id) external {
        Worker memory found = _ownWorker(id);
        _requireNotRetired(id, found);
        if (_offeredTo[id] != address(0)) _endOffer(id);
        found.flags = (found.flags & SUSPENDED) | RETIRED;
        emit Retired(id, msg.sender, _save(id, found));
    }

    /* VIEWS */

    /// @inheritdoc IOwnerControl
    function pendingOwner(address id) external view returns (address) {
        return _offeredTo[id];
    }

    /* PRIVATE */

    function _setActive(address id, bool active) private {
        Worker memory found = _settledWorker(id);
        found.flags = _switched(found.flags, ACTIVE, active);
        emit ActiveChanged(id, msg.sender, active, _save(id, found));
    }

    function _endOffer(address id) private {
        emit TransferCancelled(id, msg.sender, _offeredTo[id]);
        delete _offeredTo[id];
    }

    /// @dev The caller's worker, if it is neither pending nor retired.
    function _settledWorker(address id) private view returns (Worker memory found) {
        found = _ownWorker(id);
        _requireNotRetired(id, found);
        require(found.flags & PENDING == 0, WorkerPending(id));
    }

    function _requireNotRetired(address id, Worker memory found) private pure {
        require(found.flags & RETIRED == 0, WorkerRetired(id));
    }

    function _switched(uint8 flags, uint8 flag, bool on) private pure returns (uint8) {
        require((flags & flag != 0) != on, Unchanged());
        return flags ^ flag;
    }
}
