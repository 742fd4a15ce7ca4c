"""Score a task model's folder on one labelled file, outside any run."""

from pathlib import Path

from limbeck.benchmarks import load
from limbeck.errors import DataError
from limbeck.evaluate import Scores, score
from limbeck.tasks import find_task
from limbeck.tokenizer import load_tokenizer


def evaluate_file(model: Path, *, task: str, file: Path, language: str) -> Scores:
    """Score a model on one CoNLL-style file.

    Args:
        model: A token classification model's folder.
        task: `ner` or `pos`.
        file: The labelled file; labels that the model does not know are an error.
        language: For the record.

    Raises:
        LimbeckError: The model or the file cannot be read, or their labels differ.
    """
    from limbeck.encoder import load_encoder
    from limbeck.finetune import predict

    record = find_task(task)
    if not file.is_file():
        raise DataError("no such file", where=str(file))
    loaded = load_encoder(model, head="tagging", attention="sdpa")
    labels = [loaded.config.id2label[i] for i in range(loaded.config.num_labels)]
    data = load_file(file, task=task, labels=labels)
    found = predict(
        loaded,
        load_tokenizer(model),
        task=record,
        sentences=data.examples,
        labels=labels,
        max_pieces=128,
    )
    return score(record, data.examples, found, language=language)
