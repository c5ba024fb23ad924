// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {vm} from "../Vm.sol";

/// @dev Halmos's own cheat codes, as far as the proofs here use them.
Svm constant svm = Svm(address(uint160(uint256(keccak256("svm cheat code")))));

interface Svm {
    function createAddress(string calldata name) external returns (address);
    function createBytes(uint256 size, string calldata name) external returns (bytes memory);
    function createBytes32(string calldata name) external returns (bytes32);
    function createCalldata(string calldata contractName) external returns (bytes memory);
    function createUint(uint256 bits, string calldata name) external returns (uint256);
    function createUint256(string calldata name) external returns (uint256);
    function enableSymbolicStorage(address target) external;
}

/// @dev Arbitrary storage: of the slots nobody wrote yet, and of the first ones, which a constructor wrote.
function forgetStorage(address target, uint256 slots) {
    svm.enableSymbolicStorage(target);
    for (uint256 slot = 0; slot < slots; ++slot) {
        vm.store(target, bytes32(slot), svm.createBytes32("slot"));
    }
}

/// @dev Some moment until 2106, at which the contracts' 32-bit times end.
function someMoment() {
    vm.warp(svm.createUint(32, "time"));
    vm.roll(svm.createUint(48, "height"));
}

/// @dev Somebody, never the zero address: nobody calls from there.
function somebody(string memory name) returns (address account) {
    account = svm.createAddress(name);
    vm.assume(account != address(0));
}

/// @dev 1 for true. With sums and comparisons a condition is put to the solver whole; && and || would split the paths.
function one(bool condition) pure returns (uint256 bit) {
    assembly ("memory-safe") {
        bit := condition
    }
}
