// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {Service} from "../../../contracts/Service.sol";
import {BadBatchSize, SignatureExpired, Unchanged, ZeroAddress} from "../../../contracts/interfaces/Errors.sol";
import {IAdmission} from "../../../contracts/interfaces/IAdmission.sol";
import {IBootstrapList} from "../../../contracts/interfaces/IBootstrapList.sol";
import {IConfigRotation} from "../../../contracts/interfaces/IConfigRotation.sol";
import {IKeyRotation} from "../../../contracts/interfaces/IKeyRotation.sol";
import {IOperators} from "../../../contracts/interfaces/IOperators.sol";
import {IOwnerControl} from "../../../contracts/interfaces/IOwnerControl.sol";
import {IWorkerRegistry} from "../../../contracts/interfaces/IWorkerRegistry.sol";
import {Vm, vm} from "../Vm.sol";
import {ServiceMirror} from "./ServiceMirror.sol";

/// @dev Plays everybody at once: owners, an operator, the rotator, the service owner, devices and a stranger, who call
/// what they may and what they may not, with right and with wrong signatures, and send again what worked before.
contract ServiceHandler is ServiceMirror {
    uint256 private constant DEVICES = 8;

    address[6] private _people;
    mapping(bytes4 error_ => bool) private _declared;
    bytes[] private _spent;
    uint256 public paidIn;
    uint256 public forced;

    constructor(Service service_) {
        service = service_;
        _people = [owner, otherOwner, operator, stranger, rotator, serviceOwner];
        _declareErrors();
    }

    /* WORKERS */

    function enrol(uint256 by, uint256 key, uint256 kind, bool paid, bool wrong) external {
        address caller = _person(by);
        IWorkerRegistry.Enrolment memory device =
            _enrolment(key % DEVICES, wrong ? stranger : caller, _kind(kind), _now());
        if (_send(caller, paid ? fee : 0, abi.encodeCall(IWorkerRegistry.enrol, (device)), 1)) {
            _rule(2, !wrong || caller == stranger);
        }
    }

    function enrolBatch(uint256 by, uint256 key, uint256 kind, bool sound) external {
        address caller = _person(by);
        IWorkerRegistry.Enrolment[] memory devices = new IWorkerRegistry.Enrolment[](2);
        devices[0] = _enrolment(key % DEVICES, caller, _kind(kind), _now());
        devices[1] = _enrolment((key % DEVICES + (sound ? 1 : 0)) % DEVICES, caller, _kind(kind), _now());
        bool worked = _send(caller, 2 * fee, abi.encodeCall(IWorkerRegistry.enrolBatch, (devices)), 2);
        _rule(11, !worked || sound);
    }

    function enrolSelf(uint256 by, uint256 key, uint256 kind) external {
        Vm.Wallet memory device = _device(key % DEVICES);
        bytes memory data = abi.encodeCall(
            IWorkerRegistry.enrolSelf,
            (bytes32(device.publicKeyX), bytes32(device.publicKeyY), _kind(kind), _person(by))
        );
        _send(device.addr, fee, data, 1);
    }

    function accept(uint256 by, uint256 which) external {
        _send(_maybeOwner(by, which), 0, abi.encodeCall(IWorkerRegistry.accept, (_worker(which))), 1);
    }

    function setActive(uint256 by, uint256 which, bool active) external {
        _send(_maybeOwner(by, which), 0, abi.encodeCall(IOwnerControl.setActive, (_worker(which), active)), 1);
    }

    function setActiveBatch(uint256 by, uint256 which, bool active) external {
        address[] memory both = new address[](2);
        (both[0], both[1]) = (_worker(which), _worker(which / 2));
        bool worked = _send(_maybeOwner(by, which), 0, abi.encodeCall(IOwnerControl.setActiveBatch, (both, active)), 2);
        _rule(11, !worked || both[0] != both[1]);
    }

    function setSuspended(uint256 by, uint256 which, bool suspended) external {
        address caller = by % 4 == 0 ? _person(by / 4) : serviceOwner;
        _send(caller, 0, abi.encodeCall(IOwnerControl.setSuspended, (_worker(which), suspended)), 1);
    }

    function offerTransfer(uint256 by, uint256 which, uint256 to) external {
        _send(_maybeOwner(by, which), 0, abi.encodeCall(IOwnerControl.offerTransfer, (_worker(which), _person(to))), 1);
    }

    function cancelTransfer(uint256 by, uint256 which) external {
        _send(_maybeOwner(by, which), 0, abi.encodeCall(IOwnerControl.cancelTransfer, (_worker(which))), 1);
    }

    function acceptTransfer(uint256 by, uint256 which) external {
        address offered = offeredTo[_worker(which)];
        address caller = by % 4 == 0 || offered == address(0) ? _person(by / 4) : offered;
        _send(caller, 0, abi.encodeCall(IOwnerControl.acceptTransfer, (_worker(which))), 1);
    }

    function transferSigned(uint256 by, uint256 which, bool agreed) external {
        (address id, address caller) = (_worker(which), _maybeOwner(by, which));
        bytes32 digest = _takeOverDigest(service, id, caller, _workers[id].sequence, _now());
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(agreed ? OTHER_OWNER_KEY : 0xD0, digest);
        bytes memory signature = abi.encodePacked(r, s, v);
        if (agreed) _agreed = otherOwner;
        _send(caller, 0, abi.encodeCall(IOwnerControl.transferSigned, (id, otherOwner, _now(), signature)), 1);
        delete _agreed;
    }

    function retire(uint256 by, uint256 which) external {
        if (which % 3 != 0) return; // rarer, so that workers live to do something
        _send(_maybeOwner(by, which / 3), 0, abi.encodeCall(IOwnerControl.retire, (_worker(which / 3))), 1);
    }

    function rotateKey(uint256 by, uint256 which, uint256 key, uint256 wrong) external {
        address id = _worker(which);
        IWorkerRegistry.Worker storage rotated = _workers[id];
        uint16 epoch = rotated.epoch + (wrong % 4 == 0 ? 2 : 1);
        IKeyRotation.NewKey memory next = _newKey(key % (4 * DEVICES), id, rotated.owner, epoch, _now());
        bool worked = _send(_maybeOwner(by, which), 0, abi.encodeCall(IKeyRotation.rotateKey, (next)), 1);
        _rule(10, !worked || wrong % 4 != 0);
    }

    function setOperator(uint256 by, uint256 to, uint8 rights, uint32 term) external {
        uint40 until = rights % 8 == 0 ? 0 : uint40(_now() + term % 400 days);
        bytes memory data = abi.encodeCall(IOperators.setOperator, (_person(to), rights % 8, until));
        _send(_person(by), 0, data, 1);
    }

    /* SERVICE */

    function announceFee(uint256 by, uint96 fee_) external {
        _send(_maybeServiceOwner(by), 0, abi.encodeCall(IAdmission.announceFee, (fee_ % (2 * FEE_CAP))), 1);
    }

    function cancelFee(uint256 by) external {
        _send(_maybeServiceOwner(by), 0, abi.encodeCall(IAdmission.cancelFee, ()), 1);
    }

    function applyFee(uint256 by, bool late) external {
        if (opens != 0) vm.warp(_now() > opens ? _now() : opens + (late ? 8 days : 1 hours));
        _send(_maybeServiceOwner(by), 0, abi.encodeCall(IAdmission.applyFee, ()), 1);
    }

    function lowerFeeCap(uint256 by, uint96 cap) external {
        _send(_maybeServiceOwner(by), 0, abi.encodeCall(IAdmission.lowerFeeCap, (cap % (2 * FEE_CAP))), 1);
    }

    function setPaused(uint256 by, bool paused_) external {
        _send(_maybeServiceOwner(by), 0, abi.encodeCall(IAdmission.setPaused, (paused_)), 1);
    }

    function withdraw(uint256 by) external {
        uint256 due = address(service).balance;
        uint256 before = stranger.balance;
        bool worked = _send(_maybeServiceOwner(by), 0, abi.encodeCall(IAdmission.withdraw, (payable(stranger))), 1);
        _rule(19, stranger.balance == before + (worked ? due : 0));
    }

    function forceEther(uint64 value) external {
        vm.deal(address(service), address(service).balance + value);
        forced += value;
    }

    function setRotator(uint256 by, uint256 to) external {
        _send(_maybeServiceOwner(by), 0, abi.encodeCall(IConfigRotation.setRotator, (_person(to))), 1);
    }

    function rotate(uint256 by, uint32 lead, uint32 grace, bool atOnce) external {
        IConfigRotation.ConfigurationInput memory input = _input();
        address caller = by % 2 == 0 ? serviceOwner : by % 3 == 0 ? _person(by) : currentRotator;
        if (atOnce) {
            _send(caller, 0, abi.encodeCall(IConfigRotation.rotateAtOnce, (input)), 1);
        } else {
            input.activeFrom = lead % 3 == 0 ? 0 : uint40(_now() + lead % 8 days);
            input.grace = grace % 3 == 0 ? 0 : grace % 8 days;
            _send(caller, 0, abi.encodeCall(IConfigRotation.rotate, (input)), 1);
        }
    }

    function setBootstrap(uint256 by, uint256 count, uint256 seed) external {
        string[] memory enodes = _enodes(count % 18, bytes32(seed % 3));
        if (enodes.length != 0 && count % 7 == 6) enodes[0] = string(new bytes(seed % 2 == 0 ? 139 : 201));
        _send(_maybeServiceOwner(by), 0, abi.encodeCall(IBootstrapList.setBootstrap, (enodes)), 1);
    }

    /* EVERYBODY */

    /// What worked once with a signature works never again, whoever sends it.
    function sendAgain(uint256 by, uint256 which) external {
        if (_spent.length == 0) return;
        bytes memory data = _spent[which % _spent.length];
        bool batch = bytes4(data) == IWorkerRegistry.enrolBatch.selector;
        bool free =
            bytes4(data) == IKeyRotation.rotateKey.selector || bytes4(data) == IOwnerControl.transferSigned.selector;
        _rule(10, !_send(_person(by), free ? 0 : batch ? 2 * fee : fee, data, batch ? 2 : 1));
    }

    function passTime(uint32 seconds_) external {
        vm.warp(_now() + seconds_ % 3 days);
        vm.roll(block.number + 1 + seconds_ % 100);
    }

    /* HELPERS */

    /// @dev Calls, and follows the events; of a refused call, only the declared reason may remain.
    function _send(address caller, uint256 value, bytes memory data, uint256 changes) private returns (bool worked) {
        vm.deal(caller, caller.balance + value);
        _caller = caller;
        vm.recordLogs();
        vm.prank(caller);
        bytes memory answer;
        (worked, answer) = address(service).call{value: value}(data);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        if (!worked) {
            _rule(34, _declared[bytes4(answer)]);
            return false;
        }
        _rule(33, logs.length == changes);
        for (uint256 i = 0; i < logs.length; ++i) {
            _follow(logs[i]);
        }
        paidIn += value;
        _keepSpent(data);
    }

    function _keepSpent(bytes memory data) private {
        bytes4 selector = bytes4(data);
        bool signed = selector == IWorkerRegistry.enrol.selector || selector == IWorkerRegistry.enrolBatch.selector
            || selector == IKeyRotation.rotateKey.selector || selector == IOwnerControl.transferSigned.selector;
        if (signed) _spent.push(data);
    }

    function _person(uint256 any) private view returns (address) {
        return _people[any % _people.length];
    }

    function _maybeServiceOwner(uint256 any) private view returns (address) {
        return any % 4 == 0 ? _person(any / 4) : serviceOwner;
    }

    function _maybeOwner(uint256 any, uint256 which) private view returns (address) {
        address of_ = _workers[_worker(which)].owner;
        return any % 4 == 0 || of_ == address(0) ? _person(any / 4) : of_;
    }

    function _worker(uint256 any) private view returns (address) {
        return ids.length == 0 ? address(0xDEAD) : ids[any % ids.length];
    }

    function _declareErrors() private {
        bytes4[40] memory declared = [
            BadBatchSize.selector,
            SignatureExpired.selector,
            Unchanged.selector,
            ZeroAddress.selector,
            IAdmission.EnrolmentPaused.selector,
            IAdmission.WrongFee.selector,
            IAdmission.FeeAboveCap.selector,
            IAdmission.BadFeeCap.selector,
            IAdmission.NoFeeAnnounced.selector,
            IAdmission.OutsideFeeWindow.selector,
            IAdmission.NothingToWithdraw.selector,
            IAdmission.WithdrawalFailed.selector,
            IBootstrapList.TooManyEnodes.selector,
            IBootstrapList.BadEnodeSize.selector,
            IConfigRotation.NotRotator.selector,
            IConfigRotation.BadActivation.selector,
            IConfigRotation.GraceRunning.selector,
            IConfigRotation.BadGrace.selector,
            IConfigRotation.BadMinPow.selector,
            IConfigRotation.BadMaxTtl.selector,
            IConfigRotation.BadMaxSize.selector,
            IConfigRotation.MissingCommitment.selector,
            IConfigRotation.GatewayWithoutCard.selector,
            IKeyRotation.KeysExhausted.selector,
            IOperators.BadRights.selector,
            IOperators.BadTerm.selector,
            IOwnerControl.WorkerPending.selector,
            IOwnerControl.WorkerRetired.selector,
            IOwnerControl.NotOffered.selector,
            IOwnerControl.NotAgreed.selector,
            IOwnerControl.SignatureTooLong.selector,
            IWorkerRegistry.BadKind.selector,
            IWorkerRegistry.KeyTaken.selector,
            IWorkerRegistry.WrongSigner.selector,
            IWorkerRegistry.NotTheWorker.selector,
            IWorkerRegistry.UnknownWorker.selector,
            IWorkerRegistry.NotWorkerOwner.selector,
            IWorkerRegistry.NotPending.selector,
            ECDSA.ECDSAInvalidSignature.selector,
            Ownable.OwnableUnauthorizedAccount.selector
        ];
        for (uint256 i = 0; i < declared.length; ++i) {
            _declared[declared[i]] = true;
        }
    }
}
