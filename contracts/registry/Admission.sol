// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {StandingOwner} from "../control/StandingOwner.sol";
import {Unchanged, ZeroAddress} from "../interfaces/Errors.sol";
import {IAdmission} from "../interfaces/IAdmission.sol";

/// @title What an enrolment costs, and whether any is taken at present
/// @dev Revenue is the balance itself: nothing is owed to anybody but the service owner, so that ether forced upon the
/// contract is revenue too.
abstract contract Admission is IAdmission, StandingOwner {
    /* CONSTANTS */

    /// @notice How long an announced fee waits before it may be applied, in seconds.
    uint256 internal constant FEE_DELAY = 1 days;

    /// @notice How long it may be applied from then on, in seconds; an announcement nobody remembers lapses.
    uint256 internal constant FEE_WINDOW = 7 days;

    /* STORAGE */

    /// @dev All an enrolment reads, in one slot: a struct begins a slot of its own.
    struct Gate {
        uint96 fee;
        uint96 feeCap;
        bool paused;
    }

    struct Announcement {
        uint96 fee;
        uint40 applicableFrom;
    }

    Gate private _gate;
    Announcement private _announced;

    /* CONSTRUCTOR */

    constructor(uint96 initialFee, uint96 initialFeeCap) {
        require(initialFee <= initialFeeCap, FeeAboveCap(initialFee, initialFeeCap));
        _gate = Gate(initialFee, initialFeeCap, false);
        emit FeeChanged(0, initialFee);
        emit FeeCapLowered(type(uint96).max, initialFeeCap);
    }

    /* FEE */

    /// @inheritdoc IAdmission
    function announceFee(uint96 announced) external onlyOwner {
        require(announced != _gate.fee, Unchanged());
        require(announced <= _gate.feeCap, FeeAboveCap(announced, _gate.feeCap));
        uint256 applicableFrom = block.timestamp + FEE_DELAY;
        // forge-lint: disable-next-line(unsafe-typecast) -- 40 bits of seconds last for 34,000 years
        _announced = Announcement(announced, uint40(applicableFrom));
        emit FeeAnnounced(announced, applicableFrom);
    }

    /// @inheritdoc IAdmission
    function cancelFee() external onlyOwner {
        require(_announced.applicableFrom != 0, NoFeeAnnounced());
        emit FeeAnnouncementCancelled(_announced.fee);
        delete _announced;
    }

    /// @inheritdoc IAdmission
    function applyFee() external onlyOwner {
        (uint96 announced, uint256 opens) = (_announced.fee, _announced.applicableFrom);
        require(opens != 0, NoFeeAnnounced());
        uint256 closes = opens + FEE_WINDOW;
        require(block.timestamp >= opens && block.timestamp <= closes, OutsideFeeWindow(opens, closes, block.timestamp));
        require(announced <= _gate.feeCap, FeeAboveCap(announced, _gate.feeCap));
        emit FeeChanged(_gate.fee, announced);
        delete _announced;
        _gate.fee = announced;
    }

    /// @inheritdoc IAdmission
    function lowerFeeCap(uint96 cap) external onlyOwner {
        require(cap != _gate.feeCap, Unchanged());
        require(cap >= _gate.fee && cap < _gate.feeCap, BadFeeCap(cap, _gate.fee, _gate.feeCap));
        emit FeeCapLowered(_gate.feeCap, cap);
        _gate.feeCap = cap;
    }

    /* PAUSE */

    /// @inheritdoc IAdmission
    function setPaused(bool paused_) external onlyOwner {
        require(paused_ != _gate.paused, Unchanged());
        _gate.paused = paused_;
        emit PausedChanged(paused_);
    }

    /* REVENUE */

    /// @inheritdoc IAdmission
    function withdraw(address payable to) external onlyOwner {
        require(to != address(0), ZeroAddress());
        uint256 amount = address(this).balance;
        require(amount != 0, NothingToWithdraw());
        emit Withdrawn(to, amount);
        (bool sent,) = to.call{value: amount}("");
        require(sent, WithdrawalFailed(to));
    }

    /* VIEWS */

    /// @inheritdoc IAdmission
    function fee() external view returns (uint256) {
        return _gate.fee;
    }

    /// @inheritdoc IAdmission
    function feeCap() external view returns (uint256) {
        return _gate.feeCap;
    }

    /// @inheritdoc IAdmission
    function announcedFee() external view returns (uint256 announced, uint256 applicableFrom) {
        return (_announced.fee, _announced.applicableFrom);
    }

    /// @inheritdoc IAdmission
    function paused() external view returns (bool) {
        return _gate.paused;
    }

    /* INTERNAL */

    /// @dev Lets so many enrolments in, for their exact fee.
    function _admit(uint256 count) internal view {
        require(!_gate.paused, EnrolmentPaused());
        uint256 due = count * _gate.fee;
        require(msg.value == due, WrongFee(msg.value, due));
    }
}
