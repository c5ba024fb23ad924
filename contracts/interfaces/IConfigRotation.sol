// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Under which configuration the fleet sends messages
/// @notice Everything here is public: parameters, addresses, and commitments to keys that travel encrypted elsewhere.
/// A configuration stands in its event; the contract keeps its digest, and where the event is.
interface IConfigRotation {
    /// @notice One configuration, as its event tells it. Its digest is that of EIP-712: separated by chain and contract.
    /// @param version Counts rotations from 1; 0 means none yet.
    /// @param activeFrom From when it is in force, in unix seconds.
    /// @param grace For how many seconds after `activeFrom` the one before it is accepted still.
    /// @param minPow Least proof of work of an envelope, times 1e9.
    /// @param maxTtl Longest life of an envelope, in seconds.
    /// @param maxSize Most bytes of data in an envelope.
    /// @param oracle The worker that brokers deals.
    /// @param gateway The worker that trains models; zero when the fleet has none.
    /// @param epochKeyCommitment Commitment to the epoch key.
    /// @param oracleCardDigest Digest of the oracle's card, which holds its encryption key of this epoch.
    /// @param gatewayCardDigest The same of the gateway; zero when there is none.
    /// @param previousBlock The block that holds the event of the version before; 0 for the first.
    struct Configuration {
        uint32 version;
        uint40 activeFrom;
        uint32 grace;
        uint48 minPow;
        uint32 maxTtl;
        uint32 maxSize;
        address oracle;
        address gateway;
        bytes32 epochKeyCommitment;
        bytes32 oracleCardDigest;
        bytes32 gatewayCardDigest;
        uint48 previousBlock;
    }

    /// @notice What a rotation sets; fields mean what they mean in `Configuration`.
    /// @param activeFrom 0 means as soon as may be: now, or together with a version that still waits for its time.
    struct ConfigurationInput {
        uint40 activeFrom;
        uint32 grace;
        uint48 minPow;
        uint32 maxTtl;
        uint32 maxSize;
        address oracle;
        address gateway;
        bytes32 epochKeyCommitment;
        bytes32 oracleCardDigest;
        bytes32 gatewayCardDigest;
    }

    /// @notice What the contract keeps: the newest configuration, and the one that was in force when it was set.
    /// @param version The newest; 0 means none yet.
    /// @param activeFrom From when the newest is in force, in unix seconds.
    /// @param grace For how many seconds after `activeFrom` the one before it is accepted still.
    /// @param newestBlock The block that holds the event of the newest.
    /// @param digest Digest of the newest.
    /// @param previousVersion The one before; 0 means none.
    /// @param previousBlock The block that holds its event.
    /// @param previousDigest Its digest.
    struct Anchor {
        uint32 version;
        uint40 activeFrom;
        uint32 grace;
        uint48 newestBlock;
        bytes32 digest;
        uint32 previousVersion;
        uint48 previousBlock;
        bytes32 previousDigest;
    }

    /// @notice Emitted when a new configuration is set.
    event ConfigurationRotated(uint32 indexed version, Configuration configuration);

    /// @notice Emitted when the right to rotate passes on.
    event RotatorChanged(address indexed previous, address indexed current);

    /// @notice Emitted when the bounds of the least proof of work change, times 1e9.
    event PowBoundsChanged(uint256 least, uint256 most);

    /// Only the service owner and the rotator rotate.
    error NotRotator(address caller);

    /// A configuration starts neither before `earliest` nor after `latest`, in unix seconds.
    error BadActivation(uint256 activeFrom, uint256 earliest, uint256 latest);

    /// The one before is accepted until `until`, in unix seconds, as it was announced; only an emergency cuts it short.
    error GraceRunning(uint256 until);

    /// The grace is too long, in seconds.
    error BadGrace(uint256 grace, uint256 most);

    /// The least proof of work is out of bounds, times 1e9.
    error BadMinPow(uint256 minPow, uint256 least, uint256 most);

    /// The longest life of an envelope is out of bounds, in seconds.
    error BadMaxTtl(uint256 maxTtl, uint256 least, uint256 most);

    /// The size of an envelope is out of bounds, in bytes.
    error BadMaxSize(uint256 maxSize, uint256 least, uint256 most);

    /// A commitment or digest that must be there is zero.
    error MissingCommitment();

    /// A gateway and the digest of its card come together or not at all.
    error GatewayWithoutCard(address gateway, bytes32 gatewayCardDigest);

    /// @notice Sets the next configuration; service owner or rotator. A version that still waits for its time is
    /// replaced, and the one in force stays the one before.
    /// @return version The new version, one more than the last.
    function rotate(ConfigurationInput calldata input) external returns (uint32 version);

    /// @notice Sets the next configuration at once, without grace: service owner or rotator. A version that still waits
    /// for its time is cancelled, and the one in force ends now. `activeFrom` and `grace` must be 0.
    /// @return version The new version, one more than the last.
    function rotateAtOnce(ConfigurationInput calldata input) external returns (uint32 version);

    /// @notice Passes the right to rotate on; service owner only. Zero means that nobody else may.
    function setRotator(address current) external;

    /// @notice Sets within which bounds a rotation may choose the least proof of work, times 1e9; service owner only.
    function setPowBounds(uint48 least, uint48 most) external;

    /// @notice Who may rotate besides the service owner.
    function rotator() external view returns (address);

    /// @notice The bounds of the least proof of work, times 1e9.
    function powBounds() external view returns (uint256 least, uint256 most);

    /// @notice All a starting worker needs: which configurations there are, and in which blocks to read them.
    function configuration() external view returns (Anchor memory);

    /// @notice Whether a configuration of that digest is accepted now: in force, or the one before in its grace.
    function accepts(bytes32 digest) external view returns (bool);

    /// @notice The digest of a configuration on this chain and contract.
    function digestOf(Configuration memory configuration_) external view returns (bytes32);
}
