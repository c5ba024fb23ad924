// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";

import {Unchanged, ZeroAddress} from "../../../contracts/interfaces/Errors.sol";
import {IModelReleases} from "../../../contracts/interfaces/IModelReleases.sol";
import {IWorkerRegistry} from "../../../contracts/interfaces/IWorkerRegistry.sol";
import {ModelReleases} from "../../../contracts/releases/ModelReleases.sol";
import {APPROVED, COMPLETED, PAUSED, PROPOSED, REVOKED, ROLLING} from "../../../contracts/releases/ReleaseWords.sol";
import {Channel} from "../Channel.sol";
import {Vm, vm} from "../Vm.sol";

contract ReleasesTest is Channel {
    function setUp() public {
        _deployReleases();
    }

    /* THE WAY THROUGH */

    function test_23_rollout__stepByStep__oneEventEach() public {
        IModelReleases.Terms memory terms = _terms(MODEL);
        vm.recordLogs();
        vm.prank(publisher);
        uint32 sequence = releases.propose(CHANNEL, terms);
        _assertStep(IModelReleases.ReleaseProposed.selector, PROPOSED, 0);
        IModelReleases.Release memory release = releases.release(CHANNEL, MODEL);
        vm.assertTrue(release.sequence == 1 && !release.completed && !release.revoked);
        vm.assertEq(bytes32(release.digest), bytes32(bytes24(keccak256(abi.encode(terms)))));
        vm.recordLogs();
        _approve(sequence);
        _assertStep(IModelReleases.ReleaseApproved.selector, APPROVED, 0);
        vm.recordLogs();
        _openWave(sequence);
        _assertStep(IModelReleases.WaveOpened.selector, ROLLING, 1);
        vm.recordLogs();
        vm.prank(publisher);
        releases.pause(CHANNEL, sequence);
        _assertStep(IModelReleases.RolloutPaused.selector, PAUSED, 1);
        vm.warp(_now() + 1 minutes);
        vm.recordLogs();
        vm.prank(approver);
        releases.resume(CHANNEL, sequence);
        _assertStep(IModelReleases.RolloutResumed.selector, ROLLING, 1);
        vm.assertEq(releases.head(CHANNEL).since, _now());
        vm.warp(_now() + SOAK);
        vm.recordLogs();
        _openWave(sequence);
        _assertStep(IModelReleases.WaveOpened.selector, ROLLING, 2);
        vm.warp(_now() + SOAK);
        vm.recordLogs();
        _finalise(MODEL, 1);
        _assertStep(IModelReleases.ReleaseFinalised.selector, COMPLETED, 2);
        IModelReleases.Head memory head = releases.head(CHANNEL);
        vm.assertTrue(head.completed == 1 && head.floor == 1 && head.sequence == 1);
        vm.assertTrue(releases.release(CHANNEL, MODEL).completed);
    }

    /// An approval names what was looked at: another manifest, even one the channel had, is refused.
    function testFuzz_23_approve__anotherManifest__refused(bytes32 other) public {
        vm.assume(other != OTHER_MODEL);
        _completed(MODEL);
        uint32 sequence = _propose(OTHER_MODEL);
        vm.expectRevert(abi.encodeWithSelector(IModelReleases.OtherManifest.selector, CHANNEL, sequence, other));
        _approve(sequence, other);
        vm.expectRevert(abi.encodeWithSelector(IModelReleases.OtherManifest.selector, CHANNEL, sequence, MODEL));
        _approve(sequence, MODEL);
        _approve(sequence, OTHER_MODEL);
        vm.assertEq(releases.head(CHANNEL).state, APPROVED);
    }

    /// Every step from every state: only those of the machine succeed, and every other is refused by name.
    function testFuzz_23_steps__fromAnyState__onlyThoseOfTheMachine(uint8 state_) public {
        uint8 state = uint8(_bound(state_, 0, 6));
        _reach(state);
        vm.assertEq(releases.head(CHANNEL).state, state);
        uint32 s = releases.head(CHANNEL).sequence;
        vm.warp(_now() + SOAK);
        bytes memory wrong = state == 0
            ? abi.encodeWithSelector(IModelReleases.NotNewest.selector, CHANNEL, s, s)
            : abi.encodeWithSelector(IModelReleases.WrongState.selector, CHANNEL, state);
        _step(approver, abi.encodeCall(releases.approve, (CHANNEL, s, MODEL)), state == PROPOSED, wrong);
        _step(publisher, abi.encodeCall(releases.openWave, (CHANNEL, s)), state == APPROVED || state == ROLLING, wrong);
        _step(publisher, abi.encodeCall(releases.pause, (CHANNEL, s)), state == ROLLING, wrong);
        _step(approver, abi.encodeCall(releases.resume, (CHANNEL, s)), state == PAUSED, wrong);
        IModelReleases.Terms memory terms = _terms(OTHER_MODEL);
        bytes memory propose = abi.encodeCall(releases.propose, (CHANNEL, terms));
        _step(publisher, propose, state != ROLLING && state != PAUSED, wrong);
        bytes memory none = abi.encodeWithSelector(IModelReleases.NotNewest.selector, CHANNEL, 0, s);
        bytes memory finalise =
            abi.encodeCall(releases.finalise, (CHANNEL, MODEL, 0, IModelReleases.Report("reports", 1, 0, 0)));
        bytes memory early = abi.encodeWithSelector(IModelReleases.WrongWave.selector, 1, WAVES);
        _step(publisher, finalise, false, state == 0 ? none : state == ROLLING ? early : wrong);
    }

    function testFuzz_21_propose__oneAfterAnother__sequenceOneByOne(uint8 count) public {
        for (uint256 i = 1; i <= _bound(count, 1, 20); ++i) {
            vm.assertEq(_propose(bytes32(i)), i);
            vm.assertEq(releases.head(CHANNEL).sequence, i);
        }
    }

    function testFuzz_21_propose__sameManifestAgain__refused(uint8 state_) public {
        uint8 state = uint8(_bound(state_, 1, 6));
        _reach(state);
        vm.assume(state != ROLLING && state != PAUSED);
        IModelReleases.Terms memory terms = _terms(MODEL);
        vm.expectRevert(abi.encodeWithSelector(IModelReleases.ManifestKnown.selector, CHANNEL, MODEL));
        vm.prank(publisher);
        releases.propose(CHANNEL, terms);
    }

    function testFuzz_21_channels__another__goesOnByItself(bytes32 other) public {
        vm.assume(other != CHANNEL);
        _completed(MODEL);
        vm.assertEq(releases.head(other).sequence, 0);
        IModelReleases.Terms memory terms = _terms(MODEL);
        vm.prank(publisher);
        vm.assertEq(releases.propose(other, terms), 1);
    }

    function testFuzz_34_propose__badTerms__refused(IModelReleases.Terms memory terms) public {
        bytes memory why;
        if (terms.manifestHash == 0 || terms.groupRoot == 0 || terms.gateHash == 0) {
            why = abi.encodeWithSelector(IModelReleases.MissingDigest.selector);
        } else if (terms.waveCount == 0) {
            why = abi.encodeWithSelector(IModelReleases.NoWaves.selector);
        } else if (terms.notBefore > terms.expiresAt || terms.expiresAt < _now()) {
            why = abi.encodeWithSelector(IModelReleases.BadTimes.selector, terms.notBefore, terms.expiresAt, _now());
        }
        if (why.length != 0) vm.expectRevert(why);
        vm.prank(publisher);
        releases.propose(CHANNEL, terms);
    }

    function test_34_propose__eachDigestAndTime__named() public {
        IModelReleases.Terms memory terms = _terms(0);
        bytes memory missing = abi.encodeWithSelector(IModelReleases.MissingDigest.selector);
        _refused(terms, missing);
        terms = _terms(MODEL);
        terms.groupRoot = 0;
        _refused(terms, missing);
        terms = _terms(MODEL);
        terms.gateHash = 0;
        _refused(terms, missing);
        terms = _terms(MODEL);
        terms.waveCount = 0;
        _refused(terms, abi.encodeWithSelector(IModelReleases.NoWaves.selector));
        terms = _terms(MODEL);
        terms.notBefore = terms.expiresAt + 1;
        _refused(
            terms, abi.encodeWithSelector(IModelReleases.BadTimes.selector, terms.notBefore, terms.expiresAt, _now())
        );
        terms = _terms(MODEL);
        terms.notBefore = 0;
        terms.expiresAt = uint32(_now() - 1);
        _refused(terms, abi.encodeWithSelector(IModelReleases.BadTimes.selector, 0, terms.expiresAt, _now()));
    }

    /* TIME */

    function testFuzz_23_openWave__anyTime__onlyInItsWindow(uint32 lead, uint32 moment) public {
        IModelReleases.Terms memory terms = _terms(MODEL);
        terms.notBefore = uint32(_bound(lead, _now(), terms.expiresAt));
        vm.prank(publisher);
        releases.propose(CHANNEL, terms);
        _approve(1);
        vm.warp(_bound(moment, _now(), terms.expiresAt + 10 days));
        if (_now() < terms.notBefore || _now() > terms.expiresAt) {
            vm.expectRevert(
                abi.encodeWithSelector(IModelReleases.OutsideWindow.selector, terms.notBefore, terms.expiresAt, _now())
            );
        }
        _openWave(1);
    }

    function testFuzz_23_openWave__soaking__refusedUntilItsEnd(uint32 wait, bool resumed) public {
        _rolling(MODEL);
        if (resumed) {
            vm.warp(_now() + SOAK);
            vm.prank(approver);
            releases.pause(CHANNEL, 1);
            vm.prank(approver);
            releases.resume(CHANNEL, 1);
        }
        uint256 until = _now() + SOAK;
        vm.warp(_bound(wait, _now(), _now() + 2 * SOAK));
        if (_now() < until) {
            vm.expectRevert(abi.encodeWithSelector(IModelReleases.StillSoaking.selector, until, _now()));
        }
        _openWave(1);
    }

    function testFuzz_23_finalise__soaking__refusedUntilItsEnd(uint32 wait) public {
        _rolling(MODEL);
        vm.warp(_now() + SOAK);
        _openWave(1);
        uint256 until = _now() + SOAK;
        vm.warp(_bound(wait, _now(), _now() + 2 * SOAK));
        if (_now() < until) {
            vm.expectRevert(abi.encodeWithSelector(IModelReleases.StillSoaking.selector, until, _now()));
        }
        _finalise(MODEL, 0);
    }

    function test_23_openWave__allOpen__refused() public {
        _rolling(MODEL);
        vm.warp(_now() + SOAK);
        _openWave(1);
        vm.expectRevert(abi.encodeWithSelector(IModelReleases.WrongWave.selector, WAVES, WAVES));
        _openWave(1);
    }

    function testFuzz_24_finalise__anyFloor__onlyUpToTheNewest(uint32 floor) public {
        _completed(MODEL);
        _rolling(OTHER_MODEL);
        vm.warp(_now() + SOAK);
        _openWave(2);
        vm.warp(_now() + SOAK);
        if (floor > 2) vm.expectRevert(abi.encodeWithSelector(IModelReleases.BadFloor.selector, floor, 0, 2));
        _finalise(OTHER_MODEL, floor);
        vm.assertEq(releases.head(CHANNEL).floor, floor > 2 ? 0 : floor);
    }

    function test_24_finalise__lowerFloor__refused() public {
        _completed(MODEL);
        _revoke(MODEL);
        _rolling(OTHER_MODEL);
        vm.warp(_now() + SOAK);
        _openWave(2);
        vm.warp(_now() + SOAK);
        vm.expectRevert(abi.encodeWithSelector(IModelReleases.BadFloor.selector, 1, 2, 2));
        _finalise(OTHER_MODEL, 1);
        _finalise(OTHER_MODEL, 0);
        vm.assertEq(releases.head(CHANNEL).floor, 2);
    }

    /* BACK */

    function test_24_rollBack__onceCompleted__newSequenceOpenToAll() public {
        _completed(MODEL);
        _rolling(OTHER_MODEL);
        vm.expectEmit(address(releases));
        emit IModelReleases.RolledBack(CHANNEL, 3, MODEL, 1);
        vm.assertEq(_rollBack(MODEL), 3);
        IModelReleases.Head memory head = releases.head(CHANNEL);
        vm.assertTrue(head.sequence == 3 && head.completed == 3 && head.state == COMPLETED && head.since == _now());
        vm.assertEq(releases.release(CHANNEL, MODEL).sequence, 3);
        for (uint256 device = 0; device < 4; ++device) {
            vm.assertTrue(releases.admits(CHANNEL, _termsAt(MODEL, START), _proof(MODEL, device)));
            vm.assertFalse(releases.admits(CHANNEL, _terms(OTHER_MODEL), _proof(OTHER_MODEL, device)));
        }
    }

    function testFuzz_24_rollBack__neverCompletedRevokedOrNewest__refused(uint8 state_) public {
        uint8 state = uint8(_bound(state_, 0, 6));
        _reach(state);
        bytes memory why = abi.encodeWithSelector(IModelReleases.BadTarget.selector, CHANNEL, MODEL);
        vm.expectRevert(why);
        _rollBack(MODEL);
        if (state == REVOKED) {
            _completed(OTHER_MODEL);
            vm.expectRevert(why);
            _rollBack(MODEL);
        }
    }

    function testFuzz_24_revoke__anyState__neverTakenUpAgain(uint8 state_) public {
        _reach(uint8(_bound(state_, 0, 5)));
        uint32 sequence = releases.release(CHANNEL, MODEL).sequence;
        uint32 floor = sequence == 0 ? 0 : sequence + 1;
        vm.expectEmit(address(releases));
        emit IModelReleases.ReleaseRevoked(CHANNEL, sequence, MODEL, floor);
        vm.recordLogs();
        _revoke(MODEL);
        vm.assertEq(vm.getRecordedLogs().length, 1);
        vm.assertEq(releases.head(CHANNEL).floor, floor);
        vm.assertTrue(releases.release(CHANNEL, MODEL).revoked);
        for (uint256 device = 0; device < 4; ++device) {
            vm.assertFalse(releases.admits(CHANNEL, _termsAt(MODEL, START), _proof(MODEL, device)));
        }
        vm.expectRevert(abi.encodeWithSelector(Unchanged.selector));
        _revoke(MODEL);
        IModelReleases.Terms memory terms = _terms(MODEL);
        vm.expectRevert(abi.encodeWithSelector(IModelReleases.ManifestKnown.selector, CHANNEL, MODEL));
        vm.prank(publisher);
        releases.propose(CHANNEL, terms);
        vm.expectRevert(abi.encodeWithSelector(IModelReleases.BadTarget.selector, CHANNEL, MODEL));
        _rollBack(MODEL);
    }

    /// An older one revoked leaves the newest as it is, but for the floor.
    function test_24_revoke__anOlderOne__theNewestGoesOn() public {
        _completed(MODEL);
        _completed(OTHER_MODEL);
        _rolling("model 3");
        _revoke(MODEL);
        vm.assertTrue(releases.head(CHANNEL).state == ROLLING && releases.head(CHANNEL).floor == 2);
        _revoke(OTHER_MODEL);
        vm.assertTrue(releases.head(CHANNEL).state == ROLLING && releases.head(CHANNEL).floor == 3);
        vm.assertTrue(releases.admits(CHANNEL, _termsAt("model 3", _now()), _proof("model 3", 0)));
    }

    function test_24_revoke__belowTheFloor__theFloorStays() public {
        _completed(MODEL);
        _completed(OTHER_MODEL);
        _revoke(OTHER_MODEL);
        _revoke(MODEL);
        vm.assertEq(releases.head(CHANNEL).floor, 3);
    }

    function test_34_revoke__noManifest__refused() public {
        vm.expectRevert(abi.encodeWithSelector(IModelReleases.MissingDigest.selector));
        _revoke(0);
    }

    /* WAVES */

    /// Who was let in stays in, whatever wave opens next; the choice is the tree's, the same for everybody who asks.
    function testFuzz_26_admits__waveByWave__byTheTreeAlone(uint256 device, address asker) public {
        device = _bound(device, 0, 3);
        IModelReleases.Terms memory terms = _terms(MODEL);
        IModelReleases.WaveProof memory proof = _proof(MODEL, device);
        _propose(MODEL);
        vm.assertFalse(releases.admits(CHANNEL, terms, proof));
        _approve(1);
        vm.assertFalse(releases.admits(CHANNEL, terms, proof));
        _openWave(1);
        vm.prank(asker);
        vm.assertEq(releases.admits(CHANNEL, terms, proof), device < 2);
        vm.prank(releaseOwner);
        releases.pause(CHANNEL, 1);
        vm.assertFalse(releases.admits(CHANNEL, terms, proof));
        vm.prank(approver);
        releases.resume(CHANNEL, 1);
        vm.warp(_now() + SOAK);
        _openWave(1);
        vm.prank(asker);
        vm.assertTrue(releases.admits(CHANNEL, terms, proof));
        vm.warp(terms.expiresAt + 1);
        vm.assertFalse(releases.admits(CHANNEL, terms, proof));
        _finalise(MODEL, 0);
        vm.assertTrue(releases.admits(CHANNEL, terms, proof));
    }

    function testFuzz_26_admits__anythingForged__refused(uint256 device, bytes32 any, uint8 wave, uint256 index)
        public
    {
        device = _bound(device, 0, 3);
        _completed(MODEL);
        IModelReleases.Terms memory terms = _termsAt(MODEL, START);
        IModelReleases.WaveProof memory proof = _proof(MODEL, device);
        vm.assertTrue(releases.admits(CHANNEL, terms, proof));
        vm.assume(any != proof.pseudonym && any != proof.salt && any != MODEL && index != device);
        vm.assume(wave != proof.wave && any != proof.siblings[0] && any != terms.gateHash);
        proof.pseudonym = any;
        _assertNotAdmitted(terms, proof);
        proof = _proof(MODEL, device);
        proof.salt = any;
        _assertNotAdmitted(terms, proof);
        proof = _proof(MODEL, device);
        proof.manifestHash = any;
        _assertNotAdmitted(terms, proof);
        proof = _proof(MODEL, device);
        proof.wave = wave;
        _assertNotAdmitted(terms, proof);
        proof = _proof(MODEL, device);
        proof.index = index;
        _assertNotAdmitted(terms, proof);
        proof = _proof(MODEL, device);
        proof.siblings[0] = any;
        _assertNotAdmitted(terms, proof);
        terms.gateHash = any;
        _assertNotAdmitted(terms, _proof(MODEL, device));
    }

    /// An inner node, shown as if it were a leaf, is none: they are hashed under different first bytes.
    function test_26_admits__innerNodeAsLeaf__refused() public {
        _completed(MODEL);
        IModelReleases.WaveProof memory proof = _proof(MODEL, 0);
        bytes32[] memory shorter = new bytes32[](1);
        shorter[0] = proof.siblings[1];
        proof.siblings = shorter;
        _assertNotAdmitted(_termsAt(MODEL, START), proof);
    }

    /* PEOPLE */

    function testFuzz_05_steps__byAStranger__refused(address caller) public {
        vm.assume(caller != releaseOwner && caller != approver && caller != publisher && caller != address(vm));
        _rolling(MODEL);
        IModelReleases.Terms memory terms = _terms(OTHER_MODEL);
        IModelReleases.Report memory report;
        bytes memory notPublisher = abi.encodeWithSelector(IModelReleases.NotPublisher.selector, caller);
        bytes memory notApprover = abi.encodeWithSelector(IModelReleases.NotApprover.selector, caller);
        bytes memory notInCharge = abi.encodeWithSelector(IModelReleases.NotInCharge.selector, caller);
        bytes memory notOwner = abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", caller);
        _step(caller, abi.encodeCall(releases.propose, (CHANNEL, terms)), false, notPublisher);
        _step(caller, abi.encodeCall(releases.openWave, (CHANNEL, 1)), false, notPublisher);
        _step(caller, abi.encodeCall(releases.finalise, (CHANNEL, MODEL, 0, report)), false, notPublisher);
        _step(caller, abi.encodeCall(releases.approve, (CHANNEL, 1, MODEL)), false, notApprover);
        _step(caller, abi.encodeCall(releases.resume, (CHANNEL, 1)), false, notApprover);
        _step(caller, abi.encodeCall(releases.pause, (CHANNEL, 1)), false, notInCharge);
        _step(caller, abi.encodeCall(releases.rollBack, (CHANNEL, MODEL)), false, notInCharge);
        _step(caller, abi.encodeCall(releases.revoke, (CHANNEL, MODEL)), false, notInCharge);
        _step(caller, abi.encodeCall(releases.setPublisher, (caller, gateway)), false, notOwner);
        _step(caller, abi.encodeCall(releases.setApprover, (caller)), false, notOwner);
        _step(caller, abi.encodeCall(releases.setPaused, (true)), false, notOwner);
        _step(caller, abi.encodeCall(releases.transferOwnership, (caller)), false, notOwner);
        _step(publisher, abi.encodeCall(releases.revoke, (CHANNEL, MODEL)), false, _notInCharge(publisher));
    }

    /// A publisher is as good as its gateway: off, suspended, retired or of another kind, it publishes nothing.
    function testFuzz_05_publisher__gatewayNotUsable__refused(uint8 why_) public {
        uint8 why = why_ % 4;
        if (why == 0) vm.prank(owner);
        if (why == 0) service.setActive(gateway, false);
        if (why == 1) vm.prank(serviceOwner);
        if (why == 1) service.setSuspended(gateway, true);
        if (why == 2) vm.prank(owner);
        if (why == 2) service.retire(gateway);
        if (why == 3) {
            gateway = _enrol(1, owner, SENSOR);
            vm.prank(releaseOwner);
            releases.setPublisher(publisher, gateway);
        }
        bytes memory notUsable = abi.encodeWithSelector(IModelReleases.GatewayNotUsable.selector, gateway);
        IModelReleases.Terms memory terms = _terms(MODEL);
        _step(publisher, abi.encodeCall(releases.propose, (CHANNEL, terms)), false, notUsable);
        _step(publisher, abi.encodeCall(releases.rollBack, (CHANNEL, MODEL)), false, _notInCharge(publisher));
    }

    function testFuzz_33_setPublisher__another__oneEvent(address account, address gateway_) public {
        vm.assume(account != address(0) && account != publisher && gateway_ != address(0));
        vm.expectEmit(address(releases));
        emit IModelReleases.PublisherChanged(account, gateway_);
        vm.prank(releaseOwner);
        releases.setPublisher(account, gateway_);
        vm.assertEq(releases.gatewayOf(account), gateway_);
        bytes memory same = abi.encodeWithSelector(Unchanged.selector);
        _step(releaseOwner, abi.encodeCall(releases.setPublisher, (account, gateway_)), false, same);
        bytes memory zero = abi.encodeWithSelector(ZeroAddress.selector);
        _step(releaseOwner, abi.encodeCall(releases.setPublisher, (address(0), gateway_)), false, zero);
    }

    function testFuzz_33_setApprover__another__oneEvent(address next) public {
        vm.assume(next != approver);
        vm.expectEmit(address(releases));
        emit IModelReleases.ApproverChanged(approver, next);
        vm.prank(releaseOwner);
        releases.setApprover(next);
        vm.assertEq(releases.approver(), next);
        bytes memory same = abi.encodeWithSelector(Unchanged.selector);
        _step(releaseOwner, abi.encodeCall(releases.setApprover, (next)), false, same);
    }

    function test_20_setPaused__paused__onlyNewProposalsStop() public {
        _completed(MODEL);
        _rolling(OTHER_MODEL);
        vm.startPrank(releaseOwner);
        releases.setPaused(true);
        vm.expectRevert(abi.encodeWithSelector(Unchanged.selector));
        releases.setPaused(true);
        vm.stopPrank();
        vm.assertTrue(releases.paused());
        vm.warp(_now() + SOAK);
        _openWave(2);
        vm.prank(publisher);
        releases.pause(CHANNEL, 2);
        vm.prank(approver);
        releases.resume(CHANNEL, 2);
        vm.warp(_now() + SOAK);
        _finalise(OTHER_MODEL, 0);
        vm.prank(publisher);
        releases.rollBack(CHANNEL, MODEL);
        _revoke(OTHER_MODEL);
        IModelReleases.Terms memory terms = _terms("model 3");
        _refused(terms, abi.encodeWithSelector(IModelReleases.ReleasesPaused.selector));
        vm.prank(releaseOwner);
        releases.setPaused(false);
        _propose("model 3");
    }

    function testFuzz_34_constructor__noService__refused() public {
        vm.expectRevert(abi.encodeWithSelector(ZeroAddress.selector));
        new ModelReleases(releaseOwner, IWorkerRegistry(address(0)), approver);
        vm.assertEq(releases.service(), address(service));
    }

    function testFuzz_34_supportsInterface__anyId__itsOwnAndErc165(bytes4 id) public view {
        vm.assertTrue(releases.supportsInterface(type(IModelReleases).interfaceId));
        vm.assertTrue(releases.supportsInterface(type(IERC165).interfaceId));
        bool known = id == type(IModelReleases).interfaceId || id == type(IERC165).interfaceId;
        vm.assertEq(releases.supportsInterface(id), known);
    }

    /* HELPERS */

    /// @dev Leads the channel's first release, of MODEL, into a state; the last is revoked after completion.
    function _reach(uint8 state) private {
        if (state == 0) return;
        if (state >= COMPLETED) {
            _completed(MODEL);
            if (state == REVOKED) _revoke(MODEL);
            return;
        }
        _propose(MODEL);
        if (state >= APPROVED) _approve(1);
        if (state >= ROLLING) _openWave(1);
        if (state == PAUSED) {
            vm.prank(publisher);
            releases.pause(CHANNEL, 1);
        }
    }

    function _termsAt(bytes32 manifestHash, uint256 time) private view returns (IModelReleases.Terms memory terms) {
        terms = _terms(manifestHash);
        terms.notBefore = uint32(time);
        terms.expiresAt = uint32(time + 7 days);
    }

    /// @dev Tries a step and takes it back.
    function _step(address caller, bytes memory data, bool works, bytes memory error_) private {
        uint256 before = vm.snapshotState();
        vm.prank(caller);
        (bool done, bytes memory why) = address(releases).call(data);
        vm.assertEq(done, works);
        if (!done) vm.assertEq(why, error_);
        vm.revertToState(before);
    }

    function _refused(IModelReleases.Terms memory terms, bytes memory why) private {
        vm.expectRevert(why);
        vm.prank(publisher);
        releases.propose(CHANNEL, terms);
    }

    function _notInCharge(address caller) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IModelReleases.NotInCharge.selector, caller);
    }

    function _assertNotAdmitted(IModelReleases.Terms memory terms, IModelReleases.WaveProof memory proof) private view {
        vm.assertFalse(releases.admits(CHANNEL, terms, proof));
    }

    function _assertStep(bytes32 event_, uint8 state, uint8 wave) private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, 1, "one change, one event");
        vm.assertTrue(logs[0].emitter == address(releases) && logs[0].topics[0] == event_);
        vm.assertEq(logs[0].topics[1], CHANNEL);
        vm.assertTrue(releases.head(CHANNEL).state == state && releases.head(CHANNEL).wave == wave);
    }
}
