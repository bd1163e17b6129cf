"""What a set in memory and a stream have in common."""

from typing import Any, Self

import jax
import numpy as np

from jaxdl.arguments import check_integer, check_key, check_real, require


class Split:
    """A split of a data set: so many examples, of which some can be taken by their rows."""

    def __len__(self) -> int:
        raise NotImplementedError

    def take(self, rows: Any) -> Self:
        """The examples at these rows."""
        raise NotImplementedError

    def steps_per_epoch(self, batch_size: int) -> int:
        """Updates in one epoch: n // batch_size. The examples left over differ from epoch to epoch.

        Raises:
          ValueError: `batch_size` is below 1 or above the number of examples.
        """
        check_integer("steps_per_epoch", "batch_size", batch_size, at_least=1)
        what = "images" if getattr(self, "is_of_images", False) else "examples"
        require(
            batch_size <= len(self),
            f"steps_per_epoch: batch_size={batch_size} is more than the {len(self)} {what} of {self!r}; "
            f"pass batch_size <= {len(self)}",
        )
        return len(self) // batch_size

    def split_at_random(self, share: float, key: jax.Array) -> tuple[Self, Self]:
        """Splits the examples into two parts at random.

        Args:
          share: the first part's share of the examples, in (0, 1); the number of examples is rounded.
          key: `jax.random.key(seed)`; the same key gives the same parts.

        Returns:
          Two sets, with the same `standardize` as this one. Both parts of a stream keep its view: give the part to
          evaluate on another one, `dataclasses.replace(held_out, view=data.DecodeCenterCrop(224))`.

        Raises:
          ValueError: an argument is wrong, or a part would be empty.

        Example:
          >>> import jax
          >>> from jaxdl import data
          >>> train_set, _ = data.load("fashion_mini")
          >>> train_set, held_out = train_set.split_at_random(0.9, jax.random.key(0))
          >>> len(train_set), len(held_out)
          (9000, 1000)
        """
        number: Any = np.asarray(share) if isinstance(share, jax.Array) else share
        check_real("split_at_random", "share", number, at_least=0, below=1, remedy="pass 0.9 for example")
        check_key("split_at_random", "key", key)
        first = round(float(share) * len(self))
        require(
            0 < first < len(self),
            f"split_at_random: share={share} of {len(self)} examples leaves one part empty; pass a share such as 0.9",
        )
        rows = np.asarray(jax.random.permutation(key, len(self)))
        return self.take(rows[:first]), self.take(rows[first:])
