// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @dev The errors every contract here shares.

/// An address that must mean somebody is zero.
error ZeroAddress();

/// The call asks for what already is; nothing would change and nobody would be told.
error Unchanged();
