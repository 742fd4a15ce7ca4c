"""A checkpoint with the class that its config names, so that nothing of it is lost."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from limbeck.encoder import check_shapes, checked_name, from_pretrained, quiet, read_config
from limbeck.errors import ModelError


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model as it was saved.

    Attributes:
        model: The model, of the class that its config names, in eval mode, on the CPU.
        unread: Names of tensors in the files that this class has no place for.
    """

    model: PreTrainedModel
    unread: tuple[str, ...]


def load_checkpoint(model: str | Path, *, allow_remote_code: bool = False) -> Checkpoint:
    """Load a checkpoint with the class that its config names: head, pooler and dtype as saved.

    Args:
        model: A folder, or a hub id (then only safetensors are taken).
        allow_remote_code: As in `load_encoder`.

    Raises:
        ModelError: As `load_encoder`; also if the config names no class of transformers, or the
            checkpoint lacks a tensor of that class.
    """
    name = checked_name(model)
    with quiet():
        config = read_config(name, allow_remote_code)
        kind = _own_class(config, name)
        options: dict[str, Any] = {"config": config, "dtype": "auto"}
        loaded, info = from_pretrained(kind, name, f"class {kind.__name__}", options)
        missing = info["missing_keys"]
        if missing and all(key.startswith("pooler.") for key in missing):
            options["add_pooling_layer"] = False
            loaded, info = from_pretrained(kind, name, f"class {kind.__name__}", options)
    check_shapes(info["mismatched_keys"], name)
    if info["missing_keys"]:
        raise ModelError(
            f"the checkpoint lacks {len(info['missing_keys'])} tensors",
            where=name,
            found=f"no {min(info['missing_keys'])}",
            expected=f"all tensors of {kind.__name__}",
        )
    return Checkpoint(loaded.eval(), tuple(sorted(info["unexpected_keys"])))


def _own_class(config: PreTrainedConfig, where: str) -> type[PreTrainedModel]:
    names = config.architectures or []
    kind = getattr(transformers, names[0], None) if names else None
    if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel)):
        raise ModelError(
            "the config names no class of transformers",
            where=f"{where}/config.json: architectures",
            found=", ".join(names) or "none",
            expected="one, such as XLMRobertaForMaskedLM",
            do="add it, so that no head is lost",
        )
    return kind
