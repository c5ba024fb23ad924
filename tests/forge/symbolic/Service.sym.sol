// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Service} from "../../../contracts/Service.sol";
import {IAdmission} from "../../../contracts/interfaces/IAdmission.sol";
import {IConfigRotation} from "../../../contracts/interfaces/IConfigRotation.sol";
import {IKeyRotation} from "../../../contracts/interfaces/IKeyRotation.sol";
import {IOwnerControl} from "../../../contracts/interfaces/IOwnerControl.sol";
import {IWorkerRegistry} from "../../../contracts/interfaces/IWorkerRegistry.sol";
import {
    ACTIVE,
    EPOCH_AT,
    FLAGS_AT,
    PENDING,
    RETIRED,
    SEQUENCE_AT,
    SUSPENDED
} from "../../../contracts/registry/WorkerWord.sol";
import {vm} from "../Vm.sol";
import {forgetStorage, one, somebody, someMoment, svm} from "./Svm.sol";

/// @dev What no call whatever can do to a service. Each proof begins with arbitrary storage, lets anybody send any call
/// with any value at any time, and looks at what a successful one changed; so that it holds after every history.
contract ServiceProofs {
    uint256 private constant SEQUENCE = uint256(type(uint32).max) << SEQUENCE_AT;

    Service private _service;
    address private _caller;
    bytes4 private _selector;
    uint256 private _items;
    uint256 private _value;

    function setUp() public {
        _service = new Service(address(0xA11CE), 1, 2);
        forgetStorage(address(_service), 15);
        someMoment();
        _caller = somebody("caller");
        vm.assume(_caller != address(_service)); // it calls nobody but the receiver of its revenue
    }

    /* WORKERS */

    /// Kind and time of enrolment are for life, every change is numbered, and the epoch only grows.
    function check_01_WhatAWorkerKeepsForLife(address id) public {
        IWorkerRegistry.Worker memory old = _worker(id);

        _anyCall();

        IWorkerRegistry.Worker memory now_ = _service.worker(id);
        assert(now_.kind == old.kind);
        assert(now_.since == old.since);
        assert(now_.epoch >= old.epoch);
        assert(one(now_.sequence > old.sequence) + one(_word(now_) == _word(old)) == 1);
    }

    /// Who is neither owner nor operator, is offered nothing, and does not own the service, changes nothing.
    function check_05_StrangersChangeNothing(address id) public {
        IWorkerRegistry.Worker memory old = _worker(id);
        vm.assume(_caller != old.owner);
        vm.assume(_caller != _service.owner());
        vm.assume(_caller != _service.pendingOwner(id));
        vm.assume(_service.operatorRights(old.owner, _caller) == 0);

        _anyCall();

        assert(_word(_service.worker(id)) == _word(old));
    }

    /// The service owner suspends or takes that back, and nothing else: never ownership, key or the owner's own switch.
    function check_05_TheServiceOwnerOnlySuspends(address id) public {
        IWorkerRegistry.Worker memory old = _worker(id);
        vm.assume(_caller == _service.owner());
        vm.assume(_caller != old.owner);
        vm.assume(_caller != _service.pendingOwner(id));
        vm.assume(_service.operatorRights(old.owner, _caller) == 0);

        _anyCall();

        uint256 changed = _word(_service.worker(id)) ^ _word(old);
        assert(changed & ~SEQUENCE == 0 || changed & ~SEQUENCE == uint256(SUSPENDED) << FLAGS_AT);
    }

    /// An operator does what its rights say: switches off (1), on (2), replaces keys (4).
    function check_05_OperatorsKeepToTheirRights(address id) public {
        IWorkerRegistry.Worker memory old = _worker(id);
        vm.assume(_caller != old.owner);
        vm.assume(_caller != _service.owner());
        vm.assume(_caller != _service.pendingOwner(id));
        uint256 rights = _service.operatorRights(old.owner, _caller);
        uint256 switches = (old.flags & rights & 1) | (~uint256(old.flags) & rights >> 1 & 1); // 1 if it may switch
        uint256 replaces = rights >> 2 & 1; // 1 if it may replace the key
        uint256 allowed = SEQUENCE | switches << FLAGS_AT | (replaces << EPOCH_AT + 16) - (replaces << EPOCH_AT);

        _anyCall();

        assert((_word(_service.worker(id)) ^ _word(old)) & ~allowed == 0);
    }

    /// Ownership passes to whom the owner offered it, by that one's own call, or by the owner's call (and then with the
    /// recipient's signature, proven below); nobody is offered a worker except by its owner.
    function check_06_OwnershipPassesByBothHands(address id) public {
        IWorkerRegistry.Worker memory old = _service.worker(id);
        address offeredTo = _service.pendingOwner(id);
        vm.assume(old.kind != 0);

        _anyCall();

        address owner = _service.worker(id).owner;
        if (owner != old.owner) {
            bool accepted =
                _selector == IOwnerControl.acceptTransfer.selector && _caller == offeredTo && owner == _caller;
            bool signed = _selector == IOwnerControl.transferSigned.selector && _caller == old.owner;
            assert(accepted || signed);
            assert(_service.pendingOwner(id) == address(0));
        } else if (_service.pendingOwner(id) != offeredTo) {
            assert(_caller == old.owner);
        }
    }

    /// The recipient of a signed transfer signed exactly it: worker, giver, the worker's number, time.
    function check_06_SignedTransferIsTheRecipients(address id, address to, uint256 deadline) public {
        bytes memory signature = svm.createBytes(65, "signature");
        IWorkerRegistry.Worker memory old = _service.worker(id);
        vm.assume(to != address(_service) && to.code.length == 0);
        vm.prank(_caller);
        _service.transferSigned(id, to, deadline, signature);
        bytes32 typeHash = keccak256("TakeOver(address worker,address from,uint32 sequence,uint256 deadline)");
        bytes32 digest = _digest(keccak256(abi.encode(typeHash, id, old.owner, old.sequence, deadline)));
        (bytes32 r, bytes32 s, uint8 v) = _parts(signature);
        assert(block.timestamp <= deadline);
        assert(ecrecover(digest, v, r, s) == to);
    }

    /// Retired is final: no call changes anything about such a worker, and none offers it.
    function check_08_RetiredIsFinal(address id) public {
        IWorkerRegistry.Worker memory old = _worker(id);
        vm.assume(old.flags & RETIRED != 0);
        vm.assume(_fits(old, _service.pendingOwner(id)));

        _anyCall();

        assert(_word(_service.worker(id)) == _word(old));
        assert(_service.pendingOwner(id) == address(0));
    }

    /// Only its owner retires a worker; and what the proof above assumes of any worker stays so, whatever is called.
    function check_08_FlagsAndOfferFitTogether(address id) public {
        IWorkerRegistry.Worker memory old = _service.worker(id);
        vm.assume(old.flags & RETIRED == 0);
        vm.assume(_fits(old, _service.pendingOwner(id)));

        _anyCall();

        IWorkerRegistry.Worker memory now_ = _service.worker(id);
        assert(_fits(now_, _service.pendingOwner(id)));
        assert(one(now_.flags & RETIRED != 0) <= one(_caller == old.owner));
    }

    /// A key that was given to a worker later stays that worker's, in that epoch. Its first key stays its id, and epochs
    /// only grow (01), so that no key speaks for anybody but its worker, nor again once it was replaced.
    function check_09_AKeyIsClaimedOnce(address key) public {
        vm.assume(_service.worker(key).kind == 0);
        vm.assume(_service.pendingOwner(key) == address(0)); // proven above: only workers are on offer
        (address id, uint16 epoch,) = _service.workerOf(key);
        vm.assume(id != address(0));

        _anyCall();

        (address id_, uint16 epoch_,) = _service.workerOf(key);
        assert(uint256(uint160(id_)) | uint256(epoch_) << 160 == uint256(uint160(id)) | uint256(epoch) << 160);
    }

    /* SIGNATURES */

    /// Nobody enrols a device without its key's signature upon this owner, kind and time, and the fee.
    function check_02_EnrolmentIsTheDevices(IWorkerRegistry.Enrolment calldata device) public {
        uint256 fee = _service.fee();
        uint256 paid = svm.createUint256("paid");
        vm.deal(_caller, paid);
        vm.prank(_caller);
        address id = _service.enrol{value: paid}(device);
        bytes32 typeHash = keccak256("Enrol(address owner,uint8 kind,uint256 deadline)");
        bytes32 digest = _digest(keccak256(abi.encode(typeHash, _caller, device.kind, device.deadline)));
        assert(paid == fee);
        assert(block.timestamp <= device.deadline);
        assert(id == address(uint160(uint256(keccak256(abi.encode(device.x, device.y))))));
        assert(_signer(digest, device.r, device.vs) == id);
        IWorkerRegistry.Worker memory enrolled = _service.worker(id);
        assert(enrolled.owner == _caller && enrolled.kind == device.kind && device.kind >= 1 && device.kind <= 5);
        assert(enrolled.flags == ACTIVE && enrolled.epoch == 0 && enrolled.sequence == 1);
    }

    /// A new key is proven by itself, for this worker, its owner and its next epoch.
    function check_02_NewKeyIsProvenByItself(IKeyRotation.NewKey calldata next) public {
        IWorkerRegistry.Worker memory old = _service.worker(next.id);
        vm.prank(_caller);
        _service.rotateKey(next);
        bytes32 typeHash = keccak256("RotateKey(address worker,address owner,uint16 epoch,uint256 deadline)");
        bytes32 terms = keccak256(abi.encode(typeHash, next.id, old.owner, uint256(old.epoch) + 1, next.deadline));
        address key = address(uint160(uint256(keccak256(abi.encode(next.x, next.y)))));
        assert(block.timestamp <= next.deadline);
        assert(_signer(_digest(terms), next.r, next.vs) == key);
        (address id, uint16 epoch, bool current) = _service.workerOf(key);
        assert(id == next.id && epoch == uint256(old.epoch) + 1 && current);
    }

    /// What enrolled a device once enrols it never again, whoever sends it, whenever.
    function check_10_EnrolmentServesOnce(IWorkerRegistry.Enrolment calldata device) public {
        _sentTwice(abi.encodeCall(IWorkerRegistry.enrol, (device)));
    }

    function check_10_NewKeyServesOnce(IKeyRotation.NewKey calldata next) public {
        _sentTwice(abi.encodeCall(IKeyRotation.rotateKey, (next)));
    }

    function check_10_SignedTransferServesOnce(address id, address to, uint256 deadline) public {
        vm.assume(to.code.length == 0);
        bytes memory signature = svm.createBytes(65, "signature");
        _sentTwice(abi.encodeCall(IOwnerControl.transferSigned, (id, to, deadline, signature)));
    }

    /* CONFIGURATION */

    /// The version goes up by one, by the service owner or the rotator alone; never into the past, never before one that
    /// waits, except at once and without grace; the configuration in force becomes or stays the one before.
    function check_12_HowTheConfigurationMoves() public {
        IConfigRotation.Anchor memory old = _service.configuration();
        bool entitled = _caller == _service.owner() || _caller == _service.rotator();
        vm.assume(old.version < type(uint32).max);

        _anyCall();

        IConfigRotation.Anchor memory now_ = _service.configuration();
        if (now_.version == old.version) {
            assert(keccak256(abi.encode(now_)) == keccak256(abi.encode(old)));
            return;
        }
        bool waited = old.activeFrom > block.timestamp;
        bool atOnce = _selector == IConfigRotation.rotateAtOnce.selector;
        assert(entitled && now_.version == old.version + 1);
        assert(now_.activeFrom >= block.timestamp && now_.newestBlock == block.number);
        assert(atOnce ? now_.activeFrom == block.timestamp && now_.grace == 0 : now_.activeFrom >= old.activeFrom);
        assert(now_.previousVersion == (waited ? old.previousVersion : old.version));
        assert(now_.previousBlock == (waited ? old.previousBlock : old.newestBlock));
        assert(now_.previousDigest == (waited ? old.previousDigest : old.digest));
    }

    /// A list of relays is the service owner's, the next version, anchored to its block and to its digest.
    function check_15_BootstrapIsAnchored() public {
        string[] memory enodes = new string[](1);
        enodes[0] = string(svm.createBytes(140, "enode"));
        (uint32 old,, bytes22 oldDigest) = _service.bootstrap();
        vm.prank(_caller);
        _service.setBootstrap(enodes);
        (uint32 version, uint48 height, bytes22 digest) = _service.bootstrap();
        assert(_caller == _service.owner());
        assert(version == uint256(old) + 1 && height == block.number);
        assert(digest == bytes22(keccak256(abi.encode(enodes))) && digest != oldDigest);
    }

    /* MONEY */

    /// Value comes in as the exact fee of so many enrolments, and leaves whole, by the service owner's withdrawal.
    function check_17_ValueComesAndGoesByRuleAlone() public {
        uint256 fee = _service.fee();
        address owner = _service.owner();
        uint256 balance = svm.createUint(96, "balance");
        vm.deal(address(_service), balance);

        _anyCall();

        uint256 left = address(_service).balance;
        if (_selector == IAdmission.withdraw.selector) {
            assert(_caller == owner && left == 0 && _value == 0);
            return;
        }
        uint256 enrolled = one(_selector == IWorkerRegistry.enrol.selector)
            + one(_selector == IWorkerRegistry.enrolSelf.selector)
            + one(_selector == IWorkerRegistry.enrolBatch.selector) * _items;
        assert(left == balance + _value);
        assert(_value == fee * enrolled);
    }

    /// The fee changes to what was announced a day before, within the cap and the window; the cap only goes down.
    function check_18_TheFeeIsAnnounced() public {
        (uint256 fee, uint256 cap) = (_service.fee(), _service.feeCap());
        (uint256 announced, uint256 opens) = _service.announcedFee();
        address owner = _service.owner();

        _anyCall();

        assert(_service.feeCap() <= cap);
        (uint256 announcedNow, uint256 opensNow) = _service.announcedFee();
        if (opensNow != opens && opensNow != 0) {
            assert(_caller == owner && announcedNow <= cap && opensNow == block.timestamp + 1 days);
        }
        if (_service.fee() == fee) return;
        assert(_caller == owner && _service.fee() == announced && announced <= cap);
        assert(block.timestamp >= opens && block.timestamp <= opens + 7 days && opensNow == 0);
    }

    /* POWERS */

    /// The service owner's settings are the service owner's; the post passes to whom it was offered alone.
    function check_12_SettingsAreTheServiceOwners() public {
        address owner = _service.owner();
        address offered = _service.pendingOwner();
        bytes32 old = _settings();

        _anyCall();

        if (_service.owner() != owner) assert(_caller == offered && _service.owner() == offered);
        if (_settings() != old) assert(_caller == owner);
        if (_service.pendingOwner() != offered) assert(_caller == owner || _caller == offered);
    }

    /// Only an owner changes what others may do with its workers.
    function check_05_GrantsAreTheOwners(address owner, address operator) public {
        uint8 rights = _service.operatorRights(owner, operator);

        _anyCall();

        if (_caller != owner) assert(_service.operatorRights(owner, operator) == rights);
    }

    /* HELPERS */

    function _anyCall() private {
        bytes memory data = svm.createCalldata("Service");
        _selector = bytes4(data);
        _items = _first(data);
        _value = svm.createUint(128, "value");
        vm.deal(_caller, _value);
        vm.prank(_caller);
        (bool done,) = address(_service).call{value: _value}(data);
        vm.assume(done);
    }

    function _sentTwice(bytes memory data) private {
        uint256 value = svm.createUint(128, "value");
        vm.deal(_caller, value);
        vm.prank(_caller);
        (bool done,) = address(_service).call{value: value}(data);
        vm.assume(done);
        someMoment();
        address again = somebody("again");
        vm.deal(again, value);
        vm.prank(again);
        (done,) = address(_service).call{value: value}(data);
        assert(!done);
    }

    /// @dev Pending, active and retired exclude each other, and only a settled worker is on offer.
    function _fits(IWorkerRegistry.Worker memory worker, address offeredTo) private pure returns (bool) {
        uint256 unsettled = one(worker.flags & PENDING != 0) + one(worker.flags & RETIRED != 0);
        uint256 active = one(worker.flags & ACTIVE != 0);
        uint256 offered = one(offeredTo != address(0));
        return one(unsettled + active <= 1) + one(unsettled + offered + one(worker.kind == 0) <= 1) == 2;
    }

    function _settings() private view returns (bytes32) {
        (uint256 least, uint256 most) = _service.powBounds();
        (uint32 version, uint48 height, bytes22 digest) = _service.bootstrap();
        return keccak256(
            abi.encode(
                _service.fee(),
                _service.feeCap(),
                _service.paused(),
                _service.rotator(),
                _service.successor(),
                least,
                most,
                version,
                height,
                digest
            )
        );
    }

    /// @dev A worker that is there, and whose numbers do not run out in this call.
    function _worker(address id) private view returns (IWorkerRegistry.Worker memory worker) {
        worker = _service.worker(id);
        vm.assume(worker.kind != 0);
        vm.assume(worker.sequence < type(uint32).max - 2);
    }

    /// @dev All of a worker in one number, to compare without a fork for every field.
    function _word(IWorkerRegistry.Worker memory worker) private pure returns (uint256) {
        return uint256(uint160(worker.owner)) | uint256(worker.kind) << 160 | uint256(worker.flags) << FLAGS_AT
            | uint256(worker.epoch) << EPOCH_AT | uint256(worker.since) << 192 | uint256(worker.sequence) << SEQUENCE_AT;
    }

    function _digest(bytes32 structHash) private view returns (bytes32) {
        bytes32 typeHash =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        bytes32 separator =
            keccak256(abi.encode(typeHash, keccak256("Quietfleet"), keccak256("1"), block.chainid, address(_service)));
        return keccak256(abi.encodePacked(hex"1901", separator, structHash));
    }

    function _signer(bytes32 digest, bytes32 r, bytes32 vs) private pure returns (address) {
        return ecrecover(digest, 27 + uint8(uint256(vs) >> 255), r, bytes32(uint256(vs) & (type(uint256).max >> 1)));
    }

    function _parts(bytes memory signature) private pure returns (bytes32 r, bytes32 s, uint8 v) {
        assembly ("memory-safe") {
            r := mload(add(signature, 0x20))
            s := mload(add(signature, 0x40))
            v := byte(0, mload(add(signature, 0x60)))
        }
    }

    /// @dev The length of an array that is a call's only argument.
    function _first(bytes memory data) private pure returns (uint256 length) {
        if (data.length < 68) return 0;
        assembly ("memory-safe") {
            length := mload(add(data, 0x44))
        }
    }
}
