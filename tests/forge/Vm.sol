// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @dev Forge's and halmos's cheat codes, as far as the tests here use them; both run them at this one address.
Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

interface Vm {
    struct Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }

    struct Wallet {
        address addr;
        uint256 publicKeyX;
        uint256 publicKeyY;
        uint256 privateKey;
    }

    function accesses(address target) external returns (bytes32[] memory reads, bytes32[] memory writes);
    function addr(uint256 privateKey) external pure returns (address);
    function assertEq(address left, address right) external pure;
    function assertEq(address left, address right, string calldata what) external pure;
    function assertEq(bool left, bool right) external pure;
    function assertEq(bool left, bool right, string calldata what) external pure;
    function assertEq(bytes calldata left, bytes calldata right) external pure;
    function assertEq(bytes32 left, bytes32 right) external pure;
    function assertEq(bytes32 left, bytes32 right, string calldata what) external pure;
    function assertEq(uint256 left, uint256 right) external pure;
    function assertEq(uint256 left, uint256 right, string calldata what) external pure;
    function assertFalse(bool condition) external pure;
    function assertFalse(bool condition, string calldata what) external pure;
    function assertTrue(bool condition) external pure;
    function assertTrue(bool condition, string calldata what) external pure;
    function assume(bool condition) external pure;
    function chainId(uint256 id) external;
    function createWallet(uint256 privateKey) external returns (Wallet memory);
    function deal(address account, uint256 balance) external;
    function expectEmit(address emitter) external;
    function expectRevert(bytes calldata revertData) external;
    function getBlockTimestamp() external view returns (uint256);
    function getRecordedLogs() external returns (Log[] memory);
    function load(address target, bytes32 slot) external view returns (bytes32);
    function prank(address sender) external;
    function record() external;
    function recordLogs() external;
    function revertToState(uint256 id) external returns (bool);
    function roll(uint256 height) external;
    function sign(uint256 privateKey, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function signCompact(uint256 privateKey, bytes32 digest) external pure returns (bytes32 r, bytes32 vs);
    function snapshotState() external returns (uint256 id);
    function startPrank(address sender) external;
    function stopPrank() external;
    function store(address target, bytes32 slot, bytes32 value) external;
    function warp(uint256 time) external;
}
