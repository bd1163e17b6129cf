"""Several random changes, one after the other."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import jax

from jaxdl.arguments import require, shown
from jaxdl.data.augment.checks import check_call
from jaxdl.data.augment.protocol import Augment, at_step, takes_targets
from jaxdl.data.augment.resampling import Geometric, resample


@dataclasses.dataclass(frozen=True)
class Compose:
    """Several changes one after the other, each with random numbers of its own.

    Geometric changes that stand next to each other are done by one resampling: pixels are interpolated once, and not at
    all if there are only crops and flips. So put geometric changes beside each other.

    Attributes:
      changes: the changes, in the order in which they are applied: functions (keys, images) -> images, or
        (keys, images, targets) -> (images, targets).

    Raises:
      ValueError: `changes` is not a tuple of functions; or, when called, there is not one key for each image, or a
        change needs targets and there are none.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxdl import data
      >>> augment = data.Compose((data.RandomCrop(4), data.RandomFlip(), data.Rotate(10)))
      >>> keys, images = jax.random.split(jax.random.key(0), 2), jnp.ones((2, 32, 32, 3), jnp.uint8)
      >>> augment(keys, images).shape
      (2, 32, 32, 3)
    """

    changes: tuple[Augment, ...]

    def __post_init__(self):
        require(
            isinstance(self.changes, tuple) and all(map(callable, self.changes)),
            "Compose: changes must be a tuple of functions (keys, images) -> images, got "
            f"changes={shown(self.changes)}; pass (RandomCrop(4), RandomFlip()) for example",
        )
        for change in self.changes:
            if isinstance(change, type):
                fields = dataclasses.fields(change) if dataclasses.is_dataclass(change) else ()
                needed = ", ".join(f"{field.name}=..." for field in fields if field.default is dataclasses.MISSING)
                name = change.__name__
                raise ValueError(f"Compose: {name} is a class; pass one of its objects, {name}({needed})")

    @property
    def takes_targets(self) -> bool:
        """Whether a change takes targets, so that they must be given."""
        return any(map(takes_targets, self.changes))

    def at_step(self, step: Any) -> "Compose":
        """The changes for an update; `step` is its number, int32 []."""
        return dataclasses.replace(self, changes=tuple(at_step(change, step) for change in self.changes))

    def __call__(self, keys: jax.Array, images: jax.Array, targets: Any = None) -> Any:
        """Maps images [batch, height, width, channels], and targets [batch, ...] if a change takes them.

        Returns:
          The images; with `targets` the pair (images, targets).
        """
        check_call("Compose", keys, images)
        require(
            targets is not None or not self.takes_targets,
            "Compose: a change takes targets, so the arguments are (keys, images, targets), got no targets; pass the "
            "labels of the images",
        )
        for geometric, group in itertools.groupby(self._steps(keys), lambda step: isinstance(step[0], Geometric)):
            if geometric:
                images = resample(list(group), images)
                continue
            for change, own in group:
                if takes_targets(change):
                    images, targets = change(own, images, targets)
                else:
                    images = change(own, images)
        return images if targets is None else (images, targets)

    def _steps(self, keys: jax.Array) -> Iterator[tuple[Any, jax.Array]]:
        """Each change with its keys; the changes inside another `Compose` one by one."""
        for number, change in enumerate(self.changes):
            own = jax.vmap(lambda key, number=number: jax.random.fold_in(key, number))(keys)
            if isinstance(change, Compose):
                yield from change._steps(own)
            else:
                yield change, own
