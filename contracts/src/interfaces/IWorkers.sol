// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Who a worker is, and the stake it answers with.
interface IWorkers {
    event WorkerRegistered(address indexed worker, bytes32 nodeKey, bytes32 encryptionKey);

    error EmptyKey();
    error BadBinding();
    error NotRegistered();
    error OnlyJobs();
    error StakeTooLow(uint256 free, uint256 needed);
    error TransferFailed();

    /// @notice Binds the sender's wallet to its keys (again to change them) and adds what is sent to its stake.
    /// @param nodeKey Ed25519 public key.
    /// @param encryptionKey X25519 public key.
    /// @param capabilities Hash of the worker's statement of what it can do.
    /// @param binding EIP-712 `Binding` signed by the wallet.
    function register(bytes32 nodeKey, bytes32 encryptionKey, bytes32 capabilities, bytes calldata binding)
        external
        payable;

    /// @notice Adds what is sent to the sender's stake.
    function topUp() external payable;

    /// @notice Sends free stake back to the sender.
    function withdraw(uint256 amount) external;

    /// @notice Reserves free stake of a registered worker for a job. Only `Jobs`.
    function lock(address worker, uint128 amount) external;

    /// @notice Frees locked stake. Only `Jobs`.
    function unlock(address worker, uint128 amount) external;

    /// @notice Burns locked stake. Only `Jobs`.
    function slash(address worker, uint128 amount) external;

    /// @return The `Jobs` contract that may lock, unlock and slash.
    function jobs() external view returns (address);

    function isRegistered(address worker) external view returns (bool);

    /// @return nodeKey zero where the worker isn't registered.
    function keysOf(address worker) external view returns (bytes32 nodeKey, bytes32 encryptionKey);

    function capabilitiesOf(address worker) external view returns (bytes32);

    function freeStake(address worker) external view returns (uint256);

    function lockedStake(address worker) external view returns (uint256);
}
