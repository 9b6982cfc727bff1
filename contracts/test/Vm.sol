// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice The few cheat codes that these tests use, at forge's address for them.
interface Vm {
    function assume(bool condition) external pure;
    function deal(address account, uint256 balance) external;
    function warp(uint256 timestamp) external;
    function prank(address sender) external;
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function addr(uint256 key) external pure returns (address);
    function expectRevert(bytes calldata data) external;
}

Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

/// @return The EIP-712 digest of a struct for one of our contracts.
function hashTyped(address contract_, bytes32 structHash) view returns (bytes32) {
    bytes32 domain = keccak256(
        abi.encode(
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
            keccak256("SkyNet"),
            keccak256("1"),
            block.chainid,
            contract_
        )
    );
    return keccak256(abi.encodePacked(hex"1901", domain, structHash));
}

function signTyped(uint256 key, address contract_, bytes32 structHash) view returns (bytes memory) {
    (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, hashTyped(contract_, structHash));
    return abi.encodePacked(r, s, v);
}

/// @return The `Binding` of a worker's keys, signed by its wallet.
function signBinding(uint256 key, address workers) view returns (bytes memory) {
    bytes32 kind = keccak256("Binding(address wallet,bytes32 nodeKey,bytes32 encryptionKey,bytes32 capabilities)");
    bytes32 statement = keccak256(abi.encode(kind, vm.addr(key), bytes32(uint256(1)), bytes32(uint256(2)), bytes32(0)));
    return signTyped(key, workers, statement);
}
