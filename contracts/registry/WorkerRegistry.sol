// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {StandingOwner} from "../control/StandingOwner.sol";
import {Unchanged, ZeroAddress} from "../interfaces/Errors.sol";
import {IWorkerRegistry} from "../interfaces/IWorkerRegistry.sol";

/// @title The registry of workers
/// @dev There is no list of workers on chain: the events are the list, which saves two slots an enrolment.
abstract contract WorkerRegistry is IWorkerRegistry, StandingOwner, EIP712 {
    /* CONSTANTS */

    /// @notice The most an enrolment may cost, in wei; beyond it the unit was mistaken.
    uint256 public constant MAX_FEE = 100 ether;

    bytes32 internal constant ENROL_TYPEHASH = keccak256("Enrol(address owner,uint8 kind,uint256 deadline)");

    uint8 internal constant LAST_KIND = 5;

    uint8 internal constant ACTIVE = 1;
    uint8 internal constant SUSPENDED = 2;
    uint8 internal constant PENDING = 4;
    uint8 internal constant RETIRED = 8;

    /// @dev Byte k holds a bit for each kind that kind k works with. From the right: none, sensor 2 5, processor 1 3 5,
    /// gateway 2 3 5, relay none, oracle 1 2 3.
    uint256 internal constant PARTNERS = 0x0e_00_2c_2a_24_00;

    /* STORAGE */

    mapping(address id => Worker) internal _workers;

    /// @dev Shares its slot with the counter, which every enrolment writes anyway.
    uint128 private _fee;
    uint128 private _workerCount;

    /* CONSTRUCTOR */

    constructor(uint256 initialFee) {
        _setFee(initialFee);
    }

    /* ENROLMENT */

    /// @inheritdoc IWorkerRegistry
    function enrol(bytes32 x, bytes32 y, uint8 kind, uint256 deadline, bytes calldata signature)
        external
        payable
        returns (address id)
    {
        require(block.timestamp <= deadline, ConsentExpired(deadline, block.timestamp));
        id = _idOf(x, y);
        bytes32 consent = _hashTypedDataV4(keccak256(abi.encode(ENROL_TYPEHASH, msg.sender, kind, deadline)));
        address signer = ECDSA.recoverCalldata(consent, signature);
        require(signer == id, WrongSigner(id, signer));
        _enrol(id, msg.sender, kind, ACTIVE);
        emit Enrolled(id, msg.sender, kind, false, x, y, 1);
    }

    /// @inheritdoc IWorkerRegistry
    function enrolSelf(bytes32 x, bytes32 y, uint8 kind, address owner_) external payable returns (address id) {
        id = _idOf(x, y);
        require(msg.sender == id, NotTheWorker(msg.sender, id));
        require(owner_ != address(0), ZeroAddress());
        _enrol(id, owner_, kind, PENDING);
        emit Enrolled(id, owner_, kind, true, x, y, 1);
    }

    /// @inheritdoc IWorkerRegistry
    function accept(address id) external {
        Worker memory found = _ownWorker(id);
        require(found.flags & PENDING != 0, NotPending(id));
        found.flags ^= PENDING | ACTIVE;
        emit Accepted(id, msg.sender, _save(id, found));
    }

    /* SERVICE OWNER */

    /// @inheritdoc IWorkerRegistry
    function setFee(uint256 current) external onlyOwner {
        require(current != _fee, Unchanged());
        _setFee(current);
    }

    /// @inheritdoc IWorkerRegistry
    function withdraw(address payable to) external onlyOwner {
        require(to != address(0), ZeroAddress());
        uint256 amount = address(this).balance;
        require(amount != 0, NothingToWithdraw());
        emit Withdrawn(to, amount);
        (bool sent,) = to.call{value: amount}("");
        require(sent, WithdrawalFailed(to));
    }

    /* VIEWS */

    /// @inheritdoc IWorkerRegistry
    function fee() external view returns (uint256) {
        return _fee;
    }

    /// @inheritdoc IWorkerRegistry
    function worker(address id) external view returns (Worker memory) {
        return _workers[id];
    }

    /// @inheritdoc IWorkerRegistry
    function workerCount() external view returns (uint256) {
        return _workerCount;
    }

    /// @inheritdoc IWorkerRegistry
    function canCooperate(address a, address b) external view returns (bool) {
        Worker memory one = _workers[a];
        Worker memory other = _workers[b];
        return a != b && one.flags == ACTIVE && other.flags == ACTIVE
            && (PARTNERS >> (uint256(one.kind) * 8 + other.kind)) & 1 != 0;
    }

    /* INTERNAL */

    /// @dev The worker, if it is the caller's.
    function _ownWorker(address id) internal view returns (Worker memory found) {
        found = _knownWorker(id);
        require(found.owner == msg.sender, NotWorkerOwner(id, msg.sender));
    }

    function _knownWorker(address id) internal view returns (Worker memory found) {
        found = _workers[id];
        require(found.kind != 0, UnknownWorker(id));
    }

    /// @dev Writes a changed worker back under its next number, which the event of the change carries.
    function _save(address id, Worker memory changed) internal returns (uint24 sequence) {
        sequence = ++changed.sequence;
        _workers[id] = changed;
    }

    /* PRIVATE */

    function _enrol(address id, address owner_, uint8 kind, uint8 flags) private {
        require(kind != 0 && kind <= LAST_KIND, BadKind(kind));
        require(msg.value == _fee, WrongFee(msg.value, _fee));
        require(_workers[id].kind == 0, AlreadyEnrolled(id));
        _workers[id] = Worker(owner_, uint40(block.timestamp), 0, 1, kind, flags);
        ++_workerCount;
    }

    function _setFee(uint256 current) private {
        require(current <= MAX_FEE, FeeTooHigh(current, MAX_FEE));
        emit FeeChanged(_fee, current);
        _fee = uint128(current);
    }

    function _idOf(bytes32 x, bytes32 y) private pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encode(x, y)))));
    }
}
