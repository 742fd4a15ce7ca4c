"""Score a task model's folder on one labelled file, outside any run."""

import logging
from pathlib import Path
from typing import Any

from limbeck.benchmarks import Examples, load_file
from limbeck.errors import DataError, ModelError
from limbeck.evaluate import Scores, score
from limbeck.hub import model_folder, read_config
from limbeck.tasks import find_task
from limbeck.tokenizer import load_tokenizer

log = logging.getLogger(__name__)


def evaluate_file(model: str | Path, *, task: str, file: Path, language: str) -> Scores:
    """Score a model on one CoNLL-style file.

    Args:
        model: A token classification model's folder, or a hub id.
        task: `ner` or `pos`.
        file: The labelled file. Entity types that the model does not know are read as `O` and
            told in the log; unknown parts of speech are an error.
        language: For the record.

    Raises:
        LimbeckError: The model or the file cannot be read, or they are not of this task.
    """
    record = find_task(task)
    if not file.is_file():
        raise DataError("no such file", where=str(file))
    folder = model_folder(str(model))
    kinds = [str(kind) for kind in read_config(folder).get("architectures") or ()]
    from limbeck.encoder import load_encoder
    from limbeck.finetune import predict
    from limbeck.heads import HEADS

    ending = HEADS[record.head].ending
    if not any(kind.endswith(ending) for kind in kinds):
        raise ModelError(
            "is no model of this task: its head is another",
            where=str(folder),
            found=", ".join(kinds) or "no architectures in config.json",
            expected=f"…{ending}, such as the folder `model` of a task artifact",
        )

    loaded = load_encoder(folder, head=record.head, attention="sdpa")
    names: Any = loaded.config.id2label
    labels = [names[number] for number in sorted(names)]
    data = load_file(file, task=task, labels=labels)
    _tell_unknown(data)
    found = predict(
        loaded,
        load_tokenizer(folder),
        task=record,
        examples=data.examples,
        labels=labels,
        max_pieces=128,
    )
    return score(record, data.examples, found, language=language)


def _tell_unknown(data: Examples) -> None:
    for reason, note in data.notes.items():
        rule, _, kind = reason.partition(" ")
        if rule == "outside-labels":
            log.warning(
                "%d words of type %s are read as O, for the model has no such label; first at %s",
                note.count,
                kind,
                note.samples[0],
            )
