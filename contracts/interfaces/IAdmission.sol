// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title What an enrolment costs, and whether any is taken at present
/// @notice A change of the fee is announced `FEE_DELAY` ahead, and the fee never exceeds a cap that only goes down.
interface IAdmission {
    /// @notice Emitted when another fee is announced; it may be applied from `applicableFrom` on, in unix seconds.
    event FeeAnnounced(uint256 fee, uint256 applicableFrom);

    /// @notice Emitted when the announced fee is taken back.
    event FeeAnnouncementCancelled(uint256 fee);

    /// @notice Emitted when the fee of an enrolment changes, in wei.
    event FeeChanged(uint256 previous, uint256 current);

    /// @notice Emitted when the most an enrolment may ever cost goes down, in wei.
    event FeeCapLowered(uint256 previous, uint256 current);

    /// @notice Emitted when enrolments are paused or resumed.
    event PausedChanged(bool paused);

    /// @notice Emitted when the service owner takes out the revenue, in wei.
    event Withdrawn(address indexed to, uint256 amount);

    /// Enrolments are paused; everything else goes on.
    error EnrolmentPaused();

    /// The fee is exact, in wei.
    error WrongFee(uint256 sent, uint256 expected);

    /// The fee would exceed its cap, in wei.
    error FeeAboveCap(uint256 fee, uint256 cap);

    /// The cap only goes down, and never below the fee in force, in wei.
    error BadFeeCap(uint256 cap, uint256 least, uint256 most);

    /// No fee is announced.
    error NoFeeAnnounced();

    /// The announced fee may be applied from `opens` until `closes`, in unix seconds.
    error OutsideFeeWindow(uint256 opens, uint256 closes, uint256 time);

    /// There is no revenue to take out.
    error NothingToWithdraw();

    /// The receiver refused the revenue.
    error WithdrawalFailed(address to);

    /// @notice Announces another fee, in wei; service owner only. It replaces an earlier announcement.
    function announceFee(uint96 announced) external;

    /// @notice Takes the announced fee back; service owner only.
    function cancelFee() external;

    /// @notice Puts the announced fee in force, if its time has come and the cap still allows it; service owner only.
    function applyFee() external;

    /// @notice Lowers the most an enrolment may ever cost, in wei; service owner only, and for good.
    function lowerFeeCap(uint96 cap) external;

    /// @notice Stops new enrolments, or takes that back; service owner only. Nothing else is stopped.
    function setPaused(bool paused_) external;

    /// @notice Sends all revenue to `to`; service owner only.
    function withdraw(address payable to) external;

    /// @notice The fee of an enrolment, in wei.
    function fee() external view returns (uint256);

    /// @notice The most an enrolment may ever cost, in wei.
    function feeCap() external view returns (uint256);

    /// @notice The announced fee, in wei, and from when it may be applied, in unix seconds; zeros when there is none.
    function announcedFee() external view returns (uint256 announced, uint256 applicableFrom);

    /// @notice Whether enrolments are paused.
    function paused() external view returns (bool);
}
