// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Service} from "../../contracts/Service.sol";
import {IConfigRotation} from "../../contracts/interfaces/IConfigRotation.sol";
import {IKeyRotation} from "../../contracts/interfaces/IKeyRotation.sol";
import {IWorkerRegistry} from "../../contracts/interfaces/IWorkerRegistry.sol";
import {Vm, vm} from "./Vm.sol";

/// @dev A service with its people, and devices that sign. What is signed is spelled out here once more, from the
/// documented types, so that a mistake in the contract's own hashing does not cancel out.
abstract contract Fleet {
    uint96 internal constant FEE = 0.001 ether;
    uint96 internal constant FEE_CAP = 0.01 ether;
    uint256 internal constant START = 1_900_000_000;
    uint256 internal constant CURVE_ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;

    uint8 internal constant SENSOR = 1;
    uint8 internal constant PROCESSOR = 2;
    uint8 internal constant GATEWAY = 3;
    uint8 internal constant RELAY = 4;
    uint8 internal constant ORACLE = 5;

    address internal immutable serviceOwner = vm.addr(0xA0);
    address internal immutable rotator = vm.addr(0xA1);
    address internal immutable owner = vm.addr(0xB0);
    address internal immutable otherOwner = vm.addr(0xB1);
    address internal immutable operator = vm.addr(0xC0);
    address internal immutable stranger = vm.addr(0xD0);

    uint256 internal constant OTHER_OWNER_KEY = 0xB1;

    Service internal service;

    function _deployService() internal {
        vm.warp(START);
        vm.roll(100);
        service = new Service(serviceOwner, FEE, FEE_CAP);
        vm.deal(owner, 1000 ether);
        vm.deal(otherOwner, 1000 ether);
    }

    /* DEVICES */

    function _device(uint256 key) internal returns (Vm.Wallet memory) {
        return vm.createWallet(_key(key));
    }

    /// @dev Any number as a private key, apart from those of the people above.
    function _key(uint256 seed) internal pure returns (uint256) {
        return 0x1000 + seed % (CURVE_ORDER - 0x1000);
    }

    function _enrolment(uint256 key, address owner_, uint8 kind, uint256 deadline)
        internal
        returns (IWorkerRegistry.Enrolment memory)
    {
        Vm.Wallet memory device = _device(key);
        (bytes32 r, bytes32 vs) = vm.signCompact(device.privateKey, _enrolDigest(service, owner_, kind, deadline));
        return IWorkerRegistry.Enrolment(bytes32(device.publicKeyX), bytes32(device.publicKeyY), kind, deadline, r, vs);
    }

    function _newKey(uint256 key, address id, address owner_, uint16 epoch, uint256 deadline)
        internal
        returns (IKeyRotation.NewKey memory)
    {
        Vm.Wallet memory device = _device(key);
        (bytes32 r, bytes32 vs) = vm.signCompact(device.privateKey, _rotateDigest(service, id, owner_, epoch, deadline));
        return IKeyRotation.NewKey(id, bytes32(device.publicKeyX), bytes32(device.publicKeyY), deadline, r, vs);
    }

    function _enrol(uint256 key, address owner_, uint8 kind) internal returns (address) {
        IWorkerRegistry.Enrolment memory device = _enrolment(key, owner_, kind, _now());
        uint256 fee = service.fee();
        vm.deal(owner_, owner_.balance + fee);
        vm.prank(owner_);
        return service.enrol{value: fee}(device);
    }

    function _enrolSelf(uint256 key, address owner_, uint8 kind) internal returns (address) {
        Vm.Wallet memory device = _device(key);
        uint256 fee = service.fee();
        vm.deal(device.addr, fee);
        vm.prank(device.addr);
        return service.enrolSelf{value: fee}(bytes32(device.publicKeyX), bytes32(device.publicKeyY), kind, owner_);
    }

    function _rotateKey(uint256 key, address id) internal returns (address) {
        IWorkerRegistry.Worker memory worker = service.worker(id);
        IKeyRotation.NewKey memory next = _newKey(key, id, worker.owner, worker.epoch + 1, _now());
        vm.prank(worker.owner);
        service.rotateKey(next);
        return _device(key).addr;
    }

    /* DIGESTS */

    function _enrolDigest(Service at, address owner_, uint8 kind, uint256 deadline) internal view returns (bytes32) {
        bytes32 typeHash = keccak256("Enrol(address owner,uint8 kind,uint256 deadline)");
        return _typed(address(at), block.chainid, keccak256(abi.encode(typeHash, owner_, kind, deadline)));
    }

    function _rotateDigest(Service at, address id, address owner_, uint16 epoch, uint256 deadline)
        internal
        view
        returns (bytes32)
    {
        bytes32 typeHash = keccak256("RotateKey(address worker,address owner,uint16 epoch,uint256 deadline)");
        return _typed(address(at), block.chainid, keccak256(abi.encode(typeHash, id, owner_, epoch, deadline)));
    }

    function _takeOverDigest(Service at, address id, address from, uint32 sequence, uint256 deadline)
        internal
        view
        returns (bytes32)
    {
        bytes32 typeHash = keccak256("TakeOver(address worker,address from,uint32 sequence,uint256 deadline)");
        return _typed(address(at), block.chainid, keccak256(abi.encode(typeHash, id, from, sequence, deadline)));
    }

    function _configurationDigest(Service at, IConfigRotation.Configuration memory set)
        internal
        view
        returns (bytes32)
    {
        bytes32 typeHash = keccak256(
            "Configuration(uint32 version,uint40 activeFrom,uint32 grace,uint48 minPow,uint32 maxTtl,uint32 maxSize,"
            "address oracle,address gateway,bytes32 epochKeyCommitment,bytes32 oracleCardDigest,"
            "bytes32 gatewayCardDigest,uint48 previousBlock)"
        );
        return _typed(address(at), block.chainid, keccak256(bytes.concat(typeHash, abi.encode(set))));
    }

    function _typed(address at, uint256 chain, bytes32 structHash) internal pure returns (bytes32) {
        bytes32 typeHash =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        bytes32 separator = keccak256(abi.encode(typeHash, keccak256("Quietfleet"), keccak256("1"), chain, at));
        return keccak256(abi.encodePacked(hex"1901", separator, structHash));
    }

    /* CONFIGURATIONS */

    function _input() internal pure returns (IConfigRotation.ConfigurationInput memory) {
        return IConfigRotation.ConfigurationInput({
            activeFrom: 0,
            grace: 0,
            minPow: 1e9,
            maxTtl: 60,
            maxSize: 65536,
            oracle: address(0x0AC1E),
            gateway: address(0x6A7E),
            epochKeyCommitment: "commitment",
            oracleCardDigest: "oracle card",
            gatewayCardDigest: "gateway card"
        });
    }

    function _rotate(IConfigRotation.ConfigurationInput memory input) internal returns (uint32) {
        vm.prank(serviceOwner);
        return service.rotate(input);
    }

    /// @dev So many different URLs of lengths that are taken; the contract looks at nothing else of them.
    function _enodes(uint256 count, bytes32 seed) internal pure returns (string[] memory enodes) {
        enodes = new string[](count);
        for (uint256 i = 0; i < count; ++i) {
            bytes memory url = new bytes(_bound(uint256(keccak256(abi.encode(seed, i))), 140, 200));
            for (uint256 j = 0; j < 32; ++j) {
                url[j] = bytes1(uint8(uint256(keccak256(abi.encode(seed, i, "url"))) >> 8 * j));
            }
            enodes[i] = string(url);
        }
    }

    /* STORAGE */

    /// @dev The slot that holds the word of a key, whatever the layout: the one that reading it reads.
    function _slotOf(address key) internal returns (bytes32) {
        vm.record();
        service.worker(key);
        (bytes32[] memory reads,) = vm.accesses(address(service));
        return reads[0];
    }

    function _wordOf(address key) internal returns (uint256) {
        return uint256(vm.load(address(service), _slotOf(key)));
    }

    /* CHOICES */

    /// @dev The optimiser takes block.timestamp for the same throughout a call, which warping makes untrue.
    function _now() internal view returns (uint256) {
        return vm.getBlockTimestamp();
    }

    /// @dev Folds any number into a range.
    function _bound(uint256 any, uint256 least, uint256 most) internal pure returns (uint256) {
        return least + any % (most - least + 1);
    }

    function _kind(uint256 any) internal pure returns (uint8) {
        return uint8(_bound(any, SENSOR, ORACLE));
    }

    /// @dev The one event a call may emit: one, of the contract under test.
    function _oneEvent() internal returns (Vm.Log memory) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, 1, "one change, one event");
        vm.assertEq(logs[0].emitter, address(service));
        return logs[0];
    }
}
