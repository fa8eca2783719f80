"""Start training from the weights of another run."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from elman.errors import ElmanError
from elman.layers.naming import Axis
from elman.layers.recurrent import Recurrent
from elman.training.model import Model
from elman.training.run import InitialWeights


@torch.no_grad()
def start_from(model: Model, other: Model, run: str) -> InitialWeights:
    """Copy the weights of another model into a model, where they mean the same.

    A weight is copied if its name, type and shape are the same, and its modules are of the same classes with the same
    cells. Rows and columns that stand for tokens, labels or channels (`Model.named`) are copied by their names. All
    other weights stay as they are.

    Args:
        model (Model): the model to train.
        other (Model): the model to start from.
        run (str): its run directory, for messages.

    Returns:
        InitialWeights: how many weights were copied, and where none were.

    Raises:
        ElmanError: no weight fits.
    """
    own, theirs = _weights(model), _weights(other)
    names, other_names = _axes(model, own), _axes(other, theirs)
    modules, other_modules = _modules(model), _modules(other)
    taken: dict[str, int] = {}
    for name, weight in own.items():
        taken[name] = 0
        if name in theirs and _same_modules(name, modules, other_modules):
            axes, other_axes = (known.get(name, (None,) * weight.dim()) for known in (names, other_names))
            taken[name] = _copy(weight, theirs[name], axes, other_axes)
    if not any(taken.values()):
        raise ElmanError(
            f"init: {run}: none of its weights fits the new model; a run with the same cell and sizes is needed"
        )
    whole = {name: weight.numel() for name, weight in own.items()}
    options, before = model.config.model_dump(), other.config.model_dump()
    kind = type(model.config)
    differing = [
        f"{key} {options[key]} instead of {before[key]}"
        for key in options
        if key in before and kind.owner(key).heading == "Model" and options[key] != before[key]
    ]
    return InitialWeights(
        run=run, task=other.name, taken=sum(taken.values()), weights=sum(whole.values()),
        afresh=_afresh(taken, whole), options=differing,
    )  # fmt: skip


def _common(model: Model, name: str) -> str:
    """The name that models of one kind share for a module or weight."""
    for own, common in model.common_names.items():
        if f"{name}.".startswith(own):
            return (common + f"{name}.".removeprefix(own)).removesuffix(".")
    return name


def _weights(model: Model) -> dict[str, Tensor]:
    state = model.network.state_dict(keep_vars=True)
    return {_common(model, name): weight for name, weight in state.items()}


def _modules(model: Model) -> dict[str, nn.Module]:
    return {_common(model, name): module for name, module in model.network.named_modules() if name}


def _axes(model: Model, weights: Mapping[str, Tensor]) -> dict[str, tuple[Axis, ...]]:
    """The names along the dimensions of the weights that have such, by the name of the weight."""
    named = {id(one.tensor): one.axes for one in model.named()}
    found = {name: named.pop(id(weight)) for name, weight in weights.items() if id(weight) in named}
    assert not named, "a named tensor is no weight of the network"
    for name, axes in found.items():
        sizes = [size if axis is None else len(set(axis)) for axis, size in zip(axes, weights[name].shape, strict=True)]
        assert sizes == list(weights[name].shape), f"{name}: {sizes} names"
    return found


def _same_modules(name: str, modules: Mapping[str, nn.Module], others: Mapping[str, nn.Module]) -> bool:
    """Return whether the modules that a weight is in are of the same classes, and have the same cells."""
    while name := name.rpartition(".")[0]:
        one, other = modules.get(name), others.get(name)
        if one is None or other is None:  # the weights of a part of one network are the whole of the other's
            continue
        if type(one) is not type(other):
            return False
        if isinstance(one, Recurrent) and isinstance(other, Recurrent) and type(one.cell) is not type(other.cell):
            return False
    return True


def _copy(weight: Tensor, other: Tensor, axes: tuple[Axis, ...], other_axes: tuple[Axis, ...]) -> int:
    """Copy what has the same names along all dimensions; return the number of values."""
    if weight.dtype != other.dtype or weight.dim() != other.dim():
        return 0
    here: list[Tensor] = []
    there: list[Tensor] = []
    for k, (axis, other_axis) in enumerate(zip(axes, other_axes, strict=True)):
        if (axis is None) is not (other_axis is None):
            return 0
        if axis is None or other_axis is None:
            if weight.shape[k] != other.shape[k]:
                return 0
            pairs = [(i, i) for i in range(weight.shape[k])]
        else:
            places = {name: i for i, name in enumerate(other_axis)}
            pairs = [(i, places[name]) for i, name in enumerate(axis) if name in places]
        shape = [-1 if j == k else 1 for j in range(weight.dim())]
        for indices, own in ((here, [i for i, _ in pairs]), (there, [i for _, i in pairs])):
            indices.append(torch.tensor(own, dtype=torch.int64).view(shape))
    weight[tuple(here)] = other[tuple(there)]
    return math.prod(index.numel() for index in here)


def _afresh(taken: Mapping[str, int], whole: Mapping[str, int]) -> list[str]:
    """The modules and weights that start afresh, each as one name; of those that do in part, the number of values."""
    found: list[str] = []

    def walk(prefix: str, names: list[str]) -> None:
        if not any(taken[name] for name in names):
            found.append(prefix)
        elif names == [prefix]:
            if taken[prefix] < whole[prefix]:
                found.append(f"{whole[prefix] - taken[prefix]:,} of {whole[prefix]:,} in {prefix}")
        else:
            parts: dict[str, list[str]] = {}
            for name in names:
                head = name[len(prefix) + 1 if prefix else 0 :].partition(".")[0]
                parts.setdefault(f"{prefix}.{head}" if prefix else head, []).append(name)
            for part, own in parts.items():
                walk(part, own)

    walk("", list(taken))
    return found
