"""The embedded development chain: py-evm behind loopback JSON-RPC, a process of its own.

    python -m node.devchain --port 0 --dir DIR

Nothing in `node` imports this package: to the node it is a URL, as any other chain is.
    evm.py      the EVM's configuration        chain.py    blocks, receipts, logs, calls
    rpc.py      JSON-RPC methods and errors    server.py   HTTP/1.1 on loopback
"""
