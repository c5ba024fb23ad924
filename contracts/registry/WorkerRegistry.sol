// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

import {BadBatchSize, SignatureExpired, ZeroAddress} from "../interfaces/Errors.sol";
import {IWorkerRegistry} from "../interfaces/IWorkerRegistry.sol";
import {Admission} from "./Admission.sol";
import {ACTIVE, PENDING, WorkerWord, newWorker} from "./WorkerWord.sol";

/// @title The registry of workers
/// @dev There is no list of workers on chain and no count: the events are the list, which saves three slots an
/// enrolment.
abstract contract WorkerRegistry is IWorkerRegistry, Admission, EIP712 {
    /* CONSTANTS */

    /// @notice The most items in one batch: the dearest kind of them stays below the gas limit of one transaction
    /// (EIP-7825).
    uint256 internal constant MAX_BATCH = 400;

    bytes32 internal constant ENROL_TYPEHASH = keccak256("Enrol(address owner,uint8 kind,uint256 deadline)");

    uint8 internal constant LAST_KIND = 5;

    /// @dev Byte k holds a bit for each kind that kind k works with. From the right: none, sensor 2 5, processor 1 3 5,
    /// gateway 2 3 5, relay none, oracle 1 2 3.
    uint256 internal constant PARTNERS = 0x0e_00_2c_2a_24_00;

    /* STORAGE */

    /// @dev A struct of one word, so that whoever found a slot can hand it on: finding it anew costs another hash.
    struct Slot {
        WorkerWord word;
    }

    mapping(address key => Slot) internal _slots;

    /* ENROLMENT */

    /// @inheritdoc IWorkerRegistry
    function enrol(Enrolment calldata device) external payable returns (address id) {
        _admit(1);
        return _enrolConsenting(device);
    }

    /// @inheritdoc IWorkerRegistry
    function enrolBatch(Enrolment[] calldata devices) external payable {
        _requireBatch(devices.length);
        _admit(devices.length);
        for (uint256 i = 0; i < devices.length; ++i) {
            _enrolConsenting(devices[i]);
        }
    }

    /// @inheritdoc IWorkerRegistry
    function enrolSelf(bytes32 x, bytes32 y, uint8 kind, address owner_) external payable returns (address id) {
        _admit(1);
        id = _addressOf(x, y);
        require(msg.sender == id, NotTheWorker(msg.sender, id));
        require(owner_ != address(0), ZeroAddress());
        _enrol(id, owner_, kind, PENDING);
        emit EnrolledItself(id, owner_, kind, x, y);
    }

    /// @inheritdoc IWorkerRegistry
    function accept(address id) external {
        (Slot storage slot, WorkerWord word) = _ownSlot(id);
        require(word.has(PENDING), NotPending(id));
        emit Accepted(id, msg.sender, _save(slot, word.toggled(PENDING | ACTIVE)));
    }

    /* VIEWS */

    /// @inheritdoc IWorkerRegistry
    function worker(address id) external view returns (Worker memory) {
        WorkerWord word = _slots[id].word;
        if (!word.isWorker()) return Worker(address(0), 0, 0, 0, 0, 0);
        return Worker(word.holder(), word.since(), word.epoch(), word.sequence(), word.kind(), word.flags());
    }

    /// @inheritdoc IWorkerRegistry
    function workerOf(address key) external view returns (address id, uint16 epoch, bool current) {
        WorkerWord word = _slots[key].word;
        if (word.isWorker()) return (key, 0, word.epoch() == 0);
        id = word.holder();
        epoch = word.epoch();
        current = word.isAlias() && epoch == _slots[id].word.epoch();
    }

    /// @inheritdoc IWorkerRegistry
    function canCooperate(address a, address b) external view returns (bool) {
        WorkerWord one = _slots[a].word;
        WorkerWord other = _slots[b].word;
        return a != b && one.flags() == ACTIVE && other.flags() == ACTIVE
            && (PARTNERS >> (uint256(one.kind()) << 3 | other.kind())) & 1 != 0;
    }

    /// @inheritdoc IWorkerRegistry
    function isUsable(address id, uint8 kind) external view returns (bool) {
        WorkerWord word = _slots[id].word;
        return word.flags() == ACTIVE && word.kind() == kind;
    }

    /* INTERNAL */

    /// @dev The worker, if it is the caller's.
    function _ownSlot(address id) internal view returns (Slot storage slot, WorkerWord word) {
        (slot, word) = _workerSlot(id);
        require(word.holder() == msg.sender, NotWorkerOwner(id, msg.sender));
    }

    function _workerSlot(address id) internal view returns (Slot storage slot, WorkerWord word) {
        slot = _slots[id];
        word = slot.word;
        require(word.isWorker(), UnknownWorker(id));
    }

    /// @dev Writes a changed worker back under its next number, which the event of the change carries.
    function _save(Slot storage slot, WorkerWord changed) internal returns (uint32) {
        WorkerWord next = changed.numberedNext();
        slot.word = next;
        return next.sequence();
    }

    /// @dev Requires that the key (x, y) signed the struct, in time; returns its address.
    function _provenKey(bytes32 x, bytes32 y, bytes32 structHash, uint256 deadline, bytes32 r, bytes32 vs)
        internal
        view
        returns (address key)
    {
        require(block.timestamp <= deadline, SignatureExpired(deadline, block.timestamp));
        key = _addressOf(x, y);
        address signer = ECDSA.recover(_hashTypedDataV4(structHash), r, vs);
        require(signer == key, WrongSigner(key, signer));
    }

    /// @dev Writes the first word of a key nobody has used.
    function _claim(address key, WorkerWord word) internal {
        Slot storage slot = _slots[key];
        require(slot.word.isBlank(), KeyTaken(key));
        slot.word = word;
    }

    function _requireBatch(uint256 size) internal pure {
        require(size != 0 && size <= MAX_BATCH, BadBatchSize(size, MAX_BATCH));
    }

    /* PRIVATE */

    function _enrolConsenting(Enrolment calldata device) private returns (address id) {
        (bytes32 x, bytes32 y, uint8 kind) = (device.x, device.y, device.kind);
        bytes32 consent = keccak256(abi.encode(ENROL_TYPEHASH, msg.sender, kind, device.deadline));
        id = _provenKey(x, y, consent, device.deadline, device.r, device.vs);
        _enrol(id, msg.sender, kind, ACTIVE);
        emit Enrolled(id, msg.sender, kind, x, y);
    }

    function _enrol(address id, address owner_, uint8 kind, uint8 flags) private {
        require(kind != 0 && kind <= LAST_KIND, BadKind(kind));
        _claim(id, newWorker(owner_, kind, flags));
    }

    function _addressOf(bytes32 x, bytes32 y) private pure returns (address) {
        return address(uint160(uint256(Hashes.efficientKeccak256(x, y))));
    }
}
