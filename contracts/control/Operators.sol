// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Unchanged, ZeroAddress} from "../interfaces/Errors.sol";
import {IOperators} from "../interfaces/IOperators.sol";
import {WorkerRegistry} from "../registry/WorkerRegistry.sol";
import {WorkerWord} from "../registry/WorkerWord.sol";

/// @title Whom an owner lets act upon all of its workers, for a time
/// @dev Grants hang on the owner, not on the worker: a worker that passes to another owner leaves them behind.
abstract contract Operators is IOperators, WorkerRegistry {
    /* CONSTANTS */

    uint8 internal constant SWITCH_OFF = 1;
    uint8 internal constant SWITCH_ON = 2;
    uint8 internal constant REPLACE_KEY = 4;
    uint8 private constant ALL_RIGHTS = 7;

    /// @notice How long a grant may last, in seconds; a forgotten one ends.
    uint256 internal constant MAX_TERM = 366 days;

    /* STORAGE */

    struct Grant {
        uint8 rights;
        uint40 until;
    }

    mapping(address owner => mapping(address operator => Grant)) private _grants;

    /* OWNERS */

    /// @inheritdoc IOperators
    function setOperator(address operator, uint8 rights, uint40 until) external {
        require(operator != address(0), ZeroAddress());
        require(rights <= ALL_RIGHTS, BadRights(rights));
        uint256 latest = block.timestamp + MAX_TERM;
        require(rights == 0 ? until == 0 : until > block.timestamp && until <= latest, BadTerm(until, latest));
        Grant storage grant = _grants[msg.sender][operator];
        require(grant.rights != rights || grant.until != until, Unchanged());
        (grant.rights, grant.until) = (rights, until);
        emit OperatorChanged(msg.sender, operator, rights, until);
    }

    /* VIEWS */

    /// @inheritdoc IOperators
    function operatorRights(address owner, address operator) public view returns (uint8) {
        Grant storage grant = _grants[owner][operator];
        return block.timestamp <= grant.until ? grant.rights : 0;
    }

    /* INTERNAL */

    /// @dev The worker, if it is the caller's, or its owner gave the caller that right.
    function _entrustedSlot(address id, uint8 right) internal view returns (Slot storage slot, WorkerWord word) {
        (slot, word) = _workerSlot(id);
        address owner = word.holder();
        require(owner == msg.sender || operatorRights(owner, msg.sender) & right != 0, NotWorkerOwner(id, msg.sender));
    }
}
