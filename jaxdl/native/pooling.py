"""Max and average pooling, by loops of `jaxdl-native`.

Max pooling gives the maxima and, for each, its place in its window. Its derivative picks the tangents at these places.
The transpose of that adds up cotangents at these places, and its transpose picks again. Average pooling is linear. So
both are differentiable to any order, forward and in reverse.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad

from jaxdl.native import package

Pair: TypeAlias = tuple[int, int]

_LARGEST_WINDOW = 16  # a byte numbers its places


@dataclasses.dataclass(frozen=True)
class Windows:
    """Square windows over images.

    Attributes:
      sides: height and width of the images.
      window, stride: side of the windows, and the step between them.
      padding: ((top, bottom), (left, right)), pixels that do not count.
    """

    sides: Pair
    window: int
    stride: int
    padding: tuple[Pair, Pair]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many windows there are along the height and the width."""
        return tuple(
            (side + sum(pad) - self.window) // self.stride + 1
            for side, pad in zip(self.sides, self.padding, strict=True)
        )

    def attributes(self) -> dict[str, Any]:
        """What the package's functions are given."""
        return {
            "window": np.int64(self.window),
            "stride": np.int64(self.stride),
            "padding": np.asarray(self.padding, np.int64).ravel(),
        }


def pools(x: jax.Array, *, window: int, stride: int) -> bool:
    """Whether the package pools this array here."""
    return window <= _LARGEST_WINDOW and stride <= package.LARGEST and package.takes(x)


def max_pool(x: jax.Array, *, window: int, stride: int, padding: tuple[Pair, Pair]) -> jax.Array:
    """The maximum of each window of x [batch, height, width, channels], where `pools` says so.

    Every window must have a pixel that is not padding.
    """
    return package.bind(_max, x, settings=Windows((x.shape[1], x.shape[2]), window, stride, padding))[0]


def avg_pool(x: jax.Array, *, window: int, stride: int, padding: tuple[Pair, Pair]) -> jax.Array:
    """The mean of each window's pixels inside the image, where `pools` says so."""
    return package.bind(_mean, x, settings=Windows((x.shape[1], x.shape[2]), window, stride, padding))


def pixels_by_place(x: jax.Array, windows: Windows, outside: float) -> list[jax.Array]:
    """For each place in a window, in row order, the pixels that lie there; also for `layers`, where XLA pools."""
    x = lax.pad(x, jnp.asarray(outside, x.dtype), [(0, 0, 0), *((*pad, 0) for pad in windows.padding), (0, 0, 0)])
    rows, columns = ((count - 1) * windows.stride + 1 for count in windows.counts)
    steps = (1, windows.stride, windows.stride, 1)
    return [
        lax.slice(x, (0, i, j, 0), (x.shape[0], i + rows, j + columns, x.shape[3]), steps)
        for i in range(windows.window)
        for j in range(windows.window)
    ]


def _max_of_xla(x, *, settings):
    best, *others = pixels_by_place(x, settings, -jnp.inf)
    places = jnp.zeros(best.shape, jnp.uint8)
    for number, part in enumerate(others, 1):
        takes = (part > best) | jnp.isnan(part)
        best, places = jnp.where(takes, part, best), jnp.where(takes, jnp.uint8(number), places)
    return [best, places]


def _pick_of_xla(x, places, *, settings):
    return sum(jnp.where(places == number, part, 0) for number, part in enumerate(pixels_by_place(x, settings, 0)))


def _mean_of_xla(x, *, settings):
    inside = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    return sum(pixels_by_place(x, settings, 0)) / sum(pixels_by_place(inside, settings, 0))


def _transpose_of_xla(linear: Callable[..., Any]) -> Callable[..., jax.Array]:
    """The transpose of a function of images (and places)."""

    def transpose(values, *places, settings):
        images = jax.ShapeDtypeStruct((values.shape[0], *settings.sides, values.shape[3]), values.dtype)
        return jax.linear_transpose(lambda x: linear(x, *places, settings=settings), images)(values)[0]

    return transpose


def _results(x, *_, settings):
    return x.update(shape=(x.shape[0], *settings.counts, x.shape[3]), weak_type=False)


def _results_and_places(x, *, settings):
    best = _results(x, settings=settings)
    return [best, best.update(dtype=np.dtype(np.uint8))]


def _images(x, *_, settings):
    return x.update(shape=(x.shape[0], *settings.sides, x.shape[3]), weak_type=False)


def _primitive(name: str, results: Callable[..., Any], of_xla: Callable[..., Any]) -> Primitive:
    """One of the five. Under `jax.vmap` the members are computed as one batch."""
    several = results is _results_and_places

    def members(arrays, axes, *, settings):
        count = next(x.shape[axis] for x, axis in zip(arrays, axes, strict=True) if axis is not None)
        stacked = [
            jnp.broadcast_to(x, (count, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
            for x, axis in zip(arrays, axes, strict=True)
        ]
        batch = stacked[0].shape[1]
        found = package.bind(made, *(x.reshape(count * batch, *x.shape[2:]) for x in stacked), settings=settings)
        apart = [y.reshape(count, batch, *y.shape[1:]) for y in (found if several else [found])]
        return (apart, [0] * len(apart)) if several else (apart[0], 0)

    made = package.primitive(name, results, of_xla, members, multiple_results=several)
    return made


_max = _primitive("max_pool", _results_and_places, _max_of_xla)
_pick = _primitive("max_pool_pick", _results, _pick_of_xla)
_place = _primitive("max_pool_place", _images, _transpose_of_xla(_pick_of_xla))
_mean = _primitive("avg_pool", _results, _mean_of_xla)
_spread = _primitive("avg_pool_spread", _images, _transpose_of_xla(_mean_of_xla))


def _max_tangents(primals, tangents, *, settings):
    """Called where the images have a tangent. The places are whole numbers and have none."""
    best, places = package.bind(_max, *primals, settings=settings)
    picked = package.bind(_pick, *tangents, places, settings=settings)
    return (best, places), (picked, ad.Zero(jax.typeof(places).to_tangent_aval()))


ad.primitive_jvps[_max] = _max_tangents


def _define_derivatives(one: Primitive, transpose: Primitive, *places: None) -> None:
    """Of a function that is linear in its first array; `places` is None if it takes them, which have no derivative."""

    def transposed(c, _, *places, settings):
        return [package.bind(transpose, c, *places, settings=settings), *[None] * len(places)]

    ad.deflinear2(one, transposed)  # which takes it to be linear in all of its arrays
    ad.defjvp(one, lambda t, _, *places, settings: package.bind(one, t, *places, settings=settings), *places)


_define_derivatives(_pick, _place, None)
_define_derivatives(_place, _pick, None)
_define_derivatives(_mean, _spread)
_define_derivatives(_spread, _mean)
