// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {IWorkers} from "./interfaces/IWorkers.sol";
import {Stake} from "./libraries/Stake.sol";

/// @title Workers: identities bound to wallets, and their stakes.
/// @notice Stake is free, locked or unbonding. Its owner moves what is free; `Jobs`, which creates this contract, moves
/// the rest. Nobody else has a say.
contract Workers is IWorkers, EIP712 {
    using Stake for Stake.State;

    struct Identity {
        bytes32 nodeKey;
        bytes32 encryptionKey;
        bytes32 capabilities;
    }

    /// @dev Slashed stake goes where nobody has a key.
    address private constant _BURN = 0x000000000000000000000000000000000000dEaD;

    /// @dev A reporter gets a tenth: enough for its gas, too little for a liar to report itself and lose nothing.
    uint128 private constant _BOUNTY = 10;

    bytes32 private constant _BINDING =
        keccak256("Binding(address wallet,bytes32 nodeKey,bytes32 encryptionKey,bytes32 capabilities)");

    /// @inheritdoc IWorkers
    address public immutable jobs;

    mapping(address worker => Identity) private _identities;
    mapping(address worker => Stake.State) private _stakes;

    modifier onlyJobs() {
        if (msg.sender != jobs) revert OnlyJobs();
        _;
    }

    constructor() EIP712("SkyNet", "1") {
        jobs = msg.sender;
    }

    // -- Identity --------------------------------------------------------------

    /// @inheritdoc IWorkers
    function register(bytes32 nodeKey, bytes32 encryptionKey, bytes32 capabilities, bytes calldata binding)
        external
        payable
    {
        if (nodeKey == 0 || encryptionKey == 0) revert EmptyKey();
        bytes32 statement = keccak256(abi.encode(_BINDING, msg.sender, nodeKey, encryptionKey, capabilities));
        (address signer,,) = ECDSA.tryRecoverCalldata(_hashTypedDataV4(statement), binding);
        if (signer != msg.sender) revert BadBinding();
        _identities[msg.sender] = Identity(nodeKey, encryptionKey, capabilities);
        emit WorkerRegistered(msg.sender, nodeKey, encryptionKey);
        if (msg.value > 0) _add(msg.sender, msg.value);
    }

    /// @inheritdoc IWorkers
    function isRegistered(address worker) public view returns (bool) {
        return _identities[worker].nodeKey != 0;
    }

    /// @inheritdoc IWorkers
    function keysOf(address worker) external view returns (bytes32 nodeKey, bytes32 encryptionKey) {
        Identity storage identity = _identities[worker];
        return (identity.nodeKey, identity.encryptionKey);
    }

    /// @inheritdoc IWorkers
    function capabilitiesOf(address worker) external view returns (bytes32) {
        return _identities[worker].capabilities;
    }

    // -- Stake, by its owner -----------------------------------------------------

    /// @inheritdoc IWorkers
    function topUp() external payable {
        if (msg.value == 0) revert NothingSent();
        _add(msg.sender, msg.value);
    }

    /// @inheritdoc IWorkers
    function unbond(uint128 amount) external {
        if (amount == 0) revert StakeTooLow(_stakes[msg.sender].free, amount);
        uint64 due = _stakes[msg.sender].unbond(amount);
        emit StakeUnbonding(msg.sender, amount, due);
    }

    /// @inheritdoc IWorkers
    /// @dev The stake is gone from the books before it leaves: calling back finds nothing.
    function withdraw() external {
        uint128 amount = _stakes[msg.sender].withdraw();
        emit StakeWithdrawn(msg.sender, amount);
        _send(msg.sender, amount);
    }

    /// @inheritdoc IWorkers
    function freeStake(address worker) external view returns (uint256) {
        return _stakes[worker].free;
    }

    /// @inheritdoc IWorkers
    function lockedStake(address worker) external view returns (uint256) {
        return _stakes[worker].locked;
    }

    /// @inheritdoc IWorkers
    function unbondingStake(address worker) external view returns (uint256 amount, uint64 unbondedAt) {
        Stake.State storage stake = _stakes[worker];
        return (stake.unbonding, stake.unbondedAt);
    }

    // -- Stake, by Jobs ----------------------------------------------------------

    /// @inheritdoc IWorkers
    function lock(address worker, uint128 amount) external onlyJobs {
        if (!isRegistered(worker)) revert NotRegistered();
        _stakes[worker].lock(amount);
    }

    /// @inheritdoc IWorkers
    function unlock(address worker, uint128 amount) external onlyJobs {
        _stakes[worker].unlock(amount);
    }

    /// @inheritdoc IWorkers
    function slash(address worker, uint128 amount) external onlyJobs {
        _stakes[worker].slash(amount);
        _send(_BURN, amount);
    }

    /// @inheritdoc IWorkers
    function punish(address worker, uint128 amount, bool locked, address reporter)
        external
        onlyJobs
        returns (uint128 taken)
    {
        taken = amount;
        if (locked) _stakes[worker].slash(amount);
        else taken = _stakes[worker].seize(amount);
        uint128 bounty = taken / _BOUNTY;
        if (bounty > 0) _add(reporter, bounty);
        _send(_BURN, taken - bounty);
    }

    function _add(address worker, uint256 amount) private {
        _stakes[worker].add(amount);
        emit StakeAdded(worker, amount);
    }

    function _send(address to, uint256 amount) private {
        (bool sent,) = to.call{value: amount}("");
        if (!sent) revert TransferFailed();
    }
}
