// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title A contract that owns workers: its keeper acts through it, and it answers for its keeper's signatures
/// @dev It takes no ether; how it answers a signature (ERC-1271) can be spoilt.
contract Wallet {
    bytes4 private constant VALID = 0x1626ba7e;

    address private immutable _KEEPER;
    bytes4 private _answer = VALID;
    bool private _reverts;

    error Refused();

    constructor(address keeper) {
        _KEEPER = keeper;
    }

    /// @notice Calls a contract as this wallet, and reverts as the call did.
    function act(address target, bytes calldata data) external payable {
        require(msg.sender == _KEEPER, Refused());
        (bool done, bytes memory result) = target.call{value: msg.value}(data);
        if (!done) {
            assembly {
                revert(add(result, 32), mload(result))
            }
        }
    }

    /// @notice From now on a valid signature is answered like this.
    function spoil(bytes4 answer, bool reverts) external {
        (_answer, _reverts) = (answer, reverts);
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        require(!_reverts, Refused());
        bytes32 r = bytes32(signature[0:32]);
        bytes32 s = bytes32(signature[32:64]);
        return ecrecover(digest, uint8(signature[64]), r, s) == _KEEPER ? _answer : bytes4(0xffffffff);
    }
}
