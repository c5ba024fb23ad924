// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";

import {Service} from "../../../contracts/Service.sol";
import {StandingOwner} from "../../../contracts/control/StandingOwner.sol";
import {Unchanged, ZeroAddress} from "../../../contracts/interfaces/Errors.sol";
import {IAdmission} from "../../../contracts/interfaces/IAdmission.sol";
import {IBootstrapList} from "../../../contracts/interfaces/IBootstrapList.sol";
import {IConfigRotation} from "../../../contracts/interfaces/IConfigRotation.sol";
import {IKeyRotation} from "../../../contracts/interfaces/IKeyRotation.sol";
import {IOperators} from "../../../contracts/interfaces/IOperators.sol";
import {IOwnerControl} from "../../../contracts/interfaces/IOwnerControl.sol";
import {IWorkerRegistry} from "../../../contracts/interfaces/IWorkerRegistry.sol";
import {Fleet} from "../Fleet.sol";
import {vm} from "../Vm.sol";

/// @dev Owns a service and, when it is paid, comes back into it for more.
contract Returner {
    Service public service;
    bytes public failure;
    uint256 public visits;
    bool public refuses;

    function deploy() external {
        service = new Service(address(this), 1, 1);
    }

    function act(bytes calldata data) external {
        (bool done, bytes memory why) = address(service).call(data);
        if (!done) {
            assembly ("memory-safe") {
                revert(add(why, 0x20), mload(why))
            }
        }
    }

    function refuse(bool refuses_) external {
        refuses = refuses_;
    }

    receive() external payable {
        if (refuses) revert();
        visits += 1;
        try service.withdraw(payable(address(this))) {}
        catch (bytes memory why) {
            failure = why;
        }
    }
}

contract MoneyTest is Fleet {
    function setUp() public {
        _deployService();
    }

    /* FEE */

    function testFuzz_18_applyFee__inItsWindow__inForceFromThen(uint96 fee, uint32 wait) public {
        fee = uint96(_bound(fee, 0, FEE_CAP));
        vm.assume(fee != FEE);
        uint256 opens = _now() + 1 days;
        vm.recordLogs();
        _announce(fee);
        vm.assertEq(_oneEvent().topics[0], IAdmission.FeeAnnounced.selector);
        (uint256 announced, uint256 from) = service.announcedFee();
        vm.assertTrue(announced == fee && from == opens && service.fee() == FEE);
        vm.warp(_bound(wait, opens, opens + 7 days));
        vm.expectEmit(address(service));
        emit IAdmission.FeeChanged(FEE, fee);
        _apply();
        vm.assertEq(service.fee(), fee);
        (announced, from) = service.announcedFee();
        vm.assertTrue(announced == 0 && from == 0);
        vm.expectRevert(abi.encodeWithSelector(IAdmission.NoFeeAnnounced.selector));
        _apply();
    }

    function testFuzz_18_applyFee__outsideItsWindow__refused(uint96 fee, uint32 wait) public {
        fee = uint96(_bound(fee, 0, FEE_CAP));
        vm.assume(fee != FEE);
        uint256 opens = _now() + 1 days;
        _announce(fee);
        vm.warp(_bound(wait, _now(), _now() + 365 days));
        vm.assume(_now() < opens || _now() > opens + 7 days);
        vm.expectRevert(abi.encodeWithSelector(IAdmission.OutsideFeeWindow.selector, opens, opens + 7 days, _now()));
        _apply();
    }

    function testFuzz_18_applyFee__capLoweredSince__refused(uint96 fee, uint96 cap) public {
        cap = uint96(_bound(cap, FEE, FEE_CAP - 1));
        fee = uint96(_bound(fee, cap + 1, FEE_CAP));
        _announce(fee);
        _lower(cap);
        vm.warp(_now() + 1 days);
        vm.expectRevert(abi.encodeWithSelector(IAdmission.FeeAboveCap.selector, fee, cap));
        _apply();
    }

    function testFuzz_18_announceFee__aboveTheCap__refused(uint96 fee) public {
        vm.assume(fee > FEE_CAP);
        vm.expectRevert(abi.encodeWithSelector(IAdmission.FeeAboveCap.selector, fee, FEE_CAP));
        _announce(fee);
    }

    function test_18_announceFee__theOneInForce__refused() public {
        vm.expectRevert(abi.encodeWithSelector(Unchanged.selector));
        _announce(FEE);
    }

    function test_18_cancelFee__announced__takenBack() public {
        _announce(2 * FEE);
        vm.expectEmit(address(service));
        emit IAdmission.FeeAnnouncementCancelled(2 * FEE);
        vm.prank(serviceOwner);
        service.cancelFee();
        vm.expectRevert(abi.encodeWithSelector(IAdmission.NoFeeAnnounced.selector));
        vm.prank(serviceOwner);
        service.cancelFee();
    }

    function testFuzz_18_lowerFeeCap__betweenFeeAndCap__lowered(uint96 cap) public {
        cap = uint96(_bound(cap, FEE, FEE_CAP - 1));
        vm.expectEmit(address(service));
        emit IAdmission.FeeCapLowered(FEE_CAP, cap);
        _lower(cap);
        vm.assertEq(service.feeCap(), cap);
        vm.expectRevert(abi.encodeWithSelector(Unchanged.selector));
        _lower(cap);
    }

    function testFuzz_18_lowerFeeCap__elsewhere__refused(uint96 cap) public {
        vm.assume(cap < FEE || cap > FEE_CAP);
        vm.expectRevert(abi.encodeWithSelector(IAdmission.BadFeeCap.selector, cap, FEE, FEE_CAP));
        _lower(cap);
    }

    function testFuzz_18_constructor__feeAboveCap__refused(uint96 fee, uint96 cap) public {
        vm.assume(fee > cap);
        vm.expectRevert(abi.encodeWithSelector(IAdmission.FeeAboveCap.selector, fee, cap));
        new Service(serviceOwner, fee, cap);
    }

    /* REVENUE */

    /// Forced ether is revenue too: it blocks nothing and belongs to nobody else.
    function testFuzz_17_withdraw__feesAndForcedEther__allOfIt(uint8 count_, uint96 forced) public {
        uint256 count = _bound(count_, 1, 5);
        for (uint256 i = 0; i < count; ++i) {
            _enrol(1 + i, owner, SENSOR);
        }
        vm.assertEq(address(service).balance, count * FEE);
        uint256 all = count * FEE + forced;
        vm.deal(address(service), all); // as a contract does that destroys itself in its favour
        vm.expectEmit(address(service));
        emit IAdmission.Withdrawn(stranger, all);
        vm.recordLogs();
        vm.prank(serviceOwner);
        service.withdraw(payable(stranger));
        _oneEvent();
        vm.assertEq(stranger.balance, all);
        vm.assertEq(address(service).balance, 0);
        vm.expectRevert(abi.encodeWithSelector(IAdmission.NothingToWithdraw.selector));
        vm.prank(serviceOwner);
        service.withdraw(payable(stranger));
    }

    function testFuzz_17_transfer__plain__refused(uint96 value) public {
        vm.deal(stranger, value);
        vm.prank(stranger);
        (bool sent,) = address(service).call{value: value}("");
        vm.assertFalse(sent);
    }

    function test_19_withdraw__toNobody__refused() public {
        vm.deal(address(service), 1);
        vm.expectRevert(abi.encodeWithSelector(ZeroAddress.selector));
        vm.prank(serviceOwner);
        service.withdraw(payable(address(0)));
    }

    function test_19_withdraw__refusingReceiver__blocksNobodyElse() public {
        _enrol(1, owner, SENSOR);
        Returner returner = new Returner();
        returner.refuse(true);
        vm.expectRevert(abi.encodeWithSelector(IAdmission.WithdrawalFailed.selector, address(returner)));
        vm.prank(serviceOwner);
        service.withdraw(payable(address(returner)));
        vm.assertEq(address(service).balance, FEE);
        vm.prank(serviceOwner);
        service.withdraw(payable(stranger));
        vm.assertEq(stranger.balance, FEE);
    }

    function testFuzz_32_withdraw__reenteringReceiver__isPaidOnce(uint96 amount) public {
        vm.assume(amount != 0);
        Returner returner = new Returner();
        returner.deploy();
        vm.deal(address(returner.service()), amount);
        vm.recordLogs();
        returner.act(abi.encodeCall(IAdmission.withdraw, (payable(address(returner)))));
        vm.assertEq(vm.getRecordedLogs().length, 1, "one withdrawal");
        vm.assertEq(returner.visits(), 1);
        vm.assertEq(returner.failure(), abi.encodeWithSelector(IAdmission.NothingToWithdraw.selector));
        vm.assertEq(address(returner).balance, amount);
    }

    /* PAUSE */

    function test_20_setPaused__paused__everythingButEnrolmentGoesOn() public {
        address id = _enrol(1, owner, SENSOR);
        address pending = _enrolSelf(2, owner, SENSOR);
        vm.prank(serviceOwner);
        service.setPaused(true);
        vm.assertTrue(service.paused());
        vm.expectRevert(abi.encodeWithSelector(Unchanged.selector));
        vm.prank(serviceOwner);
        service.setPaused(true);

        vm.startPrank(owner);
        service.accept(pending);
        service.setActive(id, false);
        service.setOperator(operator, 7, uint40(_now() + 1));
        service.offerTransfer(id, otherOwner);
        vm.stopPrank();
        vm.prank(otherOwner);
        service.acceptTransfer(id);
        _rotateKey(3, id);
        vm.prank(otherOwner);
        service.retire(id);
        _rotate(_input());
        vm.prank(serviceOwner);
        service.withdraw(payable(stranger));
        vm.assertEq(stranger.balance, 2 * uint256(FEE));
        vm.prank(serviceOwner);
        service.setPaused(false);
        _enrol(4, owner, SENSOR);
    }

    /* THE POST */

    function testFuzz_05_settings__byAnotherThanTheServiceOwner__refused(address caller) public {
        vm.assume(caller != serviceOwner && caller != address(0) && caller != address(vm));
        bytes[13] memory calls = [
            abi.encodeCall(service.announceFee, (2 * FEE)),
            abi.encodeCall(service.cancelFee, ()),
            abi.encodeCall(service.applyFee, ()),
            abi.encodeCall(service.lowerFeeCap, (FEE)),
            abi.encodeCall(service.setPaused, (true)),
            abi.encodeCall(service.withdraw, (payable(caller))),
            abi.encodeCall(service.setRotator, (caller)),
            abi.encodeCall(service.setPowBounds, (1, 2)),
            abi.encodeCall(service.setSuspended, (caller, true)),
            abi.encodeCall(service.nameSuccessor, (caller)),
            abi.encodeCall(service.transferOwnership, (caller)),
            abi.encodeCall(service.rotate, (_input())),
            abi.encodeCall(service.setBootstrap, (new string[](0)))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            vm.prank(caller);
            (bool done, bytes memory why) = address(service).call(calls[i]);
            vm.assertFalse(done);
            bytes4 error_ = i == 11 ? IConfigRotation.NotRotator.selector : Ownable.OwnableUnauthorizedAccount.selector;
            vm.assertEq(why, abi.encodeWithSelector(error_, caller));
        }
    }

    function testFuzz_05_transferOwnership__twoSteps__andNeverEmpty(address next) public {
        vm.assume(next != address(0) && next != serviceOwner && next != address(vm));
        vm.prank(serviceOwner);
        service.transferOwnership(next);
        vm.assertEq(service.owner(), serviceOwner);
        vm.prank(next);
        service.acceptOwnership();
        vm.assertEq(service.owner(), next);
        vm.expectRevert(abi.encodeWithSelector(StandingOwner.OwnerRequired.selector));
        vm.prank(next);
        service.renounceOwnership();
    }

    function testFuzz_33_nameSuccessor__another__oneEvent(address next) public {
        vm.assume(next != address(0));
        vm.expectEmit(address(service));
        emit Service.SuccessorNamed(address(0), next);
        vm.recordLogs();
        vm.prank(serviceOwner);
        service.nameSuccessor(next);
        _oneEvent();
        vm.assertEq(service.successor(), next);
        vm.expectRevert(abi.encodeWithSelector(Unchanged.selector));
        vm.prank(serviceOwner);
        service.nameSuccessor(next);
    }

    function testFuzz_34_supportsInterface__anyId__itsOwnAndErc165(bytes4 id) public view {
        bytes4[8] memory own = [
            type(IWorkerRegistry).interfaceId,
            type(IAdmission).interfaceId,
            type(IOwnerControl).interfaceId,
            type(IOperators).interfaceId,
            type(IKeyRotation).interfaceId,
            type(IConfigRotation).interfaceId,
            type(IBootstrapList).interfaceId,
            type(IERC165).interfaceId
        ];
        bool known;
        for (uint256 i = 0; i < own.length; ++i) {
            vm.assertTrue(service.supportsInterface(own[i]));
            known = known || id == own[i];
        }
        vm.assertEq(service.supportsInterface(id), known);
    }

    /* HELPERS */

    function _announce(uint96 fee) private {
        vm.prank(serviceOwner);
        service.announceFee(fee);
    }

    function _apply() private {
        vm.prank(serviceOwner);
        service.applyFee();
    }

    function _lower(uint96 cap) private {
        vm.prank(serviceOwner);
        service.lowerFeeCap(cap);
    }
}
