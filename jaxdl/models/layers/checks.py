"""Checks that layers and models share, beside those of `jaxdl.arguments`. All raise `ValueError`."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxdl.arguments import require, shown


def check_initializers(function: str, **initializers: Callable) -> None:
    """Raises unless all are functions."""
    for name, value in initializers.items():
        example = "layers.he_normal" if name == "kernel_init" else "flax.linen.initializers.ones"
        require(
            callable(value),
            f"{function}: {name} must be a function (key, shape, dtype) -> array, got {name}={shown(value)}; "
            f"pass {example} for example",
        )


def check_floating(function: str, x: Any, *, at_least: int, layout: str, name: str = "the input") -> None:
    """Raises unless x is a floating-point array of `at_least` or more axes; `layout` names them in the message."""
    require(
        hasattr(x, "shape") and hasattr(x, "dtype"), f"{function}: {name} must be an array {layout}, got {shown(x)}"
    )
    require(len(x.shape) >= at_least, f"{function}: {name} must be {layout}, got shape {tuple(x.shape)}")
    require(
        jnp.issubdtype(x.dtype, jnp.floating),
        f"{function}: {name} must be floating point, got dtype {x.dtype} {list(x.shape)}; standardize images, "
        "as Dataset.standardize does, or use x.astype(jax.numpy.float32) / 255",
    )


def check_images(function: str, x: Any, name: str = "the input") -> None:
    """Raises unless x is an array of floating-point numbers [batch, height, width, channels]."""
    layout = "[batch, height, width, channels]"
    check_floating(function, x, at_least=0, layout=layout, name=name)
    remedy = "; add the batch's axis: x[None]" if len(x.shape) == 3 else ""
    require(len(x.shape) == 4, f"{function}: {name} must be {layout}, got shape {tuple(x.shape)}{remedy}")
