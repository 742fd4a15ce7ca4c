"""An encoder's parameters by name: what is tied, what is a head, how many there are."""

from collections.abc import Iterable

from torch import Tensor, nn
from transformers import PreTrainedModel

from limbeck.architectures import architecture_of
from limbeck.bench import Cost


def unique_tensors(model: nn.Module) -> dict[str, nn.Parameter]:
    """Give each parameter once, by its first name, in the model's order.

    Parameters that share their storage are tied: the later names are left out.
    """
    return _each_once(model.named_parameters())


def _each_once(named: Iterable[tuple[str, nn.Parameter]]) -> dict[str, nn.Parameter]:
    found: dict[object, tuple[str, nn.Parameter]] = {}
    for name, parameter in named:
        place = (parameter.device, parameter.data_ptr(), tuple(parameter.shape))
        found.setdefault(place if parameter.data_ptr() else name, (name, parameter))
    return dict(found.values())


def encoder_tensors(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """Give the parameters of the encoder, each once: no head, and no pooler, which is one.

    A masked language model and a task model of one encoder give the same names: embeddings that
    a head shares go by their name in the encoder.
    """
    prefix = base_prefix(model)
    return _each_once(
        (name, one)
        for name, one in model.named_parameters(remove_duplicate=False)
        if name.startswith(prefix) and not name.removeprefix(prefix).startswith("pooler.")
    )


def head_tensors(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """Give the parameters that are not the encoder's, each once; none that it shares."""
    inside = encoder_tensors(model)
    every = _each_once([*inside.items(), *model.named_parameters(remove_duplicate=False)])
    return {name: one for name, one in every.items() if name not in inside}


def linear_layers(model: PreTrainedModel) -> list[str]:
    """Give the names of the matrix products in the encoder's layers."""
    start = f"{base_prefix(model)}{architecture_of(model.config).layers}."
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(start)
    ]


def count_parameters(model: PreTrainedModel) -> dict[str, int]:
    """Count parameters by part, tied tensors once.

    Returns:
        `total`; `embedding`: all tables and norms of the embedding module; `layers`: the layer
        stack; `other`: final norm, tensors shared by layers, pooler, head (a tied decoder is
        counted as embedding). Buffers are not counted.
    """
    architecture = architecture_of(model.config)
    prefix = base_prefix(model)
    parts = {
        f"{prefix}{architecture.layers}.": "layers",
        f"{prefix}{architecture.embeddings}.": "embedding",
    }
    part_of: dict[nn.Parameter, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        part = next((part for start, part in parts.items() if name.startswith(start)), "other")
        if part_of.get(parameter, "other") == "other":
            part_of[parameter] = part
    counts = {"total": 0, "embedding": 0, "layers": 0, "other": 0}
    for tensor, part in part_of.items():
        counts[part] += tensor.numel()
        counts["total"] += tensor.numel()
    return counts


def model_bytes(model: PreTrainedModel) -> int:
    """Size of the parameters in memory, in bytes, tied tensors once and buffers not counted."""
    return sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())


def base_prefix(model: PreTrainedModel) -> str:
    """Give what stands before an encoder tensor's name in the model: "bert.", or nothing."""
    return "" if model.base_model is model else f"{model.base_model_prefix}."


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Linear)
    return layer.weight


def cost_of(model: PreTrainedModel, *, on_one_row: int = 0) -> Cost:
    """Give what a model holds, and what its layers compute for a sentence.

    Args:
        model: Any with layers of known names.
        on_one_row: Entries of the layers' matrices that are multiplied with one piece of a text
            alone (`last_rows`).
    """
    modules = dict(model.named_modules())
    products = sum(_weight(modules[name]).numel() for name in linear_layers(model))
    config = model.config
    attention = 2 * int(config.num_hidden_layers) * int(config.hidden_size)
    return Cost(count_parameters(model)["total"], products - on_one_row, attention, on_one_row)
