// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {StandingOwner} from "../control/StandingOwner.sol";
import {Unchanged} from "../interfaces/Errors.sol";
import {IBootstrapList} from "../interfaces/IBootstrapList.sol";

/// @title The relays that workers begin with
/// @dev The service owner's alone, not the rotator's: who chooses a newcomer's first relays can cut it off from all
/// others, and nothing about them is so urgent that a key on a running machine should hold that power.
abstract contract BootstrapList is IBootstrapList, StandingOwner {
    /* CONSTANTS */

    /// @notice How many relays a list names at most.
    uint256 internal constant MOST_ENODES = 16;

    /// @notice Bounds of an enode URL, in bytes: eight of scheme, 128 hex digits, then `@h:1` at least.
    uint256 internal constant LEAST_ENODE = 140;
    uint256 internal constant MOST_ENODE = 200;

    /* STORAGE */

    /// @dev One slot. What is cut off the digest would only stop an owner from finding two lists that share it.
    struct Named {
        uint32 version;
        uint48 newestBlock;
        bytes22 digest;
    }

    Named private _named;

    /* SERVICE OWNER */

    /// @inheritdoc IBootstrapList
    function setBootstrap(string[] calldata enodes) external onlyOwner {
        require(enodes.length <= MOST_ENODES, TooManyEnodes(enodes.length, MOST_ENODES));
        for (uint256 i = 0; i < enodes.length; ++i) {
            uint256 size = bytes(enodes[i]).length;
            require(size >= LEAST_ENODE && size <= MOST_ENODE, BadEnodeSize(i, size, LEAST_ENODE, MOST_ENODE));
        }
        bytes22 digest = enodes.length == 0 ? bytes22(0) : bytes22(keccak256(abi.encode(enodes)));
        Named memory before = _named;
        require(digest != before.digest, Unchanged());
        uint32 version = before.version + 1;
        emit BootstrapNamed(version, enodes, before.newestBlock);
        _named = Named(version, uint48(block.number), digest);
    }

    /* VIEWS */

    /// @inheritdoc IBootstrapList
    function bootstrap() external view returns (uint32 version, uint48 newestBlock, bytes22 digest) {
        return (_named.version, _named.newestBlock, _named.digest);
    }
}
