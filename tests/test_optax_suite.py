"""optax's own tests of its optimizers, pointed at our chains.

They come with the wheel (optax/_src/alias_test.py). AdaGrad, RMSProp and AdamW get the settings that equal optax's
defaults, for which its rates and tolerances were chosen; the others run with our own. Only `test_explicit_dtype` is
left out: it is about optax's argument names and the names of its states' fields.
"""

import re
import subprocess
import sys

import pytest

OURS = ("adagrad", "adam", "adamw", "rmsprop", "sgd")
TESTS = (
    "test_optimization",
    "test_optimizers_accept_extra_args",
    "test_optimizers_can_be_wrapped_in_inject_hyperparams",
    "test_preserve_dtype",
    "test_state_shape_dtype_shard_stability",
    "test_gradient_accumulation",
)
SCRIPT = f"""
import sys, types, unittest
from unittest import mock
for name in ("sklearn", "sklearn.datasets", "sklearn.linear_model"):  # used by its L-BFGS tests only
    sys.modules.setdefault(name, mock.MagicMock())
from optax._src import alias_test
from jaxdl import optim
def adagrad(learning_rate):
    return optim.adagrad(learning_rate, initial_accumulator=0.1, eps=1e-7, eps_in_sqrt=True)
def adamw(learning_rate):
    return optim.adamw(learning_rate, weight_decay=1e-4)
def rmsprop(learning_rate, momentum=None):
    return optim.rmsprop(learning_rate, decay=0.9, eps_in_sqrt=True, momentum=momentum)
alias_test.alias = types.SimpleNamespace(
    adagrad=adagrad, adam=optim.adam, adamw=adamw, rmsprop=rmsprop, sgd=optim.sgd
)
every = unittest.defaultTestLoader.loadTestsFromTestCase(alias_test.AliasTest)
chosen = [
    test for test in every
    if test._testMethodName.startswith({TESTS!r})
    and any(f"opt_name='{{name}}'" in str(test) + (test.shortDescription() or "") for name in {OURS!r})
]
result = unittest.TextTestRunner(verbosity=1).run(unittest.TestSuite(chosen))
sys.exit(not result.wasSuccessful())
"""


@pytest.mark.slow
def test_optax_tests_pass_with_our_chains():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    ran = int(re.search(r"Ran (\d+) tests", done.stderr).group(1))
    assert ran >= len(TESTS) * len(OURS), done.stderr
    assert "skipped" not in done.stderr
