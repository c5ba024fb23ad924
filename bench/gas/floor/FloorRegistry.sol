// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

// What an operation costs when nothing but its storage, its checks and its event is left: no selector is looked at, a
// key's slot is the key itself, errors say nothing. Each takes the same calldata as the real function.

uint256 constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;
uint256 constant ADDRESS_MASK = 0x00ffffffffffffffffffffffffffffffffffffffff;

/// @dev `enrol(Enrolment)`: the fee, the device's consent, one fresh slot, one event.
contract FloorEnrol {
    bytes32 private immutable _DOMAIN;

    constructor(bytes32 domain, uint96 fee) {
        _DOMAIN = domain;
        assembly {
            sstore(0, fee)
        }
    }

    fallback() external payable {
        bytes32 domain = _DOMAIN;
        bytes32 typehash = keccak256("Enrol(address owner,uint8 kind,uint256 deadline)");
        bytes32 topic = keccak256("Enrolled(address,address,uint8,bytes32,bytes32)");
        assembly {
            let gate := sload(0)
            if xor(gate, callvalue()) { revert(0, 0) } // a pause would set a high bit
            let kind := calldataload(68)
            if gt(sub(kind, 1), 4) { revert(0, 0) }
            let deadline := calldataload(100)
            if gt(timestamp(), deadline) { revert(0, 0) }
            mstore(0, typehash)
            mstore(32, caller())
            mstore(64, kind)
            mstore(96, deadline)
            let consent := keccak256(0, 128)
            mstore(0, shl(240, 0x1901))
            mstore(2, domain)
            mstore(34, consent)
            mstore(0, keccak256(0, 66))
            let vs := calldataload(164)
            let s := shr(1, shl(1, vs))
            if gt(s, HALF_ORDER) { revert(0, 0) }
            mstore(32, add(27, shr(255, vs)))
            mstore(64, calldataload(132))
            mstore(96, s)
            if iszero(staticcall(gas(), 1, 0, 128, 0, 32)) { revert(0, 0) }
            calldatacopy(32, 4, 64)
            let key := and(keccak256(32, 64), ADDRESS_MASK)
            if xor(key, mload(0)) { revert(0, 0) }
            if sload(key) { revert(0, 0) }
            sstore(key, or(or(shl(224, 1), shl(192, timestamp())), or(shl(168, 1), or(shl(160, kind), caller()))))
            mstore(0, kind)
            log3(0, 96, topic, key, caller())
            mstore(0, key)
            return(0, 32)
        }
    }
}

/// @dev `setActive(address,bool)` by the owner.
contract FloorToggle {
    constructor(address id, uint256 word) {
        assembly {
            sstore(id, word)
        }
    }

    fallback() external {
        bytes32 topic = keccak256("ActiveChanged(address,address,bool,uint32)");
        assembly {
            let id := calldataload(4)
            let active := calldataload(36)
            let word := sload(id)
            if xor(and(word, ADDRESS_MASK), caller()) { revert(0, 0) }
            if iszero(and(word, shl(160, 0xff))) { revert(0, 0) }
            if and(word, shl(168, 12)) { revert(0, 0) }
            if iszero(xor(and(shr(168, word), 1), active)) { revert(0, 0) }
            word := add(xor(word, shl(168, 1)), shl(224, 1))
            sstore(id, word)
            mstore(0, active)
            mstore(32, shr(224, word))
            log3(0, 64, topic, id, caller())
            stop()
        }
    }
}

/// @dev `rotateKey(NewKey)` by the owner.
contract FloorRotateKey {
    bytes32 private immutable _DOMAIN;

    constructor(bytes32 domain, address id, uint256 word) {
        _DOMAIN = domain;
        assembly {
            sstore(id, word)
        }
    }

    fallback() external {
        bytes32 domain = _DOMAIN;
        bytes32 typehash = keccak256("RotateKey(address worker,address owner,uint16 epoch,uint256 deadline)");
        bytes32 topic = keccak256("KeyRotated(address,address,bytes32,bytes32,uint16,uint32)");
        assembly {
            let id := calldataload(4)
            let word := sload(id)
            if xor(and(word, ADDRESS_MASK), caller()) { revert(0, 0) }
            if iszero(and(word, shl(160, 0xff))) { revert(0, 0) }
            if and(word, shl(168, 12)) { revert(0, 0) }
            let epoch := add(and(shr(176, word), 0xffff), 1)
            if shr(16, epoch) { revert(0, 0) }
            let deadline := calldataload(100)
            if gt(timestamp(), deadline) { revert(0, 0) }
            mstore(0, typehash)
            mstore(32, id)
            mstore(64, caller())
            mstore(96, epoch)
            mstore(128, deadline)
            let proof := keccak256(0, 160)
            mstore(0, shl(240, 0x1901))
            mstore(2, domain)
            mstore(34, proof)
            mstore(0, keccak256(0, 66))
            let vs := calldataload(164)
            let s := shr(1, shl(1, vs))
            if gt(s, HALF_ORDER) { revert(0, 0) }
            mstore(32, add(27, shr(255, vs)))
            mstore(64, calldataload(132))
            mstore(96, s)
            if iszero(staticcall(gas(), 1, 0, 128, 0, 32)) { revert(0, 0) }
            let signer := mload(0)
            calldatacopy(0, 36, 64)
            let key := and(keccak256(0, 64), ADDRESS_MASK)
            if xor(key, signer) { revert(0, 0) }
            if sload(key) { revert(0, 0) }
            sstore(key, or(or(shl(168, 128), shl(176, epoch)), id))
            word := add(word, or(shl(224, 1), shl(176, 1)))
            sstore(id, word)
            mstore(64, epoch)
            mstore(96, shr(224, word))
            log3(0, 128, topic, id, key)
            stop()
        }
    }
}

/// @dev `canCooperate(address,address)`.
contract FloorCooperation {
    constructor(address a, uint256 wordOfA, address b, uint256 wordOfB) {
        assembly {
            sstore(a, wordOfA)
            sstore(b, wordOfB)
        }
    }

    fallback() external {
        assembly {
            let a := calldataload(4)
            let b := calldataload(36)
            let one := sload(a)
            let other := sload(b)
            let able := and(eq(byte(10, one), 1), eq(byte(10, other), 1))
            let partners := shr(or(shl(3, byte(11, one)), byte(11, other)), 0x0e002c2a2400)
            mstore(0, and(and(able, partners), iszero(eq(a, b))))
            return(0, 32)
        }
    }
}

/// @dev `isUsable(address,uint8)`.
contract FloorUsable {
    constructor(address id, uint256 word) {
        assembly {
            sstore(id, word)
        }
    }

    fallback() external {
        assembly {
            let word := sload(calldataload(4))
            mstore(0, and(eq(byte(10, word), 1), eq(byte(11, word), calldataload(36))))
            return(0, 32)
        }
    }
}
