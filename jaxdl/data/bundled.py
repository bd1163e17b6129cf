"""Real data that ships with the package."""

import importlib.resources

import numpy as np

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def fashion_mini() -> dict[str, np.ndarray]:
    """A stratified sample of Fashion-MNIST: 1,000 training and 200 test images of each of the 10 classes, shuffled.

    Made by `tools/make_fashion_mini.py` from the original splits. MIT licence, (c) 2017 Zalando SE: the text lies
    beside the file, `fashion_mini.LICENSE.txt`.

    Returns:
      `train_images` uint8 [10000, 28, 28, 1], `train_labels` int32 [10000], `train_rows` int32 [10000] (the rows of
      tensorflow-datasets' fashion_mnist 3.0.1 they come from), and the same for `test` with 2,000.
    """
    with importlib.resources.files("jaxdl.data").joinpath("fashion_mini.npz").open("rb") as file, np.load(file) as npz:
        return {name: npz[name] for name in npz.files}
