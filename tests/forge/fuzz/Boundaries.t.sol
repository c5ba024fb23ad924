// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Service} from "../../../contracts/Service.sol";
import {BadBatchSize} from "../../../contracts/interfaces/Errors.sol";
import {IAdmission} from "../../../contracts/interfaces/IAdmission.sol";
import {IConfigRotation} from "../../../contracts/interfaces/IConfigRotation.sol";
import {IModelReleases} from "../../../contracts/interfaces/IModelReleases.sol";
import {IOperators} from "../../../contracts/interfaces/IOperators.sol";
import {IOwnerControl} from "../../../contracts/interfaces/IOwnerControl.sol";
import {IWorkerRegistry} from "../../../contracts/interfaces/IWorkerRegistry.sol";
import {Channel} from "../Channel.sol";
import {Fleet} from "../Fleet.sol";
import {Vm, vm} from "../Vm.sol";

/// @dev The last value that is taken and the first that is not: a fuzzer seldom meets either.
contract BoundariesTest is Fleet {
    function setUp() public {
        _deployService();
    }

    /* CONFIGURATION */

    function test_13_rotate__withinTheLead__takenToTheLastSecond() public {
        IConfigRotation.ConfigurationInput memory input = _input();
        input.activeFrom = uint40(_now());
        _rotate(input);
        input.activeFrom = uint40(_now() + 7 days);
        _rotate(input);
        vm.assertEq(service.configuration().activeFrom, _now() + 7 days);
    }

    function test_34_rotate__atEachBound__taken() public {
        IConfigRotation.ConfigurationInput memory input = _input();
        (input.maxTtl, input.maxSize) = (1, 8192);
        _rotate(input);
        (input.maxTtl, input.maxSize, input.grace) = (1 days, 10 * 1024 * 1024, 7 days);
        vm.assertEq(_rotate(input), 2);
    }

    function test_12_rotate__atTheBoundsOfWork__taken() public {
        vm.prank(serviceOwner);
        service.setPowBounds(5, 7);
        IConfigRotation.ConfigurationInput memory input = _input();
        input.minPow = 5;
        _rotate(input);
        input.minPow = 7;
        _rotate(input);
        input.minPow = 8;
        vm.expectRevert(abi.encodeWithSelector(IConfigRotation.BadMinPow.selector, 8, 5, 7));
        _rotate(input);
    }

    function test_12_setPowBounds__oneValue__takenAndTold() public {
        vm.expectEmit(address(service));
        emit IConfigRotation.PowBoundsChanged(9, 9);
        vm.prank(serviceOwner);
        service.setPowBounds(9, 9);
        (uint256 least, uint256 most) = service.powBounds();
        vm.assertEq(least, 9);
        vm.assertEq(most, 9);
    }

    function test_14_accepts__inEitherTurn__thePreviousInItsGrace() public {
        IConfigRotation.ConfigurationInput memory input = _input();
        input.grace = 60;
        for (uint256 i = 0; i < 4; ++i) {
            _rotate(input);
            IConfigRotation.Anchor memory anchor = service.configuration();
            vm.assertTrue(service.accepts(anchor.digest));
            vm.assertEq(service.accepts(anchor.previousDigest), i != 0);
            vm.warp(_now() + 60);
            vm.assertFalse(service.accepts(anchor.previousDigest), "its last second is over");
        }
    }

    /* MONEY */

    function test_33_constructor__feeAndCap__toldOnceEach() public {
        vm.recordLogs();
        new Service(serviceOwner, FEE, FEE_CAP);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, 3, "the owner, the fee, the cap");
        vm.assertEq(logs[1].topics[0], IAdmission.FeeChanged.selector);
        vm.assertEq(logs[1].data, abi.encode(0, FEE));
        vm.assertEq(logs[2].topics[0], IAdmission.FeeCapLowered.selector);
        vm.assertEq(logs[2].data, abi.encode(type(uint96).max, FEE_CAP));
    }

    function test_18_applyFee__atTheEdgesOfItsWindow__takenInsideAlone() public {
        vm.startPrank(serviceOwner);
        service.announceFee(FEE_CAP);
        uint256 opens = _now() + 1 days;
        uint256 home = vm.snapshotState();
        vm.warp(opens);
        service.applyFee();
        vm.assertEq(service.fee(), FEE_CAP);
        vm.revertToState(home);
        vm.warp(opens + 7 days);
        service.applyFee();
        vm.assertEq(service.fee(), FEE_CAP);
        vm.stopPrank();
    }

    function test_18_lowerFeeCap__toTheFeeInForce__taken() public {
        vm.prank(serviceOwner);
        service.lowerFeeCap(FEE);
        vm.assertEq(service.feeCap(), FEE);
    }

    /* PEOPLE */

    function test_05_setOperator__termAtItsBounds__takenFromTheNextSecondToTheLast() public {
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(IOperators.BadTerm.selector, _now(), _now() + 366 days));
        service.setOperator(operator, 1, uint40(_now()));
        service.setOperator(operator, 1, uint40(_now() + 1));
        service.setOperator(operator, 7, uint40(_now() + 366 days));
        vm.stopPrank();
        vm.warp(_now() + 366 days);
        vm.assertEq(service.operatorRights(owner, operator), 7, "its last second");
        vm.warp(_now() + 1);
        vm.assertEq(service.operatorRights(owner, operator), 0);
    }

    function test_11_batch__ofFourHundred__isTheLargest() public {
        address[] memory ids = new address[](400);
        vm.expectRevert(abi.encodeWithSelector(IWorkerRegistry.UnknownWorker.selector, address(0)));
        service.setActiveBatch(ids, true);
        ids = new address[](401);
        vm.expectRevert(abi.encodeWithSelector(BadBatchSize.selector, 401, 400));
        service.setActiveBatch(ids, true);
    }

    function test_33_setActive__byAnOperator__namesTheOperator() public {
        address id = _enrol(1, owner, SENSOR);
        vm.prank(owner);
        service.setOperator(operator, 1, uint40(_now() + 1));
        vm.expectEmit(address(service));
        emit IOwnerControl.ActiveChanged(id, operator, false, 2);
        vm.prank(operator);
        service.setActive(id, false);
    }

    function test_33_retire__byTheOwner__namesTheOwner() public {
        address id = _enrol(1, owner, SENSOR);
        vm.expectEmit(address(service));
        emit IOwnerControl.Retired(id, owner, 2);
        vm.prank(owner);
        service.retire(id);
    }
}

/// @dev The same of releases.
contract ReleaseBoundariesTest is Channel {
    function setUp() public {
        _deployReleases();
    }

    function test_23_propose__openForOneSecond__opensInIt() public {
        IModelReleases.Terms memory terms = _terms(MODEL);
        (terms.notBefore, terms.expiresAt) = (uint32(_now()), uint32(_now()));
        vm.prank(publisher);
        uint32 sequence = releases.propose(CHANNEL, terms);
        _approve(sequence);
        _openWave(sequence);
        vm.assertTrue(releases.admits(CHANNEL, terms, _proof(MODEL, 0)), "its last second");
        vm.warp(_now() + 1);
        vm.assertFalse(releases.admits(CHANNEL, terms, _proof(MODEL, 0)));
    }

    function test_23_openWave__soakedToTheSecond__opens() public {
        uint32 sequence = _rolling(MODEL);
        vm.warp(_now() + SOAK - 1);
        vm.expectRevert(abi.encodeWithSelector(IModelReleases.StillSoaking.selector, _now() + 1, _now()));
        _openWave(sequence);
        vm.warp(_now() + 1);
        _openWave(sequence);
        vm.assertEq(releases.head(CHANNEL).wave, 2);
    }

    function test_21_finalise__floorAtItsBounds__taken() public {
        _completed(MODEL);
        uint32 sequence = _rolling(OTHER_MODEL);
        vm.warp(_now() + SOAK);
        _openWave(sequence);
        vm.warp(_now() + SOAK);
        uint256 home = vm.snapshotState();
        _finalise(OTHER_MODEL, sequence);
        vm.assertEq(releases.head(CHANNEL).floor, sequence);
        vm.revertToState(home);
        vm.expectRevert(abi.encodeWithSelector(IModelReleases.BadFloor.selector, sequence + 1, 0, sequence));
        _finalise(OTHER_MODEL, sequence + 1);
    }

    function test_33_steps__byTheirPeople__nameThem() public {
        uint32 sequence = _propose(MODEL);
        vm.expectEmit(address(releases));
        emit IModelReleases.ReleaseApproved(CHANNEL, sequence, approver);
        _approve(sequence);
        _openWave(sequence);
        vm.expectEmit(address(releases));
        emit IModelReleases.RolloutPaused(CHANNEL, sequence, publisher);
        vm.prank(publisher);
        releases.pause(CHANNEL, sequence);
        vm.expectEmit(address(releases));
        emit IModelReleases.RolloutResumed(CHANNEL, sequence, approver);
        vm.prank(approver);
        releases.resume(CHANNEL, sequence);
    }

    function test_21_finalise__floorAsItIs__taken() public {
        _completed(MODEL);
        _revoke(MODEL);
        uint32 floor = releases.head(CHANNEL).floor;
        uint32 sequence = _rolling(OTHER_MODEL);
        vm.warp(_now() + SOAK);
        _openWave(sequence);
        vm.warp(_now() + SOAK);
        _finalise(OTHER_MODEL, floor);
        vm.assertEq(releases.head(CHANNEL).floor, floor);
    }

    function test_05_revokeAndRollBack__byAStranger__refusedByName() public {
        _completed(MODEL);
        vm.startPrank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IModelReleases.NotInCharge.selector, stranger));
        releases.revoke(CHANNEL, MODEL);
        vm.expectRevert(abi.encodeWithSelector(IModelReleases.NotInCharge.selector, stranger));
        releases.rollBack(CHANNEL, MODEL);
        vm.stopPrank();
    }

    function test_05_revoke__byTheOwner__taken() public {
        _completed(MODEL);
        vm.prank(releaseOwner);
        releases.revoke(CHANNEL, MODEL);
        vm.assertTrue(releases.release(CHANNEL, MODEL).revoked);
    }

    function test_23_propose__rollingOrPaused__refused() public {
        uint32 sequence = _rolling(MODEL);
        vm.expectRevert(abi.encodeWithSelector(IModelReleases.WrongState.selector, CHANNEL, 3));
        _propose(OTHER_MODEL);
        vm.prank(publisher);
        releases.pause(CHANNEL, sequence);
        vm.expectRevert(abi.encodeWithSelector(IModelReleases.WrongState.selector, CHANNEL, 4));
        _propose(OTHER_MODEL);
    }
}
