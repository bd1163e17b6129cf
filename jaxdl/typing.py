"""Types that all parts of the library share."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
from jax.typing import ArrayLike

Params: TypeAlias = Any
"""A pytree of floating-point arrays: a model's parameters, or anything shaped like them."""

Arrays: TypeAlias = Any
"""A pytree of arrays with a leading axis of examples: one array, or tuples and dicts of them."""

Device: TypeAlias = Any
"""A `jax.Device`; type checkers do not see it as a class."""

Schedule: TypeAlias = Callable[[ArrayLike], ArrayLike]
"""A learning rate as a function of the number of optimizer updates made so far (the first update sees 0)."""

Scalar: TypeAlias = float | jax.Array
"""A hyperparameter: a number, or a JAX scalar where `optax.inject_hyperparams` passes one."""

ScalarOrSchedule: TypeAlias = Scalar | Schedule
"""A learning rate, constant or scheduled."""


class Batch(NamedTuple):
    """Examples that go through the model together."""

    inputs: Arrays  # [batch, ...]: images [batch, height, width, channels] for example
    targets: Arrays  # [batch, ...]: class numbers int32 [batch] for example

    @property
    def images(self) -> Arrays:
        """The inputs."""
        return self.inputs

    @property
    def labels(self) -> Arrays:
        """The targets."""
        return self.targets
