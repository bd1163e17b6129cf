"""What makes two values the same: within a process, for compiled programs, and across processes, for runs."""

import argparse
import functools
import gc
import json
import logging
import operator
import subprocess
import sys
import weakref

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import random_dataset

from jaxdl import data, models, optim, train, transfer
from jaxdl.identity import describe, differences
from jaxdl.models import layers
from jaxdl.program_cache import remembered, structural_key
from jaxdl.train import alone
from jaxdl.train.task import Task
from jaxdl.train.update import Rule

FACTOR = 2.0

MAKERS = {
    "optim.sgd": lambda: optim.sgd(0.1),
    "scheduled": lambda: optim.momentum(optim.warmup_cosine(0.1, 5, 100), weight_decay=1e-4),
    "injected": lambda: optax.inject_hyperparams(optim.momentum)(learning_rate=0.1),
    "averages": lambda: optax.chain(
        optim.add_l2(1e-4, optim.no_bias_no_norm),
        optim.scale_by_momentum(0.9, nesterov=True),
        optax.scale_by_learning_rate(optim.cosine_cycles(0.2, period=10)),
        optim.swa(10),
        optim.ema(0.9),
        optim.snapshots(period=10, keep=2),
    ),
    "optax.adamw": lambda: optax.adamw(1e-3),
    "partition": lambda: optax.partition({"a": optax.sgd(0.1), "b": optim.adam(0.2)}, lambda params: params),
    "resnet": lambda: models.resnet_cifar(8, norm=functools.partial(layers.GroupNorm, groups=4)),
    "resnet of Flax's": lambda: models.resnet_cifar(8, norm=functools.partial(nn.GroupNorm, num_groups=4)),
    "initialiser": lambda: layers.variance_scaling(2.0, "fan_out"),
    "frozen": lambda: optax.chain(optim.sgd(0.1), transfer.freeze(lambda path: path.startswith("stem"))),
    "array": lambda: functools.partial(jnp.add, np.arange(3)),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_equal_arguments_make_equal_keys_and_equal_descriptions(make):
    assert structural_key(make()) == structural_key(make())
    assert hash(structural_key(make())) == hash(structural_key(make()))
    (first, unknown), (second, _) = describe(make()), describe(make())
    assert first == second == json.loads(json.dumps(first))
    assert not unknown
    assert " at 0x" not in json.dumps(first)
    assert not differences(first, second, "it")


def scaled(factor):
    def loss(logits, labels):
        return factor * train.cross_entropy(logits, labels)

    return loss


def reads_a_global(logits, labels):
    return FACTOR * train.cross_entropy(logits, labels)


def calls_itself(n):
    return n and calls_itself(n - 1)


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, logits, labels):
        return self.factor * train.cross_entropy(logits, labels)


def wrapping(function):
    @functools.wraps(train.cross_entropy)
    def loss(*arguments):
        return function(*arguments)

    return loss


def with_attribute(scale):
    def loss(x):
        return loss.scale * x

    loss.scale = scale
    return loss


def reads_code(code):
    return lambda x: code * x


FIRST, SECOND = scaled(1.0), scaled(2.0)
LOGGER, size = logging.getLogger(__name__), 3


def logs_and_takes_sizes(x):
    LOGGER.info("size %d", x.size)
    return x


def with_class_attribute(value):
    class Loss:
        scale = value

        def __call__(self, x):
            return self.scale * x

    return Loss()


def bound(seed):
    net = Net()
    return net.bind(net.init(jax.random.key(seed), jnp.ones((1, 2)), train=False))


class Net(nn.Module):
    width: int = 3
    activation: object = nn.relu

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(self.width)(self.activation(x))


@pytest.mark.parametrize(
    ("one", "other", "line"),
    [
        (scaled(1.0), scaled(2.0), "loss.factor: there 1.0, here 2.0"),
        (lambda x: x, lambda x: 2 * x, "loss: its code has changed"),
        (lambda x, k=1: k * x, lambda x, k=2: k * x, "loss.default of k: there 1, here 2"),
        (functools.partial(max, 1), functools.partial(max, 2), "loss.arguments[0]: there 1, here 2"),
        (Scaled(1.0), Scaled(2.0), "loss.factor: there 1.0, here 2.0"),
        (Scaled(1.0).__call__, Scaled(2.0).__call__, "loss.self.factor: there 1.0, here 2.0"),
        (train.cross_entropy, train.label_smoothing(0.1), "loss: there jaxdl.train.losses.cross_entropy, here"),
        (Scaled, Net, "loss: there Scaled, here Net"),
        (jnp.zeros(3), jnp.ones(3), "loss: there float32 [3], CRC-32"),
        (jax.random.key(0), jax.random.key(1), "loss: there uint32 [2], CRC-32"),
        (Net(3), Net(4), "loss.width: there 3, here 4"),
        (Net(), Net(activation=nn.tanh), "loss.activation: there jax._src"),
        (optim.sgd(0.1), optim.sgd(0.2), "there -0.1, here -0.2"),
        ((1, 2), (1, 2, 3), "loss: there ['1', '2'], here"),
        ({"a": 1}, {"b": 1}, "loss['a']: there 1, here nothing"),
        ({1: "x"}, {"1": "x"}, "loss[1]: there 'x', here nothing"),
        (wrapping(lambda x: x), wrapping(lambda x: 2 * x), "loss.function: its code has changed"),
        (with_attribute(1), with_attribute(2), "loss.attribute scale: there 1, here 2"),
        (reads_code(1.0), reads_code(2.0), "loss.code: there 1.0, here 2.0"),
        (lambda x: FIRST(x) + SECOND(x) + FIRST(x), lambda x: FIRST(x) + SECOND(x) + SECOND(x), "its code has changed"),
        ((FIRST, SECOND, FIRST), (FIRST, SECOND, SECOND), "loss[2].factor: there 1.0, here 2.0"),
        (operator.itemgetter(0), operator.itemgetter(1), "loss: there operator.itemgetter(0), here"),
        (with_class_attribute(1), with_class_attribute(2), "loss.class scale: there 1, here 2"),
        (bound(0), bound(1), "CRC-32"),
        (0.0, -0.0, "loss: there 0.0, here -0.0"),
    ],
)
def test_what_differs_is_told_apart_and_named(one, other, line):
    assert structural_key(one) != structural_key(other)
    lines = differences(describe(one)[0], describe(other)[0], "loss")
    assert any(line in found for found in lines), lines


class Settings:
    scale = 1.0


class Held:
    """An object that can be changed from elsewhere."""


HELD = Held()
LISTED, ARRAY = [1.0], np.zeros(3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: lambda x: HELD.scale * x,
        lambda: lambda x: Settings.scale * x,
        lambda: lambda x: LISTED[0] * x,
        lambda held=HELD: lambda x: held.scale * x,
        lambda: lambda x: ARRAY * x,
        lambda: functools.partial(lambda held, x: held.scale * x, HELD),
        lambda: bound(0).__call__,
        lambda: wrapping(lambda x: HELD.scale * x),
    ],
)
def test_functions_of_what_may_change_are_compared_by_identity(make):
    """Or a program that was compiled before the change would serve after it, silently."""
    function = make()
    assert structural_key(function) == structural_key(function)
    if not isinstance(function, functools.partial):
        assert structural_key(make()) != structural_key(make())


def test_a_changed_setting_is_seen_by_a_loss_that_is_defined_anew():
    """The whole way, to the number."""
    train_set, model = random_dataset(40), models.mlp(3, widths=(4,))
    state = train.init_state(model, optim.sgd(0.1), jax.random.key(0), train_set.image_shape)
    settings, found = argparse.Namespace(scale=1.0), []
    for settings.scale in (1.0, 2.0):
        loss = (lambda: lambda logits, labels: settings.scale * train.cross_entropy(logits, labels))()
        found.append(train.evaluate(model, state, train_set, loss=loss).loss)
    assert found[1] == pytest.approx(2 * found[0])


def test_what_means_nothing_makes_no_difference():
    def of(value):
        return describe(value)[0]

    assert of(train.label_smoothing(np.float64(0.1))) == of(train.label_smoothing(0.1))
    rate, again = optim.cosine_decay(0.1, 10), optim.cosine_decay(0.1, 10)
    assert of((rate, rate)) == of((rate, again))  # shared, or equal
    before = of(logs_and_takes_sizes)
    logging.getLogger(__name__).setLevel(logging.DEBUG)
    assert of(logs_and_takes_sizes) == before
    itself = [1]
    itself.append(itself)
    assert of(itself) == of(itself)
    assert "global size" not in json.dumps(before)  # an attribute of that name is read, not the global


@pytest.mark.slow
def test_a_script_is_the_same_run_by_its_path_and_as_a_module(tmp_path):
    script = "from jaxdl.identity import describe\ndef loss(x): return x\n"
    script += "if __name__ == '__main__':\n    import sys; print(describe(loss))\n"
    (tmp_path / "my_run.py").write_text(script)
    commands = ["my_run.py"], ["-m", "my_run"], ["-c", "import my_run; print(my_run.describe(my_run.loss))"]
    found = {
        subprocess.run([sys.executable, *c], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
        for c in commands
    }
    assert len(found) == 1
    (tmp_path / "my_run.py").rename(tmp_path / "renamed.py")
    command = [sys.executable, "-c", "exec(open('renamed.py').read())"]  # as a notebook does
    found.add(subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout)
    assert len(found) == 1


def test_comments_and_docstrings_are_no_change():
    def source(extra):
        namespace = {}
        exec(f"def outer():\n    def f(x):\n{extra}        return x + 1\n    return f\nf = outer()", namespace)
        return describe(namespace["f"])

    assert source("") == source("        # x is a number\n") == source('        """Adds one."""\n')


def test_a_global_value_that_a_function_reads_belongs_to_it(monkeypatch):
    key, described = structural_key(reads_a_global), describe(reads_a_global)[0]
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert structural_key(reads_a_global) != key
    assert "loss.global FACTOR: there 2.0, here 3.0" in differences(described, describe(reads_a_global)[0], "loss")


def test_functions_that_call_themselves_come_to_an_end():
    assert structural_key(calls_itself) == structural_key(calls_itself)
    assert "calls_itself" in json.dumps(describe(calls_itself)[0])


def test_another_python_may_compile_the_same_source_to_other_code():
    here = {"is": "f", "its code": "python 3.11: aaaa"}
    assert differences({"is": "f", "its code": "python 3.12: bbbb"}, here, "loss") == []
    assert differences({"is": "f", "its code": "python 3.11: bbbb"}, here, "loss") == ["loss: its code has changed"]


def test_what_cannot_be_told_apart_is_a_warning_that_says_so(tmp_path):
    train_set, model, tx = random_dataset(40), models.mlp(3, widths=(4,)), optim.sgd(0.1)
    state = train.init_state(model, tx, jax.random.key(0), train_set.image_shape)
    # What is inside of a method of a C object cannot be seen.
    hidden = functools.partial(lambda counter, x: train_set.standardize(x), iter([1]))
    with pytest.warns(train.IndistinctRunWarning, match=r"preprocess holds an object of type builtins.list_iterator"):
        train.fit(
            state,
            model,
            tx,
            train_set,
            steps=2,
            batch_size=16,
            preprocess=hidden,
            checkpoint_dir=tmp_path,
            progress=False,
        )


SCRIPT = """
import functools, json, jax, optax
import flax.linen as nn
from jaxdl import data, models, optim, train
from jaxdl.identity import describe
from jaxdl.models import layers
from jaxdl.program_cache import remembered, structural_key
def own(x): return 3 * nn.relu(x)
nets = [
    models.resnet_cifar(8), models.resnet_cifar(20, preactivation=True, shortcut=layers.shortcut_b, activation=own),
    models.resnet(50, zero_gamma=True, norm=layers.GroupNorm), models.wide_resnet(16, 2, dropout=0.3), models.alexnet(),
    models.alexnet(activation=layers.PReLU, left_out=3), models.cuda_convnet(activation=nn.tanh), models.conv_local(),
    models.vgg(norm=functools.partial(layers.BatchNorm, momentum=0.5)), models.plain_cifar(20), models.convnet(),
    models.mlp(), models.resnet_cifar(8, scan=True, stochastic_depth=0.5, dtype=jax.numpy.bfloat16),
]
rest = [data.CROP_AND_FLIP, train.label_smoothing(0.1), own, {"b", "a", "c"}, jax.jit(own), nn.gelu]
print(json.dumps([describe(x) for x in nets + rest]))
"""


def test_every_process_writes_the_same():
    found = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    assert found[0] == found[1]
    assert " at 0x" not in found[0]
    assert all(unknown == [] for _, unknown in json.loads(found[0]))


def test_equal_arguments_give_the_same_step():
    """So that an equal chain, made anew, compiles nothing."""
    model, same = models.resnet_cifar(8), models.resnet_cifar(8)
    make = functools.partial(train.make_step, preprocess=data.Standardize((0.5,), (0.25,)))
    assert make(model, MAKERS["averages"]()) is make(same, MAKERS["averages"]())
    assert make(model, optim.sgd(0.1)) is make(same, optim.sgd(0.1))
    assert make(model, optim.sgd(0.1)) is not make(same, optim.sgd(0.2))
    assert make(model, optim.sgd(0.1), loss=scaled(1.0)) is make(model, optim.sgd(0.1), loss=scaled(1.0))
    assert make(model, optim.sgd(0.1), loss=scaled(1.0)) is not make(model, optim.sgd(0.1), loss=scaled(2.0))


def test_a_loss_that_is_defined_anew_with_another_global_is_not_taken_for_the_old_one(monkeypatch):
    train_set, model = random_dataset(40), models.mlp(3, widths=(4,))
    found = []
    for factor in (2.0, 3.0):
        monkeypatch.setitem(globals(), "FACTOR", factor)
        state = train.init_state(model, optim.sgd(0.1), jax.random.key(0), train_set.image_shape)
        found.append(
            train.fit(
                state, model, optim.sgd(0.1), train_set, steps=1, batch_size=16, loss=reads_a_global, progress=False
            )[1].loss[0]
        )
    np.testing.assert_allclose(found[1], 1.5 * found[0], rtol=1e-6)


@pytest.mark.slow
def test_programs_do_not_pin_what_they_captured_for_ever():
    """A large array in a user's loss is let go once a few other programs were compiled."""

    class Holder:
        def __init__(self):
            self.array = np.zeros(10_000)

    def loss_with(holder):
        return lambda logits, labels: train.cross_entropy(logits, labels) + holder.array[0]

    train_set, model, tx = random_dataset(40), models.mlp(3, widths=(4,)), optim.sgd(0.1)
    state = train.init_state(model, tx, jax.random.key(0), train_set.image_shape)
    holder = Holder()
    watched = weakref.ref(holder)
    train.fit(
        state,
        model,
        tx,
        train_set,
        steps=2,
        batch_size=16,
        loss=loss_with(holder),
        eval_set=train_set,
        progress=False,
    )
    del holder
    for factor in range(32):
        alone._compiled(Rule(Task(model, scaled(factor)), tx), train.sharding.make_layout("test", None, "single"))
        train.evaluate(model, state, train_set, loss=scaled(factor))
    gc.collect()
    assert watched() is None


def test_remembered_keeps_the_last_ones():
    calls = []

    @remembered(maxsize=2)
    def square(x):
        calls.append(x)
        return x * x

    assert [square(x) for x in (1, 2, 1, 3, 2, 2.0)] == [1, 4, 1, 9, 4, 4.0]
    assert calls == [1, 2, 3, 2, 2.0]
