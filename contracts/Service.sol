// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ERC165} from "@openzeppelin/contracts/utils/introspection/ERC165.sol";

import {BootstrapList} from "./config/BootstrapList.sol";
import {ConfigRotation} from "./config/ConfigRotation.sol";
import {KeyRotation} from "./control/KeyRotation.sol";
import {IAdmission} from "./interfaces/IAdmission.sol";
import {IBootstrapList} from "./interfaces/IBootstrapList.sol";
import {IConfigRotation} from "./interfaces/IConfigRotation.sol";
import {IKeyRotation} from "./interfaces/IKeyRotation.sol";
import {IOperators} from "./interfaces/IOperators.sol";
import {IOwnerControl} from "./interfaces/IOwnerControl.sol";
import {IWorkerRegistry} from "./interfaces/IWorkerRegistry.sol";
import {Unchanged} from "./interfaces/Errors.sol";
import {Admission} from "./registry/Admission.sol";

/// @title The central contract of a fleet
/// @notice Who belongs to it, what owners decided about their devices, and under which configuration it talks, at one
/// address. Nothing of it can be replaced: a service that moves deploys another, names it here as its successor, and
/// every device and owner decide anew.
contract Service is KeyRotation, ConfigRotation, BootstrapList, ERC165 {
    /// @notice Where the service has moved to; zero when it has not.
    address public successor;

    /// @notice Emitted when the service names the contract it moves to.
    event SuccessorNamed(address indexed previous, address indexed current);

    constructor(address initialOwner, uint96 initialFee, uint96 initialFeeCap)
        Ownable(initialOwner)
        EIP712("Quietfleet", "1")
        Admission(initialFee, initialFeeCap)
    {}

    /// @notice Names the contract the service moves to; service owner only. It gives that contract no power over
    /// anything here.
    function nameSuccessor(address current) external onlyOwner {
        require(current != successor, Unchanged());
        emit SuccessorNamed(successor, current);
        successor = current;
    }

    /// @inheritdoc ERC165
    function supportsInterface(bytes4 id) public view override returns (bool) {
        return id == type(IWorkerRegistry).interfaceId || id == type(IAdmission).interfaceId
            || id == type(IOwnerControl).interfaceId || id == type(IOperators).interfaceId
            || id == type(IKeyRotation).interfaceId || id == type(IConfigRotation).interfaceId
            || id == type(IBootstrapList).interfaceId || super.supportsInterface(id);
    }
}
