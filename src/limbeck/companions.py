"""What stands beside a model in its folder: the modules of a sentence-transformers model."""

import json
import shutil
from pathlib import Path

from limbeck.errors import ModelError

SENTENCE_FILES = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
PICKLES = (".bin", ".pt", ".pkl", ".pth")


def copy_companions(folder: Path, target: Path) -> list[str]:
    """Copy the sentence-transformers files and module folders, never a pickle.

    Returns:
        Names of the module files that were not copied, relative to the folder.

    Raises:
        ModelError: modules.json is damaged.
    """
    left: list[str] = []
    if not (folder / "modules.json").is_file():
        return left
    insides = _module_paths(folder / "modules.json")
    for name in SENTENCE_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)
    for inside in insides:
        if not inside.parts or inside.is_absolute() or ".." in inside.parts:
            continue
        (target / inside).mkdir(parents=True, exist_ok=True)
        for path in sorted((folder / inside).glob("*")):
            if path.suffix in (".json", ".safetensors", ".txt"):
                shutil.copyfile(path, target / inside / path.name)
            elif path.suffix in PICKLES:
                left.append(str(inside / path.name))
    return left


def _module_paths(path: Path) -> list[Path]:
    try:
        modules = json.loads(path.read_text(encoding="utf-8"))
        return [Path(str(module.get("path", ""))) for module in modules]
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            "this is no list of modules", where=str(path), found=str(error), do="fetch it again"
        ) from error
