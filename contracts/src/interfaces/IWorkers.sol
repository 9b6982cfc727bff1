// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Who a worker is, and the stake it answers with.
interface IWorkers {
    event WorkerRegistered(address indexed worker, bytes32 nodeKey, bytes32 encryptionKey);
    event StakeAdded(address indexed worker, uint256 amount);
    event StakeUnbonding(address indexed worker, uint256 amount, uint64 unbondedAt);
    event StakeWithdrawn(address indexed worker, uint256 amount);

    error EmptyKey();
    error BadBinding();
    error NotRegistered();
    error OnlyJobs();
    error StakeTooLow(uint256 free, uint256 needed);
    error NothingSent();
    error NothingUnbonding();
    error StillUnbonding(uint64 unbondedAt);
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

    /// @notice Puts free stake on its way out; it and what was on its way already can be taken out two days later.
    function unbond(uint128 amount) external;

    /// @notice Sends the sender the stake whose time of unbonding is over.
    function withdraw() external;

    /// @notice Reserves free stake of a registered worker for a job. Only `Jobs`.
    function lock(address worker, uint128 amount) external;

    /// @notice Frees locked stake. Only `Jobs`.
    function unlock(address worker, uint128 amount) external;

    /// @notice Burns locked stake. Only `Jobs`.
    function slash(address worker, uint128 amount) external;

    /// @notice Takes a proved liar's stake: a tenth becomes the reporter's own stake, the rest is burnt. Only `Jobs`.
    /// @param locked Whether the stake is still locked; if not, what is free or unbonding answers as far as it goes.
    /// @return taken What it came to.
    function punish(address worker, uint128 amount, bool locked, address reporter) external returns (uint128 taken);

    /// @return The `Jobs` contract that may lock, unlock and slash.
    function jobs() external view returns (address);

    function isRegistered(address worker) external view returns (bool);

    /// @return nodeKey zero where the worker isn't registered.
    function keysOf(address worker) external view returns (bytes32 nodeKey, bytes32 encryptionKey);

    function capabilitiesOf(address worker) external view returns (bytes32);

    function freeStake(address worker) external view returns (uint256);

    function lockedStake(address worker) external view returns (uint256);

    /// @return amount Stake on its way out.
    /// @return unbondedAt When it can be taken out.
    function unbondingStake(address worker) external view returns (uint256 amount, uint64 unbondedAt);
}
