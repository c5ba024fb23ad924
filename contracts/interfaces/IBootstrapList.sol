// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title With which relays a worker begins that knows none
/// @notice A list stands in its event; the contract keeps its digest, and where the event is. It is a place to begin and
/// no more: whether a relay belongs to the fleet is what the registry says of its key.
interface IBootstrapList {
    /// @notice Emitted when the service owner names other relays to begin with, each as an `enode://` URL. Versions count
    /// from 1; `previousBlock` holds the event of the version before, 0 for the first.
    event BootstrapNamed(uint32 indexed version, string[] enodes, uint48 previousBlock);

    /// A list names `most` relays at most.
    error TooManyEnodes(uint256 count, uint256 most);

    /// The one at `index` is shorter than any enode URL, or too long, in bytes.
    error BadEnodeSize(uint256 index, uint256 size, uint256 least, uint256 most);

    /// @notice Names the relays to begin with, in place of those before; service owner only. None takes the list back.
    function setBootstrap(string[] calldata enodes) external;

    /// @notice The newest list, as the contract keeps it.
    /// @return version Counts lists from 1; 0 means none yet.
    /// @return newestBlock The block that holds its event.
    /// @return digest The first 22 bytes of the Keccak-256 of `abi.encode(enodes)`; zero while it names none.
    function bootstrap() external view returns (uint32 version, uint48 newestBlock, bytes22 digest);
}
