// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @dev `rotate(ConfigurationInput)` by the rotator, in force at once, once two digests are kept.
contract FloorRotate {
    bytes32 private immutable _DOMAIN;

    constructor(bytes32 domain, address rotator, uint256 line) {
        _DOMAIN = domain;
        uint256 bounds = uint256(1) << 160 | uint256(1000e9) << 208 | uint160(rotator);
        assembly {
            sstore(0, line)
            sstore(1, bounds)
            sstore(2, 1)
            sstore(3, 1)
        }
    }

    fallback() external {
        bytes32 domain = _DOMAIN;
        bytes32 typehash = keccak256(
            "Configuration(uint32 version,uint40 activeFrom,uint32 grace,uint48 minPow,uint32 maxTtl,uint32 maxSize,"
            "address oracle,address gateway,bytes32 epochKeyCommitment,bytes32 oracleCardDigest,"
            "bytes32 gatewayCardDigest,uint48 previousBlock)"
        );
        bytes32 topic = keccak256(
            "ConfigurationRotated(uint32,(uint32,uint40,uint32,uint48,uint32,uint32,address,address,bytes32,bytes32,"
            "bytes32,uint48))"
        );
        assembly {
            let line := sload(0)
            let activeFrom := and(shr(32, line), 0xffffffffff)
            if lt(timestamp(), add(activeFrom, and(shr(72, line), 0xffffffff))) { revert(0, 0) }
            let bounds := sload(1)
            if xor(and(bounds, 0xffffffffffffffffffffffffffffffffffffffff), caller()) { revert(0, 0) }
            if calldataload(4) { revert(0, 0) } // the real one allows a time ahead
            let grace := calldataload(36)
            if gt(grace, 604800) { revert(0, 0) }
            let minPow := calldataload(68)
            if or(lt(minPow, and(shr(160, bounds), 0xffffffffffff)), gt(minPow, shr(208, bounds))) {
                revert(0, 0)
            }
            if gt(sub(calldataload(100), 1), 86399) { revert(0, 0) }
            if gt(sub(calldataload(132), 8192), 10477568) { revert(0, 0) }
            if iszero(calldataload(164)) { revert(0, 0) }
            if or(iszero(calldataload(228)), iszero(calldataload(260))) { revert(0, 0) }
            if xor(iszero(calldataload(196)), iszero(calldataload(292))) { revert(0, 0) }
            let version := add(and(line, 0xffffffff), 1)
            mstore(0, typehash)
            mstore(32, version)
            calldatacopy(64, 4, 320)
            mstore(64, timestamp())
            mstore(384, and(shr(104, line), 0xffffffffffff))
            let content := keccak256(0, 416)
            let turn := xor(and(shr(232, line), 1), 1)
            sstore(
                0,
                or(
                    or(or(version, shl(32, timestamp())), or(shl(72, grace), shl(104, number()))),
                    or(
                        or(shl(152, and(line, 0xffffffff)), shl(184, and(shr(104, line), 0xffffffffffff))),
                        shl(232, turn)
                    )
                )
            )
            mstore(416, shl(240, 0x1901))
            mstore(418, domain)
            mstore(450, content)
            sstore(add(2, turn), keccak256(416, 66))
            log2(32, 384, topic, version)
            mstore(0, version)
            return(0, 32)
        }
    }
}
