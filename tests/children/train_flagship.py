"""The README's script on a small net or one that people use: python train_flagship.py NET FOLDER OUT STEPS [scan].

Says on its output when an update is made, so that a test can stop it there. Writes OUT.npz at its end.
"""

import sys

import jax
import numpy as np
import optax

sys.path.insert(0, __file__.rpartition("/children/")[0])
from helpers import numbers, small_resnet, without_times

from jaxdl import data, ensemble, models, optim, train

NETS = {
    "small_resnet": small_resnet(),
    "resnet8": models.resnet_cifar(8),
    "resnet20": models.resnet_cifar(20),
    "alexnet": models.alexnet(10, widths=(8, 16, 24, 24, 16), hidden=32),
    "cuda_convnet": models.cuda_convnet(10, hidden=None, response_norm=True),
    "mlp": models.mlp(10, widths=(64,)),
}
net, folder, out, steps = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

train_set, test_set = data.load("fashion_mini")
batch_size = 32 if net == "mlp" else 16
train_set, test_set = train_set[: 10_000 if net == "mlp" else 160], test_set[:50]
if net == "alexnet":  # needs larger images
    train_set, test_set = (
        data.Dataset(s.name, s.split, s.images.repeat(2, 1).repeat(2, 2), s.labels, s.class_names, s.standardize)
        for s in (train_set, test_set)
    )
model = NETS[net]
tx = optax.chain(
    optim.add_l2(1e-4, optim.no_bias_no_norm),
    optim.scale_by_momentum(0.9, nesterov=True),
    optax.scale_by_learning_rate(optim.cosine_cycles(0.02, period=steps // 3)),
    optim.swa(4, period=2),
    optim.ema(0.9),
    optim.snapshots(period=steps // 3, keep=3),
)
state = train.init_state(model, tx, jax.random.key(0), train_set.image_shape)
state, history = train.fit(
    state,
    model,
    tx,
    train_set,
    steps=steps,
    batch_size=batch_size,
    eval_set=test_set,
    eval_every=max(steps // 6, 10),
    augment=data.CROP_AND_FLIP,
    scan=True if "scan" in sys.argv[5:] else None,
    checkpoint_dir=folder,
    checkpoint_every=max(steps // 6, 3),
    progress=lambda step, loss: print("update", step, flush=True),
)
found = ensemble.evaluate(model, optim.snapshot_variables(state.opt_state), test_set)
np.savez(out, *jax.tree.leaves((numbers(state), without_times(history), found)))
