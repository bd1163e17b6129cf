"""A model whose predictions are means over several views of each input, ten crops of an image for example."""

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdl.arguments import check_function, require, shown
from jaxdl.modules import check_model, mode_of

Views: TypeAlias = Callable[[Any], Any]
"""A pure function from inputs [batch, ...] to views of them [batch, views, ...], `data.TenCrop(224)` for example."""


class OverViews(nn.Module):
    """A classifier that is shown several views of each input: the softmax of its outputs is the mean of theirs.

    Its variables are those of the model.

    Attributes:
      model: maps [batch, ...] to logits [batch, classes].
      views: maps [batch, ...] to [batch, views, ...].
    """

    model: nn.Module
    views: Views

    def setup(self):
        """The model's variables are this module's."""
        nn.share_scope(self, self.model)

    def __call__(self, inputs: Any) -> jax.Array:
        """Maps inputs [batch, ...] to logits [batch, classes]."""
        seen = self.views(inputs)
        first, given = jax.tree.leaves(seen)[0], jax.tree.leaves(inputs)[0]
        batch = given.shape[0]
        require(
            first.ndim == given.ndim + 1 and first.shape[0] == batch and first.shape[1] > 0,
            "views must map inputs [batch, ...] to [batch, views, ...], got "
            f"{list(first.shape)} for {list(given.shape)}; pass data.TenCrop(224) for example",
        )
        count = first.shape[1]
        flat = jax.tree.map(lambda x: x.reshape(batch * count, *x.shape[2:]), seen)
        logits: Any = self.model(flat, **mode_of(self.model, train=False))
        require(
            getattr(logits, "ndim", 0) == 2 and logits.shape[1] > 1,
            f"views average the softmax of logits [batch, classes], got outputs {shown(logits)}; leave views out",
        )
        wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        of_views = jax.nn.log_softmax(wide).reshape(batch, count, -1)
        return jax.nn.logsumexp(of_views, 1) - jnp.log(count)


def over_views(function: str, model: nn.Module, views: Views | None) -> nn.Module:
    """The model, or the `OverViews` of it; raises `ValueError` if an argument is wrong."""
    if views is None:
        return model
    check_model(function, model)
    check_function(function, "views", views, "data.TenCrop(224)")
    require(
        not isinstance(views, type),
        f"{function}: views must be a function, got the class {views}; pass data.TenCrop(224)",
    )
    try:
        parameters = inspect.signature(views).parameters.values()
    except (TypeError, ValueError):
        parameters = ()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [each.name for each in parameters if each.default is each.empty and each.kind in positional]
    require(
        len(needed) <= 1,
        f"{function}: views must be a function of inputs alone, got views={shown(views)}, which takes "
        f"({', '.join(needed)}), as changes for augment= in training do; pass data.TenCrop(224) for example",
    )
    return OverViews(model, views)
