// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IConfigRotation} from "../../../contracts/interfaces/IConfigRotation.sol";
import {IWorkerRegistry} from "../../../contracts/interfaces/IWorkerRegistry.sol";
import {ACTIVE, RETIRED} from "../../../contracts/registry/WorkerWord.sol";
import {Fleet} from "../Fleet.sol";
import {vm} from "../Vm.sol";
import {ServiceHandler} from "./ServiceHandler.sol";
import {ServiceMirror} from "./ServiceMirror.sol";

/// @dev What holds after every call of everybody's. The mirror knows the events alone; that it agrees with the contract
/// is the proof that the events tell everything. Breaches are counted where an event broke a rule.
contract ServiceInvariants is Fleet {
    ServiceHandler private _mirror;

    function setUp() public {
        _deployService();
        _mirror = new ServiceHandler(service);
    }

    /// @dev Forge calls what this names, and nothing else.
    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_mirror);
    }

    /* REGISTRY */

    function invariant_01_idIsItsFirstKeyAndKindIsForLife() public view {
        _assertKept(1);
        _eachWorker(_sameKind);
    }

    function invariant_02_nobodyEnrolsWithoutTheDevice() public view {
        _assertKept(2);
    }

    function invariant_03_anIdIsEnrolledOnce() public view {
        _assertKept(3);
    }

    /// There is no counter on chain: the events are the count, and each of them stands for a worker that is there.
    function invariant_04_enrolmentsAreTheCount() public view {
        (uint256 workers,,) = _mirror.count();
        uint256 there;
        for (uint256 key = 0; key < 8; ++key) {
            if (service.worker(vm.addr(_key(key))).kind != 0) there += 1;
        }
        vm.assertEq(there, workers);
    }

    function invariant_05_onlyTheOwnerItsOperatorsAndTheSuspension() public view {
        _assertKept(5);
    }

    function invariant_06_ownershipPassesByBothHands() public view {
        _assertKept(6);
        _eachWorker(_sameOwner);
    }

    function invariant_07_cooperationIsSymmetricAndByStateAlone() public view {
        (uint256 workers,,) = _mirror.count();
        for (uint256 i = 0; i < workers; ++i) {
            for (uint256 j = 0; j <= i; ++j) {
                _assertPair(_mirror.ids(i), _mirror.ids(j));
            }
        }
    }

    function invariant_08_offIsOffAndRetiredIsFinal() public view {
        _assertKept(8);
        _eachWorker(_sameFlags);
    }

    function invariant_09_oneKeyOneWorkerOnce() public view {
        _assertKept(9);
        (, uint256 keys,) = _mirror.count();
        for (uint256 i = 0; i < keys; ++i) {
            address key = _mirror.keys(i);
            (address id, uint16 epoch, bool current) = service.workerOf(key);
            vm.assertEq(id, _mirror.holderOf(key));
            vm.assertEq(epoch, _mirror.epochOf(key));
            vm.assertEq(current, epoch == _mirror.worker(id).epoch);
        }
    }

    function invariant_10_aSignatureServesOnce() public view {
        _assertKept(10);
    }

    function invariant_11_aBatchIsWholeOrNothing() public view {
        _assertKept(11);
    }

    /* CONFIGURATION */

    function invariant_12_onlyTheRoleRotatesOneByOne() public view {
        _assertKept(12);
        (,, uint256 versions) = _mirror.count();
        vm.assertEq(service.configuration().version, versions);
    }

    function invariant_13_activationIsNeverPastNorEarlier() public view {
        _assertKept(13);
    }

    function invariant_14_oneIsInForceFromTheFirstOn() public view {
        IConfigRotation.Anchor memory anchor = service.configuration();
        bool newest = service.accepts(anchor.digest);
        bool previous = service.accepts(anchor.previousDigest);
        vm.assertEq(newest, anchor.version != 0 && _now() >= anchor.activeFrom);
        vm.assertEq(previous, anchor.previousVersion != 0 && _now() < uint256(anchor.activeFrom) + anchor.grace);
        vm.assertTrue(newest || previous || anchor.previousVersion == 0);
        (,, uint256 versions) = _mirror.count();
        for (uint256 i = 1; i <= versions; ++i) {
            if (i == anchor.version || i == anchor.previousVersion) continue;
            vm.assertFalse(service.accepts(_mirror.version(i).digest));
        }
    }

    function invariant_15_historyLeadsBackwards() public view {
        _assertKept(15);
        IConfigRotation.Anchor memory anchor = service.configuration();
        if (anchor.version == 0) return;
        ServiceMirror.Version memory newest = _mirror.version(anchor.version);
        vm.assertEq(anchor.digest, newest.digest);
        vm.assertEq(anchor.newestBlock, newest.height);
        vm.assertTrue(anchor.activeFrom == newest.set.activeFrom && anchor.grace == newest.set.grace);
        if (anchor.previousVersion == 0) return;
        ServiceMirror.Version memory previous = _mirror.version(anchor.previousVersion);
        vm.assertEq(anchor.previousDigest, previous.digest);
        vm.assertEq(anchor.previousBlock, previous.height);
    }

    function invariant_15_bootstrapListsLeadBackwards() public view {
        _assertKept(15);
        (uint32 version, uint48 height, bytes22 digest) = service.bootstrap();
        vm.assertTrue(version == _mirror.lists() && height == _mirror.listHeight() && digest == _mirror.listDigest());
    }

    function invariant_31_listsAreBounded() public view {
        _assertKept(31);
    }

    /* MONEY */

    function invariant_17_balanceIsWhatCameInLessWhatWasWithdrawn() public view {
        vm.assertEq(address(service).balance, _mirror.paidIn() + _mirror.forced() - _mirror.withdrawn());
    }

    function invariant_18_theFeeIsAnnouncedAndCapped() public view {
        _assertKept(18);
        vm.assertEq(service.fee(), _mirror.fee());
        vm.assertEq(service.feeCap(), _mirror.feeCap());
        vm.assertTrue(service.fee() <= service.feeCap() && service.feeCap() <= FEE_CAP);
        (uint256 announced, uint256 opens) = service.announcedFee();
        vm.assertTrue(announced == _mirror.announced() && opens == _mirror.opens());
    }

    function invariant_19_revenueGoesWhereItIsSent() public view {
        _assertKept(19);
    }

    function invariant_20_pauseStopsEnrolmentAlone() public view {
        _assertKept(20);
        vm.assertEq(service.paused(), _mirror.paused());
    }

    /* EVENTS AND ERRORS */

    /// No configuration, fee or pause moved anything of a worker (16): its words are what its own events say.
    function invariant_16_33_eventsTellTheWholeState() public view {
        _assertKept(33);
        _eachWorker(_sameInAll);
        vm.assertEq(service.rotator(), _mirror.currentRotator());
    }

    function invariant_34_everyRefusalIsDeclared() public view {
        _assertKept(34);
    }

    /* HELPERS */

    function _assertKept(uint256 number) private view {
        vm.assertEq(_mirror.breaches(number), 0);
    }

    function _eachWorker(function(IWorkerRegistry.Worker memory, IWorkerRegistry.Worker memory, address) view check)
        private
        view
    {
        (uint256 workers,,) = _mirror.count();
        for (uint256 i = 0; i < workers; ++i) {
            address id = _mirror.ids(i);
            check(service.worker(id), _mirror.worker(id), id);
        }
    }

    function _sameKind(IWorkerRegistry.Worker memory is_, IWorkerRegistry.Worker memory told, address id) private view {
        vm.assertEq(is_.kind, told.kind);
        (address of_, uint16 epoch,) = service.workerOf(id);
        vm.assertTrue(of_ == id && epoch == 0);
    }

    function _sameOwner(IWorkerRegistry.Worker memory is_, IWorkerRegistry.Worker memory told, address id)
        private
        view
    {
        vm.assertEq(is_.owner, told.owner);
        vm.assertEq(service.pendingOwner(id), _mirror.offeredTo(id));
    }

    function _sameFlags(IWorkerRegistry.Worker memory is_, IWorkerRegistry.Worker memory told, address id)
        private
        view
    {
        vm.assertEq(is_.flags, told.flags);
        vm.assertEq(service.isUsable(id, told.kind), told.flags == ACTIVE);
        if (told.flags & RETIRED != 0) vm.assertEq(service.pendingOwner(id), address(0));
    }

    function _sameInAll(IWorkerRegistry.Worker memory is_, IWorkerRegistry.Worker memory told, address) private pure {
        vm.assertEq(keccak256(abi.encode(is_)), keccak256(abi.encode(told)));
    }

    function _assertPair(address a, address b) private view {
        bool together = service.canCooperate(a, b);
        vm.assertEq(together, service.canCooperate(b, a));
        if (!together) return;
        vm.assertTrue(a != b && _mirror.worker(a).flags == ACTIVE && _mirror.worker(b).flags == ACTIVE);
        vm.assertTrue(_mirror.worker(a).kind != RELAY && _mirror.worker(b).kind != RELAY);
    }
}
