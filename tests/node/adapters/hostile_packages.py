"""Packages that try to harm whoever loads them, and one that does not: four parameters, pages of two rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.ffi
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save

from node.store import DiskStore
from protocols.ids import ContentId, Digest
from protocols.package import VERSION, Circuit, Package, Tensor, encode_package

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "hostile"
"""`hangs.bin`, `segfaults.bin`, `corrupts.bin`: this model's loss_and_grad, a few bytes of it changed at random. jax's
own parser takes minutes over the first and writes where it must not over the others."""

ABSENT = ContentId(b"\x01" * 32)
THETA, X, Y = jnp.zeros(4), jnp.zeros((2, 3)), jnp.zeros((2, 1))
FOREIGN = "xla_ffi_python_cpu_callback"

LossAndGrad = Callable[[Any, Any, Any], tuple[Any, Any]]


def kind(theta: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """A model as it should be: a line."""

    def loss(weights: Any) -> Any:
        return jnp.mean((x @ weights[:3, None] + weights[3] - y) ** 2)

    return jax.value_and_grad(loss)(theta)


def foreign(theta: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Calls a Python function of whoever packed it: a number that means nothing in another process."""
    shape = jax.ShapeDtypeStruct((4,), np.float32)
    return jnp.sum(x) * y.sum(), jax.ffi.ffi_call(FOREIGN, shape)(theta, index=np.uint64(12345))


def endless(theta: Any, x: Any, y: Any) -> tuple[Any, Any]:
    grad = jax.lax.while_loop(lambda v: v.sum() < 1e30, lambda v: v * 0.5, theta + x.sum() + y.sum())
    return grad.sum(), grad


def patient(theta: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Ends, in a quarter of an hour."""
    grad = jax.lax.fori_loop(0, 60_000_000, lambda i, v: jnp.sin(v) + i, theta + x.sum() + y.sum())
    return grad.sum(), grad


def huge(theta: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """17 GB at once."""
    return jnp.sum(jnp.sort(jnp.full(17_000_000_000 // 4, x.sum()))) * y.sum(), theta


def many(theta: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """17 GB in tensors of half a GiB, each of which would fit: the first is needed when the last is there."""
    parts = [jnp.sin(jnp.arange(1 << 27, dtype=jnp.float32) * x.sum())]
    for _ in range(63):
        parts.append(jnp.sort(jnp.sin(parts[-1])))
    return sum(jnp.dot(a, b) for a, b in zip(parts, reversed(parts), strict=True)) * y.sum(), theta


def export(function: LossAndGrad) -> bytes:
    unchecked = [jax.export.DisabledSafetyCheck.custom_call(FOREIGN)]
    exported = jax.export.export(jax.jit(function), platforms=["cpu"], disabled_checks=unchecked)(THETA, X, Y)
    return bytes(exported.serialize())


def export_predict() -> bytes:
    exported = jax.export.export(jax.jit(lambda theta, x: x @ theta[:3, None] + theta[3]), platforms=["cpu"])
    return bytes(exported(THETA, X).serialize())


@dataclass(frozen=True, slots=True)
class Shelf:
    """A Store that has what every package here shares."""

    store: DiskStore
    predict: ContentId
    state: ContentId
    page: ContentId

    async def pack(self, loss_and_grad: bytes) -> ContentId:
        circuit = Circuit(ABSENT, ABSENT, ABSENT, "insecure-local", 13, Digest(bytes(32)), "23.0.5", 26)
        package = Package(
            version=VERSION,
            name="hostile",
            license="Apache-2.0",
            layout=(Tensor("w", (4,)),),
            scale_bits=16,
            loss_and_grad=await self.store.put_blob(loss_and_grad, public=True),
            predict=self.predict,
            initial_state=self.state,
            optimizer="sgd",
            learning_rate=0.1,
            batch=2,
            x_shape=(3,),
            y_shape=(1,),
            codec="int8",
            rule="mean",
            outer="none",
            circuit=circuit,
        )
        return await self.store.put_blob(encode_package(package), public=True)


def fill_shelf(store: DiskStore) -> Shelf:
    page = save({"x": np.ones((2, 3), np.float32), "y": np.ones((2, 1), np.float32)})
    return Shelf(
        store,
        store.put_blob_sync(export_predict(), public=True),
        store.put_blob_sync(bytes(16), public=True),
        store.put_blob_sync(page, public=False),
    )
