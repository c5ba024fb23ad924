// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ERC165} from "@openzeppelin/contracts/utils/introspection/ERC165.sol";

import {StandingOwner} from "../control/StandingOwner.sol";
import {Unchanged, ZeroAddress} from "../interfaces/Errors.sol";
import {IModelReleases} from "../interfaces/IModelReleases.sol";
import {IWorkerRegistry} from "../interfaces/IWorkerRegistry.sol";
import {
    APPROVED,
    COMPLETED,
    FLAG_COMPLETED,
    FLAG_REVOKED,
    HeadWord,
    PAUSED,
    PROPOSED,
    REVOKED,
    ROLLING,
    ReleaseWord,
    digestOf,
    newRelease,
    proposed
} from "./ReleaseWords.sol";
import {waveRoot} from "./WaveTree.sol";

/// @title The line of model releases
/// @dev What a release holds lies off chain under its manifest's digest; here are the order, how far it has come, and
/// what may not return.
contract ModelReleases is IModelReleases, StandingOwner, ERC165 {
    /* CONSTANTS */

    uint8 internal constant GATEWAY = 3;

    /* STORAGE */

    IWorkerRegistry private immutable _SERVICE;

    mapping(bytes32 channel => HeadWord) private _heads;

    /// @dev By manifest, so that a revoked one returns neither by roll-back nor by proposing it anew.
    mapping(bytes32 channel => mapping(bytes32 manifestHash => ReleaseWord)) private _releases;

    /// @inheritdoc IModelReleases
    mapping(address publisher => address gateway) public gatewayOf;

    /// @inheritdoc IModelReleases
    address public approver;

    /// @inheritdoc IModelReleases
    bool public paused;

    /* CONSTRUCTOR */

    constructor(address initialOwner, IWorkerRegistry service_, address initialApprover) Ownable(initialOwner) {
        require(address(service_) != address(0), ZeroAddress());
        _SERVICE = service_;
        _setApprover(initialApprover);
    }

    /* ROLLOUT */

    /// @inheritdoc IModelReleases
    function propose(bytes32 channel, Terms calldata terms) external returns (uint32 sequence) {
        _requirePublisher();
        require(!paused, ReleasesPaused());
        _check(terms);
        HeadWord head_ = _heads[channel];
        uint8 state = head_.state();
        require(state != ROLLING && state != PAUSED, WrongState(channel, state));
        require(
            ReleaseWord.unwrap(_releases[channel][terms.manifestHash]) == 0, ManifestKnown(channel, terms.manifestHash)
        );
        head_ = proposed(head_, terms);
        sequence = head_.sequence();
        _heads[channel] = head_;
        _releases[channel][terms.manifestHash] = newRelease(sequence, terms);
        emit ReleaseProposed(channel, sequence, terms);
    }

    /// @inheritdoc IModelReleases
    function approve(bytes32 channel, uint32 sequence, bytes32 manifestHash) external {
        _requireApprover();
        HeadWord head_ = _newest(channel, sequence, PROPOSED);
        bool named = _releases[channel][manifestHash].offeredAs() == sequence;
        require(named, OtherManifest(channel, sequence, manifestHash));
        _heads[channel] = head_.withState(APPROVED);
        emit ReleaseApproved(channel, sequence, msg.sender);
    }

    /// @inheritdoc IModelReleases
    function openWave(bytes32 channel, uint32 sequence) external {
        _requirePublisher();
        HeadWord head_ = _newest(channel, sequence);
        uint8 state = head_.state();
        require(state == APPROVED || state == ROLLING, WrongState(channel, state));
        (uint256 opens, uint256 closes) = (head_.notBefore(), head_.expiresAt());
        require(block.timestamp >= opens && block.timestamp <= closes, OutsideWindow(opens, closes, block.timestamp));
        require(head_.wave() < head_.waveCount(), WrongWave(head_.wave(), head_.waveCount()));
        if (state == ROLLING) _requireSoaked(head_);
        head_ = head_.withState(ROLLING).withWave().touched();
        _heads[channel] = head_;
        emit WaveOpened(channel, sequence, head_.wave());
    }

    /// @inheritdoc IModelReleases
    function pause(bytes32 channel, uint32 sequence) external {
        _requireInCharge();
        _heads[channel] = _newest(channel, sequence, ROLLING).withState(PAUSED);
        emit RolloutPaused(channel, sequence, msg.sender);
    }

    /// @inheritdoc IModelReleases
    function resume(bytes32 channel, uint32 sequence) external {
        _requireApprover();
        _heads[channel] = _newest(channel, sequence, PAUSED).withState(ROLLING).touched();
        emit RolloutResumed(channel, sequence, msg.sender);
    }

    /// @inheritdoc IModelReleases
    function finalise(bytes32 channel, bytes32 manifestHash, uint32 floor, Report calldata report) external {
        _requirePublisher();
        ReleaseWord release_ = _releases[channel][manifestHash];
        uint32 sequence = release_.offeredAs();
        HeadWord head_ = _newest(channel, sequence, ROLLING);
        require(head_.wave() == head_.waveCount(), WrongWave(head_.wave(), head_.waveCount()));
        _requireSoaked(head_);
        if (floor != 0) {
            require(floor >= head_.floor() && floor <= sequence, BadFloor(floor, head_.floor(), sequence));
            head_ = head_.withFloor(floor);
        }
        _heads[channel] = head_.withState(COMPLETED).asCompleted().touched();
        _releases[channel][manifestHash] = release_.withFlag(FLAG_COMPLETED);
        emit ReleaseFinalised(channel, sequence, head_.floor(), report);
    }

    /* BACK */

    /// @inheritdoc IModelReleases
    function rollBack(bytes32 channel, bytes32 manifestHash) external returns (uint32 sequence) {
        _requireInCharge();
        HeadWord head_ = _heads[channel];
        ReleaseWord release_ = _releases[channel][manifestHash];
        uint32 target = release_.offeredAs();
        bool possible = release_.isCompleted() && !release_.isRevoked() && target != head_.sequence();
        require(possible, BadTarget(channel, manifestHash));
        head_ = head_.followedBack();
        sequence = head_.sequence();
        _heads[channel] = head_;
        _releases[channel][manifestHash] = release_.offered(sequence);
        emit RolledBack(channel, sequence, manifestHash, target);
    }

    /// @inheritdoc IModelReleases
    function revoke(bytes32 channel, bytes32 manifestHash) external {
        require(msg.sender == approver || msg.sender == owner(), NotInCharge(msg.sender));
        require(manifestHash != 0, MissingDigest());
        ReleaseWord release_ = _releases[channel][manifestHash];
        require(!release_.isRevoked(), Unchanged());
        _releases[channel][manifestHash] = release_.withFlag(FLAG_REVOKED);
        HeadWord head_ = _heads[channel];
        uint32 sequence = release_.offeredAs();
        uint32 floor = head_.floor();
        if (sequence != 0 && sequence >= floor) {
            floor = sequence + 1;
            head_ = head_.withFloor(floor);
            _heads[channel] = sequence == head_.sequence() ? head_.withState(REVOKED) : head_;
        }
        emit ReleaseRevoked(channel, sequence, manifestHash, floor);
    }

    /* OWNER */

    /// @inheritdoc IModelReleases
    function setPublisher(address publisher, address gateway) external onlyOwner {
        require(publisher != address(0), ZeroAddress());
        require(gateway != gatewayOf[publisher], Unchanged());
        gatewayOf[publisher] = gateway;
        emit PublisherChanged(publisher, gateway);
    }

    /// @inheritdoc IModelReleases
    function setApprover(address current) external onlyOwner {
        require(current != approver, Unchanged());
        _setApprover(current);
    }

    /// @inheritdoc IModelReleases
    function setPaused(bool paused_) external onlyOwner {
        require(paused_ != paused, Unchanged());
        paused = paused_;
        emit PausedChanged(paused_);
    }

    /* VIEWS */

    /// @inheritdoc IModelReleases
    function service() external view returns (address) {
        return address(_SERVICE);
    }

    /// @inheritdoc IModelReleases
    function head(bytes32 channel) external view returns (Head memory) {
        HeadWord word = _heads[channel];
        return Head({
            sequence: word.sequence(),
            completed: word.completed(),
            floor: word.floor(),
            state: word.state(),
            wave: word.wave(),
            waveCount: word.waveCount(),
            since: word.since(),
            notBefore: word.notBefore(),
            expiresAt: word.expiresAt(),
            soak: word.soak()
        });
    }

    /// @inheritdoc IModelReleases
    function release(bytes32 channel, bytes32 manifestHash) external view returns (Release memory) {
        ReleaseWord word = _releases[channel][manifestHash];
        return Release(word.offeredAs(), word.isCompleted(), word.isRevoked(), word.termsDigest());
    }

    /// @inheritdoc IModelReleases
    function admits(bytes32 channel, Terms calldata terms, WaveProof calldata proof) external view returns (bool) {
        HeadWord head_ = _heads[channel];
        ReleaseWord release_ = _releases[channel][terms.manifestHash];
        uint8 state = head_.state();
        bool open = state == COMPLETED
            || (state == ROLLING && proof.wave <= head_.wave() && block.timestamp <= head_.expiresAt());
        return open && release_.offeredAs() == head_.sequence() && release_.termsDigest() == digestOf(terms)
            && waveRoot(proof) == terms.groupRoot;
    }

    /// @inheritdoc ERC165
    function supportsInterface(bytes4 id) public view override returns (bool) {
        return id == type(IModelReleases).interfaceId || super.supportsInterface(id);
    }

    /* PRIVATE */

    function _setApprover(address current) private {
        emit ApproverChanged(approver, current);
        approver = current;
    }

    function _newest(bytes32 channel, uint32 sequence, uint8 state) private view returns (HeadWord word) {
        word = _newest(channel, sequence);
        require(word.state() == state, WrongState(channel, word.state()));
    }

    function _newest(bytes32 channel, uint32 sequence) private view returns (HeadWord word) {
        word = _heads[channel];
        require(sequence != 0 && word.sequence() == sequence, NotNewest(channel, sequence, word.sequence()));
    }

    function _requirePublisher() private view {
        address gateway = gatewayOf[msg.sender];
        require(gateway != address(0), NotPublisher(msg.sender));
        require(_SERVICE.isUsable(gateway, GATEWAY), GatewayNotUsable(gateway));
    }

    function _requireApprover() private view {
        require(msg.sender == approver, NotApprover(msg.sender));
    }

    function _requireInCharge() private view {
        if (msg.sender == approver) return;
        address gateway = gatewayOf[msg.sender];
        if (gateway != address(0) && _SERVICE.isUsable(gateway, GATEWAY)) return;
        require(msg.sender == owner(), NotInCharge(msg.sender)); // last: the owner steps in least often
    }

    function _requireSoaked(HeadWord word) private view {
        uint256 until = uint256(word.since()) + word.soak();
        require(block.timestamp >= until, StillSoaking(until, block.timestamp));
    }

    function _check(Terms calldata terms) private view {
        require(terms.manifestHash != 0 && terms.groupRoot != 0 && terms.gateHash != 0, MissingDigest());
        require(terms.waveCount != 0, NoWaves());
        require(
            terms.notBefore <= terms.expiresAt && block.timestamp <= terms.expiresAt,
            BadTimes(terms.notBefore, terms.expiresAt, block.timestamp)
        );
    }
}
