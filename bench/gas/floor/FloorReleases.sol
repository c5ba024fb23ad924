// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @dev `propose(bytes32,Terms)` by a publisher, in a channel that has had releases; `service` answers as the registry.
contract FloorPropose {
    address private immutable _SERVICE;

    constructor(address service, address publisher, address gateway, address approver, bytes32 channel, uint256 head) {
        _SERVICE = service;
        assembly {
            sstore(publisher, gateway)
            sstore(0, approver)
            sstore(channel, head)
        }
    }

    fallback() external {
        address service = _SERVICE;
        bytes32 topic =
            keccak256("ReleaseProposed(bytes32,uint32,(bytes32,bytes32,bytes32,uint32,uint32,uint24,uint8))");
        assembly {
            let gateway := sload(caller())
            if iszero(gateway) { revert(0, 0) }
            mstore(4, gateway)
            mstore(36, 3)
            if iszero(staticcall(gas(), service, 0, 68, 0, 32)) { revert(0, 0) }
            if iszero(mload(0)) { revert(0, 0) }
            if shr(160, sload(0)) { revert(0, 0) }
            calldatacopy(0, 36, 224)
            let manifest := mload(0)
            if or(iszero(manifest), or(iszero(mload(32)), iszero(mload(64)))) { revert(0, 0) }
            let expiresAt := mload(128)
            let waveCount := mload(192)
            if or(iszero(waveCount), or(gt(mload(96), expiresAt), gt(timestamp(), expiresAt))) { revert(0, 0) }
            let channel := calldataload(4)
            let head := sload(channel)
            let state := and(shr(96, head), 0xff)
            if or(eq(state, 3), eq(state, 4)) { revert(0, 0) }
            if sload(manifest) { revert(0, 0) }
            let sequence := add(and(head, 0xffffffff), 1)
            sstore(
                channel,
                or(
                    or(or(and(head, 0xffffffffffffffff00000000), sequence), or(shl(96, 1), shl(112, waveCount))),
                    or(or(shl(152, mload(96)), shl(184, expiresAt)), shl(216, mload(160)))
                )
            )
            sstore(manifest, or(shl(64, shr(64, keccak256(0, 224))), sequence))
            log3(0, 224, topic, channel, sequence)
            mstore(0, sequence)
            return(0, 32)
        }
    }
}
