// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {Service} from "../../../contracts/Service.sol";
import {BadBatchSize, SignatureExpired, ZeroAddress} from "../../../contracts/interfaces/Errors.sol";
import {IAdmission} from "../../../contracts/interfaces/IAdmission.sol";
import {IWorkerRegistry} from "../../../contracts/interfaces/IWorkerRegistry.sol";
import {ACTIVE, PENDING} from "../../../contracts/registry/WorkerWord.sol";
import {Fleet} from "../Fleet.sol";
import {Vm, vm} from "../Vm.sol";

contract EnrolmentTest is Fleet {
    function setUp() public {
        _deployService();
    }

    /* WITH CONSENT */

    function testFuzz_01_enrol__consented__idIsTheKeysAddress(uint256 key, uint256 kind_, uint256 later) public {
        uint8 kind = _kind(kind_);
        Vm.Wallet memory device = _device(key);
        IWorkerRegistry.Enrolment memory consent =
            _enrolment(key, owner, kind, _bound(later, _now(), type(uint256).max));
        vm.recordLogs();
        vm.prank(owner);
        address id = service.enrol{value: FEE}(consent);

        Vm.Log memory log = _oneEvent();
        vm.assertEq(log.topics[0], IWorkerRegistry.Enrolled.selector);
        vm.assertEq(log.topics[1], bytes32(uint256(uint160(device.addr))));
        vm.assertEq(log.topics[2], bytes32(uint256(uint160(owner))));
        vm.assertEq(log.data, abi.encode(kind, device.publicKeyX, device.publicKeyY));
        vm.assertEq(id, device.addr);
        _assertWorker(id, owner, kind, ACTIVE);
        (address of_, uint16 epoch, bool current) = service.workerOf(id);
        vm.assertTrue(of_ == id && epoch == 0 && current);
        vm.assertTrue(service.isUsable(id, kind));
        vm.assertFalse(service.isUsable(id, kind % 5 + 1));
    }

    function testFuzz_02_enrol__signedForAnotherOwner__refused(uint256 key, uint256 kind_) public {
        IWorkerRegistry.Enrolment memory consent = _enrolment(key, otherOwner, _kind(kind_), _now());
        _refused(consent, _wrongSigner(consent, _enrolDigest(service, owner, consent.kind, consent.deadline)));
    }

    function testFuzz_02_enrol__signedByAnotherKey__refused(uint256 key, uint256 otherKey) public {
        vm.assume(_key(key) != _key(otherKey));
        IWorkerRegistry.Enrolment memory consent = _enrolment(key, owner, SENSOR, _now());
        Vm.Wallet memory squatted = _device(otherKey);
        (consent.x, consent.y) = (bytes32(squatted.publicKeyX), bytes32(squatted.publicKeyY));
        address signer = _device(key).addr;
        _refused(consent, abi.encodeWithSelector(IWorkerRegistry.WrongSigner.selector, squatted.addr, signer));
    }

    function testFuzz_02_enrol__signedForAnotherKindOrTime__refused(uint256 key, uint8 kind_, uint256 later) public {
        IWorkerRegistry.Enrolment memory consent = _enrolment(key, owner, SENSOR, _now());
        (consent.kind, consent.deadline) = (kind_, _bound(later, _now(), type(uint256).max));
        vm.assume(consent.kind != SENSOR || consent.deadline != _now());
        _refused(consent, _wrongSigner(consent, _enrolDigest(service, owner, consent.kind, consent.deadline)));
    }

    function testFuzz_03_enrol__enrolledAlready__refusedAndKeepsTheFee(uint256 key, uint256 kind_, uint256 again)
        public
    {
        address id = _enrol(key, owner, _kind(kind_));
        uint256 balance = address(service).balance;
        IWorkerRegistry.Enrolment memory consent = _enrolment(key, owner, _kind(again), _now());
        _refused(consent, abi.encodeWithSelector(IWorkerRegistry.KeyTaken.selector, id));
        vm.assertEq(address(service).balance, balance);
        _assertWorker(id, owner, _kind(kind_), ACTIVE);
    }

    function testFuzz_03_enrol__retired__refusedForGood(uint256 key) public {
        address id = _enrol(key, owner, SENSOR);
        vm.prank(owner);
        service.retire(id);
        _refused(_enrolment(key, owner, SENSOR, _now()), abi.encodeWithSelector(IWorkerRegistry.KeyTaken.selector, id));
    }

    function testFuzz_10_enrol__pastItsDeadline__refused(uint256 key, uint256 early, uint256 later) public {
        uint256 deadline = _bound(early, 0, type(uint32).max - 1);
        IWorkerRegistry.Enrolment memory consent = _enrolment(key, owner, SENSOR, deadline);
        vm.warp(_bound(later, deadline + 1, type(uint32).max));
        _refused(consent, abi.encodeWithSelector(SignatureExpired.selector, deadline, _now()));
    }

    function testFuzz_10_enrol__atItsDeadline__taken(uint256 key, uint256 moment) public {
        vm.warp(_bound(moment, 1, type(uint32).max));
        vm.assertEq(_enrol(key, owner, SENSOR), _device(key).addr);
    }

    /// The other signature of the same key upon the same words, which anybody makes from the first: its s does not fit
    /// beside the parity, and what fits of it is another signature.
    function testFuzz_10_enrol__otherSignatureOfTheSameWords__refused(uint256 key) public {
        IWorkerRegistry.Enrolment memory consent = _enrolment(key, owner, SENSOR, _now());
        uint256 s = CURVE_ORDER - (uint256(consent.vs) & (type(uint256).max >> 1));
        consent.vs = bytes32(s | ((uint256(consent.vs) >> 255) ^ 1) << 255);
        _refused(consent, _wrongSigner(consent, _enrolDigest(service, owner, SENSOR, consent.deadline)));
    }

    function testFuzz_10_enrol__highS__refused(uint256 key, uint256 s_, bool odd) public {
        IWorkerRegistry.Enrolment memory consent = _enrolment(key, owner, SENSOR, _now());
        uint256 s = _bound(s_, CURVE_ORDER / 2 + 1, type(uint256).max >> 1);
        consent.vs = bytes32(s | (odd ? uint256(1) << 255 : 0));
        _refused(consent, abi.encodeWithSelector(ECDSA.ECDSAInvalidSignatureS.selector, bytes32(s)));
    }

    function testFuzz_10_enrol__otherParity__refused(uint256 key) public {
        IWorkerRegistry.Enrolment memory consent = _enrolment(key, owner, SENSOR, _now());
        consent.vs ^= bytes32(uint256(1) << 255);
        _refused(consent, _wrongSigner(consent, _enrolDigest(service, owner, SENSOR, consent.deadline)));
    }

    function test_10_enrol__noSignature__refused() public {
        IWorkerRegistry.Enrolment memory consent = _enrolment(1, owner, SENSOR, _now());
        (consent.r, consent.vs) = (0, 0);
        _refused(consent, abi.encodeWithSelector(ECDSA.ECDSAInvalidSignature.selector));
    }

    function testFuzz_10_enrol__ofAnotherContract__refused(uint256 key) public {
        IWorkerRegistry.Enrolment memory consent = _enrolment(key, owner, SENSOR, _now());
        service = new Service(serviceOwner, FEE, FEE_CAP);
        _refused(consent, _wrongSigner(consent, _enrolDigest(service, owner, SENSOR, consent.deadline)));
    }

    function testFuzz_10_enrol__ofAnotherChain__refused(uint256 key, uint64 chain) public {
        vm.assume(chain != block.chainid && chain != 0);
        IWorkerRegistry.Enrolment memory consent = _enrolment(key, owner, SENSOR, _now());
        vm.chainId(chain);
        _refused(consent, _wrongSigner(consent, _enrolDigest(service, owner, SENSOR, consent.deadline)));
    }

    function testFuzz_10_enrol__signedAsNewKey__refused(uint256 key, uint256 other) public {
        vm.assume(_key(key) != _key(other));
        address id = _enrol(other, owner, SENSOR);
        IWorkerRegistry.Enrolment memory consent = _enrolment(key, owner, SENSOR, _now());
        bytes32 proof = _rotateDigest(service, id, owner, 1, _now());
        (consent.r, consent.vs) = vm.signCompact(_key(key), proof);
        _refused(consent, _wrongSigner(consent, _enrolDigest(service, owner, SENSOR, consent.deadline)));
    }

    function testFuzz_34_enrol__badKind__refused(uint256 key, uint8 kind) public {
        vm.assume(kind == 0 || kind > ORACLE);
        _refused(_enrolment(key, owner, kind, _now()), abi.encodeWithSelector(IWorkerRegistry.BadKind.selector, kind));
    }

    /* BY ITSELF */

    function testFuzz_02_enrolSelf__byTheDevice__pendingUntilItsOwnerAccepts(uint256 key, uint256 kind_) public {
        uint8 kind = _kind(kind_);
        Vm.Wallet memory device = _device(key);
        vm.deal(device.addr, FEE);
        vm.recordLogs();
        vm.prank(device.addr);
        address id = service.enrolSelf{value: FEE}(bytes32(device.publicKeyX), bytes32(device.publicKeyY), kind, owner);
        Vm.Log memory log = _oneEvent();
        vm.assertEq(log.topics[0], IWorkerRegistry.EnrolledItself.selector);
        vm.assertEq(log.data, abi.encode(kind, device.publicKeyX, device.publicKeyY));
        _assertWorker(id, owner, kind, PENDING);
        vm.assertFalse(service.isUsable(id, kind));

        vm.expectEmit(address(service));
        emit IWorkerRegistry.Accepted(id, owner, 2);
        vm.prank(owner);
        service.accept(id);
        vm.assertTrue(service.isUsable(id, kind));

        vm.expectRevert(abi.encodeWithSelector(IWorkerRegistry.NotPending.selector, id));
        vm.prank(owner);
        service.accept(id);
    }

    function testFuzz_02_enrolSelf__byAnybodyElse__refused(uint256 key, address caller) public {
        Vm.Wallet memory device = _device(key);
        vm.assume(caller != device.addr && caller != address(vm));
        vm.deal(caller, FEE);
        vm.expectRevert(abi.encodeWithSelector(IWorkerRegistry.NotTheWorker.selector, caller, device.addr));
        vm.prank(caller);
        service.enrolSelf{value: FEE}(bytes32(device.publicKeyX), bytes32(device.publicKeyY), SENSOR, owner);
    }

    function test_34_enrolSelf__forNobody__refused() public {
        Vm.Wallet memory device = _device(1);
        vm.deal(device.addr, FEE);
        vm.expectRevert(abi.encodeWithSelector(ZeroAddress.selector));
        vm.prank(device.addr);
        service.enrolSelf{value: FEE}(bytes32(device.publicKeyX), bytes32(device.publicKeyY), SENSOR, address(0));
    }

    function testFuzz_05_accept__byAnotherThanTheNamedOwner__refused(uint256 key, address caller) public {
        vm.assume(caller != owner && caller != address(0) && caller != address(vm));
        address id = _enrolSelf(key, owner, SENSOR);
        vm.expectRevert(abi.encodeWithSelector(IWorkerRegistry.NotWorkerOwner.selector, id, caller));
        vm.prank(caller);
        service.accept(id);
    }

    function testFuzz_34_accept__unknown__refused(address id) public {
        vm.expectRevert(abi.encodeWithSelector(IWorkerRegistry.UnknownWorker.selector, id));
        vm.prank(owner);
        service.accept(id);
    }

    /* IN BATCHES */

    function testFuzz_11_enrolBatch__severalDevices__asOneByOne(uint256 key, uint8 size) public {
        IWorkerRegistry.Enrolment[] memory devices = _devices(key, _bound(size, 1, 8));
        uint256 fees = FEE * devices.length;
        uint256 before = vm.snapshotState();
        vm.recordLogs();
        vm.prank(owner);
        service.enrolBatch{value: fees}(devices);
        (bytes32 logs, bytes32 words) = (_digestOfLogs(), _digestOfWords(devices));
        uint256 balance = address(service).balance;

        vm.revertToState(before);
        vm.recordLogs();
        for (uint256 i = 0; i < devices.length; ++i) {
            vm.prank(owner);
            service.enrol{value: FEE}(devices[i]);
        }
        vm.assertEq(_digestOfLogs(), logs, "events");
        vm.assertEq(_digestOfWords(devices), words, "storage");
        vm.assertEq(address(service).balance, balance, "balance");
    }

    function testFuzz_11_enrolBatch__oneBadItem__nothingChanges(uint256 key, uint8 size, uint8 bad_) public {
        IWorkerRegistry.Enrolment[] memory devices = _devices(key, _bound(size, 1, 8));
        uint256 bad = _bound(bad_, 0, devices.length - 1);
        devices[bad].kind = 0;
        bytes memory why = _wrongSigner(devices[bad], _enrolDigest(service, owner, 0, devices[bad].deadline));
        uint256 fees = FEE * devices.length;
        vm.expectRevert(why);
        vm.prank(owner);
        service.enrolBatch{value: fees}(devices);
        for (uint256 i = 0; i < devices.length; ++i) {
            vm.assertEq(_wordOf(_addressOf(devices[i])), 0);
        }
        vm.assertEq(address(service).balance, 0);
    }

    function testFuzz_11_enrolBatch__oneDeviceTwice__refused(uint256 key) public {
        IWorkerRegistry.Enrolment[] memory devices = _devices(key, 2);
        devices[1] = devices[0];
        vm.expectRevert(abi.encodeWithSelector(IWorkerRegistry.KeyTaken.selector, _addressOf(devices[0])));
        vm.prank(owner);
        service.enrolBatch{value: 2 * FEE}(devices);
    }

    function test_34_enrolBatch__noneOrTooMany__refused() public {
        vm.expectRevert(abi.encodeWithSelector(BadBatchSize.selector, 0, 400));
        vm.prank(owner);
        service.enrolBatch(new IWorkerRegistry.Enrolment[](0));
        vm.expectRevert(abi.encodeWithSelector(BadBatchSize.selector, 401, 400));
        vm.prank(owner);
        service.enrolBatch{value: 401 * FEE}(new IWorkerRegistry.Enrolment[](401));
    }

    /* FOR A FEE */

    function testFuzz_18_enrol__notTheExactFee__refused(uint256 key, uint256 sent) public {
        sent = _bound(sent, 0, 2 * uint256(FEE));
        vm.assume(sent != FEE);
        IWorkerRegistry.Enrolment memory consent = _enrolment(key, owner, SENSOR, _now());
        vm.expectRevert(abi.encodeWithSelector(IAdmission.WrongFee.selector, sent, FEE));
        vm.prank(owner);
        service.enrol{value: sent}(consent);
    }

    function testFuzz_18_enrolBatch__notTheExactFees__refused(uint8 size, uint256 sent) public {
        IWorkerRegistry.Enrolment[] memory devices = _devices(1, _bound(size, 1, 4));
        sent = _bound(sent, 0, 5 * uint256(FEE));
        uint256 fees = FEE * devices.length;
        vm.assume(sent != fees);
        vm.expectRevert(abi.encodeWithSelector(IAdmission.WrongFee.selector, sent, fees));
        vm.prank(owner);
        service.enrolBatch{value: sent}(devices);
    }

    function test_20_enrol__paused__refusedInEveryForm() public {
        vm.prank(serviceOwner);
        service.setPaused(true);
        bytes memory paused = abi.encodeWithSelector(IAdmission.EnrolmentPaused.selector);
        _refused(_enrolment(1, owner, SENSOR, _now()), paused);
        IWorkerRegistry.Enrolment[] memory devices = _devices(1, 1);
        vm.expectRevert(paused);
        vm.prank(owner);
        service.enrolBatch{value: FEE}(devices);
        Vm.Wallet memory device = _device(1);
        vm.deal(device.addr, FEE);
        vm.expectRevert(paused);
        vm.prank(device.addr);
        service.enrolSelf{value: FEE}(bytes32(device.publicKeyX), bytes32(device.publicKeyY), SENSOR, owner);
    }

    /* HELPERS */

    function _refused(IWorkerRegistry.Enrolment memory consent, bytes memory why) private {
        uint256 fee = service.fee();
        vm.expectRevert(why);
        vm.prank(owner);
        service.enrol{value: fee}(consent);
    }

    /// @dev What the contract says when a signature upon something else leads it to another, meaningless signer.
    function _wrongSigner(IWorkerRegistry.Enrolment memory consent, bytes32 digest)
        private
        pure
        returns (bytes memory)
    {
        uint8 v = 27 + uint8(uint256(consent.vs) >> 255);
        bytes32 s = bytes32(uint256(consent.vs) & (type(uint256).max >> 1));
        address signer = ecrecover(digest, v, consent.r, s);
        if (signer == address(0)) return abi.encodeWithSelector(ECDSA.ECDSAInvalidSignature.selector);
        return abi.encodeWithSelector(IWorkerRegistry.WrongSigner.selector, _addressOf(consent), signer);
    }

    function _assertWorker(address id, address owner_, uint8 kind, uint8 flags) private view {
        IWorkerRegistry.Worker memory worker = service.worker(id);
        vm.assertEq(worker.owner, owner_);
        vm.assertEq(worker.since, _now());
        vm.assertEq(worker.epoch, 0);
        vm.assertEq(worker.sequence, 1);
        vm.assertEq(worker.kind, kind);
        vm.assertEq(worker.flags, flags);
    }

    function _devices(uint256 key, uint256 size) private returns (IWorkerRegistry.Enrolment[] memory devices) {
        devices = new IWorkerRegistry.Enrolment[](size);
        for (uint256 i = 0; i < size; ++i) {
            uint256 each = uint256(keccak256(abi.encode(key, i)));
            devices[i] = _enrolment(each, owner, uint8(i % 5 + 1), _now());
        }
    }

    function _digestOfLogs() private returns (bytes32) {
        return keccak256(abi.encode(vm.getRecordedLogs()));
    }

    function _digestOfWords(IWorkerRegistry.Enrolment[] memory devices) private returns (bytes32) {
        uint256[] memory words = new uint256[](devices.length);
        for (uint256 i = 0; i < devices.length; ++i) {
            words[i] = _wordOf(_addressOf(devices[i]));
        }
        return keccak256(abi.encode(words));
    }

    function _addressOf(IWorkerRegistry.Enrolment memory device) private pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encode(device.x, device.y)))));
    }
}
