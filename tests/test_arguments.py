import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.arguments import check_integer, check_real


@pytest.mark.parametrize("value", [0, -1, 1.0, 1.5, "3", None, True, np.float32(2)])
def test_integers_that_are_not_are_named_with_the_remedy(value):
    with pytest.raises(ValueError, match=r"^swa: period must be an integer >= 1, got period=.*; use period=1$"):
        check_integer("swa", "period", value, at_least=1, remedy="use period=1")


def test_integers_of_numpy_pass():
    assert check_integer("swa", "period", np.int64(3), at_least=1) == 3


@pytest.mark.parametrize("value", [1, 1.5, -0.1, float("nan"), float("inf"), "0.5", None, True])
def test_numbers_out_of_range_are_named(value):
    with pytest.raises(ValueError, match=r"^adam: b1 must be a finite number in \[0, 1\), got b1="):
        check_real("adam", "b1", value, at_least=0, below=1)


def test_numbers_in_range_and_injected_arrays_pass():
    check_real("adam", "b1", 0, at_least=0, below=1)
    check_real("adam", "b1", np.float32(0.5), at_least=0, below=1)
    check_real("adam", "b1", jnp.array(7.0), at_least=0, below=1)
