// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ERC165} from "@openzeppelin/contracts/utils/introspection/ERC165.sol";

import {IAuditAnchor} from "../interfaces/IAuditAnchor.sol";

/// @title The anchors of audit logs
/// @dev Nobody owns it, and nothing in it changes but by the keeper of a log.
contract AuditAnchor is IAuditAnchor, ERC165 {
    /* STORAGE */

    /// @dev One slot a log, however long it grows.
    mapping(address keeper => mapping(bytes32 log => Anchor)) private _anchors;

    /* ANCHORING */

    /// @inheritdoc IAuditAnchor
    function anchor(bytes32 log, uint32 number, bytes32 commitment) external {
        require(commitment != 0, MissingCommitment());
        uint32 next = _anchors[msg.sender][log].number + 1;
        require(number == next, NotNext(log, number, next));
        _anchors[msg.sender][log] = Anchor(number, uint32(block.timestamp), bytes24(commitment));
        emit Anchored(msg.sender, log, number, commitment);
    }

    /* VIEWS */

    /// @inheritdoc IAuditAnchor
    function newest(address keeper, bytes32 log) external view returns (Anchor memory) {
        return _anchors[keeper][log];
    }

    /// @inheritdoc ERC165
    function supportsInterface(bytes4 interfaceId) public view override returns (bool) {
        return interfaceId == type(IAuditAnchor).interfaceId || super.supportsInterface(interfaceId);
    }
}
