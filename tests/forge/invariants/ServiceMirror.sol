// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAdmission} from "../../../contracts/interfaces/IAdmission.sol";
import {IBootstrapList} from "../../../contracts/interfaces/IBootstrapList.sol";
import {IConfigRotation} from "../../../contracts/interfaces/IConfigRotation.sol";
import {IKeyRotation} from "../../../contracts/interfaces/IKeyRotation.sol";
import {IOperators} from "../../../contracts/interfaces/IOperators.sol";
import {IOwnerControl} from "../../../contracts/interfaces/IOwnerControl.sol";
import {IWorkerRegistry} from "../../../contracts/interfaces/IWorkerRegistry.sol";
import {ACTIVE, PENDING, RETIRED, SUSPENDED} from "../../../contracts/registry/WorkerWord.sol";
import {Fleet} from "../Fleet.sol";
import {Vm} from "../Vm.sol";

/// @dev A service as its events alone tell it, with the rules each event must keep to: who may have caused it, and from
/// which state. A breach is counted under the number of the invariant it breaks.
abstract contract ServiceMirror is Fleet {
    struct Version {
        bytes32 digest;
        uint256 height;
        IConfigRotation.Configuration set;
    }

    struct Grant {
        uint8 rights;
        uint256 until;
    }

    mapping(address id => IWorkerRegistry.Worker) internal _workers;
    mapping(address id => address) public offeredTo;
    mapping(address key => address) public holderOf;
    mapping(address key => uint16) public epochOf;
    mapping(address owner => mapping(address operator => Grant)) internal _grants;
    address[] public ids;
    address[] public keys;
    Version[] internal _versions;
    uint32 public lists;
    uint256 public listHeight;
    bytes22 public listDigest;

    uint256 public fee = FEE;
    uint256 public feeCap = FEE_CAP;
    uint256 public announced;
    uint256 public opens;
    bool public paused;
    address public currentRotator;
    uint256 public withdrawn;

    uint256[35] public breaches;

    /// @dev Who called, and who agreed to take which worker over by signature, as the handler knows it.
    address internal _caller;
    address internal _agreed;

    /* READING */

    function worker(address id) external view returns (IWorkerRegistry.Worker memory) {
        return _workers[id];
    }

    function version(uint256 number) external view returns (Version memory) {
        return _versions[number - 1];
    }

    function count() external view returns (uint256 workers, uint256 allKeys, uint256 versions) {
        return (ids.length, keys.length, _versions.length);
    }

    /* FOLLOWING */

    function _rule(uint256 number, bool kept) internal {
        if (!kept) breaches[number] += 1;
    }

    function _follow(Vm.Log memory log) internal {
        bytes32 topic = log.topics[0];
        if (topic == IWorkerRegistry.Enrolled.selector) return _enrolled(log, ACTIVE);
        if (topic == IWorkerRegistry.EnrolledItself.selector) return _enrolled(log, PENDING);
        if (topic == IKeyRotation.KeyRotated.selector) return _rotatedKey(log);
        if (topic == IOperators.OperatorChanged.selector) return _granted(log);
        if (topic == IConfigRotation.ConfigurationRotated.selector) return _rotated(log);
        if (_followSwitch(topic, log) || _followTransfer(topic, log) || _followSettings(topic, log)) return;
        _rule(33, false);
    }

    function _enrolled(Vm.Log memory log, uint8 flags) private {
        (address id, address owner_) = (_address(log.topics[1]), _address(log.topics[2]));
        (uint8 kind, bytes32 x, bytes32 y) = abi.decode(log.data, (uint8, bytes32, bytes32));
        _rule(3, holderOf[id] == address(0));
        _rule(2, flags == ACTIVE ? _caller == owner_ : _caller == id);
        _rule(20, !paused);
        _claim(id, id, 0, x, y);
        ids.push(id);
        _workers[id] = IWorkerRegistry.Worker(owner_, uint32(_now()), 0, 1, kind, flags);
    }

    function _rotatedKey(Vm.Log memory log) private {
        (address id, address key) = (_address(log.topics[1]), _address(log.topics[2]));
        (bytes32 x, bytes32 y, uint16 epoch, uint32 sequence) = abi.decode(log.data, (bytes32, bytes32, uint16, uint32));
        IWorkerRegistry.Worker storage changed = _numbered(id, sequence);
        _rule(9, holderOf[key] == address(0) && epoch == changed.epoch + 1);
        _rule(5, _entrusted(changed.owner, 4));
        _rule(8, changed.flags & (RETIRED | PENDING) == 0);
        _claim(key, id, epoch, x, y);
        changed.epoch = epoch;
    }

    function _followSwitch(bytes32 topic, Vm.Log memory log) private returns (bool) {
        if (log.topics.length == 1) return false;
        address id = _address(log.topics[1]);
        if (topic == IWorkerRegistry.Accepted.selector) {
            IWorkerRegistry.Worker storage accepted = _numbered(id, abi.decode(log.data, (uint32)));
            _rule(6, _caller == accepted.owner && accepted.flags & PENDING != 0);
            accepted.flags ^= PENDING | ACTIVE;
        } else if (topic == IOwnerControl.ActiveChanged.selector) {
            (bool active, uint32 sequence) = abi.decode(log.data, (bool, uint32));
            IWorkerRegistry.Worker storage switched = _numbered(id, sequence);
            _rule(5, _address(log.topics[2]) == _caller && _entrusted(switched.owner, active ? 2 : 1));
            _rule(8, switched.flags & (RETIRED | PENDING) == 0 && (switched.flags & ACTIVE != 0) != active);
            switched.flags ^= ACTIVE;
        } else if (topic == IOwnerControl.SuspendedChanged.selector) {
            (bool suspended, uint32 sequence) = abi.decode(log.data, (bool, uint32));
            IWorkerRegistry.Worker storage judged = _numbered(id, sequence);
            _rule(5, _caller == serviceOwner);
            _rule(8, judged.flags & RETIRED == 0 && (judged.flags & SUSPENDED != 0) != suspended);
            judged.flags ^= SUSPENDED;
        } else if (topic == IOwnerControl.Retired.selector) {
            IWorkerRegistry.Worker storage retired = _numbered(id, abi.decode(log.data, (uint32)));
            _rule(5, _caller == retired.owner && _address(log.topics[2]) == retired.owner);
            _rule(8, retired.flags & RETIRED == 0);
            retired.flags = retired.flags & SUSPENDED | RETIRED;
            delete offeredTo[id];
        } else {
            return false;
        }
        return true;
    }

    function _followTransfer(bytes32 topic, Vm.Log memory log) private returns (bool) {
        if (log.topics.length == 1) return false;
        address id = _address(log.topics[1]);
        if (topic == IOwnerControl.TransferOffered.selector) {
            IWorkerRegistry.Worker storage offered = _numbered(id, abi.decode(log.data, (uint32)));
            _rule(6, _caller == offered.owner && offered.flags & (RETIRED | PENDING) == 0);
            offeredTo[id] = _address(log.topics[2]);
        } else if (topic == IOwnerControl.TransferCancelled.selector) {
            IWorkerRegistry.Worker storage kept = _numbered(id, abi.decode(log.data, (uint32)));
            _rule(6, _caller == kept.owner && offeredTo[id] != address(0));
            delete offeredTo[id];
        } else if (topic == IOwnerControl.OwnerChanged.selector) {
            (address from, address to) = (_address(log.topics[2]), _address(log.topics[3]));
            IWorkerRegistry.Worker storage passed = _numbered(id, abi.decode(log.data, (uint32)));
            bool accepted = _caller == to && offeredTo[id] == to;
            bool signed = _caller == from && _agreed == to;
            _rule(6, from == passed.owner && (accepted || signed));
            _rule(8, passed.flags & (RETIRED | PENDING) == 0);
            passed.owner = to;
            delete offeredTo[id];
        } else {
            return false;
        }
        return true;
    }

    function _granted(Vm.Log memory log) private {
        (uint8 rights, uint256 until) = abi.decode(log.data, (uint8, uint256));
        _rule(5, _address(log.topics[1]) == _caller);
        _grants[_address(log.topics[1])][_address(log.topics[2])] = Grant(rights, until);
    }

    function _rotated(Vm.Log memory log) private {
        IConfigRotation.Configuration memory set = abi.decode(log.data, (IConfigRotation.Configuration));
        uint256 last = _versions.length;
        _rule(12, _caller == serviceOwner || _caller == currentRotator);
        _rule(12, set.version == last + 1 && uint256(log.topics[1]) == set.version);
        _rule(13, set.activeFrom >= _now());
        if (last != 0) {
            Version storage before = _versions[last - 1];
            _rule(13, set.activeFrom >= before.set.activeFrom || set.grace == 0 && set.activeFrom == _now());
            _rule(15, set.previousBlock == before.height);
        }
        _versions.push(Version(_configurationDigest(service, set), block.number, set));
    }

    function _followSettings(bytes32 topic, Vm.Log memory log) private returns (bool) {
        _rule(12, _caller == serviceOwner);
        if (topic == IAdmission.FeeAnnounced.selector) {
            (announced, opens) = abi.decode(log.data, (uint256, uint256));
            _rule(18, announced <= feeCap && opens == _now() + 1 days);
        } else if (topic == IAdmission.FeeAnnouncementCancelled.selector) {
            (announced, opens) = (0, 0);
        } else if (topic == IAdmission.FeeChanged.selector) {
            (uint256 previous, uint256 current) = abi.decode(log.data, (uint256, uint256));
            _rule(18, previous == fee && current == announced && current <= feeCap && opens != 0);
            _rule(18, _now() >= opens && _now() <= opens + 7 days);
            (fee, announced, opens) = (current, 0, 0);
        } else if (topic == IAdmission.FeeCapLowered.selector) {
            (uint256 previous, uint256 current) = abi.decode(log.data, (uint256, uint256));
            _rule(18, previous == feeCap && current < feeCap && current >= fee);
            feeCap = current;
        } else if (topic == IAdmission.PausedChanged.selector) {
            paused = abi.decode(log.data, (bool));
        } else if (topic == IAdmission.Withdrawn.selector) {
            withdrawn += abi.decode(log.data, (uint256));
        } else if (topic == IConfigRotation.RotatorChanged.selector) {
            currentRotator = _address(log.topics[2]);
        } else if (topic == IBootstrapList.BootstrapNamed.selector) {
            _named(log);
        } else {
            return false;
        }
        return true;
    }

    function _named(Vm.Log memory log) private {
        (string[] memory enodes, uint48 previousBlock) = abi.decode(log.data, (string[], uint48));
        _rule(15, uint256(log.topics[1]) == lists + 1 && previousBlock == listHeight);
        _rule(31, enodes.length <= 16);
        for (uint256 i = 0; i < enodes.length; ++i) {
            _rule(31, bytes(enodes[i]).length >= 140 && bytes(enodes[i]).length <= 200);
        }
        bytes22 digest = enodes.length == 0 ? bytes22(0) : bytes22(keccak256(abi.encode(enodes)));
        _rule(15, digest != listDigest);
        (lists, listHeight, listDigest) = (lists + 1, block.number, digest);
    }

    /* HELPERS */

    function _claim(address key, address id, uint16 epoch, bytes32 x, bytes32 y) private {
        _rule(1, key == address(uint160(uint256(keccak256(abi.encode(x, y))))));
        holderOf[key] = id;
        epochOf[key] = epoch;
        keys.push(key);
    }

    function _numbered(address id, uint32 sequence) private returns (IWorkerRegistry.Worker storage changed) {
        changed = _workers[id];
        _rule(33, changed.kind != 0 && sequence == changed.sequence + 1);
        changed.sequence = sequence;
    }

    function _entrusted(address owner_, uint8 right) private view returns (bool) {
        Grant storage grant = _grants[owner_][_caller];
        return _caller == owner_ || (grant.rights & right != 0 && _now() <= grant.until);
    }

    function _address(bytes32 topic) internal pure returns (address) {
        return address(uint160(uint256(topic)));
    }
}
