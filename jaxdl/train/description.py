"""What a run is: the settings that must not change in it, and a digest of what its optimizer computes."""

import hashlib
import importlib.metadata
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdl import optim
from jaxdl.data import Dataset
from jaxdl.train.arrays import crc32
from jaxdl.train.state import TrainState


def describe_run(
    model: Any, tx: optax.GradientTransformation, state: TrainState, train_set: Dataset, **settings: Any
) -> dict[str, Any]:
    """What is kept beside the arrays: settings that must not change in a run, and what is good to know."""
    return {
        "settings": {
            "model": " ".join(repr(model).split()),
            "data": f"{train_set!r}, CRC-32 {crc32(train_set.images) ^ crc32(train_set.labels):08x}",
            "key": jax.random.key_data(state.key).tolist(),
            **{name: _name(value) for name, value in settings.items()},
        },
        "update": _update_digest(tx, state),
        "versions": {name: importlib.metadata.version(name) for name in ("jaxdl", "jax", "flax", "optax")},
    }


def _name(value: Any) -> str:
    """A setting as text that is the same in every process."""
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _update_digest(tx: optax.GradientTransformation, state: TrainState) -> str | None:
    """A digest of what an optimizer computes, rates included; None if it cannot be traced by itself."""

    def update(params, opt_state):
        extra = {"batch_stats": jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state.batch_stats)}
        extra = extra if optim.wants_batch_stats(opt_state) else {}
        told = {"value": jnp.float32(0), "grad": params, "value_fn": lambda _: jnp.float32(0), **extra}
        return optax.with_extra_args_support(tx).update(params, opt_state, params, **told)

    try:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state.params, state.opt_state))
        text = str(jax.make_jaxpr(update)(*shapes))
    except Exception:
        return None
    return hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", text).encode()).hexdigest()[:16]
