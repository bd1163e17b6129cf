"""One of several processes of a training: python train_together.py ADDRESS PROCESSES PROCESS OUT PARALLEL [STEPS].

It trains on arrays, or on the class folders in the environment variable STREAM.
"""

import os
import sys

import jax

address, processes, process, out, parallel = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
steps = int(sys.argv[6]) if len(sys.argv) > 6 else 20
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4 // processes)

from jaxdl import data, optim, train

if processes > 1:
    train.join_processes(address, processes, process, timeout_seconds=10)

import dataclasses

import numpy as np
import optax

sys.path.insert(0, __file__.rpartition("/children/")[0])
from helpers import ConvNormNet, numbers, random_dataset, without_times


@dataclasses.dataclass(frozen=True)
class Counting(data.DecodeCenterCrop):
    """A view that notes how often it is called."""

    def __call__(self, encoded, generator):
        decoded.append(1)
        return super().__call__(encoded, generator)


decoded = []
train_set = random_dataset(120, shape=(8, 8, 3))
eval_set = train_set[:37]
model = ConvNormNet()
tx = optax.chain(optim.momentum(0.02), optim.ema(0.9), optim.snapshots(5, 2))
state = train.init_state(model, tx, jax.random.key(0), train_set.image_shape)
step = train.make_step(model, tx, parallel=parallel, preprocess=train_set.standardize)
count, first = 16 // processes, 16 // processes * process
stepped, metrics = step(state, (train_set.images[first : first + count], train_set.labels[first : first + count]))
loss = float(metrics.loss)
if "STREAM" in os.environ:
    view = Counting(8, 8)
    train_set, eval_set = data.folder(os.environ["STREAM"], train_view=view, test_view=view)
state = train.init_state(model, tx, jax.random.key(0), train_set.image_shape)
print("training", jax.device_count(), flush=True)
state, history = train.fit(
    state,
    model,
    tx,
    train_set,
    steps=steps,
    batch_size=16,
    eval_set=eval_set,
    eval_every=4,
    parallel=parallel,
    checkpoint_dir=f"{out}.checkpoints",
    checkpoint_every=10,
)
arrays = jax.tree.leaves((numbers(state), without_times(history)))
np.savez(f"{out}.{process}", loss, *arrays)
print("decoded", len(decoded), flush=True)
