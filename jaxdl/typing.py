"""Names for the things that flow through every room of the library."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
from jax.typing import ArrayLike

Params: TypeAlias = Any
"""A pytree of floating-point arrays: a model's parameters, or anything shaped like them."""

Device: TypeAlias = Any
"""A `jax.Device`, which is no class to type checkers."""

Schedule: TypeAlias = Callable[[ArrayLike], ArrayLike]
"""A learning rate as a function of the number of optimizer updates made so far (the first update sees 0)."""

Scalar: TypeAlias = float | jax.Array
"""A hyperparameter: a number, or a JAX scalar where `optax.inject_hyperparams` passes one."""

ScalarOrSchedule: TypeAlias = Scalar | Schedule
"""A learning rate, constant or scheduled."""


class Batch(NamedTuple):
    """Examples that go through the model together."""

    images: jax.Array  # [batch, height, width, channels], uint8 or floating point
    labels: jax.Array  # int32 [batch], each in [0, num_classes)
