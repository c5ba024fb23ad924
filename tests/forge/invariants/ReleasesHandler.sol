// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {Service} from "../../../contracts/Service.sol";
import {Unchanged} from "../../../contracts/interfaces/Errors.sol";
import {IModelReleases} from "../../../contracts/interfaces/IModelReleases.sol";
import {ModelReleases} from "../../../contracts/releases/ModelReleases.sol";
import {APPROVED, COMPLETED, PAUSED, PROPOSED, REVOKED, ROLLING} from "../../../contracts/releases/ReleaseWords.sol";
import {Channel} from "../Channel.sol";
import {Vm, vm} from "../Vm.sol";

/// @dev Everybody at one line of releases, and the line as its events alone tell it. A breach of a rule is counted under
/// the number of the invariant it breaks.
contract ReleasesHandler is Channel {
    uint256 private constant MODELS = 6;

    address[5] private _people;
    mapping(bytes4 error_ => bool) private _declared;
    mapping(bytes32 manifestHash => IModelReleases.Release) private _told;
    mapping(bytes32 manifestHash => IModelReleases.Terms) private _termsOf;
    mapping(uint256 sequence => bytes32) public manifestAt;
    IModelReleases.Head private _head;
    address private _caller;
    uint256[35] public breaches;

    constructor(Service service_, ModelReleases releases_, address gateway_) {
        (service, releases, gateway) = (service_, releases_, gateway_);
        _people = [publisher, approver, releaseOwner, owner, stranger];
        bytes4[16] memory declared = [
            Unchanged.selector,
            IModelReleases.NotPublisher.selector,
            IModelReleases.GatewayNotUsable.selector,
            IModelReleases.NotApprover.selector,
            IModelReleases.NotInCharge.selector,
            IModelReleases.ReleasesPaused.selector,
            IModelReleases.MissingDigest.selector,
            IModelReleases.ManifestKnown.selector,
            IModelReleases.NotNewest.selector,
            IModelReleases.WrongState.selector,
            IModelReleases.OutsideWindow.selector,
            IModelReleases.StillSoaking.selector,
            IModelReleases.WrongWave.selector,
            IModelReleases.BadFloor.selector,
            IModelReleases.BadTarget.selector,
            Ownable.OwnableUnauthorizedAccount.selector
        ];
        for (uint256 i = 0; i < declared.length; ++i) {
            _declared[declared[i]] = true;
        }
    }

    /* STEPS */

    function propose(uint256 by, uint256 model) external {
        _send(_as(publisher, by), abi.encodeCall(IModelReleases.propose, (CHANNEL, _terms(_model(model)))));
    }

    function approve(uint256 by) external {
        _send(
            _as(approver, by),
            abi.encodeCall(IModelReleases.approve, (CHANNEL, _head.sequence, manifestAt[_head.sequence]))
        );
    }

    function openWave(uint256 by, bool wait) external {
        if (wait) vm.warp(_now() + SOAK);
        _send(_as(publisher, by), abi.encodeCall(IModelReleases.openWave, (CHANNEL, _head.sequence)));
    }

    function pause(uint256 by) external {
        if (by % 3 != 0) return; // rarer, so that rollouts come to an end
        _send(_as(publisher, by / 3), abi.encodeCall(IModelReleases.pause, (CHANNEL, _head.sequence)));
    }

    function resume(uint256 by) external {
        _send(_as(approver, by), abi.encodeCall(IModelReleases.resume, (CHANNEL, _head.sequence)));
    }

    function finalise(uint256 by, uint256 floor, bool wait) external {
        if (wait) vm.warp(_now() + SOAK);
        IModelReleases.Report memory report = IModelReleases.Report("reports", 1, 2, 3);
        uint32 floor_ = uint32(floor % (_head.sequence + 2));
        bytes32 manifest = manifestAt[_head.sequence];
        _send(_as(publisher, by), abi.encodeCall(IModelReleases.finalise, (CHANNEL, manifest, floor_, report)));
    }

    function rollBack(uint256 by, uint256 model) external {
        _send(_as(releaseOwner, by), abi.encodeCall(IModelReleases.rollBack, (CHANNEL, _model(model))));
    }

    function revoke(uint256 by, uint256 model) external {
        if (model % 4 != 0) return; // rarer: there are only so many models
        _send(_as(approver, by), abi.encodeCall(IModelReleases.revoke, (CHANNEL, _model(model / 4))));
    }

    function setPaused(uint256 by, bool paused) external {
        _send(_as(releaseOwner, by), abi.encodeCall(IModelReleases.setPaused, (paused)));
    }

    function switchGateway(uint256 any) external {
        bool active = any % 4 != 0; // rarely off, so that somebody publishes
        if (service.isUsable(gateway, GATEWAY) == active) return;
        vm.prank(owner);
        service.setActive(gateway, active);
    }

    function passTime(uint32 seconds_) external {
        vm.warp(_now() + seconds_ % 1 days);
    }

    /* READING */

    function head() external view returns (IModelReleases.Head memory) {
        return _head;
    }

    function told(uint256 model) external view returns (IModelReleases.Release memory) {
        return _told[_model(model)];
    }

    function terms(uint256 model) external view returns (IModelReleases.Terms memory) {
        return _termsOf[_model(model)];
    }

    /* FOLLOWING */

    function _follow(Vm.Log memory log) private {
        bytes32 topic = log.topics[0];
        if (topic == IModelReleases.PausedChanged.selector) return;
        _rule(21, log.topics[1] == CHANNEL);
        uint32 sequence = uint32(uint256(log.topics[2]));
        if (topic == IModelReleases.ReleaseProposed.selector) return _proposed(log, sequence);
        if (topic == IModelReleases.RolledBack.selector) return _rolledBack(log, sequence);
        if (topic == IModelReleases.ReleaseRevoked.selector) return _revoked(log, sequence);
        _rule(33, sequence == _head.sequence);
        if (topic == IModelReleases.ReleaseApproved.selector) {
            _moved(PROPOSED, APPROVED, _caller == approver);
        } else if (topic == IModelReleases.WaveOpened.selector) {
            _waveOpened(abi.decode(log.data, (uint8)));
        } else if (topic == IModelReleases.RolloutPaused.selector) {
            _moved(ROLLING, PAUSED, _caller == approver || _caller == releaseOwner || _publishes());
        } else if (topic == IModelReleases.RolloutResumed.selector) {
            _moved(PAUSED, ROLLING, _caller == approver);
            _head.since = uint32(_now());
        } else {
            _rule(33, topic == IModelReleases.ReleaseFinalised.selector);
            _finalised(log);
        }
    }

    function _proposed(Vm.Log memory log, uint32 sequence) private {
        IModelReleases.Terms memory terms_ = abi.decode(log.data, (IModelReleases.Terms));
        _rule(21, sequence == _head.sequence + 1 && _told[terms_.manifestHash].sequence == 0);
        _rule(24, !_told[terms_.manifestHash].revoked);
        _rule(23, _head.state != ROLLING && _head.state != PAUSED && _publishes());
        _head = IModelReleases.Head({
            sequence: sequence,
            completed: _head.completed,
            floor: _head.floor,
            state: PROPOSED,
            wave: 0,
            waveCount: terms_.waveCount,
            since: 0,
            notBefore: terms_.notBefore,
            expiresAt: terms_.expiresAt,
            soak: terms_.soak
        });
        _termsOf[terms_.manifestHash] = terms_;
        _told[terms_.manifestHash] =
            IModelReleases.Release(sequence, false, false, bytes24(keccak256(abi.encode(terms_))));
        manifestAt[sequence] = terms_.manifestHash;
    }

    function _waveOpened(uint8 wave) private {
        bool soaked = _now() >= uint256(_head.since) + _head.soak;
        _rule(23, _head.state == APPROVED || (_head.state == ROLLING && soaked));
        _rule(23, wave == _head.wave + 1 && wave <= _head.waveCount && _publishes());
        _rule(23, _now() >= _head.notBefore && _now() <= _head.expiresAt);
        (_head.state, _head.wave, _head.since) = (ROLLING, wave, uint32(_now()));
    }

    function _finalised(Vm.Log memory log) private {
        (uint32 floor,) = abi.decode(log.data, (uint32, IModelReleases.Report));
        _rule(23, _head.wave == _head.waveCount && _now() >= uint256(_head.since) + _head.soak);
        _rule(24, floor >= _head.floor && floor <= _head.sequence);
        _moved(ROLLING, COMPLETED, _publishes());
        (_head.completed, _head.floor, _head.since) = (_head.sequence, floor, uint32(_now()));
        _told[manifestAt[_head.sequence]].completed = true;
    }

    function _rolledBack(Vm.Log memory log, uint32 sequence) private {
        IModelReleases.Release storage target = _told[log.topics[3]];
        _rule(24, target.completed && !target.revoked && target.sequence == abi.decode(log.data, (uint32)));
        _rule(21, sequence == _head.sequence + 1);
        _rule(5, _caller == approver || _caller == releaseOwner || _publishes());
        uint32 floor = _head.floor;
        delete _head;
        (_head.sequence, _head.completed, _head.floor) = (sequence, sequence, floor);
        (_head.state, _head.since) = (COMPLETED, uint32(_now()));
        target.sequence = sequence;
        manifestAt[sequence] = log.topics[3];
    }

    function _revoked(Vm.Log memory log, uint32 sequence) private {
        IModelReleases.Release storage target = _told[log.topics[3]];
        uint32 floor = abi.decode(log.data, (uint32));
        _rule(5, _caller == approver || _caller == releaseOwner);
        _rule(24, !target.revoked && target.sequence == sequence && floor >= _head.floor);
        _rule(24, sequence == 0 || floor > sequence);
        target.revoked = true;
        if (sequence != 0 && sequence == _head.sequence) _head.state = REVOKED;
        _head.floor = floor;
    }

    /* HELPERS */

    function _moved(uint8 from, uint8 to, bool entitled) private {
        _rule(23, _head.state == from);
        _rule(5, entitled);
        _head.state = to;
    }

    function _rule(uint256 number, bool kept) private {
        if (!kept) breaches[number] += 1;
    }

    function _publishes() private view returns (bool) {
        return _caller == publisher && service.isUsable(gateway, GATEWAY);
    }

    function _send(address caller, bytes memory data) private {
        _caller = caller;
        vm.recordLogs();
        vm.prank(caller);
        (bool worked, bytes memory why) = address(releases).call(data);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        if (!worked) return _rule(34, _declared[bytes4(why)]);
        _rule(33, logs.length == 1);
        _follow(logs[0]);
    }

    function _as(address role, uint256 any) private view returns (address) {
        return any % 4 == 0 ? _people[any / 4 % _people.length] : role;
    }

    function _model(uint256 any) private pure returns (bytes32) {
        return keccak256(abi.encode("model", any % MODELS));
    }
}
