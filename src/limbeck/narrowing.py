"""A student with fewer neurons in its feed-forward blocks.

Those stay that add most to a block's output on real text, and the map that reads them is refitted
to the output of all.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from limbeck.architectures import architecture_of
from limbeck.encoder import base_encoder
from limbeck.parameters import base_prefix
from limbeck.plan import neurons_kept
from limbeck.student import Student, empty_like

RIDGE = 1e-3
"""Of the refit, as a share of the neurons' mean square: what keeps it from fitting noise."""


def neurons_in(config: PreTrainedConfig) -> int:
    """Give the neurons of each feed-forward block."""
    keys = architecture_of(config).feed_forward.neurons
    return int(next(getattr(config, key) for key in keys if hasattr(config, key)))


def set_neurons(config: PreTrainedConfig, count: int) -> None:
    """Write the neurons of each feed-forward block into a config."""
    for key in architecture_of(config).feed_forward.neurons:
        if hasattr(config, key):
            setattr(config, key, count)


def neuron_moments(
    model: PreTrainedModel, layers: Sequence[int], batches: Iterable[Tensor]
) -> list[Tensor]:
    """Give the second moments of layers' neurons on text: the mean over pieces of a aᵀ.

    Args:
        model: It is left as it was.
        layers: Counted from 1.
        batches: Ids [B, T] without padding; at least one.

    Returns:
        Of each layer [I + 1, I + 1], on the CPU; `a` is the neurons' activations and a 1.
    """
    architecture, encoder = architecture_of(model.config), base_encoder(model)
    stack = encoder.get_submodule(architecture.layers)
    sums: dict[int, Any] = dict.fromkeys(layers, 0.0)

    def adding_to(layer: int) -> Any:
        def add(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            active = nn.functional.pad(given[0].flatten(0, -2).float(), (0, 1), value=1.0)
            sums[layer] = sums[layer] + active.T @ active

        return add

    readers = [stack.get_submodule(f"{one - 1}.{architecture.feed_forward.out}") for one in layers]
    hooks = [
        reader.register_forward_pre_hook(adding_to(layer))
        for reader, layer in zip(readers, layers, strict=True)
    ]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for ids in batches:
                placed = ids.to(model.device)
                encoder(input_ids=placed, attention_mask=torch.ones_like(placed))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    # The last entry counts pieces.
    return [(sums[layer] / sums[layer][-1, -1]).cpu() for layer in layers]


def narrow(student: Student, share: float, moments: Sequence[Tensor] | None) -> Student:
    """Give a student with a share of the neurons of each feed-forward block.

    The neurons that stay are those that add most to a block's output, E[a²] |w|²; the map that
    reads them takes over what the others gave as far as it is linear in those that stay.

    Args:
        student: As `build_student` makes it; it is not touched.
        share: Of the neurons, above 0, at most 1.
        moments: What `neuron_moments` gives of the teacher layers that its layers copy; None where
            its weights are drawn: any neurons are as good then.

    Source: choice and refit by least squares are He et al. 2017's, section 3.1 (arXiv 1707.06168),
    with neurons for channels and one closed form for their lasso.
    """
    old, total = student.model, neurons_in(student.model.config)
    kept = neurons_kept(total, share)
    if kept == total:
        return student
    config = copy.deepcopy(old.config)
    set_neurons(config, kept)
    model, origin = empty_like(old, config), dict(student.origin)
    tensors, sources = model.state_dict(), old.state_dict()
    architecture = architecture_of(config)
    depth = int(getattr(config, architecture.depth))
    with torch.no_grad():
        for layer in range(depth):
            stem = f"{base_prefix(old)}{architecture.layers}.{layer}."
            moment = None if moments is None else moments[layer]
            for name, found in _narrowed(old, stem, kept, moment):
                sources[name] = found
                origin[name] += f", {kept} of {total} neurons"
        for name, tensor in tensors.items():
            tensor.copy_(sources[name])
    return Student(model, origin)


def _narrowed(
    model: PreTrainedModel, stem: str, count: int, moment: Tensor | None
) -> Iterator[tuple[str, Tensor]]:
    """Give what changes in a layer, by name: fewer rows into the neurons, columns out of them."""
    block, total = architecture_of(model.config).feed_forward, neurons_in(model.config)
    tensors = model.state_dict()
    reader = f"{stem}{block.out}"
    weight, bias = tensors[f"{reader}.weight"], tensors.get(f"{reader}.bias")
    chosen = torch.arange(count)
    if moment is not None:
        chosen = chosen_neurons(weight, moment, count)
        weight, bias = refitted(weight, bias, moment, chosen)
    else:
        weight = weight[:, :count]
    yield f"{reader}.weight", weight
    if bias is not None:
        yield f"{reader}.bias", bias
    for module in block.into:
        for kind in ("weight", "bias"):
            name = f"{stem}{module}.{kind}"
            if name in tensors:
                yield name, tensors[name].unflatten(0, (-1, total))[:, chosen].flatten(0, 1)


def chosen_neurons(weight: Tensor, moment: Tensor, count: int) -> Tensor:
    """Give the neurons that add most to a block's output, ascending; ties go to the lower.

    Args:
        weight: Of the map that reads them, [D, I].
        moment: [I + 1, I + 1], as `neuron_moments` gives it.
        count: How many.

    Returns:
        Their numbers, int64 [count].
    """
    added = moment.diagonal()[:-1].double() * weight.cpu().double().square().sum(dim=0)
    return added.argsort(descending=True, stable=True)[:count].sort().values


def refitted(
    weight: Tensor, bias: Tensor | None, moment: Tensor, chosen: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Give the map that reads some neurons so that its output is nearest to that of all.

    Least squares, the change of the weights being held small by `RIDGE`.

    Args:
        weight: [D, I].
        bias: [D]; where there is none, none is made.
        moment: [I + 1, I + 1].
        chosen: Numbers of the neurons that stay, int64 [K].

    Returns:
        The weight [D, K] and the bias.
    """
    whole = moment.double()
    total = len(whole) - 1
    lost = torch.ones(total, dtype=torch.bool)
    lost[chosen] = False
    stay = chosen if bias is None else torch.cat([chosen, torch.tensor([total])])
    missing = weight.cpu().double()[:, lost] @ whole[:total][lost][:, stay]
    # A block in which no neuron ever acts has nothing to refit: any ridge leaves it as it is.
    ridge = RIDGE * whole.diagonal()[:-1].mean() or 1.0
    known = whole[stay][:, stay]
    known.diagonal()[: len(chosen)] += ridge
    change = torch.linalg.solve(known, missing, left=False).to(weight)
    found = weight[:, chosen] + change[:, : len(chosen)]
    return found, None if bias is None else bias + change[:, -1]
