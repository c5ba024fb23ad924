// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Service} from "../../../contracts/Service.sol";
import {IModelReleases} from "../../../contracts/interfaces/IModelReleases.sol";
import {ModelReleases} from "../../../contracts/releases/ModelReleases.sol";
import {APPROVED, PAUSED, REVOKED, ROLLING} from "../../../contracts/releases/ReleaseWords.sol";
import {vm} from "../Vm.sol";
import {forgetStorage, one, somebody, someMoment, svm} from "./Svm.sol";

/// @dev What no call whatever can do to a line of releases: from arbitrary storage, by anybody, at any time.
contract ReleasesProofs {
    uint8 private constant GATEWAY = 3;

    Service private _service;
    ModelReleases private _releases;
    address private _caller;
    bytes32 private _channel;
    bytes32 private _manifest;
    bytes4 private _selector;

    function setUp() public {
        _service = new Service(address(0xA11CE), 1, 2);
        _releases = new ModelReleases(address(0xB0B), _service, address(0xCAB));
        forgetStorage(address(_service), 14);
        forgetStorage(address(_releases), 6);
        someMoment();
        _caller = somebody("caller");
        _channel = svm.createBytes32("channel");
        _manifest = svm.createBytes32("manifest");
    }

    /// The sequence goes up one by one; neither it nor the floor, nor what was completed last, ever goes down.
    function check_21_SequenceAndFloorNeverFall() public {
        IModelReleases.Head memory old = _head();

        _anyCall();

        IModelReleases.Head memory now_ = _releases.head(_channel);
        assert(now_.sequence >= old.sequence);
        assert(now_.sequence <= uint256(old.sequence) + 1);
        assert(now_.floor >= old.floor);
        assert(now_.completed >= old.completed);
        assert(now_.completed <= now_.sequence);
        assert(one(now_.state != 0) <= now_.sequence);
        assert(_selector == IModelReleases.revoke.selector || _floorFits(now_)); // revocation is next
    }

    /// A revoked manifest is out at once, and its number below the floor, which still fits.
    function check_24_RevocationTakesEffectAtOnce(IModelReleases.Terms calldata terms) public {
        vm.assume(terms.manifestHash == _manifest);
        IModelReleases.Release memory old = _release();
        vm.prank(_caller);
        _releases.revoke(_channel, _manifest);
        IModelReleases.Head memory now_ = _releases.head(_channel);
        assert(_floorFits(now_));
        assert(_releases.release(_channel, _manifest).revoked);
        assert(old.sequence == 0 || now_.floor > old.sequence);
        assert(!_releases.admits(_channel, terms, _proof()));
    }

    /// A manifest's terms never change, once it has any; what is completed or revoked stays so; its number only grows.
    function check_21_AReleaseIsForLife() public {
        IModelReleases.Release memory old = _release();

        _anyCall();

        IModelReleases.Release memory now_ = _releases.release(_channel, _manifest);
        assert(one(old.sequence == 0) + one(now_.digest == old.digest) >= 1);
        assert(one(now_.completed) >= one(old.completed));
        assert(one(now_.revoked) >= one(old.revoked));
        assert(now_.sequence >= old.sequence);
    }

    /// A revoked manifest is never taken up again, and nothing brings it back.
    function check_24_RevokedIsFinal(IModelReleases.Terms calldata terms) public {
        vm.assume(terms.manifestHash == _manifest);
        IModelReleases.Release memory old = _release();
        IModelReleases.Head memory head = _head();
        vm.assume(old.revoked);
        vm.assume(one(old.sequence != head.sequence) + one(head.sequence == 0) + one(head.state == REVOKED) >= 1);

        _anyCall();

        IModelReleases.Release memory now_ = _releases.release(_channel, _manifest);
        IModelReleases.Head memory head_ = _releases.head(_channel);
        assert(one(now_.revoked) + one(now_.sequence == old.sequence) + one(now_.completed == old.completed) == 3);
        assert(one(now_.sequence != head_.sequence) + one(head_.sequence == 0) + one(head_.state == REVOKED) >= 1);
        assert(!_releases.admits(_channel, terms, _proof()));
    }

    /// Who is neither owner nor approver nor publisher moves no channel and touches no release.
    function check_05_StrangersMoveNothing() public {
        vm.assume(_caller != _releases.owner());
        vm.assume(_caller != _releases.approver());
        vm.assume(_releases.gatewayOf(_caller) == address(0));
        uint256 head = _packed(_releases.head(_channel));
        IModelReleases.Release memory old = _releases.release(_channel, _manifest);

        _anyCall();

        IModelReleases.Release memory now_ = _releases.release(_channel, _manifest);
        assert(_packed(_releases.head(_channel)) == head);
        assert(one(now_.sequence == old.sequence) + one(now_.revoked == old.revoked) == 2);
        assert(one(now_.completed == old.completed) + one(now_.digest == old.digest) == 2);
    }

    /// A publisher without a usable gateway, who is nothing else, is a stranger.
    function check_05_PublishersNeedTheirGateway() public {
        vm.assume(_caller != _releases.owner());
        vm.assume(_caller != _releases.approver());
        vm.assume(!_service.isUsable(_releases.gatewayOf(_caller), GATEWAY));
        uint256 head = _packed(_releases.head(_channel));

        _anyCall();

        assert(_packed(_releases.head(_channel)) == head);
    }

    /// Who is not the approver neither approves nor resumes.
    function check_05_OnlyTheApproverApproves() public {
        vm.assume(_caller != _releases.approver());
        uint8 old = _releases.head(_channel).state;

        _anyCall();

        uint8 now_ = _releases.head(_channel).state;
        assert(one(now_ == APPROVED) + one(old != APPROVED) <= 1);
        assert(one(now_ == ROLLING) + one(old == PAUSED) <= 1);
    }

    /// Who is neither owner nor approver revokes nothing.
    function check_05_PublishersRevokeNothing() public {
        vm.assume(_caller != _releases.owner());
        vm.assume(_caller != _releases.approver());
        bool old = _releases.release(_channel, _manifest).revoked;

        _anyCall();

        assert(_releases.release(_channel, _manifest).revoked == old);
    }

    /// A release goes from state to state in their order, and in no other.
    function check_23_StatesKeepTheirOrder() public {
        IModelReleases.Head memory old = _head();
        vm.assume(old.state <= REVOKED);

        _anyCall();

        IModelReleases.Head memory now_ = _releases.head(_channel);
        vm.assume(now_.sequence == old.sequence);
        uint256 step = uint256(old.state) << 8 | now_.state;
        uint256 known = one(old.state == now_.state) + one(now_.state == REVOKED) + one(step == 0x0102)
            + one(step == 0x0203) + one(step == 0x0304) + one(step == 0x0403) + one(step == 0x0305);
        assert(known >= 1);
    }

    /// Waves open one by one, in the window, and after the soak of the one before; nothing is completed before them all.
    function check_23_WavesOpenInTime() public {
        IModelReleases.Head memory old = _head();
        vm.assume(old.wave <= old.waveCount);

        _anyCall();

        IModelReleases.Head memory now_ = _releases.head(_channel);
        vm.assume(now_.sequence == old.sequence);
        uint256 opened = one(now_.wave != old.wave);
        uint256 completed = one(now_.completed != old.completed);
        uint256 soaked = one(block.timestamp >= uint256(old.since) + old.soak);
        uint256 inTime = one(block.timestamp >= old.notBefore) + one(block.timestamp <= old.expiresAt);
        assert(now_.wave >= old.wave);
        assert(now_.wave <= uint256(old.wave) + 1);
        assert(now_.wave <= now_.waveCount);
        assert(2 * opened <= inTime);
        assert(opened <= one(old.state == APPROVED) + soaked);
        assert(completed <= soaked);
        assert(completed <= one(old.wave == old.waveCount));
    }

    /// Only what was completed and not revoked comes back, as the next number.
    function check_24_OnlyTheGoodComesBack() public {
        IModelReleases.Release memory old = _release();
        IModelReleases.Head memory head = _head();
        vm.assume(old.sequence != 0);

        _anyCall();

        IModelReleases.Release memory now_ = _releases.release(_channel, _manifest);
        vm.assume(now_.sequence != old.sequence);
        assert(now_.sequence == uint256(head.sequence) + 1);
        assert(one(old.completed) + one(old.revoked) * 2 == 1);
    }

    /// Roles are the owner's to give.
    function check_05_RolesAreTheOwners(address account) public {
        address owner = _releases.owner();
        address gateway = _releases.gatewayOf(account);
        address approver = _releases.approver();
        bool paused = _releases.paused();

        _anyCall();

        uint256 same = one(_releases.gatewayOf(account) == gateway) + one(_releases.approver() == approver)
            + one(_releases.paused() == paused);
        assert(same == 3 || _caller == owner);
    }

    /* HELPERS */

    function _anyCall() private {
        bytes memory data = svm.createCalldata("ModelReleases");
        _selector = bytes4(data);
        vm.prank(_caller);
        (bool done,) = address(_releases).call(data);
        vm.assume(done);
    }

    /// @dev A head that fits together, which check_21 proves to stay so, and whose numbers do not run out in this call.
    function _head() private view returns (IModelReleases.Head memory head) {
        head = _releases.head(_channel);
        vm.assume(head.sequence < type(uint32).max - 1);
        vm.assume(head.completed <= head.sequence);
        vm.assume(one(head.state != 0) <= head.sequence);
        vm.assume(_floorFits(head));
    }

    function _floorFits(IModelReleases.Head memory head) private pure returns (bool) {
        return head.floor <= head.sequence + one(head.state == REVOKED);
    }

    function _release() private view returns (IModelReleases.Release memory release) {
        release = _releases.release(_channel, _manifest);
        vm.assume(release.sequence <= _head().sequence);
    }

    /// @dev All of a head in one number, to compare without a fork for every field.
    function _packed(IModelReleases.Head memory head) private pure returns (uint256) {
        return uint256(head.sequence) | uint256(head.completed) << 32 | uint256(head.floor) << 64 | uint256(head.state)
            << 96 | uint256(head.wave) << 104 | uint256(head.waveCount) << 112 | uint256(head.since) << 120
            | uint256(head.notBefore) << 152 | uint256(head.expiresAt) << 184 | uint256(head.soak) << 216;
    }

    function _proof() private returns (IModelReleases.WaveProof memory proof) {
        proof.pseudonym = svm.createBytes32("pseudonym");
        proof.wave = uint8(svm.createUint(8, "wave"));
        proof.manifestHash = svm.createBytes32("leaf manifest");
        proof.salt = svm.createBytes32("salt");
        proof.index = svm.createUint256("index");
        proof.siblings = new bytes32[](1);
        proof.siblings[0] = svm.createBytes32("sibling");
    }
}
