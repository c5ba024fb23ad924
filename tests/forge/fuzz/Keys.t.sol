// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {BadBatchSize, SignatureExpired} from "../../../contracts/interfaces/Errors.sol";
import {IKeyRotation} from "../../../contracts/interfaces/IKeyRotation.sol";
import {IOwnerControl} from "../../../contracts/interfaces/IOwnerControl.sol";
import {IWorkerRegistry} from "../../../contracts/interfaces/IWorkerRegistry.sol";
import {EPOCH_AT} from "../../../contracts/registry/WorkerWord.sol";
import {Fleet} from "../Fleet.sol";
import {Vm, vm} from "../Vm.sol";

contract KeysTest is Fleet {
    uint256 private constant FIRST = 1;

    address private _id;

    function setUp() public {
        _deployService();
        _id = _enrol(FIRST, owner, SENSOR);
    }

    function testFuzz_09_rotateKey__proven__speaksAndTheOneBeforeDoesNot(uint256 key) public {
        vm.assume(_key(key) != _key(FIRST));
        Vm.Wallet memory device = _device(key);
        IKeyRotation.NewKey memory next = _newKey(key, _id, owner, 1, _now());
        vm.expectEmit(address(service));
        emit IKeyRotation.KeyRotated(_id, device.addr, next.x, next.y, 1, 2);
        vm.recordLogs();
        vm.prank(owner);
        service.rotateKey(next);
        _oneEvent();
        _assertKey(device.addr, 1, true);
        _assertKey(_id, 0, false);
        vm.assertEq(service.worker(device.addr).kind, 0, "a later key is no worker");
        vm.assertFalse(service.isUsable(device.addr, SENSOR));
    }

    /// Every key a worker ever had is refused to everybody, as a worker's first key and as its next.
    function testFuzz_09_rotateKey__usedBefore__neverComesBack(uint8 count_, uint8 pick, bool others) public {
        uint256 count = _bound(count_, 1, 5);
        for (uint256 i = 1; i <= count; ++i) {
            _assertKey(_rotateKey(FIRST + i, _id), uint16(i), true);
        }
        uint256 used = FIRST + _bound(pick, 0, count);
        address key = _device(used).addr;
        bytes memory taken = abi.encodeWithSelector(IWorkerRegistry.KeyTaken.selector, key);

        address target = others ? _enrol(99, otherOwner, PROCESSOR) : _id;
        IWorkerRegistry.Worker memory worker = service.worker(target);
        IKeyRotation.NewKey memory next = _newKey(used, target, worker.owner, worker.epoch + 1, _now());
        vm.expectRevert(taken);
        vm.prank(worker.owner);
        service.rotateKey(next);

        IWorkerRegistry.Enrolment memory consent = _enrolment(used, otherOwner, GATEWAY, _now());
        vm.expectRevert(taken);
        vm.prank(otherOwner);
        service.enrol{value: FEE}(consent);
    }

    function testFuzz_10_rotateKey__proofOfAnotherEpoch__refused(uint256 key, uint16 epoch) public {
        vm.assume(epoch != 1);
        _refused(key, _newKey(key, _id, owner, epoch, _now()), owner);
    }

    function testFuzz_10_rotateKey__proofForAnotherOwner__refused(uint256 key) public {
        _refused(key, _newKey(key, _id, otherOwner, 1, _now()), owner);
    }

    function testFuzz_10_rotateKey__proofForAnotherWorker__refused(uint256 key) public {
        address other = _enrol(2, owner, SENSOR);
        IKeyRotation.NewKey memory next = _newKey(key, other, owner, 1, _now());
        next.id = _id;
        _refused(key, next, owner);
    }

    function testFuzz_10_rotateKey__proofWithAnotherDeadline__refused(uint256 key, uint256 later) public {
        IKeyRotation.NewKey memory next = _newKey(key, _id, owner, 1, _now());
        next.deadline = _bound(later, _now() + 1, type(uint256).max);
        _refused(key, next, owner);
    }

    function testFuzz_10_rotateKey__enrolmentAsProof__refused(uint256 key) public {
        IWorkerRegistry.Enrolment memory consent = _enrolment(key, owner, SENSOR, _now());
        _refused(key, IKeyRotation.NewKey(_id, consent.x, consent.y, consent.deadline, consent.r, consent.vs), owner);
    }

    function testFuzz_10_rotateKey__pastItsDeadline__refused(uint256 key, uint32 wait) public {
        vm.assume(wait != 0);
        uint256 deadline = _now();
        IKeyRotation.NewKey memory next = _newKey(key, _id, owner, 1, deadline);
        vm.warp(deadline + wait);
        vm.expectRevert(abi.encodeWithSelector(SignatureExpired.selector, deadline, _now()));
        vm.prank(owner);
        service.rotateKey(next);
    }

    function testFuzz_11_rotateKeyBatch__severalWorkers__asOneByOne(uint8 size) public {
        IKeyRotation.NewKey[] memory next = _nextKeys(_bound(size, 1, 6));
        uint256 before = vm.snapshotState();
        vm.recordLogs();
        vm.prank(owner);
        service.rotateKeyBatch(next);
        bytes32 logs = keccak256(abi.encode(vm.getRecordedLogs()));
        uint256[] memory words = _words(next);

        vm.revertToState(before);
        vm.recordLogs();
        for (uint256 i = 0; i < next.length; ++i) {
            vm.prank(owner);
            service.rotateKey(next[i]);
        }
        vm.assertEq(keccak256(abi.encode(vm.getRecordedLogs())), logs, "events");
        vm.assertEq(keccak256(abi.encode(_words(next))), keccak256(abi.encode(words)), "storage");
    }

    function testFuzz_11_rotateKeyBatch__oneOfSomebodyElse__nothingChanges(uint8 size, uint8 bad_) public {
        IKeyRotation.NewKey[] memory next = _nextKeys(_bound(size, 1, 6));
        uint256 bad = _bound(bad_, 0, next.length - 1);
        next[bad].id = _enrol(999, otherOwner, SENSOR);
        uint256[] memory words = _words(next);
        vm.expectRevert(abi.encodeWithSelector(IWorkerRegistry.NotWorkerOwner.selector, next[bad].id, owner));
        vm.prank(owner);
        service.rotateKeyBatch(next);
        vm.assertEq(keccak256(abi.encode(_words(next))), keccak256(abi.encode(words)), "storage");
    }

    function test_34_rotateKeyBatch__noneOrTooMany__refused() public {
        vm.expectRevert(abi.encodeWithSelector(BadBatchSize.selector, 0, 400));
        service.rotateKeyBatch(new IKeyRotation.NewKey[](0));
        vm.expectRevert(abi.encodeWithSelector(BadBatchSize.selector, 401, 400));
        service.rotateKeyBatch(new IKeyRotation.NewKey[](401));
    }

    /// No run of calls gets there in time; only a written slot does.
    function testFuzz_09_rotateKey__lastEpochReached__refusedForGood(uint256 key) public {
        vm.assume(_key(key) != _key(FIRST));
        uint256 word = _wordOf(_id) | uint256(type(uint16).max) << EPOCH_AT;
        vm.store(address(service), _slotOf(_id), bytes32(word));
        IKeyRotation.NewKey memory next = _newKey(key, _id, owner, 0, _now());
        vm.expectRevert(abi.encodeWithSelector(IKeyRotation.KeysExhausted.selector, _id));
        vm.prank(owner);
        service.rotateKey(next);

        vm.store(address(service), _slotOf(_id), bytes32(word - (1 << EPOCH_AT)));
        _assertKey(_rotateKey(key, _id), type(uint16).max, true);
        vm.prank(owner);
        service.setActive(_id, false);
    }

    function testFuzz_09_rotateKey__retiredOrPending__refused(uint256 key) public {
        vm.assume(_key(key) != _key(FIRST) && _key(key) != _key(7));
        address pending = _enrolSelf(7, owner, SENSOR);
        IKeyRotation.NewKey memory next = _newKey(key, pending, owner, 1, _now());
        vm.expectRevert(abi.encodeWithSelector(IOwnerControl.WorkerPending.selector, pending));
        vm.prank(owner);
        service.rotateKey(next);

        next = _newKey(key, _id, owner, 1, _now());
        vm.prank(owner);
        service.retire(_id);
        vm.expectRevert(abi.encodeWithSelector(IOwnerControl.WorkerRetired.selector, _id));
        vm.prank(owner);
        service.rotateKey(next);
    }

    function testFuzz_09_workerOf__nobodysKey__nobody(address key) public view {
        vm.assume(key != _id);
        (address id, uint16 epoch, bool current) = service.workerOf(key);
        vm.assertTrue(id == address(0) && epoch == 0 && !current);
    }

    /* HELPERS */

    function _assertKey(address key, uint16 epoch, bool current) private view {
        (address id, uint16 epoch_, bool current_) = service.workerOf(key);
        vm.assertEq(id, _id);
        vm.assertEq(epoch_, epoch);
        vm.assertEq(current_, current);
    }

    function _refused(uint256 key, IKeyRotation.NewKey memory next, address caller) private {
        address signer = ecrecover(
            _rotateDigest(service, next.id, owner, 1, next.deadline),
            27 + uint8(uint256(next.vs) >> 255),
            next.r,
            bytes32(uint256(next.vs) & (type(uint256).max >> 1))
        );
        vm.assume(signer != address(0));
        vm.expectRevert(abi.encodeWithSelector(IWorkerRegistry.WrongSigner.selector, _device(key).addr, signer));
        vm.prank(caller);
        service.rotateKey(next);
    }

    function _nextKeys(uint256 size) private returns (IKeyRotation.NewKey[] memory next) {
        next = new IKeyRotation.NewKey[](size);
        for (uint256 i = 0; i < size; ++i) {
            address id = _enrol(100 + i, owner, SENSOR);
            next[i] = _newKey(200 + i, id, owner, 1, _now());
        }
    }

    function _words(IKeyRotation.NewKey[] memory next) private returns (uint256[] memory words) {
        words = new uint256[](2 * next.length);
        for (uint256 i = 0; i < next.length; ++i) {
            words[2 * i] = _wordOf(next[i].id);
            words[2 * i + 1] = _wordOf(_device(200 + i).addr);
        }
    }
}
