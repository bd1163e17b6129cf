"""jaxdl: functional optimizers, models and training for deep-learning ablations in JAX and Flax."""

from jaxdl import data, ensemble, models, optim, practice, report, train, transfer

__version__ = "0.1.0"

__all__ = ["data", "ensemble", "models", "optim", "practice", "report", "train", "transfer"]
