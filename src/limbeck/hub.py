"""Models by hub id or folder: always a local folder in the end, never a pickle."""

import json
from pathlib import Path
from typing import Any

from limbeck.artifact import file_hash
from limbeck.errors import ModelError

_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model"]


def model_folder(model: str) -> Path:
    """Give the local folder of a model, fetching it from the hub where it is an id.

    Args:
        model: A folder, or a hub id such as `xlm-roberta-base`.

    Raises:
        ModelError: There is no such folder and no such id, or the folder has no config.json.
    """
    return _folder(model, _WANTED)


def config_folder(model: str) -> Path:
    """Give a local folder with a model's config and tokenizer; no weights are fetched for it.

    Args:
        model: A folder, or a hub id.

    Raises:
        ModelError: As `model_folder`.
    """
    return _folder(model, ["*.json"])


def _folder(model: str, wanted: list[str]) -> Path:
    folder = Path(model).expanduser()
    if not folder.is_dir():
        folder = _fetch(model, wanted)
    if not (folder / "config.json").exists():
        raise ModelError("no config.json in the model's folder", where=str(folder))
    return folder


def _fetch(model: str, wanted: list[str]) -> Path:
    looks_local = model.startswith((".", "/", "~")) or model.count("/") > 1
    if looks_local:
        raise ModelError("no such folder", where=model, do="check teacher.model")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )
    except ImportError:
        raise ModelError(
            "is not a folder, and reading the hub needs the extra `train`",
            where=model,
            do="pip install 'limbeck[train]'",
        ) from None
    try:
        return Path(snapshot_download(model, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            "is neither a folder nor to be had from the hub",
            where=model,
            found=str(error).strip().partition("\n")[0] or type(error).__name__,
            do="give the path of a model folder, or check the name and the network",
        ) from None


def read_config(folder: Path) -> dict[str, Any]:
    """Give a model's config.json.

    Raises:
        ModelError: It is not JSON.
    """
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError("cannot be read as JSON", where=str(path), found=str(error)) from None
    if not isinstance(values, dict):
        raise ModelError(
            "is no model's config",
            where=str(path),
            found=type(values).__name__,
            expected="an object with model_type and sizes",
        )
    return values


def depth(config: dict[str, Any]) -> int:
    """Give the number of layers that a config.json states.

    Raises:
        ModelError: It states none.
    """
    for name in ("num_hidden_layers", "n_layers", "num_layers"):
        if isinstance(config.get(name), int):
            return int(config[name])
    raise ModelError("config.json states no number of layers", found=", ".join(sorted(config)))


def width(config: dict[str, Any]) -> int:
    """Give the width of the piece embeddings that a config.json states.

    Raises:
        ModelError: It states none.
    """
    for name in ("embedding_size", "hidden_size", "dim"):
        if isinstance(config.get(name), int):
            return int(config[name])
    raise ModelError("config.json states no width", found=", ".join(sorted(config)))


def content_hashes(folder: Path) -> dict[str, str]:
    """Give the SHA-256 of each file that decides what a model computes."""
    return {
        path.name: file_hash(path)
        for path in sorted(folder.iterdir())
        if path.suffix in (".json", ".safetensors") and path.is_file()
    }
