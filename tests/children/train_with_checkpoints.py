"""A run that tests kill: python train_with_checkpoints.py FOLDER OUT STEPS. Writes OUT.npz at its end."""

import sys

import jax
import numpy as np
import optax

sys.path.insert(0, __file__.rpartition("/children/")[0])
from helpers import NoisyNormNet, numbers, random_dataset, without_times

from jaxdl import data, optim, train

folder, out, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
train_set = random_dataset(320)
model = NoisyNormNet()
tx = optax.chain(
    optim.momentum(optim.cosine_cycles(0.05, period=200)),
    optim.reduce_on_plateau(0.9, patience=1, every=None),
    optim.swa(100, period=20),
    optim.ema(0.99),
    optim.snapshots(200, 3),
)
state = train.init_state(model, tx, jax.random.key(0), train_set.image_shape)
print("training", flush=True)
state, history = train.fit(
    state,
    model,
    tx,
    train_set,
    steps=steps,
    batch_size=16,
    eval_set=train_set[:64],
    eval_every=50,
    augment=data.RandomFlip(),
    checkpoint_dir=folder,
    checkpoint_every=30,
    progress=False,
)
arrays = jax.tree.leaves((numbers(state), without_times(history)))
np.savez(out, *arrays)
print("done", flush=True)
