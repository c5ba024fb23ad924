// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {BadBatchSize, SignatureExpired, Unchanged, ZeroAddress} from "../../../contracts/interfaces/Errors.sol";
import {IOperators} from "../../../contracts/interfaces/IOperators.sol";
import {IOwnerControl} from "../../../contracts/interfaces/IOwnerControl.sol";
import {IWorkerRegistry} from "../../../contracts/interfaces/IWorkerRegistry.sol";
import {ACTIVE, PENDING, RETIRED, SUSPENDED} from "../../../contracts/registry/WorkerWord.sol";
import {Fleet} from "../Fleet.sol";
import {Vm, vm} from "../Vm.sol";

/// @dev A contract that owns devices and answers for itself (ERC-1271).
contract Committee {
    bytes32 private immutable _AGREED;

    constructor(bytes32 agreed) {
        _AGREED = agreed;
    }

    function isValidSignature(bytes32 digest, bytes calldata) external view returns (bytes4) {
        return digest == _AGREED ? this.isValidSignature.selector : bytes4(0);
    }
}

contract ControlTest is Fleet {
    address private _id;

    function setUp() public {
        _deployService();
        _id = _enrol(1, owner, SENSOR);
    }

    /* COOPERATION */

    /// The matrix of the documentation, spelled out: who works with whom, in the state each of the two is in.
    function testFuzz_07_canCooperate__anyTwo__byKindAndStateAlone(
        uint256 kindA,
        uint256 kindB,
        uint8 stateA,
        uint8 stateB
    ) public {
        address a = _inState(100, _kind(kindA), stateA % 4);
        address b = _inState(200, _kind(kindB), stateB % 4);
        bool fits = _meet(_kind(kindA), _kind(kindB)) && stateA % 4 == 0 && stateB % 4 == 0;
        vm.assertEq(service.canCooperate(a, b), fits);
        vm.assertEq(service.canCooperate(b, a), fits);
        vm.assertFalse(service.canCooperate(a, a));
        vm.assertFalse(service.canCooperate(b, b));
    }

    function testFuzz_07_canCooperate__notEnrolled__never(address anybody) public view {
        vm.assume(anybody != _id);
        vm.assertFalse(service.canCooperate(_id, anybody));
        vm.assertFalse(service.canCooperate(anybody, _id));
        vm.assertFalse(service.canCooperate(anybody, anybody));
    }

    function testFuzz_08_setActive__off__severedInTheSameBlockByOneEvent(uint8 count_) public {
        uint256 count = _bound(count_, 1, 8);
        for (uint256 i = 0; i < count; ++i) {
            vm.assertTrue(service.canCooperate(_id, _enrol(10 + i, otherOwner, PROCESSOR)));
        }
        vm.recordLogs();
        vm.prank(owner);
        service.setActive(_id, false);
        Vm.Log memory log = _oneEvent();
        vm.assertEq(log.topics[0], IOwnerControl.ActiveChanged.selector);
        vm.assertEq(log.data, abi.encode(false, 2));
        for (uint256 i = 0; i < count; ++i) {
            vm.assertFalse(service.canCooperate(_id, _device(10 + i).addr));
        }
        vm.expectRevert(abi.encodeWithSelector(Unchanged.selector));
        vm.prank(owner);
        service.setActive(_id, false);

        vm.prank(owner);
        service.setActive(_id, true);
        vm.assertTrue(service.canCooperate(_id, _device(10).addr));
    }

    /* SWITCHES */

    function testFuzz_05_setActive__byAStranger__refused(address caller, bool active) public {
        vm.assume(caller != owner && caller != address(0) && caller != address(vm));
        bytes memory why = abi.encodeWithSelector(IWorkerRegistry.NotWorkerOwner.selector, _id, caller);
        vm.expectRevert(why);
        vm.prank(caller);
        service.setActive(_id, active);
        vm.expectRevert(why);
        vm.prank(caller);
        service.retire(_id);
        vm.expectRevert(why);
        vm.prank(caller);
        service.offerTransfer(_id, caller);
        vm.expectRevert(why);
        vm.prank(caller);
        service.cancelTransfer(_id);
        vm.expectRevert(why);
        vm.prank(caller);
        service.transferSigned(_id, caller, _now(), "");
        vm.expectRevert(abi.encodeWithSelector(IOwnerControl.NotOffered.selector, _id, caller));
        vm.prank(caller);
        service.acceptTransfer(_id);
    }

    function testFuzz_05_setSuspended__byTheService__theOwnersSwitchStays(bool off) public {
        if (off) _setActive(_id, false);
        uint8 own = service.worker(_id).flags;
        vm.recordLogs();
        vm.prank(serviceOwner);
        service.setSuspended(_id, true);
        vm.assertEq(_oneEvent().topics[0], IOwnerControl.SuspendedChanged.selector);
        vm.assertEq(service.worker(_id).flags, own | SUSPENDED);
        vm.assertFalse(service.isUsable(_id, SENSOR));
        vm.expectRevert(abi.encodeWithSelector(Unchanged.selector));
        vm.prank(serviceOwner);
        service.setSuspended(_id, true);
        vm.prank(serviceOwner);
        service.setSuspended(_id, false);
        vm.assertEq(service.worker(_id).flags, own);
    }

    function testFuzz_11_setActiveBatch__severalWorkers__asOneByOne(uint8 size) public {
        address[] memory ids = _workers(_bound(size, 1, 8));
        uint256 before = vm.snapshotState();
        vm.recordLogs();
        vm.prank(owner);
        service.setActiveBatch(ids, false);
        bytes32 logs = keccak256(abi.encode(vm.getRecordedLogs()));
        bytes32 words = _digestOfWords(ids);

        vm.revertToState(before);
        vm.recordLogs();
        for (uint256 i = 0; i < ids.length; ++i) {
            _setActive(ids[i], false);
        }
        vm.assertEq(keccak256(abi.encode(vm.getRecordedLogs())), logs, "events");
        vm.assertEq(_digestOfWords(ids), words, "storage");
    }

    function testFuzz_11_setActiveBatch__oneOffAlready__nothingChanges(uint8 size, uint8 bad) public {
        address[] memory ids = _workers(_bound(size, 1, 8));
        _setActive(ids[_bound(bad, 0, ids.length - 1)], false);
        bytes32 words = _digestOfWords(ids);
        vm.expectRevert(abi.encodeWithSelector(Unchanged.selector));
        vm.prank(owner);
        service.setActiveBatch(ids, false);
        vm.assertEq(_digestOfWords(ids), words, "storage");
    }

    function test_34_setActiveBatch__noneOrTooMany__refused() public {
        vm.expectRevert(abi.encodeWithSelector(BadBatchSize.selector, 0, 400));
        service.setActiveBatch(new address[](0), true);
        vm.expectRevert(abi.encodeWithSelector(BadBatchSize.selector, 401, 400));
        service.setActiveBatch(new address[](401), true);
    }

    /* OPERATORS */

    /// What each right allows, until its last second, and not a second longer.
    function testFuzz_05_operator__anyRights__exactlyThoseUntilTheirEnd(uint8 rights_, uint32 term, bool late) public {
        uint8 rights = uint8(_bound(rights_, 1, 7));
        uint40 until = uint40(_now() + _bound(term, 1, 366 days));
        vm.expectEmit(address(service));
        emit IOperators.OperatorChanged(owner, operator, rights, until);
        vm.prank(owner);
        service.setOperator(operator, rights, until);
        vm.warp(late ? until + 1 : until);
        uint8 left = late ? 0 : rights;
        vm.assertEq(service.operatorRights(owner, operator), left);

        address off = _enrol(2, owner, SENSOR);
        _setActive(off, false);
        bytes memory turnOff = abi.encodeCall(service.setActive, (_id, false));
        bytes memory turnOn = abi.encodeCall(service.setActive, (off, true));
        bytes memory replace = abi.encodeCall(service.rotateKey, (_newKey(3, _id, owner, 1, _now())));
        vm.assertEq(_try(operator, turnOff), left & 1 != 0, "off");
        vm.assertEq(_try(operator, turnOn), left & 2 != 0, "on");
        vm.assertEq(_try(operator, replace), left & 4 != 0, "key");
    }

    function testFuzz_06_operator__allRights__neverOwnership(uint32 term) public {
        _grant(7, uint40(_now() + _bound(term, 1, 366 days)));
        bytes memory why = abi.encodeWithSelector(IWorkerRegistry.NotWorkerOwner.selector, _id, operator);
        vm.expectRevert(why);
        vm.prank(operator);
        service.offerTransfer(_id, operator);
        vm.expectRevert(why);
        vm.prank(operator);
        service.retire(_id);
        vm.expectRevert(why);
        vm.prank(operator);
        service.transferSigned(_id, operator, _now(), "");
        vm.expectRevert(why);
        vm.prank(operator);
        service.cancelTransfer(_id);
        vm.expectRevert(why);
        vm.prank(operator);
        service.accept(_id);
    }

    function testFuzz_06_operator__workerPassedOn__leftBehind(uint8 rights) public {
        _grant(uint8(_bound(rights, 1, 7)), uint40(_now() + 1 days));
        _pass(otherOwner);
        bytes memory turnOff = abi.encodeCall(service.setActive, (_id, false));
        vm.assertFalse(_try(operator, turnOff));
        vm.assertFalse(_try(owner, turnOff));
        vm.assertTrue(_try(otherOwner, turnOff));
    }

    function testFuzz_05_setOperator__takenBack__nothingLeft(uint8 rights) public {
        _grant(uint8(_bound(rights, 1, 7)), uint40(_now() + 1 days));
        _grant(0, 0);
        vm.assertEq(service.operatorRights(owner, operator), 0);
        vm.expectRevert(abi.encodeWithSelector(Unchanged.selector));
        _grant(0, 0);
    }

    function testFuzz_34_setOperator__sameAgain__refused(uint8 rights, uint32 term) public {
        uint40 until = uint40(_now() + _bound(term, 1, 366 days - 1));
        rights = uint8(_bound(rights, 1, 7));
        _grant(rights, until);
        vm.expectRevert(abi.encodeWithSelector(Unchanged.selector));
        _grant(rights, until);
        _grant(rights, until + 1);
        _grant(rights % 7 + 1, until + 1);
    }

    function testFuzz_34_setOperator__badRights__refused(uint8 rights) public {
        vm.assume(rights > 7);
        vm.expectRevert(abi.encodeWithSelector(IOperators.BadRights.selector, rights));
        _grant(rights, uint40(_now() + 1));
    }

    function testFuzz_34_setOperator__badTerm__refused(uint8 rights, uint40 until) public {
        rights = uint8(_bound(rights, 0, 7));
        uint256 latest = _now() + 366 days;
        vm.assume(rights == 0 ? until != 0 : until <= _now() || until > latest);
        vm.expectRevert(abi.encodeWithSelector(IOperators.BadTerm.selector, until, latest));
        _grant(rights, until);
    }

    function test_34_setOperator__nobody__refused() public {
        vm.expectRevert(abi.encodeWithSelector(ZeroAddress.selector));
        vm.prank(owner);
        service.setOperator(address(0), 1, uint40(_now() + 1));
    }

    /* TRANSFER IN TWO STEPS */

    function testFuzz_06_acceptTransfer__offered__passesAsItIs(address to, bool off, bool suspended) public {
        vm.assume(to != address(0) && to != owner && to != address(vm));
        if (off) _setActive(_id, false);
        if (suspended) _suspend(_id);
        IWorkerRegistry.Worker memory before = service.worker(_id);
        vm.recordLogs();
        _offer(to);
        vm.assertEq(_oneEvent().topics[0], IOwnerControl.TransferOffered.selector);
        vm.assertEq(service.pendingOwner(_id), to);
        vm.expectEmit(address(service));
        emit IOwnerControl.OwnerChanged(_id, owner, to, before.sequence + 2);
        vm.prank(to);
        service.acceptTransfer(_id);
        IWorkerRegistry.Worker memory passed = service.worker(_id);
        vm.assertEq(passed.owner, to);
        vm.assertTrue(passed.flags == before.flags && passed.kind == before.kind && passed.epoch == before.epoch);
        vm.assertEq(service.pendingOwner(_id), address(0));
        vm.assertFalse(_try(owner, abi.encodeCall(service.retire, (_id))));
        vm.assertFalse(_try(to, abi.encodeCall(service.acceptTransfer, (_id))));
    }

    function testFuzz_06_cancelTransfer__offered__takenBack(address to) public {
        vm.assume(to != address(0) && to != owner && to != address(vm));
        _offer(to);
        vm.expectEmit(address(service));
        emit IOwnerControl.TransferCancelled(_id, 3);
        vm.prank(owner);
        service.cancelTransfer(_id);
        vm.expectRevert(abi.encodeWithSelector(IOwnerControl.NotOffered.selector, _id, to));
        vm.prank(to);
        service.acceptTransfer(_id);
        vm.expectRevert(abi.encodeWithSelector(Unchanged.selector));
        vm.prank(owner);
        service.cancelTransfer(_id);
    }

    function testFuzz_06_offerTransfer__toAnother__replacesTheFirst(address first, address second) public {
        vm.assume(first != address(0) && first != owner && first != address(vm));
        vm.assume(second != address(0) && second != owner && second != first);
        _offer(first);
        _offer(second);
        vm.expectRevert(abi.encodeWithSelector(IOwnerControl.NotOffered.selector, _id, first));
        vm.prank(first);
        service.acceptTransfer(_id);
    }

    function test_34_offerTransfer__toNobodyOneselfOrTwice__refused() public {
        vm.expectRevert(abi.encodeWithSelector(ZeroAddress.selector));
        _offer(address(0));
        vm.expectRevert(abi.encodeWithSelector(Unchanged.selector));
        _offer(owner);
        _offer(otherOwner);
        vm.expectRevert(abi.encodeWithSelector(Unchanged.selector));
        _offer(otherOwner);
    }

    /* TRANSFER BY SIGNATURE */

    function testFuzz_06_transferSigned__agreed__passesAtOnceAndOnce(uint256 key, uint256 later) public {
        address to = _device(key).addr;
        uint256 deadline = _bound(later, _now(), type(uint256).max);
        bytes memory signature = _agreement(_key(key), 1, deadline);
        vm.recordLogs();
        vm.prank(owner);
        service.transferSigned(_id, to, deadline, signature);
        vm.assertEq(_oneEvent().topics[0], IOwnerControl.OwnerChanged.selector);
        vm.assertEq(service.worker(_id).owner, to);

        vm.prank(to);
        service.offerTransfer(_id, owner);
        vm.prank(owner);
        service.acceptTransfer(_id);
        vm.expectRevert(abi.encodeWithSelector(IOwnerControl.NotAgreed.selector, _id, to));
        vm.prank(owner);
        service.transferSigned(_id, to, deadline, signature);
    }

    function testFuzz_06_transferSigned__offerOpen__endsIt() public {
        _offer(stranger);
        bytes memory signature = _agreement(OTHER_OWNER_KEY, 2, _now());
        vm.prank(owner);
        service.transferSigned(_id, otherOwner, _now(), signature);
        vm.expectRevert(abi.encodeWithSelector(IOwnerControl.NotOffered.selector, _id, stranger));
        vm.prank(stranger);
        service.acceptTransfer(_id);
    }

    function testFuzz_10_transferSigned__anythingElseSigned__refused(uint32 sequence, uint256 later, uint256 key)
        public
    {
        uint256 deadline = _bound(later, _now(), type(uint256).max);
        vm.assume(sequence != 1 || deadline != _now() || key != OTHER_OWNER_KEY);
        bytes memory signature = _agreement(key == OTHER_OWNER_KEY ? key : _key(key), sequence, deadline);
        vm.expectRevert(abi.encodeWithSelector(IOwnerControl.NotAgreed.selector, _id, otherOwner));
        vm.prank(owner);
        service.transferSigned(_id, otherOwner, _now(), signature);
    }

    function testFuzz_10_transferSigned__anyBytes__refused(bytes calldata signature) public {
        vm.assume(signature.length <= 1024);
        vm.expectRevert(abi.encodeWithSelector(IOwnerControl.NotAgreed.selector, _id, otherOwner));
        vm.prank(owner);
        service.transferSigned(_id, otherOwner, _now(), signature);
    }

    function testFuzz_10_transferSigned__highSOrOtherV__refused(uint8 v_) public {
        bytes32 digest = _takeOverDigest(service, _id, owner, 1, _now());
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(OTHER_OWNER_KEY, digest);
        _notAgreed(abi.encodePacked(r, bytes32(CURVE_ORDER - uint256(s)), 55 - v));
        vm.assume(v_ != v);
        _notAgreed(abi.encodePacked(r, s, v_));
    }

    function testFuzz_10_transferSigned__pastItsDeadline__refused(uint32 wait) public {
        vm.assume(wait != 0);
        uint256 deadline = _now();
        bytes memory signature = _agreement(OTHER_OWNER_KEY, 1, deadline);
        vm.warp(deadline + wait);
        vm.expectRevert(abi.encodeWithSelector(SignatureExpired.selector, deadline, _now()));
        vm.prank(owner);
        service.transferSigned(_id, otherOwner, deadline, signature);
    }

    function testFuzz_06_transferSigned__toAContract__asksIt(bool agrees) public {
        bytes32 digest = _takeOverDigest(service, _id, owner, 1, _now());
        address to = address(new Committee(agrees ? digest : bytes32(0)));
        if (!agrees) vm.expectRevert(abi.encodeWithSelector(IOwnerControl.NotAgreed.selector, _id, to));
        vm.prank(owner);
        service.transferSigned(_id, to, _now(), "");
        vm.assertEq(service.worker(_id).owner, agrees ? to : owner);
    }

    function test_31_transferSigned__bytesBeyondASignature__refused() public {
        _notAgreed(new bytes(1024));
        vm.expectRevert(abi.encodeWithSelector(IOwnerControl.SignatureTooLong.selector, 1025, 1024));
        vm.prank(owner);
        service.transferSigned(_id, otherOwner, _now(), new bytes(1025));
    }

    function test_34_transferSigned__toNobodyOrOneself__refused() public {
        vm.expectRevert(abi.encodeWithSelector(ZeroAddress.selector));
        vm.prank(owner);
        service.transferSigned(_id, address(0), _now(), "");
        vm.expectRevert(abi.encodeWithSelector(Unchanged.selector));
        vm.prank(owner);
        service.transferSigned(_id, owner, _now(), "");
    }

    /* END */

    /// Whatever state a worker is in, its owner can end it, and then nobody changes anything of it.
    function testFuzz_08_retire__anyState__forGood(uint8 state, bool suspended, bool offered) public {
        address id = _inState(300, SENSOR, state % 3);
        if (suspended && state % 3 != 2) _suspend(id);
        if (offered && state % 3 != 1) {
            vm.prank(owner);
            service.offerTransfer(id, otherOwner);
        }
        uint8 kept = service.worker(id).flags & SUSPENDED;
        vm.recordLogs();
        vm.prank(owner);
        service.retire(id);
        vm.assertEq(_oneEvent().topics[0], IOwnerControl.Retired.selector);
        vm.assertEq(service.worker(id).flags, RETIRED | kept);
        vm.assertEq(service.pendingOwner(id), address(0));
        _assertFinal(id);
    }

    /* HELPERS */

    function _assertFinal(address id) private {
        bytes memory retired = abi.encodeWithSelector(IOwnerControl.WorkerRetired.selector, id);
        vm.expectRevert(retired);
        vm.prank(owner);
        service.setActive(id, true);
        vm.expectRevert(retired);
        vm.prank(serviceOwner);
        service.setSuspended(id, true);
        vm.expectRevert(retired);
        vm.prank(owner);
        service.offerTransfer(id, otherOwner);
        vm.expectRevert(retired);
        vm.prank(owner);
        service.transferSigned(id, otherOwner, _now(), "");
        vm.expectRevert(retired);
        vm.prank(owner);
        service.retire(id);
        vm.expectRevert(abi.encodeWithSelector(IWorkerRegistry.NotPending.selector, id));
        vm.prank(owner);
        service.accept(id);
        vm.expectRevert(abi.encodeWithSelector(IOwnerControl.NotOffered.selector, id, otherOwner));
        vm.prank(otherOwner);
        service.acceptTransfer(id);
        vm.expectRevert(abi.encodeWithSelector(Unchanged.selector));
        vm.prank(owner);
        service.cancelTransfer(id);
    }

    /// @dev 0 active, 1 pending, 2 suspended, 3 off.
    function _inState(uint256 key, uint8 kind, uint8 state) private returns (address id) {
        id = state == 1 ? _enrolSelf(key, owner, kind) : _enrol(key, owner, kind);
        if (state == 2) _suspend(id);
        if (state == 3) _setActive(id, false);
        uint8[4] memory flags = [ACTIVE, PENDING, ACTIVE | SUSPENDED, 0];
        vm.assertEq(service.worker(id).flags, flags[state]);
    }

    function _meet(uint8 a, uint8 b) private pure returns (bool) {
        if (a > b) (a, b) = (b, a);
        if (a == RELAY || b == RELAY) return false;
        if (b == ORACLE) return a != ORACLE;
        return b == a + 1 || (a == GATEWAY && b == GATEWAY);
    }

    function _try(address caller, bytes memory data) private returns (bool done) {
        vm.prank(caller);
        (done,) = address(service).call(data);
    }

    function _setActive(address id, bool active) private {
        vm.prank(owner);
        service.setActive(id, active);
    }

    function _suspend(address id) private {
        vm.prank(serviceOwner);
        service.setSuspended(id, true);
    }

    function _grant(uint8 rights, uint40 until) private {
        vm.prank(owner);
        service.setOperator(operator, rights, until);
    }

    function _offer(address to) private {
        vm.prank(owner);
        service.offerTransfer(_id, to);
    }

    function _pass(address to) private {
        _offer(to);
        vm.prank(to);
        service.acceptTransfer(_id);
    }

    function _agreement(uint256 key, uint32 sequence, uint256 deadline) private view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, _takeOverDigest(service, _id, owner, sequence, deadline));
        return abi.encodePacked(r, s, v);
    }

    function _notAgreed(bytes memory signature) private {
        vm.expectRevert(abi.encodeWithSelector(IOwnerControl.NotAgreed.selector, _id, otherOwner));
        vm.prank(owner);
        service.transferSigned(_id, otherOwner, _now(), signature);
    }

    function _workers(uint256 size) private returns (address[] memory ids) {
        ids = new address[](size);
        for (uint256 i = 0; i < size; ++i) {
            ids[i] = _enrol(400 + i, owner, SENSOR);
        }
    }

    function _digestOfWords(address[] memory ids) private returns (bytes32) {
        uint256[] memory words = new uint256[](ids.length);
        for (uint256 i = 0; i < ids.length; ++i) {
            words[i] = _wordOf(ids[i]);
        }
        return keccak256(abi.encode(words));
    }
}
