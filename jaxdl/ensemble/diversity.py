"""How different the members of an ensemble are: in what they predict and in their weights."""

from collections.abc import Mapping
from typing import Literal

import jax
import numpy as np

from jaxdl.arguments import check_integer, require
from jaxdl.typing import Params


def disagreement(probabilities: np.ndarray) -> np.ndarray:
    """The share of examples on which two members name different classes.

    Args:
      probabilities: [members, examples, classes], of `ensemble.probabilities`.

    Returns:
      float64 [members, members], symmetric, with zeros on the diagonal.

    Raises:
      ValueError: `probabilities` has another shape.

    Example:
      >>> disagreement(np.eye(2)[np.array([[0, 0, 1, 1], [0, 1, 1, 1]])]).tolist()
      [[0.0, 0.25], [0.25, 0.0]]

    Reference: Fort et al., `Deep Ensembles: A Loss Landscape Perspective`, 2019 (arXiv 1912.02757), sec. 3.
    """
    probabilities = np.asarray(probabilities)
    require(
        probabilities.ndim == 3,
        f"disagreement: probabilities must be [members, examples, classes], got shape {probabilities.shape}",
    )
    named = probabilities.argmax(-1)
    return np.array([[np.mean(a != b) for b in named] for a in named])


def normalized_diversity(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The disagreement of two members divided by the error of the second one.

    Accurate members cannot disagree often, so the paper divides the disagreement of a solution with a base solution by
    1 - accuracy. If the second member has no errors, the result is NaN or infinite.

    Args:
      probabilities: [members, examples, classes].
      labels: int [examples].

    Returns:
      float64 [members, members]: element (i, j) is disagreement(i, j) / error(j).

    Raises:
      ValueError: the shapes do not go together.

    Reference: Fort et al. 2019 (arXiv 1912.02757), sec. 4.1.
    """
    found, labels = disagreement(probabilities), np.asarray(labels)
    named = np.asarray(probabilities).argmax(-1)
    require(
        labels.shape == named.shape[1:],
        f"normalized_diversity: labels must be [{named.shape[1]}], one for each example, got shape {labels.shape}",
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return found / np.mean(named != labels, 1)


def weight_cosine(members: Params) -> np.ndarray:
    """The cosine between the weights of members, each flattened to one vector.

    Args:
      members: stacked parameters, arrays with a leading axis of members; or stacked variables, {"params": ...,
        "batch_stats": ...}, of which only the parameters are used.

    Returns:
      float64 [members, members], ones on the diagonal.

    Raises:
      ValueError: there are no arrays, or their leading axes differ.

    Reference: Fort et al. 2019 (arXiv 1912.02757), sec. 3.
    """
    weights = members["params"] if isinstance(members, Mapping) and "params" in members else members
    leaves = jax.tree.leaves(weights)
    stacked = bool(leaves) and all(np.ndim(leaf) >= 1 and len(leaf) == len(leaves[0]) for leaf in leaves)
    require(
        stacked,
        "weight_cosine: members must be stacked parameters, every array with one leading axis of members, as "
        f'optim.snapshot_variables(opt_state)["params"] has them, got shapes {[np.shape(leaf) for leaf in leaves[:3]]}',
    )
    flat = np.concatenate([np.asarray(x, np.float64).reshape(len(x), -1) for x in leaves], 1)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    return flat @ flat.T


def project_predictions(
    probabilities: np.ndarray, *, via: Literal["tsne", "pca"] = "tsne", seed: int = 0, perplexity: float | None = None
) -> np.ndarray:
    """Projects members to points in a plane, so that members with similar predictions are near each other.

    Each member is the vector of its probabilities on all examples; scikit-learn projects these vectors. The points of
    the snapshots of a run show its trajectory.

    Args:
      probabilities: [members, examples, classes], of the members of one or more trajectories.
      via: "tsne" (as in the paper) keeps neighbours together; "pca" keeps the directions of greatest variance.
      seed: the seed of t-SNE.
      perplexity: the perplexity of t-SNE, below the number of members; by default a third of it, at most 30.

    Returns:
      float64 [members, 2].

    Raises:
      ValueError: a shape or an argument is wrong, or there are fewer than three members.

    Reference: Fort et al. 2019 (arXiv 1912.02757), sec. 3 and fig. 2c; van der Maaten and Hinton, `Visualizing Data
    using t-SNE`, 2008.
    """
    probabilities = np.asarray(probabilities, np.float64)
    require(
        probabilities.ndim == 3 and len(probabilities) >= 3,
        f"project_predictions: probabilities must be [members >= 3, examples, classes], got {probabilities.shape}",
    )
    require(via in ("tsne", "pca"), f'project_predictions: via must be "tsne" or "pca", got via={via!r}')
    check_integer("project_predictions", "seed", seed, at_least=0)
    flat = probabilities.reshape(len(probabilities), -1)
    if via == "pca":
        from sklearn.decomposition import PCA

        return PCA(2).fit_transform(flat)
    from sklearn.manifold import TSNE

    perplexity = min(30.0, len(flat) / 3) if perplexity is None else perplexity
    require(
        0 < perplexity < len(flat),
        f"project_predictions: perplexity must be in (0, {len(flat)}), below the number of members, got {perplexity!r}",
    )
    return TSNE(2, perplexity=perplexity, random_state=seed, init="pca").fit_transform(flat).astype(np.float64)
