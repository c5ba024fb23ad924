// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

/// @title An owner who can pass the post on, in two steps, but not leave it empty
/// @dev Without an owner nobody could rotate a lost key or revoke a bad model.
abstract contract StandingOwner is Ownable2Step {
    /// There is always an owner: offer the post to a successor instead.
    error OwnerRequired();

    /// @notice Always reverts.
    function renounceOwnership() public pure override(Ownable) {
        revert OwnerRequired();
    }
}
