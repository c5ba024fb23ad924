// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {ConfigRotation} from "./config/ConfigRotation.sol";
import {OwnerControl} from "./control/OwnerControl.sol";
import {WorkerRegistry} from "./registry/WorkerRegistry.sol";

/// @title The central contract of a fleet
/// @notice Who belongs to it, what owners decided about their devices, and under which configuration it talks, at one
/// address.
contract Service is OwnerControl, ConfigRotation {
    constructor(address initialOwner, uint256 initialFee)
        Ownable(initialOwner)
        EIP712("Quietfleet", "1")
        WorkerRegistry(initialFee)
    {}
}
