"""Three peak rates of a chain with averages on a ResNet-8: python train_population.py FOLDER OUT STEPS VIA.

Says on its output when updates are made, so that a test can stop it there. Writes OUT.npz at its end.
"""

import sys

import jax
import numpy as np
import optax

sys.path.insert(0, __file__.rpartition("/children/")[0])
from helpers import numbers, without_times

from jaxdl import data, models, optim, train

folder, out, steps, via = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
train_set, test_set = (part[:size] for part, size in zip(data.load("fashion_mini"), (192, 100), strict=True))


def chain(peak):
    return optax.chain(
        optim.add_l2(1e-4),
        optim.scale_by_momentum(0.9),
        optax.scale_by_learning_rate(optim.warmup_cosine(peak, 2, steps)),
        optim.swa(4),
        optim.ema(0.9),
        optim.snapshots(period=4, keep=2),
    )


found = train.population(
    models.resnet_cifar(8),
    optax.inject_hyperparams(chain)(peak=0.1),
    train_set,
    keys=jax.random.split(jax.random.key(0), 3),
    hyperparams={"peak": [0.01, 0.1, 1e20]},  # the last one diverges
    steps=steps,
    batch_size=32,
    accumulate=2,
    eval_set=test_set,
    eval_every=3,
    augment=data.CROP_AND_FLIP,
    stop=lambda history: len(history.eval_step) == 3 and len(history.loss) == 9 and history.learning_rate.max() < 0.05,
    via=via,
    checkpoint_dir=folder,
    checkpoint_every=2,
    progress=lambda step, loss: print("updates", step, flush=True),
)
histories = tuple(map(without_times, found.histories))
np.savez(out, np.array([str(reason) for reason in found.diverged]), *jax.tree.leaves((numbers(found.state), histories)))
