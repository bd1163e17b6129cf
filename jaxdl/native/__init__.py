"""Convolutions and pooling at oneDNN's speed on the CPU, where the package `jaxdl-native` is installed.

XLA's own convolutions take several times oneDNN's time on the CPU, and its maxima over windows are slow there too.
`pip install ./native` builds a package that has both; `models.layers` then uses it, for float32 on the CPU. Without it,
on other devices and in other dtypes XLA computes everything. The environment variable `JAXDL_NATIVE=0`, set before
jaxdl is imported, switches it off.
"""

from jaxdl.native.convolution import CONVOLUTIONS, convolve, convolves
from jaxdl.native.package import VERSION, convolutions
from jaxdl.native.pooling import Windows, avg_pool, max_pool, pixels_by_place, pools

__all__ = [
    "CONVOLUTIONS",
    "VERSION",
    "Windows",
    "avg_pool",
    "convolutions",
    "convolve",
    "convolves",
    "max_pool",
    "pixels_by_place",
    "pools",
]
