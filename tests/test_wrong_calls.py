"""A wrong call gets an error that says what is wrong, the value received and the remedy. One table, over all rooms.

Each row is a call, the words that its message must hold, separated by " || ", and the type of the exception where it
is not ValueError. A call is evaluated with the names that `names` makes: a ResNet-8, its state, images, chains.
"""

# ruff: noqa: E501  (a call is easier to read in one line)

import re
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import data, ensemble, models, optim, practice, report, train, transfer
from jaxdl.models import layers


class GivesADict(nn.Module):
    """A model whose outputs are no array."""

    @nn.compact
    def __call__(self, x):
        return {"logits": nn.Dense(10)(x.reshape(len(x), -1))}


class SowsAnArray(nn.Module):
    """A model that sows a loss for each example, where one for the batch is wanted."""

    @nn.compact
    def __call__(self, x):
        outputs = nn.Dense(10)(x.reshape(len(x), -1))
        self.sow("losses", "large", jnp.square(outputs))
        return outputs


CALLS = [
    # optim
    ('optim.sgd(0.1, nesterov="no")', "sgd: nesterov must be True or False"),
    ("optim.sgd(0.1, nesterov=True)", "needs momentum > 0 || got momentum=None"),
    ('optim.rmsprop(0.1, centered="no")', "centered must be True or False"),
    ("optim.rmsprop(0.1, eps_in_sqrt=1)", "eps_in_sqrt must be True or False"),
    ("optim.adam(0.1, bias_correction=1)", "bias_correction must be True or False"),
    ('optim.ema(0.9, debias="no")', "debias must be True or False"),
    (
        'optim.sgd("0.1")',
        "learning_rate must be a finite number >= 0 || learning_rate='0.1' || pass a rate >= 0 or a schedule",
    ),
    ("optim.sgd(None)", "learning_rate=None"),
    ("optim.adam(-0.1)", "learning_rate=-0.1"),
    ('optim.adam(float("nan"))', "learning_rate=nan"),
    ("optim.momentum(jnp.array([0.1, 0.2]))", "learning_rate must be one number || train.population"),
    ("optim.momentum(optim.sgd(0.1))", "this is a whole gradient transformation || optax.chain"),
    ("optim.momentum(optim.cosine_decay)", "learning_rate must be a schedule || call it first"),
    ("optim.momentum(0.1, weight_decay=True)", "weight_decay || got weight_decay=True"),
    ('optim.adamw(0.1, mask="kernel")', "mask must be a tree of bools || got mask='kernel' || optim.no_bias_no_norm"),
    (
        "optax.inject_hyperparams(optim.adamw)(0.1, mask=optim.no_bias_no_norm).init(P)",
        'mask must be a tree of bools || static_args=("mask",)',
    ),
    ('optim.mask_by_path("kernel")', "wanted must be a function || lambda path"),
    (
        'optim.add_l2(0.1, optim.mask_by_path(lambda p: "fc" in p)).init(P)',
        "wanted is True for no parameter || conv/kernel",
    ),
    ("optim.scale_by_momentum(0.9, accumulator_dtype=int)", "accumulator_dtype must be a floating-point dtype"),
    ("optim.cosine_decay(0.1, 100, end=0.2)", "end must be at most peak=0.1 || got end=0.2"),
    ("optim.cosine_cycles(0.1, 100, end=0.2)", "end must be at most peak=0.1"),
    ("optim.warmup_cosine(0.1, 5, 100, end=0.2)", "end must be at most peak=0.1"),
    ("optim.warmup_cosine(0.1, 5, 100, start=0.2)", "start must be at most peak=0.1"),
    ("optim.cosine_decay(optim.step_decay(0.1, 3), 100)", "peak is a number || optim.warmup and optim.join"),
    ("optim.cosine_decay(0.1, 0.5)", "steps must be an integer >= 1 || optim.epochs_to_steps"),
    ("optim.warmup(0.1, 10)", "schedule must be a schedule || got schedule=0.1 || lambda step: 0.1"),
    ("optim.warmup(optim.cosine_decay, 10)", "schedule must be a schedule || call it first"),
    ("optim.join([0.1, 0.2], [3])", "each of schedules must be a schedule"),
    ("optim.join([lambda s: 0.1] * 2, 3)", "boundaries must be a list"),
    (
        "optim.step_decay(0.1, 1000.0)",
        "boundaries must be an integer >= 1 || got boundaries=1000.0 || optim.epochs_to_steps",
    ),
    ("optim.step_decay(0.1, (0.5, 0.75))", "boundaries must be an integer >= 1 || got boundaries=0.5"),
    ("optim.ema(1.0)", "decay || [0, 1) || got decay=1.0"),
    ("optim.ema(999)", "got decay=999 || 0.999 remembers"),
    ("optim.swa(-1)", "start must be an integer >= 0 || got start=-1"),
    ("optim.swa(0.75)", "start must be an integer >= 0 || got start=0.75 || int(0.75 * steps)"),
    ('optim.swa(0, name="")', "name must be a string that is not empty"),
    ("optim.snapshots(0, 3)", "period must be an integer >= 1"),
    ("optim.snapshots(3, 0)", "keep must be an integer >= 1"),
    ("optim.snapshots(3, 3, dtype=int)", "dtype must be a floating-point dtype || jax.numpy.float32"),
    ("optim.swa_params(P, S)", "the order is swa_params(opt_state, params)"),
    ("optim.ema_params(P, S)", "the order is ema_params(opt_state, params)"),
    ("optim.swa_params(TINY, P)", "got a whole TrainState || pass state.opt_state"),
    ("optim.snapshot_variables(TINY)", "got a whole TrainState || pass state.opt_state"),
    ("optim.swa_params(TX, P)", "got a gradient transformation || tx.init(params) or state.opt_state"),
    ('optim.swa_params(S, {"conv": jnp.ones(2)})', "not the parameters that go with this optimizer state"),
    ("optim.swa_params(MEMBERS, P)", "members side by side || jax.tree.map(lambda x: x[i], state)"),
    ("optim.snapshot_variables(MEMBERS)", "members side by side || jax.tree.map(lambda x: x[i], state)"),
    ("optim.snapshot_variables(S)", "at least one snapshot, got none after || smaller period"),
    ("jax.jit(optim.snapshot_variables)(S)", "not known within jit or vmap"),
    ("optim.snapshot_variables(MASKED)", "params must be given || got params=None || params=state.params"),
    ("optim.loss_scale(TX)", "got a gradient transformation"),
    ("optim.learning_rate(S, TX)", "tx must be a gradient transformation || learning_rate(tx, opt_state)"),
    ("optim.learning_rate(optim.sgd, S)", "tx must be a gradient transformation || got tx="),
    ("optim.learning_rate(TX, TX)", "got a gradient transformation || pass its state"),
    ("optim.learning_rate(TX, TINY)", "got a whole TrainState || pass state.opt_state"),
    (
        "optim.learning_rate(SCHEDULED, jax.vmap(lambda _: SCHEDULED.init(P))(jnp.arange(3)))",
        "[3] members side by side || jax.vmap(lambda state: optim.learning_rate(tx, state))(opt_state)",
    ),
    ("optim.lookahead_params(AHEAD.init(P), P)", "the order is lookahead_params(params, opt_state)"),
    ("optim.lookahead_params(P, AHEAD)", "got a gradient transformation"),
    ("optim.dynamic_loss_scale(optim.sgd)", "inner must be a gradient transformation || optim.momentum(0.1)"),
    ('optim.observe(S, float("nan"))', "value must be finite || got value=nan"),
    ("optim.observe(S, jnp.ones(2))", "value must be one number || jax.vmap(optim.observe)"),
    ("optim.observe(0.1, S)", "value must be one number"),
    ("optim.reduce_on_plateau(1.0)", "factor"),
    ("optim.reduce_on_plateau(0.0)", "factor must be in (0, 1)"),
    ('optim.reduce_on_plateau(mode="lower")', "mode must be one of 'min', 'max' || got mode='lower'"),
    ('optim.reduce_on_plateau(threshold_mode="abs")', "threshold_mode must be one of"),
    ("optim.reduce_on_plateau(patience=1.5)", "patience must be an integer >= 0"),
    ("optim.reduce_on_plateau(every=0)", "every must be an integer >= 1 || pass None"),
    (
        "jax.jit(optax.inject_hyperparams(optim.snapshots)(1, 2).init)(P)",
        "keep must be known when compiling || static_args=('keep',)",
    ),
    ("optim.sgd(0.1, momentum=1.0)", "momentum must be || [0, 1) || got momentum=1.0"),
    ("optim.sgdw(0.1, weight_decay=-1)", "sgdw: weight_decay must be || got weight_decay=-1"),
    ("optim.nesterov(0.1, momentum=2)", "momentum must be || got momentum=2"),
    ("optim.adagrad(0.1, initial_accumulator=-1)", "initial_accumulator must be || got initial_accumulator=-1"),
    ("optim.adamw(0.1, b2=1.5)", "b2 must be || [0, 1)"),
    ('optim.alexnet_sgd("fast")', "alexnet_sgd: learning_rate must be || 'fast'"),
    ("optim.scale_by_adagrad(eps=-1e-8)", "eps must be || got eps="),
    ("optim.scale_by_adam(b1=-0.1)", "b1 must be || got b1=-0.1"),
    ("optim.scale_by_rmsprop(1.0)", "decay must be || got decay=1.0"),
    ("optim.scale_by_momentum(0.9, nesterov=True, dampening=0.1)", "takes no dampening || got dampening=0.1"),
    ("optim.scale_by_nesterov_lookahead(1)", "must be || [0, 1)"),
    ("optim.add_l1(-1)", "weight must be || got weight=-1"),
    ('optim.add_elastic_net(0.1, "x")', "l2 must be || got l2='x'"),
    ('optim.decoupled_weight_decay(float("inf"))', "weight_decay must be || got weight_decay=inf"),
    ("optim.add_l2(0.1).update(P, optax.EmptyState())", "update needs the parameters"),
    ("optim.exponential_decay(0.1, -1)", "decay must be || got decay=-1"),
    ("optim.inverse_time_decay(0.1, 1, steps_per_unit=0)", "steps_per_unit must be an integer >= 1"),
    ("optim.one_cycle(0.1, 1)", "steps must be an integer >= 2"),
    ("optim.swa_schedule(0.1, -0.1, 10)", "swa_rate must be || got swa_rate=-0.1"),
    (
        "optim.epochs_to_steps(3, examples=100, batch_size=128)",
        "examples must be an integer >= 128 || pass a smaller batch_size",
    ),
    ("optim.newton(-1.0)", "damping must be || got damping=-1.0"),
    ("optim.newton(0.1, max_parameters=3).init(P)", "8 parameters || max_parameters=3 || lbfgs"),
    ("optim.newton(0.1).update(P, optax.EmptyState(), P)", "needs the parameters and value_fn || train.make_step"),
    ("optim.lbfgs(memory=0)", "memory must be an integer >= 1"),
    ("optim.snapshot_variables(TX)", "got a gradient transformation"),
    (
        "optim.snapshot_count(optim.sgd(0.1).init(P))",
        "there is no snapshots in this optimizer state || optim.snapshots",
    ),
    ("optim.snapshot_bytes(P)", "snapshot_bytes: "),
    ('optim.swa_params(S, P, name="long")', "one of 'swa', got name='long'"),
    ("optim.swa(3).update(P, optim.swa(3).init(P))", "update needs the parameters || tx.update(grads, state, params)"),
    ('optim.freeze("head")', 'predicate must be a function || lambda path: path.startswith("head")'),
    ("optim.freeze(lambda path: False).init(P)", "got False for all, || conv/kernel || return True"),
    ("optim.freeze(lambda path: True).init(P)", "got True for all, || conv/kernel || return False"),
    ("optim.freeze(optim.gradual_unfreezing(('conv', 'head')))", "predicate must be a function || UnfreezingStage"),
    ('optim.gradual_unfreezing("stem")', "groups must be a tuple || got groups='stem'"),
    ("optim.gradual_unfreezing(())", "groups must be a tuple of at least one group, got groups=()"),
    ('optim.gradual_unfreezing(("conv", 3))', "a group must be a name or a tuple of names, got 3"),
    ('optim.freeze(optim.gradual_unfreezing(("conv",))[0]).init(P)', "head/kernel belongs to no group"),
    ('optim.refreeze(S, "head", P)', "predicate must be a function, got predicate='head'"),
    ("optim.refreeze(S, lambda path: True, P)", "must hold one"),
    ("optim.refreeze(FROZEN, lambda path: True, P)", "refreeze: predicate must be True for || got True for all, "),
    ('optim.scale_by_depth("head")', "groups must be a tuple || got groups='head'"),
    ('optim.scale_by_depth(("conv", "fc", "head")).init(P)', "no parameter belongs to 'fc' || there are"),
    ('optim.scale_by_depth(("head",)).init(P)', "conv/kernel belongs to no group"),
    ('optim.scale_by_depth(("conv",), 0)', "factor must be positive || got factor=0"),
    ('optim.freeze(lambda p: "fc" in p).init(P)', "got False for all, || conv/kernel || return True"),
    ("optim.freeze(lambda p: True).init(P)", "got True for all, || conv/kernel || return False"),
    ('optim.scale_by_depth(("conv",), float("nan"))', "factor must be a finite number || got factor=nan"),
    # models
    ('models.alexnet(response_norm="no")', "response_norm must be True or False || 'no'"),
    ("models.alexnet(overlapping=0)", "overlapping must be True or False"),
    ('models.alexnet(activation="tanh")', "activation must be || 'tanh' || flax.linen.relu"),
    ("models.alexnet(activation=layers.PReLU())", "pass the class, activation=PReLU"),
    ("models.alexnet(activation=float)", "activation must be"),
    ("models.alexnet(widths=96)", "widths must be five numbers of channels"),
    ("models.alexnet(groups=5)", "groups"),
    ('models.alexnet(dtype="int8")', "floating-point dtype || int8"),
    ("models.alexnet(left_out=1)", "number of a middle convolution, 2 to 5"),
    ("models.alexnet_torchvision(dropout=1.0)", "alexnet_torchvision: dropout must be || [0, 1)"),
    ("models.mlp(widths=32)", "a sequence of numbers of channels || widths=(32,)"),
    ("models.convnet(widths=32)", "a sequence of numbers of channels || widths=(32,)"),
    ("models.convnet(widths=())", "at least one"),
    ('models.convnet("10")', "num_classes must be an integer >= 1"),
    ("models.cuda_convnet(response_norm=1)", "response_norm must be True or False"),
    ("models.conv_local(local_widths=32)", "local_widths must be two numbers"),
    ('models.vgg("16")', "depth must be || 11, 13, 16, 19"),
    ('models.vgg(norm="batch")', "norm must be layers.BatchNorm || 'batch'"),
    ("models.vgg(norm=layers.BatchNorm())", "got an instance || norm=layers.BatchNorm"),
    ("models.vgg(norm=nn.BatchNorm())", "got an instance || norm=BatchNorm"),
    ('models.vgg(dropout_first="yes")', "dropout_first must be True or False"),
    ("models.vgg_cifar(14)", "vgg_cifar: depth must be one of 11, 13, 16, 19"),
    ('models.resnet("50")', "depth must be || 18, 34"),
    ('models.resnet(shortcut="A")', "shortcut must be a function or None || 'A' || layers.shortcut_a"),
    ('models.resnet_cifar("20")', "depth must be an integer >= 1"),
    ('models.resnet_cifar(bottleneck="no")', "bottleneck must be True or False"),
    ('models.resnet_cifar(preactivation="no")', "preactivation must be True or False"),
    ('models.resnet_cifar(zero_gamma="no")', "zero_gamma must be True or False"),
    ('models.resnet_cifar(scan="no")', "scan must be True or False"),
    ('models.resnet_cifar(remat="no")', "remat must be True or False"),
    ("models.resnet_cifar(widths=16)", "three numbers of channels"),
    ("models.resnet_cifar(dtype=jnp.int32)", "floating-point dtype"),
    ("models.plain_cifar(21)", "plain_cifar: depth must be 6 n + 2"),
    (
        "models.plain_cifar(stochastic_depth=0.5)",
        "must be 1 without shortcuts, got stochastic_depth=0.5 || no path around",
    ),
    (
        "models.plain_cifar(zero_gamma=True)",
        "zero_gamma must be False without shortcuts, got zero_gamma=True || would give zeros",
    ),
    ('models.wide_resnet(28, "10")', "widen must be an integer"),
    (
        "models.resnet_cifar(8).init(K, jnp.ones((1, 3, 32, 32)), train=False)",
        "[batch, channels, height, width] || images.transpose(0, 2, 3, 1)",
    ),
    ("models.resnet_cifar(8).init(K, jnp.ones((32, 32, 3)), train=False)", "x[None]"),
    ("models.resnet_cifar(8).init(K, jnp.ones((1, 32, 32, 3), jnp.uint8), train=False)", "floating point || uint8"),
    ("models.mlp().init(K, jnp.ones((1, 8, 8, 1), int), train=False)", "floating point"),
    ("models.vgg().init(K, jnp.ones((1, 16, 16, 3)), train=False)", "sides of at least 32 pixels"),
    ("models.stack_blocks({})", "variables are empty"),
    ('models.stack_blocks({"params": {"head": {}}})', "no stage1_block1"),
    ('models.stack_blocks({"stage1_block1": {}})', 'one collection || stack_blocks({"params": params})'),
    ("models.stack_blocks(3)", "must be a dict"),
    ("models.unstack_blocks({})", "variables are empty"),
    ('models.unstack_blocks({"params": {"head": {}}})', "no stage1_block1"),
    ("models.summary(models.ResNet, (32, 32, 3))", "flax.linen module || call it"),
    ("models.summary(models.resnet, (32, 32, 3))", "flax.linen module || call it"),
    ("models.summary(models.mlp(), (1, 32, 32, 3))", "leave the batch out"),
    ("models.summary(models.mlp(), (32, 32))", "image_shape must be (height, width, channels)"),
    ("models.summary(models.mlp(), 32)", "image_shape must be (height, width, channels)"),
    ('layers.Conv(4, (3, 3), padding="same")', 'padding="SAME"'),
    ("layers.Conv(4, (3, 3), padding=(1, 2))", "padding=((1, 1), (2, 2))"),
    ("layers.Conv(4, (3, 3), padding=-1)", "padding must be an integer >= 0"),
    ("layers.Conv(4, (3, 3), strides=(1, 2, 3))", "one number or a pair"),
    ("layers.Conv(4, (3, 3), dilation=0)", "dilation must be an integer >= 1"),
    ('layers.Conv(4, (3, 3), use_bias="no")', "use_bias must be True or False"),
    ("layers.Conv(4, (3, 3), canonical_gradients=1)", "canonical_gradients || True"),
    ('layers.Conv(4, (3, 3), dtype="int8")', "floating-point dtype"),
    ('layers.Conv(4, (3, 3), kernel_init="he")', "kernel_init || layers.he_normal"),
    ("layers.Conv(4, (3, 3)).init(K, X.astype(int))", "floating point"),
    ("layers.Conv(4, (3, 3)).init(K, X[0])", "x[None]"),
    ('layers.Conv(4, (9, 9), padding="VALID").init(K, X)', "smaller than the window"),
    ("layers.convolve(X, jnp.ones((3, 3, 4, 2)))", "kernel must be"),
    ("layers.max_pool(X, window=0)", "window must be"),
    ("layers.avg_pool(X, window=(2, 2))", "window must be an integer"),
    ('layers.max_pool(X, ceil_mode="no")', "ceil_mode must be True or False"),
    ("layers.max_pool(X.astype(int))", "floating point"),
    ("layers.adaptive_avg_pool(X.astype(int), 2)", "floating point"),
    ("layers.FractionalMaxPool(overlapping=1)", "overlapping must be True or False"),
    ("layers.FractionalMaxPool(pseudo_random=None)", "pseudo_random must be True or False"),
    ('layers.normal("x")', "std must be a finite number"),
    ("layers.variance_scaling(None)", "scale must be"),
    ('layers.variance_scaling(1, "fan")', "mode must be one of"),
    ('layers.PReLU(initial_slope=float("nan"))', "initial_slope must be a finite number"),
    ('layers.PReLU(shared="no")', "shared must be True or False"),
    ("layers.Dropout(1.0)", "rate must be || [0, 1)"),
    ("layers.SpatialDropout(-0.5)", "rate must be || got rate=-0.5"),
    ("layers.DropConnect(4, rate=-0.1)", "rate must be"),
    ('layers.DropConnect(4, activation="tanh")', "activation must be a function"),
    ("layers.StochasticDepth().apply({}, X, 1.5, train=False)", "survival must be in (0, 1]"),
    ("layers.StochasticDepth(per_example=2)", "per_example must be True or False"),
    ('layers.linear_decay("0.5", 3)', "final must be"),
    ("layers.linear_decay(0.5, 0)", "layers must be"),
    ("layers.LocalConv(4, window=0)", "window must be"),
    ('layers.LocalConv(4, window=3, padding="SAME")', "padding must be an integer"),
    ("layers.LayerNorm(epsilon=-1)", "epsilon must be"),
    ("layers.InstanceNorm(epsilon=-1)", "epsilon must be"),
    ("layers.GroupNorm(groups=0)", "groups must be"),
    ("layers.GroupNorm(4).init(K, X)", "groups=4 must divide the 3 channels"),
    ('layers.BatchNorm(unbiased="yes")', "unbiased must be True or False"),
    ("layers.BatchNorm(scale_init=1.0)", "scale_init || flax.linen.initializers.ones"),
    ("layers.BatchNorm(dtype=jnp.int32)", "floating-point dtype"),
    ("layers.BatchNorm().init(K, X.astype(int), train=False)", "floating point"),
    ("layers.local_response_norm(X, divide_by_size=5)", "divide_by_size must be True or False"),
    ("layers.local_response_norm(X.astype(int))", "floating point"),
    ("layers.spatial_response_norm(X, k=0)", "k must be positive"),
    ("layers.shortcut_a(X, 8, 0, None)", "stride must be"),
    ("layers.shortcut_a(X, 2, 1, None)", "zeros cannot take 3 channels to 2 || shortcut_b"),
    ("layers.he_normal(K, (3,))", "a kernel needs two axes or more"),
    ("layers.lecun_normal(K, (3,))", "a kernel needs two axes or more"),
    ("models.alexnet_one_tower(hidden=0)", "hidden must be an integer >= 1"),
    ("models.resnet_cifar(20, SET)", "num_classes"),
    ("models.plain_cifar(20, shortcut=layers.shortcut_a)", "shortcut", "TypeError"),
    ("models.stack_blocks(STATE)", "stack_blocks: "),
    # data
    ("data.Standardize((125,), (60,))", "mean must be in [0, 1] || divide mean and std by 255"),
    ("data.Standardize((0.5,), (0,))", "std must be above 0 || leave out a channel"),
    ("data.Standardize((0.5,), (-1,))", "std must be a finite number >= 0 || got std=-1"),
    ('data.Standardize((0.5,), (float("nan"),))', "std must be a finite number >= 0 || got std=nan"),
    ("data.Standardize((0.5,) * 3, (0.5,))", "one number per channel each, got 3 and 1"),
    ("data.Standardize(0.5, 0.5)", "tuple of one number per channel || pass (0.5,)"),
    (
        "data.Standardize((0.5,), (0.5,))(IMAGES / 255)",
        "images must be uint8 || scaled twice || preprocess of your own",
    ),
    ("data.Standardize((0.5,), (0.5,))(IMAGES)", "images must have 1 channels in the last axis"),
    ("data.RandomCrop(100)(KEYS, IMAGES)", "padding must be below the sides of the images || got padding=100"),
    ("data.RandomCrop(2)(KEYS[0], IMAGES)", "keys must be one for each of the 4 images || jax.random.split(key, 4)"),
    ("data.RandomFlip()(KEYS, IMAGES[0])", "images must be an array [batch, height, width, channels] || images[None]"),
    ("data.AlternatingFlip(0)", "steps_per_epoch must be an integer >= 1 || train_set.steps_per_epoch(batch_size)"),
    ("data.AlternatingFlip(2, seed=-1)", "seed must be an integer >= 0"),
    ("data.AlternatingFlip(2, seed=2**32)", "seed must be below 2**32, got seed=4294967296"),
    ("data.AlternatingFlip(2)(KEYS, IMAGES)", "the step is not known || flip.at_step(step)(keys, images)"),
    ("data.AlternatingFlip(2).at_step(0)(KEYS[:3], IMAGES)", "keys must be one for each of the 4 images"),
    ("data.AlternatingFlip(2).at_step(0)(KEYS, IMAGES.astype(int))", "images must be uint8, of 0 to 255, or floating"),
    ("fit(augment=data.Compose((data.AlternatingFlip(999),)))", "steps_per_epoch of AlternatingFlip must be || got"),
    ("population(augment=data.AlternatingFlip(999))", "steps_per_epoch of AlternatingFlip must be || got"),
    ("fit(augment=lambda keys, images: data.AlternatingFlip(2)(keys, images))", "the step is not known"),
    ("data.Compose([data.RandomFlip()])", "changes must be a tuple of functions"),
    ("data.Compose((data.AlternatingFlip,))", "is a class || AlternatingFlip(steps_per_epoch=...)"),
    ("data.Compose((data.RandomCrop(4), data.RandomFlip))", "RandomFlip is a class || RandomFlip()"),
    # augmentation
    ("data.RandomCrop(2, fill=0)", "RandomCrop: fill must be one of 'zero', 'reflect', 'edge', got fill=0"),
    ("data.RandomCropTo(0)", "size must be an integer >= 1 || (height, width)"),
    ("data.RandomCropTo((4, 4, 3))", "size must be two integers, got size=(4, 4, 3)"),
    ("data.RandomCropTo(224)(KEYS, IMAGES)", "size must be at most that of the images, got size=(224, 224) for"),
    ("data.CenterCrop(224)(KEYS, IMAGES)", "size must be at most that of the images || larger images"),
    ("data.CenterCrop(2.0)", "size must be an integer >= 1, got size=2.0"),
    ("data.RandomResizedCrop(4, scale=0.5)", "scale must be a tuple (lowest, highest) || got scale=0.5 || (0.08, 1.0)"),
    ("data.RandomResizedCrop(4, scale=(0.5, 1.5))", "scale must be a tuple || <= 1, got scale=(0.5, 1.5)"),
    ("data.RandomResizedCrop(4, ratio=(2, 1))", "ratio must be a tuple (lowest, highest) with 0 < lowest"),
    ("data.RandomResizedCrop(4)(KEYS, IMAGES.astype(int))", "images must be uint8 || got int64"),
    ("data.Translate(-1)", "pixels must be a finite number >= 0, got pixels=-1"),
    ("data.Rotate('10')", "degrees must be a finite number >= 0, got degrees='10'"),
    ("data.Rotate(10)(IMAGES, KEYS)", "Rotate: images must be an array || the arguments are (keys, images)"),
    ("data.Rotate(10, fill='constant')", "fill must be one of 'zero', 'reflect', 'edge'"),
    ("data.Scale(1.2)", "factors must be a tuple (lowest, highest) || pass (0.8, 1.25)"),
    ("data.Stretch((0, 1))", "Stretch: factors must be a tuple || got factors=(0, 1)"),
    ("data.Shear(90)", "degrees must be a finite number in [0, 90), got degrees=90"),
    ("data.Shear(5, axis='x')", "axis must be one of 'horizontal', 'vertical'"),
    ("data.LensDistortion(0.5)", "k1 must be a finite number in [0, 0.333333), got k1=0.5"),
    ("data.PcaColor((0.2, 0.1), ((1, 0),))", "eigenvectors must be one unit vector for each eigenvalue"),
    ("data.PcaColor((9000.0,), ((1,),))", "eigenvalues must be in squared units of full brightness || 255**2"),
    ("data.PcaColor.of(3)", "PcaColor: images must be a data.Dataset of images || got 3"),
    ("data.PcaColor.of([])", "images must be one or more, got none"),
    ("data.PcaColor.of(IMAGES / 255)", "images must be || got float64 || among them"),
    ("data.PcaColor((0.1,), ((1,),))(KEYS, IMAGES)", "images must have 1 channels || PcaColor.of(train_set)"),
    ("data.PcaColor((0.1,), ((1,),), by='root')", "by must be one of 'eigenvalue', 'deviation'"),
    ("data.ColorJitter(brightness=-0.1)", "brightness must be a finite number >= 0"),
    ("data.ColorJitter(hue=0.6)", "hue must be in [0, 0.5] || got hue=0.6"),
    ("data.ColorJitter(hue=0.1)(KEYS, IMAGES[..., :1])", "images must have 3 channels || grey images"),
    ("data.Cutout(0)", "size must be an integer >= 1"),
    ("data.Cutout(2, value=(0.5,))(KEYS, IMAGES)", "images must have 1 channels || value needs one number for each"),
    ("data.Cutout(2, value='black')", "value must be a finite number || got value='black'"),
    ("data.Mixup(0)", "alpha must be above 0, got alpha=0"),
    ("data.Mixup(num_classes=1)", "num_classes must be an integer >= 2, got num_classes=1"),
    ("data.Mixup()(KEYS, IMAGES, np.arange(4))", "num_classes must be given || train_set.num_classes"),
    ("data.Mixup()(KEYS, IMAGES, 3)", "targets must be an array || (keys, images, targets)"),
    ("data.CutMix()(KEYS, IMAGES, np.eye(4, dtype=int))", "targets must be class numbers [batch] or floating point"),
    ("data.CutMix(num_classes=4)(KEYS, IMAGES, np.arange(3))", "targets must be one for each of the 4 images"),
    ("data.CutMix(alpha='1')", "alpha must be a finite number || got alpha='1'"),
    ("data.Compose((data.Mixup(),))(KEYS, IMAGES)", "a change takes targets || got no targets"),
    ("data.FlipView()(IMAGES[0])", "FlipView: images must be an array [batch || images[None]"),
    ("data.FiveCrop(0)", "FiveCrop: size must be an integer >= 1"),
    ("data.TenCrop(224)(IMAGES)", "TenCrop: size must be at most that of the images"),
    ("data.alexnet_train(3)", "images must be a data.Dataset of images"),
    ("data.alexnet_test((2, 2, 2))", "size must be two integers"),
    ("data.SubtractMeanImage(127.0)", "mean must be an array [height, width, channels] || .of(train_set)"),
    ("data.SubtractMeanImage(IMAGES[0] + 0.5)", "mean must be in levels from 0 to 255 || multiply it by 255"),
    ("data.SubtractMeanImage.of([IMAGES, IMAGES[:, :1]])", "images must be of one size"),
    ("data.SubtractMeanImage.of(IMAGES)(IMAGES / 255)", "images must be uint8, got float64"),
    ("data.SubtractMeanImage.of(IMAGES[:, 1:])(IMAGES)", "at most as large as the mean"),
    ("data.SubtractMeanImage(IMAGES[0], divisor=0)", "divisor must be above 0"),
    ("fit(augment=data.Mixup())", "augment is called with keys [16] || num_classes must be given"),
    ("fit(augment=data.Mixup(num_classes=5))", "the labels have 5 classes and the logits 10"),
    ("fit(augment=data.RandomCropTo(30))", "size must be at most that of the images"),
    ("data.epoch_order(KEYS[0], 0, examples=10, batch_size=11)", "batch_size must be at most examples=10"),
    ("data.epoch_order(KEYS[0], 0, examples=10, batch_size=0)", "batch_size must be an integer >= 1"),
    (
        "data.epoch_order(jax.random.PRNGKey(0), 0, examples=10, batch_size=2)",
        "key must be one typed PRNG key || jax.random.key(seed)",
    ),
    ("data.take_batch(IMAGES, LABELS, [0, 1])", "rows must be an array of integers"),
    ("data.take_batch(IMAGES, LABELS, np.array([9]))", "rows must be in 0..3"),
    ("data.take_batch(IMAGES, LABELS[:2], np.array([0]))", "images and labels must be of one length, got 4 and 2"),
    ("dataset(inputs=IMAGES / 255)", "takes uint8 images || float64 || (255 * images).round().astype(np.uint8)"),
    (
        "dataset(inputs=IMAGES.transpose(0, 3, 1, 2))",
        "looks like [n, channels, height, width] || images.transpose(0, 2, 3, 1)",
    ),
    ("dataset(inputs=IMAGES[..., 0])", "add an axis of one channel, images[..., None]"),
    ("dataset(inputs=IMAGES.tolist())", "a NumPy array, got list || np.asarray(images)"),
    ("dataset(inputs=IMAGES[:0], targets=LABELS[:0])", "with n >= 1 || holds no images"),
    ("dataset(targets=LABELS[:2])", "labels must be int32 [4] || for 4 images"),
    ("dataset(targets=np.eye(4, 2, dtype=np.int32))", "one-hot || labels.argmax(1).astype(np.int32)"),
    (
        "dataset(targets=np.eye(4, 2))",
        "got float64 (4, 2) || one-hot || soft ones are float32 [4, 2], labels.astype(np.float32)",
    ),
    ("dataset(targets=np.eye(4, 3, dtype=np.float32))", "got float32 (4, 3) || soft ones are float32 [4, 2]"),
    ("dataset(targets=LABELS[:, None])", "got int32 (4, 1) || use labels[:, 0]"),
    ("dataset(targets=None)", "labels must be int32 [4] || got NoneType"),
    ("dataset(inputs=[[1.0, 2.0]] * 4, standardize=None)", "inputs must be a NumPy array [n, ...], got list"),
    ("dataset(inputs=None)", "inputs must be arrays [n, ...], got None"),
    ("dataset(inputs=jnp.ones((4, 2)), standardize=None)", "got ArrayImpl || np.asarray"),
    ("dataset(inputs=IMAGES.astype(np.int32), standardize=None)", "images must be uint8 || images.astype(np.uint8)"),
    ("dataset(inputs=IMAGES.astype(np.float32) - 9)", "takes uint8 images || undo the standardisation"),
    ("dataset(inputs=np.ones((4, 2), np.float32))", "takes uint8 images || float32 (4, 2) || leave standardize out"),
    ('dataset(inputs={"image": IMAGES})', "takes uint8 images || image || leave standardize out"),
    ("dataset(standardize=SET.standardize)", "standardize is for 1 channels, and the images have 3"),
    ("dataset(targets=LABELS.astype(np.int64))", "use labels.astype(np.int32)"),
    ("dataset(targets=LABELS.astype(float))", "class numbers are needed || labels.astype(np.int32)"),
    ("dataset(targets=LABELS - 1)", "labels must be in [0, 2) || got -1.."),
    ("dataset(targets=LABELS + 7)", "labels must be in [0, 2) || counted from 0"),
    ('dataset(class_names="ab")', "class_names must be a tuple || got class_names='ab'"),
    ("dataset(class_names=(0, 1))", "class_names must be a tuple of names || tuple(map(str, range(10)))"),
    ("dataset(class_names=None)", "class_names must be a tuple of names, got class_names=None"),
    ("dataset(standardize=255)", "standardize must be a function || data.Standardize(mean, std)"),
    ("dataset(standardize=data.Standardize)", "got the class || data.Standardize(mean, std)"),
    ("dataset()[5]", "pick examples with a slice, as in train_set[:8000]"),
    ("dataset()[[1, 2]]", "pick examples with a slice"),
    ('dataset()["train"]', "pick examples with a slice"),
    ("dataset()[:0.5]", "a slice goes from integer to integer || int(0.8 * len(train_set))"),
    ('data.load("CIFAR10")', "unknown data set 'CIFAR10' || did you mean 'cifar10'"),
    ("data.load(data.DATASETS)", "name must be the name of one data set"),
    ('data.load("mnist", download="no")', "download must be True or False"),
    ('data.load("/pics")', "which looks like a path || data.folder('/pics') reads folders of images"),
    ('data.load("mnist", data_dir="/etc/hostname")', "data_dir must be a folder, got the file"),
    ("data.RandomCrop(-1)", "padding must be an integer >= 0 || got padding=-1"),
    ("data.DecodeCenterCrop(0)", "DecodeCenterCrop: size must be an integer >= 1 || got size=0"),
    ("data.DecodeCenterCrop(300)", "short_side must be at least size=300 || got short_side=256"),
    ("data.DecodeRandomCrop(224, (300, 256))", "short_side must be (least, most) || swap them"),
    (
        "data.DecodeRandomCrop(224, (256,))",
        "short_side must be a number or a pair, a tuple, got short_side=(256,) || (256, 480)",
    ),
    ("data.DecodeRandomCrop(224, [256, 480])", "a pair, a tuple, got short_side=[256, 480] || pass 256 or (256, 480)"),
    ("data.DecodeRandomResizedCrop(area=(0.0, 1.0))", "area must be (least, greatest), above 0 and at most 1"),
    ("data.DecodeRandomResizedCrop(area=(0.5, 2.0))", "area must be (least, greatest), above 0 and at most 1"),
    (
        "data.DecodeRandomResizedCrop(ratio=(2.0, 1.0))",
        "ratio must be (least, greatest), above 0 || got ratio=(2.0, 1.0)",
    ),
    ("data.DecodeRandomResizedCrop(ratio=1)", "ratio must be a pair (least, greatest) || got ratio=1"),
    ('data.folder("/nowhere")', "root must be a folder, got /nowhere, which is not there"),
    ("data.folder(3)", "root must be a folder's path, got root=3"),
    ("data.in_memory(3)", "stream must be a stream, got 3 || data.folder and data.stream make them"),
    ("data.stream(3)", "name must be a data set's name, got name=3"),
    (
        'data.stream("imagenet2012", data_dir="/nowhere")',
        'stream: \'imagenet2012\' was not found in /nowhere || streams are not downloaded || tfds.builder("imagenet2012", data_dir="DIR", file_format="array_record")',
        "data.DatasetNotFoundError",
    ),
    ('data.Stream("mine", "train", [], data.DecodeCenterCrop(8, 8), ("a",))', "there are no images"),
    (
        'data.Stream("mine", "train", [0], len, ("a",))',
        "view must be a function with a field size || data.DecodeCenterCrop(224)",
    ),
    ('data.Stream("mine", "train", [0], data.DecodeCenterCrop, ("a",))', "view must be an object || a class; call it"),
    (
        'data.Stream("mine", "train", [0], data.RandomResizedCrop(32), ("a",))',
        "view must decode images || got view=RandomResizedCrop(size=(32, 32) || pass it as augment=",
    ),
    (
        'data.Stream("mine", "train", [0], data.DecodeCenterCrop(8, 8), ("a",), workers=-1)',
        "workers must be an integer >= 0",
    ),
    (
        'data.Stream("mine", "train", [0], data.DecodeCenterCrop(8, 8), ("a",), strict=1)',
        "strict must be True or False",
    ),
    ("SET.steps_per_epoch(0)", "batch_size must be an integer >= 1"),
    ("SET.steps_per_epoch(10_000)", "batch_size=10000 is more than the 64 images || pass batch_size <= 64"),
    ('data.Dataset("x", "test", IMAGES, [0, 1, 0, 1], ("a", "b"))', "labels must be || list"),
    (
        'data.load("mnist", data_dir="/nowhere", download=False)',
        "was not found in /nowhere || python -m jaxdl.data.prepare mnist",
        "data.DatasetNotFoundError",
    ),
    ("data.from_arrays([[1.0, 2.0], [3.0]], [0, 1])", "inputs must be of one length in each axis"),
    ("data.from_arrays(np.ones((4, 2)), [[0], [1, 2], [0], []])", "targets must be of one length in each axis"),
    ("data.from_arrays(np.ones((4, 2)), np.ones(3))", "targets must be of 4 examples, got shape (3,)"),
    (
        'data.from_arrays({"a": np.ones(4), "b": np.ones(3)}, LABELS)',
        "inputs['b'] must be of 4 examples, got shape (3,)",
    ),
    ("data.from_arrays(np.array([[1.0, np.nan]] * 4), LABELS)", "inputs hold NaN || leave those examples out"),
    ("data.from_arrays(np.ones((4, 2)), np.array([0, 1, 0, np.nan]))", "targets hold NaN"),
    ("data.from_arrays(np.ones((4, 2)) * 1e300, LABELS)", "inputs must fit float32 || got float64 in || scale them"),
    (
        'data.from_arrays(np.ones((3, 2)), ["cat", "dog", "cat"])',
        "targets must hold numbers, got <U3 || np.unique(targets",
    ),
    ('data.from_arrays("images.npy", LABELS)', "inputs must hold numbers || 'images.npy'"),
    ("data.from_arrays(np.array([None, 1, 2, 3]), LABELS)", "inputs must hold numbers, got object || leave out"),
    (
        "data.from_arrays(np.arange(4) + 2**40, LABELS)",
        "inputs must fit int32 || got int64 in 1099511627776..1099511627779",
    ),
    ("data.from_arrays(np.ones((4, 2)), np.arange(4), classes=3)", "labels must be in [0, 3) || got 0..3"),
    ("data.from_arrays(np.ones((4, 2)), np.arange(4) - 1, classes=4)", "labels must be in [0, 4) || got -1..2"),
    (
        "data.from_arrays(np.ones((4, 2)), np.arange(4.0), classes=4)",
        "class numbers are needed || labels.astype(np.int32)",
    ),
    (
        "data.from_arrays(np.ones((4, 2)), np.eye(4, 3), classes=2)",
        "got float32 (4, 3) || soft ones are float32 [4, 2]",
    ),
    ("data.from_arrays(np.ones((4, 2)), np.eye(4, dtype=int), classes=4)", "one-hot || labels.argmax(1)"),
    ("data.from_arrays(np.ones((4, 3, 9, 9)), LABELS)", "look like images [n, channels, height, width] || transpose"),
    (
        "data.from_arrays(np.ones((4, 3, 9, 9), np.uint8), LABELS)",
        "looks like [n, channels, height, width] || transpose",
    ),
    ("data.from_arrays(np.ones((4, 9, 9), np.uint8), LABELS)", "add an axis of one channel, images[..., None]"),
    ("data.from_arrays(np.ones((4, 2), np.uint8), LABELS)", "images must be uint8 [n, height, width, channels]"),
    ("data.from_arrays(np.ones((4, 9, 9, 3), int), LABELS)", "images must be uint8 || images.astype(np.uint8)"),
    ("data.from_arrays(np.full((4, 9, 9, 3), 300), LABELS)", "images must be uint8 || in 0..255, got 300..300"),
    ("data.from_arrays(IMAGES, LABELS)", "a channel is constant over all images || data.Standardize(mean, std)"),
    ("data.from_arrays(IMAGES, LABELS, standardize=SET.standardize)", "for 1 channels, and the images have 3"),
    ("data.from_arrays(np.ones((4, 2)), LABELS, standardize=SET.standardize)", "takes uint8 || leave standardize out"),
    ("data.from_arrays(np.ones((4, 2)), LABELS, standardize=3)", "standardize must be a function, got standardize=3"),
    ("data.from_arrays(np.ones((0, 2)), np.ones(0))", "inputs must be of one or more examples, got shape (0, 2)"),
    ("data.from_arrays([], [])", "inputs must be of one or more examples"),
    ("data.from_arrays({}, LABELS)", "inputs must be arrays [n, ...], got {}"),
    ("data.from_arrays(3.0, 4.0)", "inputs must be a NumPy array [n, ...], got a scalar"),
    ("data.from_arrays(SET, LABELS)", "inputs must be arrays || which is a data set already; use its .inputs"),
    (
        'data.from_arrays(np.ones((4, 2)), LABELS, classes="ab")',
        'classes must be || got classes=\'ab\' || ("cat", "dog")',
    ),
    ("data.from_arrays(np.ones((4, 2)), LABELS, classes=[0, 1])", "classes must be how many there are, or their names"),
    ("data.from_arrays(np.ones((4, 2)), LABELS, classes=0)", "classes must be an integer >= 1, got classes=0"),
    ("data.from_arrays(np.ones((4, 2)), LABELS, name=3)", "name must be a string, got name=3"),
    ("TABLE.images", "has no images; use .inputs"),
    ("TABLE.labels", "has no classes; use .targets"),
    ("TABLE.image_shape", "has no images; use .inputs"),
    ("TABLE.num_classes", "has no classes"),
    ("TABLE.steps_per_epoch(65)", "batch_size=65 is more than the 64 examples"),
    ("SET.take([64])", "rows must be in 0..63, got 64..64 || counted from 0"),
    ("SET.take([-1])", "rows must be in 0..63, got -1..-1"),
    ("SET.take([0.5])", "rows must be integers [m] or bools [n] || got rows=[0.5]"),
    ("SET.take([])", "at least one of them, got rows=[]"),
    ("SET.take(SET.labels == 77)", "at least one of them || none of the bools is True"),
    ("SET.take([True, False])", "bools must be one for each of the 64 examples, got shape [2]"),
    ("SET.take([[0], [1, 2]])", "rows must be integers [m] or bools [n]"),
    ("SET.take(3)", "rows must be integers [m] or bools [n] || got rows=3"),
    ("SET.take(slice(3))", "rows must be integers || train_set[:8000]"),
    ("SET.split_at_random(0, K)", "share=0 of 64 examples leaves one part empty || 0.9"),
    ("SET.split_at_random(0.001, K)", "leaves one part empty"),
    ("SET.split_at_random(1, K)", "share must be a finite number in [0, 1), got share=1 || 0.9"),
    ("SET.split_at_random(58, K)", "share must be a finite number in [0, 1), got share=58"),
    ("SET.split_at_random(jnp.ones(3), K)", "share must be a finite number in [0, 1)"),
    ('SET.split_at_random("half", K)', "share must be a finite number in [0, 1), got share='half'"),
    ("SET.split_at_random(0.9, 0)", "key must be one typed PRNG key, got key=0 || jax.random.key(seed)"),
    ("SET.split_at_random(0.9)", "'key'", "TypeError"),
    ("data.batches((SET, SET), K, 16)", "dataset must be one data.Dataset, got the pair (train, test)"),
    ("data.batches(SET.images, K, 16)", "dataset must be one data.Dataset || data.from_arrays"),
    ("data.batches(SET, 0, 16)", "key must be one typed PRNG key, got key=0"),
    ("data.batches(SET, jax.random.PRNGKey(0), 16)", "key must be one typed PRNG key"),
    ("data.batches(SET, K, 65)", "batch_size=65 is more than the 64 images || pass batch_size <= 64"),
    ("data.batches(SET, K, 0)", "batch_size must be an integer >= 1"),
    ("data.batches(SET, K, 16, start=-1)", "start must be an integer >= 0, got start=-1"),
    ("data.batches(SET, K, 16, start=5, steps=2)", "start=5 is past steps=2 || pass steps >= 5"),
    ("data.batches(SET, K, 16, steps=1.5)", "steps must be an integer >= 0, got steps=1.5"),
    ("data.take_batch(3, 4, np.array([0]))", "inputs and targets must be arrays [n, ...], got 3 and 4"),
    # transfer
    ('transfer.load_torch_weights(models.ResNet, "w.pth")', "model must be a flax.linen module || pass an instance"),
    ('transfer.load_torch_weights(models.mlp(), "/tmp")', "/tmp is a folder || pass a file in it"),
    ("transfer.load_torch_weights(models.mlp(), 5)", "path must be the name of a file"),
    (
        'transfer.load_torch_weights(models.mlp(), "w.pth", image_shape=224)',
        "image_shape must be (height, width, channels)",
    ),
    (
        'transfer.save_torch_weights(NET, "w.npz", STATE.variables)',
        "path must be the name of a file || the order is save_torch_weights(path, model, variables)",
    ),
    ('transfer.save_torch_weights("w.pth", NET, STATE.variables)', "must end in .safetensors or .npz"),
    (
        'transfer.save_torch_weights("w.npz", models.mlp(), STATE.variables)',
        "torch has no names for the arrays of this MLP || models.resnet",
    ),
    ('transfer.save_torch_weights("w.npz", NET, STATE)', "variables must be || pass state.variables"),
    (
        'transfer.save_torch_weights("w.npz", NET, MEMBERS_OF_NET)',
        "variables must be those of one model || stacked members || leaf[0]",
    ),
    (
        'transfer.save_torch_weights("w.npz", models.resnet_cifar(14), STATE.variables)',
        "the variables do not fit this ResNet || missing || stage1_block2",
    ),
    ('transfer.save_torch_weights("w.npz", NET, nan_in(STATE.variables))', "NaN || head/bias"),
    (
        'transfer.save_torch_weights("/nowhere/w.npz", NET, STATE.variables)',
        "there is no folder /nowhere",
        "FileNotFoundError",
    ),
    ('transfer.load_torch_weights(models.mlp(), "nothing.pth")', "there is no file nothing.pth", "FileNotFoundError"),
    # train
    ("fit(augment=lambda images: images)", "augment is called with keys [16], one for each example || TypeError"),
    ("fit(augment=lambda images, keys: images)", "augment must return images, got PRNG keys || (keys, images)"),
    (
        "fit(augment=lambda keys, images: images[:4])",
        "augment must give as many images as it is given, uint8 [16, 28, 28, 1], got uint8 [4, 28, 28, 1]",
    ),
    ("fit(augment=lambda keys, images: images / 255)", "scaled twice"),
    (
        "fit(augment=lambda keys, images: images + jax.random.randint(keys, images.shape, 0, 9, 'uint8'))",
        "augment is called with keys [16], one for each example",
    ),
    ("fit(loss=optax.softmax_cross_entropy)", "loss is called with outputs float32 [16, 10] and targets int32 [16]"),
    ("fit(loss=lambda logits: logits)", "loss is called with outputs || TypeError"),
    ("fit(loss=lambda logits, labels: (logits, labels))", "loss must map outputs || (float32 [16, 10], int32 [16])"),
    (
        "fit(loss=lambda logits, labels: jnp.argmax(logits, -1) != labels)",
        "loss must map outputs || bool [16] || a loss must be floating point",
    ),
    (
        "fit(preprocess=lambda images: np.asarray(images) / 255)",
        "preprocess is called with inputs || compiled, and fails",
    ),
    (
        "optim.sgd(lambda step: 0.1 if step < 2 else 0.01)",
        "must be a schedule that JAX can compile || as a Python number || jnp.where",
    ),
    ("optim.adam(lambda step: None)", "must be a schedule that gives one number, got None"),
    ("optim.momentum(lambda step: jnp.ones(3))", "must be a schedule that gives one number"),
    (
        "train.init_state(NET, optax.chain(SGD, optim.swa(0), optim.swa(1)), K, SHAPE)",
        "the chain has 2 of swa, called 'swa', 'swa' || name=",
    ),
    (
        "train.init_state(models.ResNet, SGD, K, SHAPE)",
        "init_state: model must be a flax.linen module || pass an instance",
    ),
    ('train.init_state("resnet", SGD, K, SHAPE)', "model must be a flax.linen module || 'resnet'"),
    ("train.init_state(NET, optim.sgd, K, SHAPE)", "tx must be an optax gradient transformation || optim.sgd(0.1)"),
    ("train.init_state(NET, 0.1, K, SHAPE)", "tx must be an optax gradient transformation, got 0.1"),
    ("train.init_state(NET, SGD, 0, SHAPE)", "key must be one typed PRNG key, got key=0 || jax.random.key(seed)"),
    ("train.init_state(NET, SGD, jax.random.PRNGKey(0), SHAPE)", "key must be one typed PRNG key"),
    ("train.init_state(NET, SGD, KEYS, SHAPE)", "key must be one typed PRNG key"),
    ("train.init_state(NET, SGD, K, (SET, SET))", "inputs must be one data.Dataset, got the pair"),
    ("train.init_state(NET, SGD, K, None)", "image_shape must be (height, width, channels) || train_set.image_shape"),
    ("train.init_state(NET, SGD, K, 784)", "image_shape must be (height, width, channels), got 784"),
    ('train.init_state(NET, SGD, K, "image")', "image_shape must be (height, width, channels), got 'image'"),
    ("train.init_state(NET, SGD, K, ())", "image_shape must be (height, width, channels), got an empty one"),
    ("train.init_state(NET, SGD, K, (28.0, 28, 1))", "image_shape must be an integer >= 1, got image_shape=28.0"),
    ("train.init_state(NET, SGD, SHAPE, K)", "key must be one typed PRNG key, got key=(28, 28, 1)"),
    ("train.init_state(nn.Embed(10, 4), SGD, K, (8,))", "got (8,): Embed fails || dtypes || data set itself"),
    ("train.init_state(nn.Sequential([nn.Dense(3)]), SGD, K, (8,))", "layers must be a tuple || nn.Sequential(("),
    ("train.init_state(nn.Sequential((nn.relu,)), SGD, K, (8,))", "Sequential has no parameters to train"),
    ("train.init_state(NET, optax.lookahead(SGD, 5, 0.5), K, SHAPE)", "optax.lookahead || optim.ema or optim.swa"),
    (
        "train.init_state(NET, SGD, K, (28, 28))",
        "image_shape must be (height, width, channels) || got (28, 28) || (28, 28, 1)",
    ),
    ("train.init_state(NET, SGD, K, (3, 32, 32))", "looks like (channels, height, width) || (32, 32, 3)"),
    ("train.init_state(NET, SGD, K, (28, 28, 0))", "image_shape must be an integer >= 1"),
    ('train.init_state(NET, SGD, K, SHAPE, new=("head",))', "new=('head',) goes with variables"),
    (
        'train.init_state(NET, SGD, K, SHAPE, variables=STATE.variables, new="head")',
        "new must be a tuple of names || new=('head',)",
    ),
    (
        'train.init_state(NET, SGD, K, SHAPE, variables=STATE.variables, new=("top",))',
        "new='top' names no module || head",
    ),
    ("train.init_state(NET, SGD, K, SHAPE, variables=STATE)", "variables must be || state.variables"),
    ("train.init_state(NET, SGD, K, SHAPE, variables=STATE.params)", "variables must be || state.variables"),
    (
        "train.init_state(models.resnet_cifar(14), SGD, K, SHAPE, variables=STATE.variables)",
        "the variables do not fit the model || missing || stage1_block2",
    ),
    ("train.init_state(NET, SGD, K, SHAPE, variables=nan_in(STATE.variables))", "NaN || head/bias"),
    (
        "train.init_state(NET, optax.chain(optim.ema(0.9), SGD), K, SHAPE)",
        "ema stands in the chain before a link that changes the updates || scale_by_learning_rate",
    ),
    ("train.init_state(NET, optax.chain(optim.swa(5), optim.adam(0.1)), K, SHAPE)", "swa stands in the chain before"),
    (
        "train.init_state(NET, optax.chain(optim.scale_by_momentum(0.9), optim.snapshots(3, 2), optax.scale_by_learning_rate(0.1)), K, SHAPE)",
        "snapshots stands in the chain before",
    ),
    (
        "train.init_state(NET, optax.chain(optim.scale_by_nesterov_lookahead(0.9), optax.scale_by_learning_rate(0.1)), K, SHAPE)",
        "scale_by_nesterov_lookahead stands in the chain before",
    ),
    (
        'train.init_state(NET, optax.chain(SGD, optim.freeze(lambda path: "fc" in path)), K, SHAPE)',
        "got False for all, ",
    ),
    ("train.init_state(models.alexnet(10), SGD, K, SHAPE)", "sides >= window=3 || larger images"),
    ("train.make_step(NET)", "tx", "TypeError"),
    ("train.make_step(SGD, NET)", "make_step: model must be a flax.linen module"),
    (
        'train.make_step(NET, SGD, loss="cross_entropy")',
        "loss must be a function, got loss='cross_entropy' || train.cross_entropy",
    ),
    ("train.make_step(NET, SGD, loss=train.label_smoothing)", "got the class || train.label_smoothing(0.1)"),
    (
        "train.make_step(NET, SGD, preprocess=True)",
        "preprocess must be a function, got preprocess=True || train_set.standardize",
    ),
    ("train.make_step(NET, SGD, preprocess=data.Standardize)", "preprocess must be a function, got the class"),
    ("train.make_step(NET, SGD, augment=data.RandomFlip)", "augment must be a function, got the class"),
    ("train.make_step(NET, SGD, augment=4)", "augment must be a function, got augment=4 || data.CROP_AND_FLIP"),
    ("train.make_step(NET, SGD, accumulate=0)", "accumulate must be an integer >= 1"),
    (
        'train.make_step(NET, SGD, batch_norm="global")',
        "batch_norm must be one of 'synchronized', 'per_device', got batch_norm='global'",
    ),
    ('train.make_step(NET, SGD, parallel="ddp")', "parallel must be one of || got parallel='ddp'"),
    ("train.make_step(NET, SGD, parallel=8)", "parallel must be one of || got parallel=8"),
    ("train.make_step(NET, SGD, devices=8)", "devices must be a list of different JAX devices || jax.devices()[:2]"),
    ("train.make_step(NET, SGD, devices=jax.devices()[:1] * 2)", "devices must be a list of different JAX devices"),
    ('train.make_step(NET, SGD, shard_state=True, parallel="pmap")', 'shard_state=True goes with parallel="sharded"'),
    ('train.make_step(NET, SGD, shard_state="yes")', "shard_state must be True or False, got shard_state='yes'"),
    ("train.make_step(NET, SGD, skip_nonfinite=1)", "skip_nonfinite must be True or False"),
    ("STEP((STATE, 0), BATCH)", "make_step: state must be a train.TrainState || state, _ ="),
    ("STEP(STATE.params, BATCH)", "state must be a train.TrainState || train.init_state"),
    ("STEP(STATE, SET)", "batch must be a pair (inputs, targets), (images, labels) || data.batches"),
    (
        'STEP(STATE, {"images": BATCH[0], "labels": BATCH[1]})',
        "batch must be a pair || (batch['images'], batch['labels'])",
    ),
    ("STEP(STATE, BATCH[0])", "batch must be a pair (inputs, targets), (images, labels) for example"),
    ("STEP(STATE, (BATCH[0], BATCH[1].tolist()))", "must be arrays || list"),
    (
        "STEP(STATE, (BATCH[0], BATCH[1].astype(np.float32)))",
        "labels must be class numbers, integers [batch], got float32 [16] || labels.astype(numpy.int32)",
    ),
    (
        "STEP(STATE, (BATCH[0], np.eye(10, dtype=int)[BATCH[1]]))",
        "integers [batch] || int32 [16, 10] || labels.argmax(-1).astype(numpy.int32)",
    ),
    ("STEP(STATE, (BATCH[0], np.eye(5)[BATCH[1] % 5]))", "the labels have 5 classes and the logits 10"),
    ("STEP(STATE, (BATCH[0], 5 * np.eye(10)[BATCH[1]]))", "soft labels must be rows of probabilities || sums of 5..5"),
    ("STEP(STATE, (BATCH[0], BATCH[1][:, None]))", "int32 [16, 1] || use labels[:, 0]"),
    ("STEP(STATE, (BATCH[0], BATCH[1].astype(bool)))", "labels must be class numbers, integers [batch], got bool"),
    (
        "STEP(STATE, (BATCH[0], BATCH[1][:7]))",
        "must be of one length, as many labels as images, got uint8 [16, 28, 28, 1] and int32 [7]",
    ),
    ("STEP(STATE, (BATCH[0], None))", "loss is called with || and targets None || labels, the second argument"),
    ("STEP(STATE, (*BATCH, 0))", "batch must be a pair (inputs, targets)"),
    ("STEP(BATCH, STATE)", "state must be a train.TrainState"),
    ("STEP(STATE, (BATCH[0][0], BATCH[1][0]))", "must be arrays [batch, ...] of a batch of 1 or more"),
    ("STEP.lower(STATE, SET)", "batch must be a pair (inputs, targets)"),
    ("STEP.lower(STATE.params, BATCH)", "state must be a train.TrainState"),
    ("STEP(STATE, (BATCH[0][:0], BATCH[1][:0]))", "a batch of 1 or more"),
    ("STEP(STATE, (BATCH[0], BATCH[1] + 3))", "labels must be in 0..9 as the model has 10 outputs, got labels 3.."),
    ("STEP(STATE, (BATCH[0], BATCH[1] - 1))", "labels must be in 0..9 as the model has 10 outputs, got labels -1.."),
    ("STEP(STATE, (BATCH[0].astype(np.int32), BATCH[1]))", "images must be uint8 or floating point, got int32"),
    ("STEP(STATE, (BATCH[1], BATCH[0]))", "make_step: "),
    ("STEP(STATE, (BATCH[0][:, :9, :9, :1].repeat(3, -1), BATCH[1]))", "must have 1 channels"),
    ("train.make_step(NET, SGD)(STATE, BATCH)", "would be shown uint8 images || train_set.standardize"),
    ("train.make_step(NET, SGD, preprocess=SET.standardize)(STATE, (BATCH[0] / 255.0, BATCH[1]))", "scaled twice"),
    (
        "train.make_step(models.resnet_cifar(8, 5), SGD, preprocess=SET.standardize)(STATE, BATCH)",
        "the state does not belong to this ResNet || head/kernel",
    ),
    (
        "train.make_step(NET, optim.momentum(0.1), preprocess=SET.standardize)(STATE, BATCH)",
        "the optimizer state does not belong to tx || init_state",
    ),
    (
        "train.make_step(NET, SGD, loss=lambda logits, labels: train.cross_entropy(logits, labels).mean(), preprocess=SET.standardize)(STATE, BATCH)",
        "loss must map || for a batch of 16 || without the mean",
    ),
    (
        "train.make_step(NET, SGD, accumulate=5, preprocess=SET.standardize)(STATE, BATCH)",
        "accumulate must divide || got accumulate=5 and 16 examples",
    ),
    ("STEP(donated(), BATCH)", "it was donated to a step || state, metrics = step(state, batch)"),
    (
        "train.cross_entropy(jnp.arange(4), jnp.ones((4, 10)))",
        "logits must be floating point [batch, classes], and labels",
    ),
    (
        "train.cross_entropy(jnp.ones((4, 10)), jnp.ones((4, 10), int))",
        "logits must be || and labels, the second argument, integers [batch]",
    ),
    (
        "train.cross_entropy(jnp.ones((4, 10)), jnp.ones(4))",
        "labels must be class numbers, integers [batch], got float32",
    ),
    ("train.cross_entropy(jnp.ones((4, 10)), jnp.ones((4, 5)))", "the labels have 5 classes and the logits 10"),
    (
        "train.cross_entropy(jnp.ones((4, 1)), jnp.zeros(4, int))",
        "at least 2 classes, got float32 [4, 1] || train.sigmoid_cross_entropy",
    ),
    (
        "train.cross_entropy(jnp.ones((4, 1)), jnp.ones((4, 1)))",
        "at least 2 classes, got float32 [4, 1] || train.squared_error",
    ),
    (
        'train.cross_entropy({"a": jnp.ones((4, 10))}, jnp.zeros(4, int))',
        "logits must be || got {a: float32 [4, 10]} and int32 [4] || lambda outputs, targets: cross_entropy(",
    ),
    ("train.error(jnp.zeros(4, int), jnp.ones((4, 10)))", "error: logits must be || got int32 [4] and float32 [4, 10]"),
    ("train.error(jnp.ones((4, 10)), jnp.zeros(4))", "error: labels must be class numbers || float32 [4]"),
    ("train.error(jnp.ones((4, 10)), jnp.zeros((4, 10), int))", "error: logits must be || labels.argmax(-1)"),
    (
        "train.error(jnp.ones(4), jnp.zeros(4, int))",
        "error: logits must be floating point [batch, classes] || float32 [4]",
    ),
    ("train.top_k_error(0)", "k must be an integer >= 1, got k=0"),
    ("train.top_k_error(2.5)", "k must be an integer >= 1, got k=2.5"),
    ("train.top_k_error(11)(jnp.ones((4, 10)), jnp.zeros(4, int))", "k must be at most the 10 classes || got k=11"),
    ("train.top_k_error(jnp.ones((4, 10)), jnp.zeros(4, int))", "positional arguments", "TypeError"),
    ("train.squared_error(jnp.ones((4, 1)), jnp.ones(4))", "float32 [4, 1] and float32 [4] || targets[:, None]"),
    ("train.squared_error(jnp.ones(4), jnp.ones((4, 1)))", "float32 [4] and float32 [4, 1] || targets[:, 0]"),
    ("train.squared_error(jnp.ones((4, 10)), jnp.zeros(4, int))", "for class numbers use train.cross_entropy"),
    ('train.squared_error({"a": jnp.ones(4)}, jnp.ones(4))', "got {a: float32 [4]} || lambda outputs, targets"),
    ("train.squared_error(jnp.ones(4, int), jnp.ones(4))", "outputs must be floating point || int32 [4]"),
    ("train.absolute_error(jnp.ones((4, 1)), jnp.ones(4))", "absolute_error: outputs must be || targets[:, None]"),
    ("train.absolute_error(jnp.ones((4, 2)), jnp.ones((4, 3)))", "float32 [4, 2] and float32 [4, 3]"),
    ('train.absolute_error("a", jnp.ones(4))', "absolute_error: outputs must be || got 'a'"),
    (
        "train.sigmoid_cross_entropy(jnp.ones((4, 10)), jnp.zeros(4, int))",
        "targets, the second argument, of the same shape || jax.nn.one_hot",
    ),
    (
        "train.sigmoid_cross_entropy(jnp.ones((4, 1)), jnp.zeros(4, int))",
        "targets, the second argument, of the same shape || targets[:, None]",
    ),
    (
        "train.sigmoid_cross_entropy(jnp.zeros(4, int), jnp.ones((4, 10)))",
        "outputs must be floating point, and targets",
    ),
    ("train.hamming_loss(jnp.ones((4, 10)), jnp.zeros(4, int))", "hamming_loss: outputs must be || jax.nn.one_hot"),
    ("train.hamming_loss(jnp.ones((4, 10)), jnp.zeros((4, 5)))", "float32 [4, 10] and float32 [4, 5]"),
    (
        "train.hamming_loss(jnp.ones((4, 10), int), jnp.zeros((4, 10)))",
        "outputs must be floating point || int32 [4, 10]",
    ),
    ("fit(loss=train.top_k_error)", "loss must be a function, got the class || pass an instance"),
    ("fit(loss=train.error)", "bool [16] || a loss must be floating point"),
    ("fit(loss=train.squared_error)", "squared_error: outputs must be || for class numbers use train.cross_entropy"),
    ("fit(loss=lambda logits, labels: logits)", "loss must map || float32 [16, 10] || take the mean of each example"),
    ("fit(metrics=train.error)", 'metrics must be functions by name || {"error": train.error'),
    ("fit(metrics=[train.error])", "metrics must be functions by name"),
    ('fit(metrics={"error": "error"})', "metrics['error'] must be a function, got metrics['error']='error'"),
    (
        'fit(metrics={"top5": train.top_k_error})',
        "got the class || pass an instance, train.top_k_error(5)",
    ),
    ('fit(metrics={"top11": train.top_k_error(11)})', "k must be at most the 10 classes"),
    ('fit(metrics={"mean": lambda outputs, targets: outputs.mean()})', "float32 [] || without the mean over the batch"),
    ('fit(metrics={"n": lambda outputs: outputs})', "metrics['n'] is called with outputs || TypeError"),
    ('fit(metrics={"loss": train.error})', "must not be one of loss, metrics || got 'loss'; use another name"),
    ('fit(metrics={"member": train.error})', "the name of a metric || got 'member'; use another name"),
    ('fit(metrics={"eval/error": train.error})', "must have no / in it || got 'eval/error'; use another name"),
    ("fit(metrics={3: train.error})", "metrics must be functions by name"),
    ("train.make_step(NET, SGD, metrics=train.error)", "make_step: metrics must be functions by name"),
    ("fit(augment=lambda keys, images: None)", "augment must give as many images as it is given || got None"),
    (
        "fit(augment=lambda keys, images, labels: images)",
        "so it must give (inputs, targets), got uint8 [16, 28, 28, 1]",
    ),
    ("fit(augment=lambda keys, images, labels: (images, labels[:4]))", "as many labels as it is given || int32 [4]"),
    (
        "fit(train_set=TABLE, model=LINE, state=LINE_STATE)",
        "loss is called with || class numbers || train.squared_error",
    ),
    ("fit(train_set=TABLE, model=LINE, state=LINE_STATE, loss=train.squared_error)", "make targets of shape [n, 1]"),
    ("fit(train_set=COLUMN, model=LINE, state=LINE_STATE)", "loss is called with"),
    ("fit(train_set=TWO_COLUMNS, model=nn.Dense(2), state=LINE_STATE)", "rows of probabilities || train.squared_error"),
    ("fit(train_set=NUMBERED, model=LINE, state=LINE_STATE)", "at least 2 classes, got float32 [16, 1]"),
    (
        "fit(train_set=NUMBERED, model=nn.Dense(2), state=LINE_STATE)",
        "in 0..1 || 2 outputs || got labels 0..2 || num_classes=3",
    ),
    ("fit(train_set=IN_A_DICT, model=LINE, state=LINE_STATE)", "Dense fails with inputs {a: float32 [1, 8]}"),
    ("fit(model=DICTS, state=DICTS_STATE)", "got {logits: float32 [16, 10]} || lambda outputs, targets"),
    ("fit(model=SOWS, state=SOWS_STATE)", 'sows losses that are no scalars || self.sow("losses"'),
    ("train.make_step(SOWS, SGD, preprocess=SET.standardize)(SOWS_STATE, BATCH)", "sows losses that are no scalars"),
    ("fit(model=nn.Sequential([nn.Dense(3)]))", "layers must be a tuple || nn.Sequential(("),
    ("train.make_step(nn.Sequential([nn.Dense(3)]), SGD)", "layers must be a tuple || nn.Sequential(("),
    ("fit(tx=optax.lookahead(SGD, 5, 0.5))", "optax.lookahead || optim.ema or optim.swa"),
    ("population(tx=optax.lookahead(SGD, 5, 0.5))", "optax.lookahead || optim.ema or optim.swa"),
    ("fit(watch=train.EarlyStopping())", "watch must be a list of functions || EarlyStopping"),
    ("fit(watch=[train.EarlyStopping])", "got <class || in it || train.EarlyStopping("),
    ('fit(watch=["log.jsonl"])', "watch must be a list of functions, got 'log.jsonl' in it"),
    ('fit(watch="log.jsonl")', "watch must be a list of functions, got watch='log.jsonl'"),
    ("fit(watch=train.print_evaluations)", "watch must be a list of functions"),
    ("fit(watch=None)", "watch must be a list of functions, got watch=None"),
    ("population(watch=[train.JsonLines])", "population: watch must be a list of functions"),
    ("fit(watch=[train.EarlyStopping('eror')], eval_set=SET)", "there is no metric 'eror' || loss, error"),
    ("train.EarlyStopping(patience=0)", "patience must be an integer >= 1, got patience=0"),
    ("train.EarlyStopping(patience=2.5)", "patience must be an integer >= 1"),
    ("train.EarlyStopping(5)", "metric must be a metric's name, got metric=5 || patience=5"),
    ('train.EarlyStopping("")', "metric must be a metric's name, got metric=''"),
    ('train.EarlyStopping("error", least=-0.1)', "least must be a finite number >= 0, got least=-0.1"),
    ('train.JsonLines("/nowhere/log.jsonl")', "there is no folder /nowhere || make it first"),
    ("train.JsonLines(FOLDER)", "is a folder; name a file in it"),
    ("train.JsonLines(3)", "path must be a file's path, got path=3"),
    ('train.JsonLines("/proc/log.jsonl")', "path='/proc/log.jsonl' cannot be written to || name another"),
    ("train.TensorBoard(3)", "folder must be a path, got folder=3"),
    ('train.TensorBoard("")', "folder must be a path, got folder=''"),
    ('train.TensorBoard("/etc/hostname")', "folder='/etc/hostname' must be a folder, got the file"),
    ('train.TensorBoard("/proc/nothing/here")', "cannot be written to || name another"),
    ('train.load_variables("nowhere")', "there is no folder nowhere", "FileNotFoundError"),
    ("train.load_variables(FOLDER)", "no checkpoint 'newest' that can be read", "FileNotFoundError"),
    ("train.load_variables(RUN, which=77)", "no checkpoint 77 || there are the steps [2]", "FileNotFoundError"),
    ('train.load_variables(RUN, which="last")', "which must be || got which='last'"),
    ("train.load_variables(RUN, which=True)", "which must be || got which=True"),
    ("train.load_variables(RUN, which=1.5)", "which must be || got which=1.5"),
    ('train.load_variables(RUN, average="swa")', "there is no average 'swa' in this checkpoint; there are ['ema']"),
    ("train.load_variables(RUN, average=3)", "average must be a name || got average=3"),
    (
        "train.label_smoothing(0.1)(jnp.ones((4, 10)), jnp.zeros((4, 10), int))",
        "label_smoothing: logits must be || argmax(-1)",
    ),
    ("train.label_smoothing(1.0)", "smoothing must be || [0, 1)"),
    ("train.label_smoothing(0.1)(jnp.arange(4), jnp.ones((4, 10)))", "label_smoothing: logits must be"),
    ("fit(steps=0)", "fit: steps must be an integer >= 1, got steps=0"),
    ("fit(steps=2.5)", "fit: steps must be an integer >= 1, got steps=2.5"),
    ("fit(state=(STATE, None))", "fit: state must be a train.TrainState || state, _ ="),
    ("fit(state=NET)", "fit: state must be a train.TrainState"),
    ("fit(state=donated())", "fit: the arrays of this state are gone"),
    ("fit(model=NET.init)", "fit: model must be a flax.linen module"),
    ("fit(model=models.resnet_cifar(14))", "the state does not belong to this ResNet || stage1_block2"),
    ("fit(model=models.resnet_cifar(8, 5))", "labels 0..9, and the model has 5 outputs || num_classes=10"),
    ("fit(model=models.resnet_cifar(8, 1000))", "the model has 1000 outputs || num_classes=10"),
    ("fit(tx=0.1)", "fit: tx must be an optax gradient transformation"),
    ("fit(tx=optax.chain(optim.ema(0.9), SGD))", "ema stands in the chain before"),
    (
        "fit(train_set=(SET, SET))",
        "train_set must be one data.Dataset, got the pair (train, test) || train_set, test_set = data.load(...)",
    ),
    ('fit(train_set="/pics")', "got the path '/pics' || data.folder('/pics')"),
    ('fit(train_set="fashion_mini")', "got the name 'fashion_mini' || data.load('fashion_mini')"),
    ("fit(train_set=BATCH)", "train_set must be one data.Dataset"),
    ("fit(eval_set=(SET, SET))", "eval_set must be one data.Dataset, got the pair"),
    ("fit(eval_set=five_classes())", "train_set and eval_set must have inputs of equal || two splits"),
    ("fit(eval_set=SET, eval_every=0)", "eval_every must be an integer >= 1 || once an epoch"),
    ("fit(eval_every=5)", "eval_every=5 needs something to evaluate on || eval_set=test_set"),
    (
        "fit(tx=PLATEAU, state=train.init_state(NET, PLATEAU, K, SHAPE))",
        "reduce_on_plateau(every=None) needs evaluations, got eval_set=None || eval_set=test_set",
    ),
    ("fit(batch_size=0)", "batch_size must be an integer >= 1"),
    ("fit(batch_size=100)", "batch_size=100 is more than the 64 images"),
    ('fit(batch_size="32")', "batch_size must be an integer >= 1, got batch_size='32'"),
    ("fit(accumulate=3)", "accumulate must divide || got accumulate=3 and"),
    ('fit(scan="yes")', "scan must be True or False, got scan='yes'"),
    ('fit(progress="yes")', "progress must be a function, got progress='yes' || True, False"),
    ('fit(loss="mse")', "loss must be a function, got loss='mse'"),
    ("fit(augment=data.RandomCrop(30))", "padding must be below the sides of the images"),
    (
        'fit(on_nonfinite="ignore")',
        "on_nonfinite must be one of 'stop', 'skip', 'roll_back', got on_nonfinite='ignore'",
    ),
    ('fit(on_nonfinite="roll_back")', "needs checkpoints to return to || checkpoint_dir"),
    ("fit(checkpoint_every=5)", "checkpoint_every goes with checkpoint_dir"),
    ("fit(checkpoint_dir=FOLDER, checkpoint_every=0)", "checkpoint_every must be an integer >= 1"),
    ("fit(checkpoint_dir=FOLDER, keep_checkpoints=0)", "keep_checkpoints must be an integer >= 1"),
    ('fit(checkpoint_dir="/proc/nothing")', "cannot be written to || name another folder", "train.CheckpointError"),
    ("fit(state=STATE._replace(step=jnp.int32(9)), steps=5)", "9 updates behind it, more than steps=5"),
    ("fit(preprocess=lambda images: images)", "would be shown uint8 images"),
    ('fit(parallel="single", devices=jax.devices() * 2)', "devices must be a list of different JAX devices"),
    (
        "train.evaluate(NET, STATE, SET, views=data.RandomFlip())",
        "views must be a function of inputs alone || RandomFlip() || (keys, images) || augment= || data.TenCrop(224)",
    ),
    (
        "ensemble.evaluate(NET, MEMBERS_OF_NET, SET, views=data.CenterCrop(4))",
        "views must be a function of inputs alone || CenterCrop(size=(4, 4)) || data.TenCrop(224)",
    ),
    ("train.evaluate(NET, STATE, (SET, SET))", "dataset must be one data.Dataset, got the pair"),
    (
        "train.evaluate(STATE, NET, SET)",
        "the state stands in the place of the model || evaluate(model, state, dataset)",
    ),
    ("train.evaluate(STATE.variables, NET, SET)", "the state stands in the place of the model"),
    (
        "train.evaluate(NET, SET, STATE)",
        "the data set stands in the place of the state || evaluate(model, state, dataset)",
    ),
    ("train.evaluate(NET, None, SET)", "state must be a train.TrainState, got None || train.init_state"),
    ("train.evaluate(NET, (STATE, None), SET)", "state must be a train.TrainState || state, _ ="),
    (
        "train.evaluate(NET, STATE.params, SET)",
        'variables must be {"params": ..., "batch_stats": ...} || state.variables',
    ),
    ('train.evaluate(NET, {"params": STATE.params}, SET)', "does not belong to this ResNet || missing || batch_stats/"),
    ("train.evaluate(NET, MEMBERS_OF_NET, SET)", "does not belong to this ResNet || mis-shaped"),
    ("train.evaluate(models.mlp(), STATE, SET)", "does not belong to this MLP || missing || Dense_0"),
    ("train.evaluate(NET, donated(), SET)", "the arrays of this state are gone"),
    ("train.evaluate(NET, STATE, BATCH)", "dataset must be one data.Dataset"),
    ("train.evaluate(NET, STATE, SET, metrics=train.error)", "metrics must be functions by name"),
    ("train.evaluate(LINE, LINE_STATE, TABLE)", "loss is called with || class numbers || train.squared_error"),
    ("train.evaluate(NET, STATE, SET, batch_size=0)", "batch_size must be an integer >= 1"),
    ("train.evaluate(models.resnet_cifar(8, 5), STATE, SET)", "labels 0..9, and the model has 5 outputs"),
    ("train.evaluate(models.resnet_cifar(14), STATE, SET)", "the state does not belong to this ResNet"),
    ('train.evaluate(NET, STATE, SET, loss="error")', "loss must be a function, got loss='error'"),
    ("train.evaluate(NET, STATE, SET, loss=lambda logits, labels: 0.0)", "loss must map"),
    (
        'train.evaluate(NET, STATE, SET, preprocess="standardize")',
        "preprocess must be a function, got preprocess='standardize'",
    ),
    ('train.restore("nowhere", STATE)', "there is no folder nowhere", "FileNotFoundError"),
    ("train.restore(FOLDER, STATE)", "no checkpoint 'newest' that can be read", "FileNotFoundError"),
    ('train.restore(FOLDER, STATE, which="last")', "which must be || got which='last'"),
    ("train.restore(FOLDER, STATE, which=True)", "which must be || got which=True"),
    ("train.restore(FOLDER, (STATE, None))", "restore: like must be a train.TrainState"),
    ("population(keys=8)", "keys must be typed PRNG keys [members], got keys=8 || jax.random.split"),
    ("population(keys=K)", "keys must be typed PRNG keys [members]"),
    ("population(keys=KEYS[:0])", "keys must be typed PRNG keys [members]"),
    ("population(train_set=(SET, SET))", "population: train_set must be one data.Dataset, got the pair"),
    ('population(hyperparams={"learning_rate": [0.1]})', "must have one number for each of the 4 keys"),
    (
        'population(hyperparams={"rate": [0.1] * 4})',
        "rate is not among the injected hyperparameters, ['learning_rate', 'momentum'",
    ),
    ("population(hyperparams=[0.1] * 4)", "hyperparams must be numbers by name"),
    (
        'population(hyperparams={"learning_rate": [0.1, -1, 1, 2]})',
        "learning_rate must not be negative, got learning_rate=-1",
    ),
    (
        'population(hyperparams={"learning_rate": [0.1, float("nan"), 1, 2]})',
        "learning_rate must be one finite number, got learning_rate=",
    ),
    (
        'population(tx=SCHEDULED, hyperparams={"learning_rate": [0.1] * 4})',
        "learning_rate is computed by a schedule || peak",
    ),
    (
        'population(tx=optim.sgd(0.1), hyperparams={"learning_rate": [0.1] * 4})',
        "learning_rate is not among the injected hyperparameters, none || optax.inject_hyperparams",
    ),
    ('population(via="pmap")', "via must be one of 'auto', 'vmap', 'map', 'loop'"),
    ("population(stop=lambda history: True)", "stop needs eval_set || got eval_set=None || eval_set=test_set"),
    ("population(stop=3, eval_set=SET)", "stop must be a function, got stop=3"),
    ("population(eval_every=3)", "eval_every=3 needs something to evaluate on"),
    ("population(steps=0)", "population: steps must be an integer >= 1"),
    ("population(model=models.mlp(3))", "the model has 3 outputs"),
    ("population(progress=1)", "progress must be a function"),
    ("population(devices=[0])", "devices must be a list of different JAX devices"),
    ("population(accumulate=3)", "got accumulate=3 and batch_size=16 || a multiple of 3"),
    (
        'population(on_nonfinite="roll_back")',
        "on_nonfinite must be one of 'stop', 'skip', got on_nonfinite='roll_back'",
    ),
    ("population(checkpoint_every=5)", "checkpoint_every goes with checkpoint_dir"),
    ('population(checkpoint_every=5, via="loop")', "checkpoint_every goes with checkpoint_dir"),
    ("population(metrics=train.error)", "population: metrics must be functions by name"),
    ("population(model=nn.Sequential([nn.Dense(3)]))", "layers must be a tuple"),
    ("population(train_set=COLUMN, model=LINE)", "population: loss is called with || cross_entropy"),
    ("population(model=SOWS)", "sows losses that are no scalars"),
    ("train.set_hyperparams(INJECTED, learning_rate=-0.1)", "learning_rate must not be negative"),
    ('train.set_hyperparams(INJECTED, learning_rate=float("nan"))', "learning_rate must be one finite number"),
    (
        'train.set_hyperparams(INJECTED, learning_rate="0.1")',
        "learning_rate must be one finite number, got learning_rate='0.1'",
    ),
    ("train.set_hyperparams(INJECTED, learning_rate=[0.1, 0.2])", "learning_rate must be one finite number"),
    ("train.set_hyperparams(INJECTED, rate=0.1)", "rate is not among the injected hyperparameters"),
    ("train.set_hyperparams(INJECTED.opt_state, learning_rate=0.1)", "state must be a train.TrainState"),
    (
        "train.set_hyperparams(train.init_state(NET, SCHEDULED, K, SHAPE), learning_rate=5.0)",
        "learning_rate is computed by a schedule || optax.inject_hyperparams(chain)(peak=0.1)",
    ),
    ('train.join_processes("127.0.0.1:1234", 2)', "process is missing || pass all three"),
    ('train.join_processes("127.0.0.1:1234", 2, 2)', "process=2 must be below processes=2 || count from 0"),
    ('train.join_processes("127.0.0.1:1234", 0, 0)', "processes must be an integer >= 1"),
    # ensemble
    (
        "ensemble.predict(MEMBERS_OF_NET, NET, BATCH[0])",
        "predict: model must be a flax.linen module || the order is predict(model, members, ...)",
    ),
    ("ensemble.predict(NET, MEMBERS_OF_NET, BATCH[0])", "would be shown uint8 images"),
    (
        "ensemble.predict(NET, MEMBERS_OF_NET, SET, preprocess=SET.standardize)",
        "images must be an array || ensemble.probabilities",
    ),
    (
        'ensemble.predict(NET, MEMBERS_OF_NET["params"], BATCH[0], preprocess=SET.standardize)',
        "members must hold the batch statistics of ResNet, got none || optim.snapshot_variables",
    ),
    ("ensemble.predict(NET, STATE, BATCH[0], preprocess=SET.standardize)", "members must be stacked variables"),
    (
        "ensemble.predict(NET, [STATE.variables] * 2, BATCH[0], preprocess=SET.standardize)",
        "members must be stacked variables",
    ),
    (
        "ensemble.predict(NET, STATE.variables, BATCH[0], preprocess=SET.standardize)",
        "one leading axis of members || jnp.stack",
    ),
    (
        "ensemble.predict(models.resnet_cifar(14), MEMBERS_OF_NET, BATCH[0], preprocess=SET.standardize)",
        "members must be trees like the variables of ResNet",
    ),
    (
        'ensemble.predict(NET, MEMBERS_OF_NET, BATCH[0], preprocess=SET.standardize, via="loop")',
        "via must be one of 'auto', 'vmap', 'map', got via='loop'",
    ),
    (
        "ensemble.predict(NET, MEMBERS_OF_NET, BATCH[0], preprocess=SET.standardize, devices=[])",
        "devices must be a list of different JAX devices",
    ),
    (
        "ensemble.predict(NET, MEMBERS_OF_NET, BATCH[0], preprocess=3)",
        "preprocess must be a function, got preprocess=3",
    ),
    ("ensemble.probabilities(NET, MEMBERS_OF_NET, BATCH[0])", "dataset must be one data.Dataset"),
    ("ensemble.probabilities(NET, MEMBERS_OF_NET, SET, batch_size=0)", "batch_size must be an integer >= 1"),
    ('ensemble.log_probabilities(NET, MEMBERS_OF_NET, "cifar10")', "got the name 'cifar10'"),
    ("ensemble.evaluate(NET, MEMBERS_OF_NET, (SET, SET))", "dataset must be one data.Dataset, got the pair"),
    ("ensemble.evaluate(NET, SET, MEMBERS_OF_NET)", "evaluate: dataset must be one data.Dataset"),
    (
        "ensemble.evaluate(NET, MEMBERS_OF_NET, five_classes())",
        "labels 0..4, and the model has 10 outputs || num_classes=5",
    ),
    (
        "ensemble.evaluate(LINE, LINES, TABLE)",
        'average="softmax" is for targets that are classes || average="outputs" for numbers to predict',
    ),
    ('ensemble.evaluate(LINE, LINES, TABLE, average="outputs")', "no scores of its own || train.squared_error"),
    ('ensemble.evaluate(LINE, LINES, TABLE, average="sigmoid")', "no scores of its own || train.hamming_loss"),
    ('ensemble.evaluate(LINE, LINES, TABLE, average="mean")', "average must be one of 'softmax', 'sigmoid', 'outputs'"),
    (
        'ensemble.evaluate(LINE, LINES, TABLE, average="outputs", metrics=train.squared_error)',
        "metrics must be functions by name",
    ),
    (
        'ensemble.evaluate(LINE, LINES, TABLE, average="outputs", metrics={"se": "squared_error"})',
        "metrics['se'] must be a function, got metrics['se']='squared_error'",
    ),
    (
        'ensemble.evaluate(LINE, LINES, TABLE, average="outputs", metrics={3: train.squared_error})',
        "metrics must be functions by name",
    ),
    (
        'ensemble.evaluate(LINE, LINES, COLUMN, average="outputs", metrics={"se": lambda o, t: jnp.mean(o - t)})',
        "metrics['se'] must map || got float32 [] || leave the mean",
    ),
    (
        'ensemble.evaluate(LINE, LINES, COLUMN, average="outputs", metrics={"se": lambda o: o})',
        "metrics['se'] is called with outputs float32 [64, 1] || TypeError",
    ),
    (
        'ensemble.evaluate(LINE, LINES, TABLE, average="outputs", metrics={"se": train.squared_error})',
        "targets, the second argument, of the same shape || targets[:, None]",
    ),
    (
        'ensemble.evaluate(LINE, LINES, COLUMN, average="outputs", metrics={"e": train.error})',
        "metrics['e'] is called with || at least 2 classes, got float32 [64, 1]",
    ),
    ("ensemble.evaluate(LINE, LINES, NUMBERED)", "Dense must give at least 2 logits, got 1, whose softmax is always 1"),
    ("ensemble.evaluate(NET, MEMBERS_OF_NET, no_names(SET.labels + 9))", "labels must be in 0..9 || got labels 9..18"),
    ("ensemble.evaluate(NET, MEMBERS_OF_NET, no_names(np.eye(64)))", "soft labels must be [examples, 10] || [64, 64]"),
    ("ensemble.evaluate(NET, MEMBERS_OF_NET, SET, metrics={'k': train.top_k_error})", "got the class"),
    ("ensemble.evaluate(DICTS, MEMBERS_OF_DICTS, SET)", "must give logits [batch, classes] || logits: float32 [1, 10]"),
    (
        'ensemble.evaluate(DICTS, MEMBERS_OF_DICTS, SET, average="outputs", metrics={"e": train.error})',
        "metrics['e'] is called with outputs {logits: float32 [64, 10]} || lambda outputs, targets",
    ),
    ("ensemble.predict(DICTS, MEMBERS_OF_DICTS, BATCH[0] / 255)", 'must give logits || average="outputs"'),
    ("ensemble.predict(DICTS, MEMBERS_OF_DICTS, BATCH[0].astype(np.int32))", "images must be uint8 or floating point"),
    (
        "ensemble.predict(NET, MEMBERS_OF_NET, BATCH[0][:0], preprocess=SET.standardize)",
        "images must be an array || 1 or more",
    ),
    ('ensemble.predict(NET, MEMBERS_OF_NET, BATCH[0], average="mean")', "average must be one of 'softmax', 'sigmoid'"),
    (
        "ensemble.predict(NET, MEMBERS_OF_NET, BATCH[0], preprocess=data.Standardize)",
        "preprocess must be a function, got the class",
    ),
    (
        "ensemble.probabilities(LINE, LINES, TABLE)",
        "at least 2 logits, got 1, whose softmax is always 1; use ensemble.outputs",
    ),
    ("ensemble.log_probabilities(DICTS, MEMBERS_OF_DICTS, SET)", "must give logits || use ensemble.outputs"),
    ("ensemble.outputs(NET, MEMBERS_OF_NET, (SET, SET))", "outputs: dataset must be one data.Dataset, got the pair"),
    ("ensemble.outputs(NET, MEMBERS_OF_NET, BATCH[0])", "dataset must be one data.Dataset || data.from_arrays"),
    ("ensemble.outputs(NET, STATE, SET)", "outputs: members must be stacked variables"),
    ("ensemble.outputs(NET, LINES, SET)", "outputs: members must hold the batch statistics of ResNet, got none"),
    ("ensemble.outputs(LINE, MEMBERS_OF_NET, TABLE)", "members must be trees like the variables of Dense"),
    ("ensemble.outputs(NET, MEMBERS_OF_NET, SET, batch_size=0)", "batch_size must be an integer >= 1"),
    ("ensemble.scores(np.ones((2, 3)), np.zeros(2, int))", "rows of probabilities must sum to 1 || softmax"),
    ("ensemble.scores(np.array([[2.0, -1.0]]), np.zeros(1, int))", "rows of probabilities must sum to 1"),
    ("ensemble.scores(np.eye(3), np.array([0, 1, 3]))", "labels must be class numbers in 0..2"),
    ("ensemble.scores(np.eye(3), np.eye(3))", "needs probabilities [examples, classes] and labels [examples]"),
    ("ensemble.scores(np.eye(3), np.zeros(3))", "labels must be class numbers"),
    ("ensemble.update_batch_stats(NET, STATE.params, (SET, SET))", "batches must be one data.Dataset, got the pair"),
    (
        "ensemble.update_batch_stats(NET, STATE.variables, SET)",
        "params must be the parameters alone || optim.swa_params",
    ),
    ("ensemble.update_batch_stats(NET, STATE, SET)", "params must be the parameters alone"),
    ("ensemble.update_batch_stats(STATE.params, NET, SET)", "model must be a flax.linen module"),
    ("ensemble.update_batch_stats(NET, STATE.params, [])", "there are no batches"),
    (
        'ensemble.update_batch_stats(NET, STATE.params, SET, mode="exact")',
        "mode must be one of 'pooled', 'cumulative', got mode='exact'",
    ),
    ("ensemble.update_batch_stats(NET, STATE.params, SET, batch_size=-5)", "batch_size must be an integer >= 1"),
    ("ensemble.disagreement(np.ones((2, 3)))", "must be [members, examples, classes]"),
    ("ensemble.normalized_diversity(np.ones((2, 3, 2)), np.zeros(2, int))", "labels must be [3]"),
    ("ensemble.weight_cosine(STATE.params)", "weight_cosine: members must be stacked parameters"),
    ("ensemble.weight_cosine({})", "weight_cosine: members must be stacked parameters"),
    ("ensemble.project_predictions(np.ones((2, 3, 4)))", "must be [members >= 3, examples, classes]"),
    ('ensemble.project_predictions(np.ones((4, 3, 4)), via="umap")', "via must be"),
    ("ensemble.project_predictions(np.ones((4, 3, 4)), perplexity=9)", "perplexity must be in (0, 4)"),
    # report
    ('report.markdown_table(["a", "b"], [["1"]])', "row 1 must be 2 strings"),
    ('report.markdown_table("ab", [])', "header must be a list of column names, got 'ab'"),
    ('report.markdown_table(["a"], [[1.5]])', "row 1 must be 1 strings || 1.5"),
    ('report.print_table("t", ["a", "b"], [["1", "2"], ["3"]])', "row 2 must be 2 strings"),
    ("report.running_mean(np.ones((2, 3)), 2)", "values must be [n], got shape [2, 3]"),
    ("report.running_mean(np.ones(3), 0)", "window must be an integer >= 1"),
    ('report.steps_to_reach(np.ones(3), "low")', "target must be a finite number || got target='low'"),
    ("report.steps_to_reach(np.ones(3), 0.1, window=2.5)", "steps_to_reach: window must be an integer >= 1"),
    ('report.mean_and_std("123")', "mean_and_std: values must be a list of numbers, got '123'"),
    ("report.show_mean_and_std(np.ones((2, 2)))", "values must be a list of numbers"),
    (
        'report.new_run_directory(FOLDER, "a/b")',
        "experiment must be the name of a folder, without /, got experiment='a/b'",
    ),
    ('report.write_json(FOLDER / "x.json", {"a": object()})', "only what JSON can store || x.json || convert"),
    ('report.plot_curves(FOLDER / "x.png", "t", [])', "there is no panel to draw"),
    ('report.plot_curves(FOLDER / "x.png", "t", [report.Panel("p", "x", "y", {})])', "the panel 'p' has no curves"),
    (
        'report.plot_curves(FOLDER / "x.png", "t", [report.Panel("p", "x", "y", {"c": (np.ones(3), np.ones(3))})])',
        "the curve 'c' must be x [n] and y [runs, n] || y[None]",
    ),
    ('report.plot_paths(FOLDER / "x.png", "t", {})', "there are no paths to draw"),
    (
        'report.plot_paths(FOLDER / "x.png", "t", {"p": np.ones((3, 3))})',
        "the path 'p' must be points [n, 2], got shape [3, 3]",
    ),
    ('report.plot_landscapes(FOLDER / "x.png", "t", [])', "there is no landscape to draw"),
    (
        'report.plot_landscapes(FOLDER / "x.png", "t", [report.Landscape("l", lambda x, y: x, (0, 1), (0, 1), {}, np.zeros((0, 2)))])',
        "the landscape 'l' has no paths",
    ),
    # practice
    ("practice.check_data((SET, SET))", "check_data: train_set must be one data.Dataset || the pair (train, test)"),
    (
        "practice.check_data(SET, preprocess=lambda x: None)",
        "preprocess must give arrays [batch, ...] || train_set.standardize",
    ),
    ("practice.check_data(SET, preprocess=lambda x: x[:1])", "preprocess must give arrays [batch, ...]"),
    (
        "practice.check_initial_loss(STATE, models.mlp(), SET, batch_size=16)",
        "check_initial_loss: the state does not belong to this MLP",
    ),
    ("practice.check_initial_loss(NET, STATE, SET)", "state must be a train.TrainState || train.init_state makes one"),
    ("practice.overfit_batch(STATE, NET, SGD, SET, batch_size=300)", "batch_size=300 is more than the 64 images"),
    ("practice.find_learning_rate(NET, optim.momentum, SET, 0)", "key must be one typed PRNG key"),
    (
        "practice.find_learning_rate(NET, lambda rate: optim.momentum(0.1), SET, K, batch_size=16)",
        "find_learning_rate: chain does not use rate || lambda rate: optim.momentum(rate)",
    ),
    (
        "practice.find_learning_rate(NET, lambda: SGD, SET, K, batch_size=16)",
        "called with a learning rate alone, and fails || pass optim.momentum",
    ),
    (
        "practice.compare_rates(NET, lambda rate: optim.momentum(0.1), SET, K, batch_size=16)",
        "compare_rates: chain does not use rate",
    ),
    (
        "practice.find_learning_rate(NET, lambda rate: optim.momentum(optim.cosine_decay(rate, 9)), SET, K, batch_size=16)",
        "find_learning_rate: chain is given a schedule here || Leave the schedule out of the chain",
    ),
    (
        "practice.find_learning_rate(NET, lambda r: optax.sgd(optax.cosine_decay_schedule(r, 9)), SET, K, batch_size=16)",
        "find_learning_rate: chain is given a schedule here || the peak of a schedule",
    ),
    (
        "practice.compare_rates(NET, lambda r: optim.momentum(r if r < 1 else 1), SET, K, batch_size=16)",
        "compare_rates: chain must take rate as traced numbers || jnp.where for if",
    ),
    (
        "practice.compare_rates(NET, lambda r: optax.MultiSteps(optim.momentum(r), 2), SET, K, batch_size=16)",
        "chain must give an optimizer || its .gradient_transformation()",
    ),
    (
        "search(chain=lambda learning_rate: optim.momentum(float(learning_rate)))",
        "coarse_search: chain must take learning_rate as traced numbers",
    ),
    ("practice.compare_rates(NET, optim.momentum, SET, K, rates=[0.1, 0])", "rates must be above 0 and differ"),
    ("search(chain=lambda learning_rate: optim.momentum(0.1))", "coarse_search: chain does not use learning_rate"),
    (
        "search(chain=lambda learning_rate, decay=0: SGD, space={'learning_rate': (0.1, 1), 'decay': (0.1, 1)})",
        "chain does not use learning_rate, decay",
    ),
    ("search(chain=lambda learning_rate: 3)", "coarse_search: chain must give an optimizer for hyperparameters, got 3"),
    ("search(epochs=0)", "epochs must be above 0, got epochs=0"),
    ("search(held_out=COLUMN)", "held_out must have inputs as train_set has them"),
    ("practice.coarse_search(NET, optim.momentum, SET, K, space={})", "space must be ranges by name"),
    ("practice.refine_search(NET, optim.momentum, SET, K, around=None)", "around must be what coarse_search returned"),
    ("practice.Uniform(1, 0)", "low must be below high"),
    ("practice.Uniform('a', 1)", "low must be a finite number, got low='a'"),
    ("practice.diagnose(STATE)", "history must be a train.History"),
    (
        "practice.diagnose(train.History.empty()._replace(loss=np.zeros((2, 50))))",
        "history must be of one run, got losses [2, 50] || Population.histories",
    ),
    (
        "practice.gradient_check(LINE, {'params': {}}, (np.ones((2, 8), np.float32), np.zeros(2, int)))",
        "gradient_check: the state does not belong to this Dense",
    ),
    (
        "practice.gradient_check(NET, STATE.variables, (SET.images[:2], SET.labels[:3]), preprocess=SET.standardize)",
        "inputs and targets must be arrays [batch, ...] of one length",
    ),
    (
        "practice.gradient_check(NET, STATE.variables, (SET.images[:2], SET.labels[:2] + 50), preprocess=SET.standardize)",
        "gradient_check: labels must be in 0..9",
    ),
    (
        "practice.function_gradient_check(lambda x: float(x.sum()), jnp.ones(3))",
        "compiled, and fails: ConcretizationTypeError",
    ),
    ("practice.inspect(NET, STATE, (SET, SET))", "inspect: batch must be a pair (inputs, targets) or a data set"),
    ("practice.Inspector(NET, None)", "Inspector: batch must be a pair (inputs, targets) or a data set"),
    ("practice.Inspector(NET, SET, tx=3)", "Inspector: tx must be an optax gradient transformation"),
    ("practice.Inspector(NET, SET).look(STATE.variables)", "Inspector: state must be a train.TrainState"),
    ("practice.mistakes(NET, STATE, COLUMN)", "mistakes: the data set must have classes"),
    ("practice.filters(STATE.params)", 'variables must be {"params": ...'),
    (
        "practice.feature_maps(NET, LINE_STATE, SET.images[0], 'stem_conv', preprocess=SET.standardize)",
        "feature_maps: the state does not belong to this ResNet",
    ),
    (
        "practice.feature_maps(NET, STATE, SET.images[0], 'stem_conv', preprocess=5)",
        "feature_maps: preprocess must be a function",
    ),
    (
        "practice.receptive_field(NET, STATE, (28, 28, 3), 'stem_conv')",
        "receptive_field: the state does not belong || needed is (3, 3, 3, 16)",
    ),
    ("practice.top_patches(NET, LINE_STATE, SET, 'stem_conv', [0])", "top_patches: the state does not belong"),
    (
        "practice.saliency(NET, LINE_STATE, SET.images[:1], preprocess=SET.standardize)",
        "saliency: the state does not belong",
    ),
    ("practice.saliency(NET, STATE, SET.images[:1], preprocess=5)", "saliency: preprocess must be a function"),
    (
        "practice.occlusion(NET, LINE_STATE, SET.images[0], 1, preprocess=SET.standardize)",
        "occlusion: the state does not belong",
    ),
]


@pytest.fixture(scope="module")
def names(fashion, tmp_path_factory):
    """What the calls refer to."""
    key, keys = jax.random.key(0), jax.random.split(jax.random.key(0), 4)
    train_set = fashion[0][:64]
    net, sgd = models.resnet_cifar(8), optim.sgd(0.1)
    plateau = optax.chain(sgd, optim.reduce_on_plateau(every=None))
    scheduled = optax.inject_hyperparams(optim.momentum)(learning_rate=optim.cosine_decay(0.1, 100))
    injected = optax.inject_hyperparams(optim.momentum)(learning_rate=0.1)
    state = train.init_state(net, sgd, key, train_set.image_shape)
    images, labels = np.zeros((4, 28, 28, 3), np.uint8), np.array([0, 1, 0, 1], np.int32)
    # A tiny tree for what takes optimizer states alone.
    params = {"conv": {"kernel": jnp.ones((2, 2))}, "head": {"kernel": jnp.ones((2, 2))}}
    averages = optax.chain(optim.swa(0), optim.ema(0.9), optim.snapshots(1, 2))
    half = optax.masked(optim.snapshots(1, 2), {"conv": True, "head": False})

    def dataset(**changes):
        standardize = data.Standardize((0.5,) * 3, (0.5,) * 3)
        fields = {"inputs": images, "targets": labels, "class_names": ("a", "b"), "standardize": standardize}
        return data.Dataset("mine", "train", **fields | changes)

    def five_classes():
        few = train_set.labels < 5
        return data.Dataset(
            "five", "test", train_set.images[few], train_set.labels[few], tuple("abcde"), train_set.standardize
        )

    def nan_in(variables):
        head = {**variables["params"]["head"], "bias": jnp.full(10, jnp.nan)}
        return {**variables, "params": {**variables["params"], "head": head}}

    def donated():
        gone = jax.tree.map(jnp.copy, state)
        gone.step.delete()
        return gone

    def fit(**changes):
        arguments = {"state": state, "model": net, "tx": sgd, "train_set": train_set, "steps": 2, "batch_size": 16}
        return train.fit(**arguments | {"progress": False} | changes)

    def population(**changes):
        arguments = {"model": net, "tx": injected, "train_set": train_set, "steps": 2, "batch_size": 16, "keys": keys}
        return train.population(**arguments | {"progress": False} | changes)

    def search(**changes):
        arguments = {"chain": optim.momentum, "space": {"learning_rate": (0.01, 0.1)}, "trials": 2, "batch_size": 16}
        arguments |= {"model": net, "train_set": train_set, "key": key, "progress": False}
        return practice.coarse_search(**arguments | changes)

    def no_names(targets):
        return data.from_arrays(train_set.images, targets, standardize=train_set.standardize)

    # Tables: a number to predict, in a vector and in one and two columns; class numbers; inputs in a dict.
    table = np.random.default_rng(0).normal(size=(64, 8))
    line, dicts, sows = nn.Dense(1), GivesADict(), SowsAnArray()
    line_state, dicts_state, sows_state = (
        train.init_state(module, sgd, key, shape)
        for module, shape in ((line, (8,)), (dicts, train_set.image_shape), (sows, train_set.image_shape))
    )
    column = data.from_arrays(table, table[:, :1])
    averaged = optax.chain(sgd, optim.ema(0.9))
    run = tmp_path_factory.mktemp("run")
    train.fit(
        train.init_state(line, averaged, key, (8,)),
        *(line, averaged, column),
        **{"steps": 2, "batch_size": 16, "loss": train.squared_error, "checkpoint_dir": run, "progress": False},
    )

    return {
        **{"TABLE": data.from_arrays(table, table[:, 0]), "COLUMN": column, "no_names": no_names, "RUN": run},
        **{
            "TWO_COLUMNS": data.from_arrays(table, table[:, :2]),
            "NUMBERED": data.from_arrays(table, np.arange(64) % 3),
        },
        **{"IN_A_DICT": data.from_arrays({"a": table}, np.arange(64) % 3), "LINE": line, "LINE_STATE": line_state},
        **{"DICTS": dicts, "DICTS_STATE": dicts_state, "SOWS": sows, "SOWS_STATE": sows_state},
        "LINES": jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), {"params": line_state.params}),
        "MEMBERS_OF_DICTS": jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), {"params": dicts_state.params}),
        "FROZEN": optim.freeze(lambda path: path.startswith("conv")).init(params),
        **{
            module.__name__.split(".")[-1]: module
            for module in (data, ensemble, models, layers, optim, practice, report, train, transfer)
        },
        **{"jax": jax, "jnp": jnp, "np": np, "nn": nn, "optax": optax},
        **{"dataset": dataset, "five_classes": five_classes, "nan_in": nan_in, "donated": donated},
        **{"fit": fit, "population": population, "search": search, "K": key, "KEYS": keys, "X": jnp.ones((2, 6, 6, 3))},
        "IMAGES": images,
        "LABELS": labels,
        "P": params,
        "TX": averages,
        "S": averages.init(params),
        "MEMBERS": jax.vmap(averages.init)(jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), params)),
        "TINY": train.TrainState(params, {}, averages.init(params), jnp.zeros([], jnp.int32), key),
        "MASKED": half.update(params, half.init(params), params)[1],
        "AHEAD": optax.chain(optax.scale_by_learning_rate(0.1), optim.scale_by_nesterov_lookahead(0.9)),
        "NET": net,
        "SGD": sgd,
        "PLATEAU": plateau,
        "SCHEDULED": scheduled,
        "SET": train_set,
        "SHAPE": train_set.image_shape,
        "BATCH": (train_set.images[:16], train_set.labels[:16]),
        "STATE": state,
        "INJECTED": train.init_state(net, injected, key, train_set.image_shape),
        "STEP": train.make_step(net, sgd, preprocess=train_set.standardize),
        "MEMBERS_OF_NET": jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), state.variables),
        "FOLDER": tmp_path_factory.mktemp("empty"),
    }


@pytest.mark.parametrize("row", CALLS, ids=[row[0] for row in CALLS])
def test_a_wrong_call_is_refused_with_what_value_and_remedy(row, names):
    call, words, *kind = row
    # A step that is made by mistake would use up the state of all rows after it.
    names = names | {"STATE": jax.tree.map(jnp.copy, names["STATE"])} if "STATE" in call else names
    with pytest.raises(eval(kind[0], names) if kind else ValueError) as caught:
        eval(call, names)
    message = str(caught.value)
    missing = [word for word in words.split(" || ") if word not in message]
    assert not missing, f"{missing} not in: {message}"


def test_there_are_at_least_250_and_none_twice():
    assert len({row[0] for row in CALLS}) == len(CALLS) >= 250


# Public names that take nothing to be wrong about, or that a step and a loop call with what they have checked.
NOT_CALLED = {
    "data": {"Augment", "Geometric"},
    "models": {"AlexNet", "ConvLocalNet", "ConvNet", "CudaConvNet", "MLP", "ResNet", "VGG"},  # made by functions
    "layers": {
        *("Activation", "Norm", "Shortcut"),
        *("activate", "add_skip", "concatenate_skip", "shortcut_b", "shortcut_c", "synchronized_statistics"),
    },
    "optim": {"all_finite", "no_bias_no_norm", "wants_batch_stats", "with_batch_stats"},
    "practice": {
        *("DataReport", "Diagnosis", "Distribution", "FeatureMaps", "Filters", "Finding", "GradientCheck"),
        *("InitialLoss", "Inspection", "LayerReport", "Mistakes", "Occlusion", "Overfit", "Patch", "RateComparison"),
        *("RateRange", "ReceptiveField", "Saliency", "SearchResult", "TopPatches", "Trial", "WeightReport"),
    },  # results
    "report": {"environment"},
    "train": {"print_evaluations"},  # told of events by a run
}


@pytest.mark.parametrize("room", [data, ensemble, models, layers, optim, practice, report, train, transfer])
def test_every_public_function_is_in_the_table(room):
    called = " ".join(row[0] for row in CALLS)
    name = room.__name__.split(".")[-1]
    missing = []
    for public in room.__all__:
        value = getattr(room, public)
        is_function = callable(value) and not isinstance(value, types.ModuleType)
        is_result = isinstance(value, type) and issubclass(value, BaseException | tuple)
        an_instance = not isinstance(value, type | types.FunctionType) and not hasattr(value, "func")
        if not is_function or is_result or an_instance or public in NOT_CALLED.get(name, ()):
            continue
        # `fit` and `population` of the table are calls of train.fit and train.population with something changed.
        if not re.search(rf"\b{public}\(", called):
            missing.append(public)
    assert not missing
