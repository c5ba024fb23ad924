// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";

/// @dev A device as a token.
contract FieldToken is ERC721("Device", "DEV") {
    function mint(address to, uint256 id) external {
        _mint(to, id);
    }
}

/// @dev A device as the holder of a role.
contract FieldRoles is AccessControl {
    constructor() {
        _grantRole(DEFAULT_ADMIN_ROLE, msg.sender);
    }
}

/// @dev A device as a member of a set that can be listed on chain.
contract FieldSet {
    using EnumerableSet for EnumerableSet.AddressSet;

    EnumerableSet.AddressSet private _members;

    error Unchanged();

    function add(address member) external {
        require(_members.add(member), Unchanged());
    }
}

/// @dev A contract that passes to another owner in two steps.
contract FieldOwned is Ownable2Step {
    constructor() Ownable(msg.sender) {}
}
