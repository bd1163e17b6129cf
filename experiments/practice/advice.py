"""The advice that the recipe ends with: how to train, in numbers, in words and as code."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import optax

from experiments.ablation import crop_and_flip
from jaxdl import data, models, optim

Change = Literal["none", "flips", "crops", "crops and flips"]
Net = Literal["convnet", "resnet8"]

MODELS = {"convnet": "models.convnet({classes})", "resnet8": "models.resnet_cifar(8, {classes})"}


@dataclasses.dataclass(frozen=True)
class Advice:
    """How to train a net.

    Attributes:
      model: "convnet" or "resnet8".
      rate: peak learning rate of SGD with momentum 0.9; it falls to 0 along a cosine.
      weight_decay: L2.
      augment: random changes of the training images.
      steps: updates.
      batch_size: images in a batch.
    """

    model: Net
    rate: float
    weight_decay: float
    augment: Change
    steps: int
    batch_size: int

    @property
    def name(self) -> str:
        """All of it in one word, for a folder."""
        augment = self.augment.replace(" ", "_")
        return f"{self.model}-{self.rate:.6g}-{self.weight_decay:.6g}-{augment}-{self.steps}-{self.batch_size}"

    def net(self, classes: int) -> nn.Module:
        """The model."""
        return net(self.model, classes)

    def chain(self) -> optax.GradientTransformation:
        """The optimizer."""
        return chain(self.rate, self.weight_decay, self.steps)

    def changes(self, train_set: data.Dataset) -> Any:
        """The augmentation, as for `train.fit`."""
        return changes(self.augment, train_set)

    def sentence(self) -> str:
        """The advice in words."""
        changed = "" if self.augment == "none" else f", with random {self.augment}"
        return (
            f"Train {self.model} for {self.steps:,} updates of {self.batch_size} images with momentum 0.9, a peak rate "
            f"of {self.rate:.3g} that falls to 0 along a cosine, and an L2 weight decay of {self.weight_decay:.2g}"
            f"{changed}."
        )

    def code(self, load: str, train_set: data.Dataset) -> str:
        """A script that follows the advice; `load` is the code that gives train_set and test_set."""
        side = train_set.image_shape[0]
        crop = f"data.RandomCrop({side // 8})"
        augment = {
            "none": "None",
            "flips": "data.RandomFlip()",
            "crops": crop,
            "crops and flips": f"data.Compose(({crop}, data.RandomFlip()))",
        }[self.augment]
        model = MODELS[self.model].format(classes="train_set.num_classes")
        return f"""import jax
from jaxdl import data, models, optim, train

{load}
model = {model}
tx = optim.momentum(optim.cosine_decay({self.rate:.4g}, {self.steps}), weight_decay={self.weight_decay:.3g})
state = train.init_state(model, tx, jax.random.key(0), train_set)
state, history = train.fit(
    state, model, tx, train_set, steps={self.steps}, batch_size={self.batch_size}, eval_set=test_set,
    augment={augment},
)
print(train.evaluate(model, state, test_set))"""

    def save(self, path: Path, about: dict[str, Any]) -> None:
        """Writes the advice as JSON, with what is known about how it was found."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"advice": dataclasses.asdict(self), **about}, indent=2) + "\n")


def read(path: Path) -> Advice:
    """The advice in a file that `save` wrote."""
    return Advice(**json.loads(path.read_text())["advice"])


def net(name: Net, classes: int) -> nn.Module:
    """A model by its name."""
    return models.convnet(classes) if name == "convnet" else models.resnet_cifar(8, classes)


def chain(rate: Any, weight_decay: Any, steps: int) -> optax.GradientTransformation:
    """Momentum with L2, under a cosine."""
    return optim.momentum(optim.cosine_decay(rate, steps), weight_decay=weight_decay)


def changes(name: Change, train_set: data.Dataset) -> Any:
    """The augmentation with that name, as for `train.fit`."""
    both = crop_and_flip(train_set)
    return {"none": None, "flips": both.changes[1], "crops": both.changes[0], "crops and flips": both}[name]
