// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Which model releases there are, and how far each has come
/// @notice A channel is a line of releases for one task. Its sequence only grows: going back to an older model is a new
/// release of it, so that a device never has to accept a lower number. One transaction moves a release one step for the
/// whole fleet; none is needed for a device.
interface IModelReleases {
    /// @notice What a release is; it stands in its event, and the contract keeps its digest.
    /// @param manifestHash Digest of the manifest, which names the artefact and everything about it; a channel has each
    /// manifest once.
    /// @param groupRoot Root of the Merkle tree over the devices' waves.
    /// @param gateHash Digest of the conditions a wave must meet before the next one opens.
    /// @param notBefore Before when no wave opens, in unix seconds.
    /// @param expiresAt After when no wave opens, in unix seconds.
    /// @param soak How many seconds a wave is watched at least before the next step.
    /// @param waveCount In how many waves it reaches the fleet, from 1.
    struct Terms {
        bytes32 manifestHash;
        bytes32 groupRoot;
        bytes32 gateHash;
        uint32 notBefore;
        uint32 expiresAt;
        uint24 soak;
        uint8 waveCount;
    }

    /// @notice Where a channel stands.
    /// @param sequence The newest release, from 1; 0 means there is none.
    /// @param completed The newest release that reached the whole fleet; 0 means none did.
    /// @param floor The least sequence a device may still take up.
    /// @param state Of the newest release: 1 proposed, 2 approved, 3 rolling out, 4 paused, 5 completed, 6 revoked.
    /// @param wave The newest open wave, from 1; 0 before the first.
    /// @param waveCount In how many waves the newest release reaches the fleet.
    /// @param since When the newest wave was opened, resumed or completed, in unix seconds.
    /// @param notBefore Before when no wave opens, in unix seconds.
    /// @param expiresAt After when no wave opens, in unix seconds.
    /// @param soak How many seconds a wave is watched at least before the next step.
    struct Head {
        uint32 sequence;
        uint32 completed;
        uint32 floor;
        uint8 state;
        uint8 wave;
        uint8 waveCount;
        uint32 since;
        uint32 notBefore;
        uint32 expiresAt;
        uint24 soak;
    }

    /// @notice What the contract keeps of a release.
    /// @param sequence The newest number it was offered under; 0 means it was never proposed.
    /// @param completed Whether it once reached the whole fleet.
    /// @param revoked Whether it was revoked, for good.
    /// @param digest First 24 bytes of the digest of its terms.
    struct Release {
        uint32 sequence;
        bool completed;
        bool revoked;
        bytes24 digest;
    }

    /// @notice How a device shows its wave: the leaf that is its own, and the way from there to the root.
    /// @param pseudonym What the device is called in this release alone.
    /// @param wave Its wave, from 1.
    /// @param manifestHash The manifest meant for this device.
    /// @param salt What keeps others from guessing the leaf.
    /// @param index Place of the leaf in the tree.
    /// @param siblings From the leaf's neighbour up to the child of the root.
    struct WaveProof {
        bytes32 pseudonym;
        uint8 wave;
        bytes32 manifestHash;
        bytes32 salt;
        uint256 index;
        bytes32[] siblings;
    }

    /// @notice How a release went, as its publisher counted, of a thousand devices however many there are.
    /// @param reportRoot Root of the devices' signed reports.
    /// @param succeeded Devices that committed it.
    /// @param failed Devices that rejected it or went back.
    /// @param silent Devices not heard of in time.
    struct Report {
        bytes32 reportRoot;
        uint32 succeeded;
        uint32 failed;
        uint32 silent;
    }

    /// @notice Emitted when a release is proposed; it replaces one of which no wave was opened.
    event ReleaseProposed(bytes32 indexed channel, uint32 indexed sequence, Terms terms);

    /// @notice Emitted when a proposed release is approved.
    event ReleaseApproved(bytes32 indexed channel, uint32 indexed sequence, address indexed by);

    /// @notice Emitted when a release opens to a wave of devices.
    event WaveOpened(bytes32 indexed channel, uint32 indexed sequence, uint8 wave);

    /// @notice Emitted when a rollout is paused: nobody else takes it up.
    event RolloutPaused(bytes32 indexed channel, uint32 indexed sequence, address indexed by);

    /// @notice Emitted when a paused rollout goes on.
    event RolloutResumed(bytes32 indexed channel, uint32 indexed sequence, address indexed by);

    /// @notice Emitted when a release has reached the whole fleet; from now on nobody takes up less than `floor`.
    event ReleaseFinalised(bytes32 indexed channel, uint32 indexed sequence, uint32 floor, Report report);

    /// @notice Emitted when the release `sequence` brings an older manifest back, to everybody at once.
    event RolledBack(bytes32 indexed channel, uint32 indexed sequence, bytes32 indexed manifestHash, uint32 target);

    /// @notice Emitted when a manifest is revoked for good; `sequence` is its newest, 0 if it was never proposed here.
    event ReleaseRevoked(bytes32 indexed channel, uint32 indexed sequence, bytes32 indexed manifestHash, uint32 floor);

    /// @notice Emitted when an account may publish for a gateway, or, with zero, no longer.
    event PublisherChanged(address indexed publisher, address indexed gateway);

    /// @notice Emitted when the right to approve passes on.
    event ApproverChanged(address indexed previous, address indexed current);

    /// @notice Emitted when new releases are paused or resumed.
    event PausedChanged(bool paused);

    /// Only a publisher does this.
    error NotPublisher(address caller);

    /// A publisher's gateway is registered and active.
    error GatewayNotUsable(address gateway);

    /// Only the approver does this.
    error NotApprover(address caller);

    /// Only the owner, the approver and publishers do this.
    error NotInCharge(address caller);

    /// New releases are paused; everything else goes on.
    error ReleasesPaused();

    /// A digest that must be there is zero.
    error MissingDigest();

    /// The times exclude each other or have passed, in unix seconds.
    error BadTimes(uint256 notBefore, uint256 expiresAt, uint256 time);

    /// A release has at least one wave.
    error NoWaves();

    /// The channel has had this manifest already, or it is revoked.
    error ManifestKnown(bytes32 channel, bytes32 manifestHash);

    /// The channel has no such release, or another one is its newest.
    error NotNewest(bytes32 channel, uint32 sequence, uint32 newest);

    /// The release of that number offers another manifest than the one named.
    error OtherManifest(bytes32 channel, uint32 sequence, bytes32 manifestHash);

    /// The newest release is in another state.
    error WrongState(bytes32 channel, uint8 state);

    /// A wave opens from `opens` until `closes`, in unix seconds.
    error OutsideWindow(uint256 opens, uint256 closes, uint256 time);

    /// The wave is watched until `until`, in unix seconds.
    error StillSoaking(uint256 until, uint256 time);

    /// All waves are open; or some are not yet.
    error WrongWave(uint8 wave, uint8 waveCount);

    /// The floor only rises, and never above the newest release.
    error BadFloor(uint32 floor, uint32 least, uint32 most);

    /// Only a release that once reached the whole fleet, was not revoked, and is not the newest, can be brought back.
    error BadTarget(bytes32 channel, bytes32 manifestHash);

    /// @notice Proposes a release: a publisher whose gateway is active.
    /// @return sequence Its number, one more than the last.
    function propose(bytes32 channel, Terms calldata terms) external returns (uint32 sequence);

    /// @notice Approves the newest release, by its number and by the manifest that was looked at; approver only.
    function approve(bytes32 channel, uint32 sequence, bytes32 manifestHash) external;

    /// @notice Opens the next wave of an approved release: a publisher whose gateway is active.
    function openWave(bytes32 channel, uint32 sequence) external;

    /// @notice Stops a rollout: owner, approver, or a publisher whose gateway is active.
    function pause(bytes32 channel, uint32 sequence) external;

    /// @notice Lets a paused rollout go on, its wave watched anew; approver only.
    function resume(bytes32 channel, uint32 sequence) external;

    /// @notice Closes a rollout that reached everybody: a publisher whose gateway is active.
    /// @param floor The least sequence a device may take up from now on; 0 leaves it as it is.
    function finalise(bytes32 channel, bytes32 manifestHash, uint32 floor, Report calldata report) external;

    /// @notice Brings a manifest back that once reached the whole fleet: owner, approver, or a publisher whose gateway
    /// is active. It is open to everybody at once.
    /// @return sequence The number of the new release, one more than the last.
    function rollBack(bytes32 channel, bytes32 manifestHash) external returns (uint32 sequence);

    /// @notice Revokes a manifest for good, also one never proposed here: owner or approver. Nobody takes up its
    /// sequence or a lower one again.
    function revoke(bytes32 channel, bytes32 manifestHash) external;

    /// @notice Lets an account publish for a gateway of the service, or with zero no longer; owner only.
    function setPublisher(address publisher, address gateway) external;

    /// @notice Passes the right to approve on; owner only. Zero means that nobody may.
    function setApprover(address current) external;

    /// @notice Stops new releases, or takes that back; owner only. Nothing else is stopped.
    function setPaused(bool paused_) external;

    /// @notice The contract whose gateways publish.
    function service() external view returns (address);

    /// @notice Who may approve.
    function approver() external view returns (address);

    /// @notice The gateway an account publishes for; zero when for none.
    function gatewayOf(address publisher) external view returns (address);

    /// @notice Whether new releases are paused.
    function paused() external view returns (bool);

    /// @notice Where a channel stands.
    function head(bytes32 channel) external view returns (Head memory);

    /// @notice What the contract keeps of a release.
    function release(bytes32 channel, bytes32 manifestHash) external view returns (Release memory);

    /// @notice Whether a device may take the newest release up now, by the terms and the proof it received.
    function admits(bytes32 channel, Terms calldata terms, WaveProof calldata proof) external view returns (bool);
}
