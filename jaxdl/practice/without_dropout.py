"""A model with its dropout switched off, in training mode otherwise."""

from typing import Any

import flax.linen as nn
import jax

from jaxdl.models.layers import DropConnect, StochasticDepth
from jaxdl.modules import mode_of


class WithoutDropout(nn.Module):
    """A model without Dropout, DropConnect and stochastic depth; BatchNorm still computes batch statistics in training.

    Its variables are those of the model. Random numbers that a module draws by itself are not switched off.

    Attributes:
      model: any module.
    """

    model: nn.Module

    def setup(self):
        """The model's variables are this module's."""
        nn.share_scope(self, self.model)

    def __call__(self, inputs: Any, *, train: bool) -> Any:
        """Maps inputs to the model's outputs."""
        with nn.intercept_methods(_switched_off):
            return self.model(inputs, **mode_of(self.model, train=train))


def _switched_off(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    if context.method_name == "__call__":
        if isinstance(context.module, nn.Dropout):
            return args[0]
        if isinstance(context.module, DropConnect | StochasticDepth):
            return call(*args, **{**kwargs, "train": False})
    return call(*args, **kwargs)


def dropout_in(model: nn.Module, variables: Any, inputs: Any) -> list[str]:
    """The dropout that a model uses in training, as "Dropout 0.5"; `inputs` are structs [batch, ...]."""
    found: list[str] = []

    def note(call, args, kwargs, context):
        module = context.module
        if context.method_name == "__call__" and isinstance(module, nn.Dropout | DropConnect) and module.rate:
            found.append(f"{type(module).__name__} {module.rate:g}")
        elif context.method_name == "__call__" and isinstance(module, StochasticDepth):
            found.append("StochasticDepth")
        return call(*args, **kwargs)

    def trace(variables, inputs, key):
        with nn.intercept_methods(note):
            options: dict[str, Any] = {"rngs": {"dropout": key, "params": key}, "mutable": True}
            return model.apply(variables, inputs, **mode_of(model, train=True), **options)

    jax.eval_shape(trace, variables, inputs, jax.random.key(0))
    return list(dict.fromkeys(found))
