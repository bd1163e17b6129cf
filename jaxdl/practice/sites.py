"""Sees the values inside a model, those of its modules and of its nonlinearities, without a change of the model.

The model's program (its jaxpr) is evaluated step by step. The outputs of modules are marked in it; nonlinearities are
known by what is called: `jax.nn`'s functions by their names, tanh and sigmoid by their operations, ReLU also as
max(x, 0). What runs in a compiled loop (`nn.scan`) is seen as one module.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Jaxpr, Literal

from jaxdl.arguments import require
from jaxdl.models import ResNet, unstack_blocks

_FUNCTIONS = ("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish", "mish", "hard_tanh")
_FUNCTIONS += ("hard_sigmoid", "hard_silu", "hard_swish", "softplus", "soft_sign", "squareplus")
_MODULES = ("PReLU",)
_SATURATING = {"tanh": "tanh", "logistic": "sigmoid"}
_INLINED = ("jit", "pjit", "closed_call", "remat", "remat2", "checkpoint")
_MARK = "jaxdl.practice"


class Site(NamedTuple):
    """A place in a model where a value is seen."""

    name: str  # its path, as in "stage1_block1/conv1"; of nonlinearities with a number: "stage1_block1/relu_0"
    kind: str  # the module's class or the function's name: "Conv", "relu"
    role: str  # "layer" (a module with a kernel), "activation" (a nonlinearity) or "module" (any other)
    shape: tuple[int, ...]  # [batch, ...]


def unrolled(model: nn.Module, variables: Mapping[str, Any]) -> tuple[nn.Module, Mapping[str, Any]]:
    """The same network with every block a module of its own, if it is a scanned ResNet."""
    if not (isinstance(model, ResNet) and model.scan):
        return model, variables
    blocks = {name: tree for name, tree in variables.items() if jax.tree.leaves(tree)}
    return model.clone(scan=False), {**variables, **unstack_blocks(blocks)}


def look(
    f: Callable, *args: Any, batch: int, shift: Sequence[jax.Array] | None = None
) -> tuple[Any, list[Site], list[jax.Array]]:
    """Calls a function that applies Flax modules, and gives what the modules and nonlinearities in it return.

    Args:
      f: a pure function.
      *args: its arguments.
      batch: the leading axis of the values to look at.
      shift: for each site an array to add to its value, for derivatives with respect to the value.

    Returns:
      f's result, the sites in the order of their computation, and their values [batch, ...].
    """

    def mark(call, arguments, keywords, context):
        output = call(*arguments, **keywords)
        module = context.module
        if context.method_name != "__call__" or not module.path or not _is_value(output, batch):
            return output
        own = jax.tree.leaves([leaf for leaf in module.variables.get("params", {}).values() if hasattr(leaf, "ndim")])
        kind = type(module).__name__
        role = "activation" if kind in _MODULES else "layer" if any(leaf.ndim > 1 for leaf in own) else "module"
        return checkpoint_name(output, "|".join([_MARK, "/".join(module.path), kind, role]))

    with nn.intercept_methods(mark):
        # A new function each time: of one that was traced before JAX remembers the program, without marks.
        program, result = jax.make_jaxpr(lambda *args: f(*args), return_shape=True)(*args)
    walk = _Walk(batch, shift)
    flat = walk.run(program.jaxpr, program.consts, jax.tree.leaves(args), "")
    return jax.tree.unflatten(jax.tree.structure(result), flat), walk.sites, walk.values


def find_site(function: str, sites: Sequence[Site], layer: Any) -> int:
    """The number of the site with a name; raises `ValueError`, with all names, if there is none."""
    names = [site.name for site in sites]
    require(
        layer in names,
        f"{function}: layer must be the name of a layer or of a nonlinearity, got layer={layer!r}; there are "
        f"{', '.join(names)}",
    )
    return names.index(layer)


class _Walk:
    """Evaluates a program and its calls, equation by equation, and keeps the values of the sites."""

    def __init__(self, batch: int, shift: Sequence[jax.Array] | None):
        self.sites: list[Site] = []
        self.values: list[jax.Array] = []
        self._batch, self._shift = batch, shift
        self._names: Counter = Counter()

    def run(self, jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], scope: str) -> list[Any]:
        known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

        def read(variable):
            return variable.val if isinstance(variable, Literal) else known[variable]

        for equation in jaxpr.eqns:
            given = [read(variable) for variable in equation.invars]
            inside, path = equation.params.get("jaxpr"), f"{scope}/{equation.source_info.name_stack}"
            kind = self._nonlinearity(equation, jaxpr)
            if equation.primitive.name in _INLINED and inside is not None and kind is None:
                found = self.run(getattr(inside, "jaxpr", inside), getattr(inside, "consts", ()), given, path)
            else:
                found = equation.primitive.bind(*given, **equation.primitive.get_bind_params(equation.params))
                found = list(found) if equation.primitive.multiple_results else [found]
            mark = equation.params["name"].split("|") if equation.primitive.name == "name" else []
            if mark[:1] == [_MARK]:
                found = [self._see(found[0], *mark[1:])]
            elif kind is not None:
                found = [self._see(found[0], self._place(path, kind), kind, "activation")]
            known.update(zip(equation.outvars, found, strict=True))
        return [read(variable) for variable in jaxpr.outvars]

    def _see(self, value: jax.Array, name: str, kind: str, role: str) -> jax.Array:
        self._names[name] += 1  # a module that is called twice has two sites
        name = name if self._names[name] == 1 else f"{name} ({self._names[name]})"
        if self._shift is not None:
            value = value + self._shift[len(self.sites)]
        self.sites.append(Site(name, kind, role, value.shape))
        self.values.append(value)
        return value

    def _place(self, path: str, kind: str) -> str:
        """The name of a nonlinearity: the module that computes it, and its number there."""
        parts = [part for part in path.split("/") if part]
        above = "/".join(part for part in parts[1:] if "." not in part)  # without the model's own name, and methods
        number = self._names[above, kind]
        self._names[above, kind] += 1
        return f"{above}/{kind}_{number}".lstrip("/")

    def _nonlinearity(self, equation: Any, jaxpr: Jaxpr) -> str | None:
        """The name of the nonlinearity that an equation computes; None if it computes none."""
        if len(equation.outvars) != 1 or not _is_value(equation.outvars[0].aval, self._batch):
            return None
        name = equation.primitive.name
        if name in ("jit", "pjit"):
            called = equation.params.get("name")
            return called if called in _FUNCTIONS else None
        if name == "custom_jvp_call":
            inner = equation.params["call_jaxpr"].eqns
            called = inner[0].params.get("name") if len(inner) == 1 else None
            return called if called in _FUNCTIONS else None
        if name == "max":
            zero = any(isinstance(x, Literal) and jnp.ndim(x.val) == 0 and x.val == 0 for x in equation.invars)
            return "relu" if zero else None
        return None if name not in _SATURATING or _is_of_gate(equation, jaxpr) else _SATURATING[name]


def _is_value(value: Any, batch: int) -> bool:
    """Whether something is an array of numbers [batch, ...]."""
    shape = getattr(value, "shape", ())
    return len(shape) >= 2 and shape[0] == batch and jnp.issubdtype(value.dtype, jnp.floating)


def _is_of_gate(equation: Any, jaxpr: Jaxpr) -> bool:
    """Whether a tanh is that of a GELU, to which 1 is added, or a sigmoid is a Swish's, which multiplies its input."""
    output, given = equation.outvars[0], equation.invars[0]
    uses = [use for use in jaxpr.eqns if any(x is output for x in use.invars)]
    if equation.primitive.name == "tanh":
        ones = [any(isinstance(x, Literal) and jnp.ndim(x.val) == 0 and x.val == 1 for x in u.invars) for u in uses]
        return bool(ones) and all(ones) and all(use.primitive.name == "add" for use in uses)
    return any(use.primitive.name == "mul" and any(x is given for x in use.invars) for use in uses)
