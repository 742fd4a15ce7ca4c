"""Hugging Face encoders seen through the table of `architectures`: load, run, read layers."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from limbeck.architectures import architecture_of, known_architecture
from limbeck.errors import ModelError
from limbeck.heads import HEADS, logits_in, reads_types
from limbeck.parameters import base_prefix

logger = logging.getLogger(__name__)


def model_class(kind: str, config: PreTrainedConfig) -> type:
    """Give the class of models of a kind ("mlm", "none", a key of `HEADS`) for a config.

    Raises:
        KeyError: transformers has none for this architecture.
    """
    if kind == "mlm":
        return transformers.AutoModelForMaskedLM
    return transformers.AutoModel if kind == "none" else HEADS[kind].model(config)


@dataclass(frozen=True, slots=True)
class LayerStates:
    """The states of every layer of one forward pass.

    Attributes:
        hidden: L + 1 tensors [B, T, D]: the embedding output, then each layer's; the last one
            stands after the final norm where the architecture has one.
        attention: L tensors [B, H, T, T] of probabilities after softmax, or none at all.
    """

    hidden: tuple[Tensor, ...]
    attention: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskStates:
    """One forward pass of an encoder with a head.

    Attributes:
        states: The encoder's states.
        logits: The head's output: [B, T, C], [B, C] (one label a text), or start and end
            [B, T, 2].
    """

    states: LayerStates
    logits: Tensor


def load_encoder(
    model: str | Path,
    *,
    head: str = "mlm",
    attention: Literal["eager", "sdpa"] = "eager",
    labels: Sequence[str] | None = None,
    allow_remote_code: bool = False,
    seed: int = 0,
    whole: bool = False,
) -> PreTrainedModel:
    """Load an encoder in float32, in eval mode, on the CPU.

    Tensors of the head that the checkpoint lacks are drawn under `seed`; a missing masked
    language head is told in the log, missing encoder tensors are an error. Poolers are left out
    of bare encoders. An architecture with eager attention only (DeBERTa) is loaded so.

    Args:
        model: A folder, or a hub id (then only safetensors are taken).
        head: "mlm", "none" for the bare encoder, or a key of `heads.HEADS`.
        attention: "eager" gives attention probabilities, "sdpa" is faster.
        labels: Names of the classes of a task's head, instead of the checkpoint's.
        allow_remote_code: Accept a checkpoint that names code of its own. That code is not run
            even then: every architecture in the table is transformers' own.
        seed: Seed of the tensors that the checkpoint lacks.
        whole: Refuse a checkpoint that lacks the head.

    Raises:
        ModelError: If the folder or its `config.json` does not exist, the weights are pickled,
            the config asks for remote code, the architecture is not known, the checkpoint does
            not fit it, or `labels` do not fit the checkpoint's own tagging head.
    """
    name = checked_name(model)
    with quiet():
        config = read_config(name, allow_remote_code)
        architecture = known_architecture(config.model_type, where=name)
        if labels is not None:
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: number for number, label in enumerate(labels)}
        options: dict[str, Any] = {"config": config, "dtype": torch.float32}
        options["attn_implementation"] = (
            attention if attention in architecture.attention else architecture.attention[0]
        )
        if head == "none" and architecture.has_pooler:
            options["add_pooling_layer"] = False
        kind = class_for(head, config, where=name)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            loaded, info = from_pretrained(kind, name, f"head {head!r}", options)
    check_shapes(info["mismatched_keys"], name)
    _check_missing(loaded, info["missing_keys"], name, whole=whole)
    return loaded.eval()


def class_for(head: str, config: PreTrainedConfig, *, where: str) -> type:
    """Give the class of `model_class`.

    Args:
        head: "mlm", "none" or a key of `HEADS`.
        config: The model's.
        where: Its name, for the message.

    Raises:
        ModelError: transformers has none for this architecture.
    """
    try:
        return model_class(head, config)
    except KeyError:
        raise ModelError(
            f"transformers has no {config.model_type} with a head of this kind",
            where=where,
            found=head,
            do="take a teacher of another architecture",
        ) from None


def base_encoder(model: nn.Module) -> nn.Module:
    """Give the encoder without its head; a wrapped bare encoder (DDP) is given back as it is."""
    return getattr(model, "base_model", model)  # type: ignore[no-any-return]


def layer_states(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    attention: bool,
    token_type_ids: Tensor | None = None,
) -> LayerStates:
    """Run the encoder without its head and give the states of every layer.

    Gradients flow unless the caller forbids them. The head of a model wrapped in DDP is passed
    by only if the wrapped model is a bare encoder.

    Args:
        model: An encoder, with or without a head.
        input_ids: [B, T] integers.
        attention_mask: [B, T], 1 for real pieces and 0 for padding.
        attention: Whether attention probabilities are wanted too.
        token_type_ids: [B, T]; passed on only where the architecture reads them.

    Raises:
        ModelError: If attention is wanted and the model was not loaded with eager attention.
    """
    inputs = _inputs(model, input_ids, attention_mask, attention, token_type_ids)
    return _states(base_encoder(model)(**inputs), attention)


def states_and_logits(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    attention: bool,
    token_type_ids: Tensor | None = None,
) -> TaskStates:
    """Run an encoder with its head once and give both layer states and logits.

    Args:
        model: A model with a head that returns `logits`.
        input_ids: [B, T] integers.
        attention_mask: [B, T], 1 for real pieces and 0 for padding.
        attention: Whether attention probabilities are wanted too.
        token_type_ids: [B, T]; passed on only where the architecture reads them.

    Raises:
        ModelError: If attention is wanted and the model was not loaded with eager attention.
    """
    outputs = model(**_inputs(model, input_ids, attention_mask, attention, token_type_ids))
    return TaskStates(_states(outputs, attention), logits_in(outputs))


def masked_logits(
    model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, chosen: Tensor
) -> Tensor:
    """Give a masked language model's logits at some places, without a vocabulary elsewhere.

    The head reads only the chosen states: at 15 % of the places and a large vocabulary, most of
    a step's work and memory is saved.

    Args:
        model: A masked language model.
        input_ids: [B, T] integers.
        attention_mask: [B, T], 1 for real pieces and 0 for padding.
        chosen: bool [B, T], true where logits are wanted.

    Returns:
        Logits [N, V], the N chosen places in reading order.
    """
    names = architecture_of(model.config).mlm_head
    head = [getattr(model, name) for name in names if hasattr(model, name)]
    if len(head) < len(names):
        # DeBERTa-v2 with `legacy` false: its head asks for the embeddings too.
        return model(input_ids=input_ids, attention_mask=attention_mask).logits[chosen]  # type: ignore[no-any-return]
    states = base_encoder(model)(input_ids=input_ids, attention_mask=attention_mask)
    found = states.last_hidden_state[chosen]
    for module in head:
        found = module(found)
    return found  # type: ignore[no-any-return]


def final_norm(model: PreTrainedModel) -> nn.Module | None:
    """Give the norm after the last layer, or None where the architecture has none.

    `LayerStates.hidden[-1]` stands after it, all others before: apply the teacher's own to an
    inner state of the teacher that a student's last state is compared with.
    """
    name = architecture_of(model.config).final_norm
    return model.base_model.get_submodule(name) if name else None


def build_options(model: PreTrainedModel) -> dict[str, bool]:
    """Give what the model's class must be told, beside the config, to build the same modules."""
    if model.base_model is not model or not architecture_of(model.config).has_pooler:
        return {}
    return {"add_pooling_layer": getattr(model, "pooler", None) is not None}


def checked_name(model: str | Path) -> str:
    """Give the hub id or the folder, after a look at the folder's files.

    Raises:
        ModelError: If the folder is missing, or holds no config.json or no safetensors.
    """
    name = str(model)
    # A hub id is `name` or `owner/name`; anything else is a path.
    is_path = name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1
    if is_path or isinstance(model, Path) or Path(name).is_dir():
        folder = Path(name).expanduser()
        _check_folder(folder)
        return str(folder)
    return name


def read_config(name: str, allow_remote_code: bool) -> PreTrainedConfig:
    """Read the config, as plain JSON first: nothing of the checkpoint is trusted before that.

    Raises:
        ModelError: If it cannot be read, names code of its own, or an unknown architecture.
    """
    try:
        entries, _ = PreTrainedConfig.get_config_dict(name)
    except (OSError, ValueError) as error:
        raise ModelError(
            "no model can be read there",
            where=name,
            found=_first_line(error),
            expected="a folder with config.json and model.safetensors, or a hub id",
        ) from error
    model_type = str(entries.get("model_type", ""))
    if entries.get("auto_map") and not allow_remote_code:
        raise ModelError(
            "the checkpoint asks for code of its own (remote code)",
            where=f"{name}/config.json",
            found="auto_map",
            expected="an architecture of transformers",
            do="allow remote code to load it with transformers' own class, its code is never run",
        )
    known_architecture(model_type, where=name)
    try:
        return transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, TypeError, StrictDataclassError) as error:
        raise ModelError(
            "the config cannot be read", where=f"{name}/config.json", found=_first_line(error)
        ) from error


def from_pretrained(kind: Any, name: str, what: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """Call `kind.from_pretrained` on safetensors, and give the model and the loading info.

    Raises:
        ModelError: If it fails.
    """
    try:
        return kind.from_pretrained(  # type: ignore[no-any-return]
            name,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the weights cannot be loaded into {options['config'].model_type} with {what}",
            where=name,
            found=_first_line(error),
            expected="safetensors that fit config.json",
        ) from error


def _check_folder(folder: Path) -> None:
    expected = "a folder with config.json and model.safetensors"
    if not folder.is_dir():
        raise ModelError("the model folder does not exist", where=str(folder), expected=expected)
    if not (folder / "config.json").is_file():
        raise ModelError("the folder holds no config.json", where=str(folder), expected=expected)
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if pickles:
        raise ModelError(
            "the weights are pickled, and a pickle can run code",
            where=str(folder),
            found=pickles[0],
            expected="model.safetensors",
            do="convert them once with save_pretrained where you trust them",
        )
    raise ModelError(
        "the folder holds no weights",
        where=str(folder),
        expected="model.safetensors",
        do="where the hub has pickled weights only, convert them once and name that folder",
    )


def check_shapes(
    mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]], where: str
) -> None:
    """Refuse tensors of another shape than the config's.

    Raises:
        ModelError: If there is one.
    """
    for name, found, expected in sorted(mismatched):
        raise ModelError(
            "a tensor of the checkpoint does not fit its config or the labels",
            where=f"{where}: {name}",
            found=f"shape {tuple(found)}",
            expected=f"shape {tuple(expected)}",
        )


def _check_missing(
    model: PreTrainedModel, missing: Sequence[str], where: str, *, whole: bool
) -> None:
    prefix = base_prefix(model)
    names = sorted(missing)
    encoder = [name for name in names if name.startswith(prefix) and ".pooler." not in f".{name}"]
    if encoder:
        raise ModelError(
            f"the checkpoint lacks {len(encoder)} tensors of the encoder",
            where=where,
            found=f"no {encoder[0]}",
            expected=f"all tensors of {type(model).__name__}",
        )
    if names and whole:
        raise ModelError(
            "the checkpoint lacks its head",
            where=where,
            found=f"no {names[0]}",
            expected=f"all tensors of {type(model).__name__}",
            do="name a model that was pretrained, not one tuned on a task",
        )
    if names and model.get_output_embeddings() is not None:
        logger.warning(
            "%s: no masked language head in the checkpoint; drawn at random: %s",
            where,
            ", ".join(names),
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _inputs(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    attention: bool,
    token_type_ids: Tensor | None,
) -> dict[str, Any]:
    config: Any = getattr(model, "module", model).config
    if attention and config._attn_implementation != "eager":
        raise ModelError(
            "attention probabilities are not available",
            where=str(config.model_type),
            found=f"attention {config._attn_implementation!r}",
            expected="a model loaded with attention='eager'",
        )
    inputs = {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "output_hidden_states": True,
        "output_attentions": attention,
        "return_dict": True,
    }
    if token_type_ids is not None and reads_types(config):
        inputs["token_type_ids"] = token_type_ids
    return inputs


def _states(outputs: Any, attention: bool) -> LayerStates:
    return LayerStates(tuple(outputs.hidden_states), tuple(outputs.attentions) if attention else ())


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' bars and load reports, and put its settings back after."""
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
