// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Whom an owner lets act upon all of its workers, for a time
/// @notice Rights add up: 1 switches off, 2 switches on, 4 replaces messaging keys. No right lets an operator pass a
/// worker on, accept or retire it, or name operators.
interface IOperators {
    /// @notice Emitted when an owner gives, changes or takes back an operator's rights, valid until a time in unix
    /// seconds.
    event OperatorChanged(address indexed owner, address indexed operator, uint8 rights, uint256 until);

    /// The rights are not a sum of 1, 2 and 4.
    error BadRights(uint8 rights);

    /// Rights end after now, at most `latest`, in unix seconds; without rights, the end is 0.
    error BadTerm(uint256 until, uint256 latest);

    /// @notice Gives an operator rights upon the caller's workers until a time in unix seconds; no rights, until 0,
    /// takes them back.
    function setOperator(address operator, uint8 rights, uint40 until) external;

    /// @notice The rights an operator has now upon an owner's workers.
    function operatorRights(address owner, address operator) external view returns (uint8);
}
