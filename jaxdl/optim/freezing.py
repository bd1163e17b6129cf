"""Frozen parameters, gradual unfreezing, and rates by depth."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import optax

from jaxdl.arguments import check_function, check_real, require, shown
from jaxdl.optim.checks import check_opt_state
from jaxdl.tree import find_states, is_part, names_in, path_name
from jaxdl.typing import Params

Predicate: TypeAlias = Callable[[str], bool]
"""Takes a parameter's path, as in "stage1_block1/conv1/kernel"."""

_PREDICATE = 'lambda path: path.startswith("head")'

Groups: TypeAlias = Sequence[str | tuple[str, ...]]
"""Parts of a model from the input to the output; each is a prefix of the parameters' paths, or a tuple of prefixes."""


class FrozenMark(NamedTuple):
    """Stands for a frozen parameter. It holds no array, so which parameters are frozen is known when compiling."""


class TrainedMark(NamedTuple):
    """Stands for a parameter that is trained."""


class FreezeState(NamedTuple):
    """State of `freeze`."""

    marks: Any  # a tree like the parameters, of FrozenMark and TrainedMark; no arrays


def freeze(predicate: Predicate) -> optax.GradientTransformation:
    """Keeps parameters as they are. It is the last link of a chain; only averages and snapshots stand after it.

    `train.make_step` and `train.fit` find it in the optimizer's state. They do not compute the gradients of frozen
    parameters, nor anything that only those gradients need. A frozen BatchNorm normalises by its running statistics,
    and these do not change. (A `flax.linen.BatchNorm` whose `use_running_average` is a field, not an argument of the
    call, normalises by the batch; its running statistics do not change either.) Links before this one see gradients of
    0 for frozen parameters.

    Args:
      predicate: takes a parameter's path, as in "stage1_block1/conv1/kernel", and says whether it is frozen.

    Raises:
      ValueError: `predicate` is not a function; or (when the state is made) it freezes no parameter, or all of them.
        (Both are allowed if a part of the parameters is masked, and the last stage of `gradual_unfreezing` freezes
        none.)

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"conv": {"kernel": jnp.ones(2)}, "head": {"kernel": jnp.ones(2)}}
      >>> tx = optax.chain(optax.sgd(0.5), freeze(lambda path: not path.startswith("head")))
      >>> updates, _ = tx.update(params, tx.init(params), params)
      >>> updates["conv"]["kernel"].tolist(), updates["head"]["kernel"].tolist()
      ([0.0, 0.0], [-0.5, -0.5])
    """
    check_function("freeze", "predicate", predicate, _PREDICATE)

    def init(params: Params) -> FreezeState:
        return FreezeState(_marks("freeze", predicate, params))

    def update(updates, state, params=None):
        del params
        return without_frozen(_frozen(state.marks), updates), state

    return optax.GradientTransformation(init, update)


def refreeze(opt_state: Any, predicate: Predicate, params: Params) -> Any:
    """The state of a chain whose `freeze` has a new predicate. Velocities, counters and all else stay the same.

    Args:
      opt_state: a state with one `freeze` in it.
      predicate: the new predicate.
      params: the parameters.

    Raises:
      ValueError: there is no `freeze` in the state, or `predicate` freezes every parameter. (It may freeze none: the
        last stage of unfreezing.)
    """
    check_function("refreeze", "predicate", predicate, _PREDICATE)
    check_opt_state("refreeze", opt_state)
    require(len(find_states(opt_state, FreezeState)) == 1, "refreeze: the optimizer state must hold one optim.freeze")
    marks = FreezeState(_marks("refreeze", predicate, params, may_freeze_none=True))
    is_freeze = lambda node: isinstance(node, FreezeState)  # noqa: E731
    return jax.tree.map(lambda node: marks if is_freeze(node) else node, opt_state, is_leaf=is_freeze)


@dataclasses.dataclass(frozen=True)
class UnfreezingStage:
    """A predicate for `freeze`: True for all but the last groups. Equal stages freeze the same."""

    groups: Groups
    trained: int  # how many of the groups, from the last

    def __call__(self, path: str) -> bool:
        """Whether the parameter at `path` is frozen."""
        return _group("gradual_unfreezing", self.groups, path) < len(self.groups) - self.trained


def gradual_unfreezing(groups: Groups) -> list[UnfreezingStage]:
    """Predicates for `freeze`, one for each stage: first only the last group is trained, then the last two, ...

    Args:
      groups: parts of the model from the input to the output, `("stem", "stage1", "stage2", "stage3", "head")` for a
        CIFAR ResNet.

    Returns:
      As many predicates as there are groups; the last freezes nothing.

    Raises:
      ValueError: there are no groups, or a group is not a name; or, when a predicate is used, a path belongs to no
        group, or a group has no parameter.

    Example:
      >>> import jax
      >>> from jaxdl import data, models, optim, train
      >>> train_set, _ = data.load("fashion_mini")
      >>> model, key = models.resnet_cifar(8), jax.random.key(0)
      >>> for stage, frozen in enumerate(optim.gradual_unfreezing(("stem", "stage", "head"))):
      ...     tx = optax.chain(optim.momentum(0.1), optim.freeze(frozen))
      ...     if stage == 0:
      ...         state = train.init_state(model, tx, key, train_set.image_shape)
      ...     else:
      ...         opt_state = optim.refreeze(state.opt_state, frozen, state.params)
      ...         state = state._replace(opt_state=opt_state)
      ...     # state, _ = train.fit(state, model, tx, train_set, steps=(stage + 1) * 100)

    Reference: Howard and Ruder, `Universal Language Model Fine-tuning`, 2018 (arXiv 1801.06146), sec. 3.3.
    """
    groups = _checked_groups("gradual_unfreezing", groups)
    return [UnfreezingStage(groups, trained) for trained in range(1, len(groups) + 1)]


def scale_by_depth(groups: Groups, factor: float = 2.6) -> optax.GradientTransformation:
    """Discriminative learning rates: divides the updates of each group by a power of `factor`.

        u_g <- u_g / factor^(L - g),   g = 1 ... L

    where L is the number of groups: the last group's updates stay as they are. The link has no state, and stands after
    the learning rate.

    Args:
      groups: as for `gradual_unfreezing`.
      factor: positive; 2.6 in the paper.

    Raises:
      ValueError: `factor` is not positive, there are no groups, or a group is not a name; or (when the state is made)
        a parameter belongs to no group, or a group has no parameter.

    Example:
      >>> import jax.numpy as jnp
      >>> tx = scale_by_depth(("conv", "head"), factor=10.0)
      >>> updates = {"conv1": jnp.ones(1), "head": jnp.ones(1)}
      >>> updates, _ = tx.update(updates, tx.init(updates))
      >>> [round(float(u[0]), 3) for u in updates.values()]
      [0.1, 1.0]

    Reference: Howard and Ruder, `Universal Language Model Fine-tuning`, 2018 (arXiv 1801.06146), sec. 3.2.
    """
    groups = _checked_groups("scale_by_depth", groups)
    check_real("scale_by_depth", "factor", factor, at_least=0)
    require(
        isinstance(factor, jax.Array) or factor > 0,
        f"scale_by_depth: factor must be positive, got factor={factor}; with 1 all rates are the same",
    )

    def scaled(path, update):
        below = len(groups) - 1 - _group("scale_by_depth", groups, path_name(path))
        return update * jax.numpy.asarray(factor**-below, update.dtype)

    def init(params: Params) -> optax.EmptyState:
        _check_all_used("scale_by_depth", groups, params)
        return optax.EmptyState()

    def update(updates, state, params=None):
        del params
        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformation(init, update)


def frozen_params(opt_state: Any, params: Params) -> Any | None:
    """Which parameters are frozen: a tree of bools like them, or None if there is no `freeze` in the state."""
    states = find_states(opt_state, FreezeState)
    if not states:
        return None
    masks = [_frozen(state.marks) for state in states]
    return jax.tree.map(lambda _, *frozen: any(frozen), params, *masks)


def without_frozen(frozen: Any | None, updates: Params) -> Params:
    """The updates with zeros for what is frozen; `frozen` is what `frozen_params` gives."""
    if frozen is None:
        return updates
    return jax.tree.map(lambda keep, u: jax.numpy.zeros_like(u) if keep else u, frozen, updates)


def _marks(function: str, predicate: Predicate, params: Params, *, may_freeze_none: bool = False) -> Any:
    if isinstance(predicate, UnfreezingStage):
        _check_all_used("gradual_unfreezing", predicate.groups, params)
        may_freeze_none |= predicate.trained == len(predicate.groups)

    def mark(path, _):
        try:
            is_frozen = predicate(path_name(path))
        except (AttributeError, TypeError) as error:
            raise ValueError(
                f"{function}: predicate must be a function of a parameter's path, a string, but "
                f"predicate({path_name(path)!r}) raised {type(error).__name__}: {error}; "
                f"pass {_PREDICATE} for example"
            ) from error
        return FrozenMark() if is_frozen else TrainedMark()

    marks = jax.tree_util.tree_map_with_path(mark, params)
    frozen = jax.tree.leaves(_frozen(marks))
    for wrong, answer, remedy in (
        (all(frozen), True, "return False for the parameters to train"),
        (not any(frozen), False, "return True for the parameters to freeze, or leave optim.freeze out"),
    ):
        allowed = is_part(params) or (may_freeze_none and not any(frozen))
        require(
            allowed or not wrong,
            f"{function}: predicate must be True for the paths of some parameters and False for others, got {answer} "
            f"for all, {names_in(params)}; {remedy}",
        )
    return marks


def _frozen(marks: Any) -> Any:
    is_mark = lambda node: isinstance(node, FrozenMark | TrainedMark)  # noqa: E731
    return jax.tree.map(lambda mark: isinstance(mark, FrozenMark), marks, is_leaf=is_mark)


def _checked_groups(function: str, groups: Any) -> tuple[str | tuple[str, ...], ...]:
    """The groups as a tuple of names and tuples of names."""
    remedy = 'pass a tuple of beginnings of paths, ("stem", "stage", "head") for example'
    require(
        isinstance(groups, list | tuple) and len(groups) >= 1,
        f"{function}: groups must be a tuple of at least one group, got groups={shown(groups)}; {remedy}",
    )
    found = tuple(tuple(group) if isinstance(group, list | tuple) else group for group in groups)
    for group in found:
        names = group if isinstance(group, tuple) else (group,)
        require(
            bool(names) and all(isinstance(name, str) and name for name in names),
            f"{function}: a group must be a name or a tuple of names, got {shown(group)}; {remedy}",
        )
    return found


def _group(function: str, groups: Groups, path: str) -> int:
    for number, beginnings in enumerate(groups):
        if path.startswith(beginnings):
            return number
    raise ValueError(
        f"{function}: the parameter {path} belongs to no group of {tuple(groups)}; add one that its path begins with"
    )


def _check_all_used(function: str, groups: Groups, params: Params) -> None:
    """Raises `ValueError` unless every parameter belongs to a group, and (where none is masked) every group has one."""
    paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    used = {_group(function, groups, path) for path in paths}
    unused = [group for number, group in enumerate(groups) if number not in used]
    require(
        not unused or is_part(params),
        f"{function}: no parameter belongs to {', '.join(map(repr, unused))}; there are {names_in(params)}",
    )
