"""Bounds of the process itself. Each says what breaks when it is too low; bounds of the wire are in `protocols`.

Mailbox capacities stand beside their lanes in `node/wiring.py`, a child's in its adapter.
"""

from __future__ import annotations

KIB, MIB = 1024, 1024 * 1024

CONFIG_BYTES = 256 * KIB  # too low: nobody writes that much by hand; too high: a device file fills memory
KEY_FILE_BYTES = 64 * KIB  # a keystore has 500 bytes

RECORD_BYTES = 4 * MIB  # too low: an outbox message with 64 seats' entries; tensors are blobs, never records
BLOB_BYTES = 1 << 30  # too low: an SRS of K=22 (512 MiB) can't be stored
BLOB_THREADS = 4  # too low: a large blob's fsync delays a small one's read; the disk has one head, though
STORE_BUSY_S = 10.0  # too low: a write fails while a backup tool reads the database

SCRYPT_LOG2_N = 15  # 32 MiB and 0.1 s a key file; too low: guessing a short passphrase gets cheap
SCRYPT_MAX_LOG2_N = 22  # too high: a planted key file takes 4 GiB
