"""Adapters: one module or folder a library, each the only importer of it."""
