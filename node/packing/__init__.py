"""Packing: turns a model or data into what the network takes. `python -m node.packing`, see `__main__`.

`manifest.py` is free of jax and may be imported anywhere; the rest belongs to the packing process.
"""
