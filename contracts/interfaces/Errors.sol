// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @dev The errors every contract here shares.

/// An address that must mean somebody is zero.
error ZeroAddress();

/// The call asks for what already is; nothing would change and nobody would be told.
error Unchanged();

/// A batch holds from one to `bound` items.
error BadBatchSize(uint256 size, uint256 bound);

/// What was signed was valid until `deadline`, in unix seconds.
error SignatureExpired(uint256 deadline, uint256 time);
