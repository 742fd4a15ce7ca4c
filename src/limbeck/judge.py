"""A task model's folder outside any run: scored on a labelled file, or asked line by line."""

import json
import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.answering import TaskModel
from limbeck.asking import Asked, placed, read_line, told
from limbeck.benchmarks import Examples, load_file
from limbeck.bundle import is_bundle
from limbeck.errors import DataError, ModelError
from limbeck.evaluate import Scores, score
from limbeck.hub import model_folder, read_config
from limbeck.task_section import DEFAULT_WINDOW, WINDOW_PIECES
from limbeck.tasks import find_task
from limbeck.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)


def load_task_model(model: str | Path, *, task: str | None = None) -> TaskModel:
    """Load a task model's folder or hub id, or a bundle; of a bundle without torch.

    Args:
        task: A name of `TASKS`; without it, what the model's config says.

    Raises:
        LimbeckError: It cannot be read, is not of this task, or does not say of which it is.
    """
    if task is not None:
        find_task(task)
    if is_bundle(Path(model)):
        return _bundled(Path(model), task)
    return load_tuned(model, task=task)[1]


def load_tuned(
    model: str | Path, *, task: str | None = None
) -> "tuple[PreTrainedModel, TaskModel]":
    """Load a task model's folder or hub id, as torch's model and as what answers its task.

    Raises:
        LimbeckError: As `load_task_model`.
    """
    folder = model_folder(str(model))
    config = read_config(folder)
    about = config.get("limbeck") or {}
    named = task or about.get("task")
    if named is None:
        raise ModelError(
            "the model does not say what its task is",
            where=f"{folder}/config.json",
            expected="the entry limbeck.task",
            do="name it with --task",
        )
    record = find_task(str(named))
    kinds = [str(kind) for kind in config.get("architectures") or ()]
    from limbeck.architectures import most_pieces
    from limbeck.encoder import load_encoder
    from limbeck.finetune import task_model
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
    labels = tuple(names[number] for number in sorted(names))
    most = most_pieces(loaded.config) or 10**6
    window = about.get("max_pieces") or min(most, WINDOW_PIECES.get(record.name, DEFAULT_WINDOW))
    return loaded, task_model(
        loaded, load_tokenizer(folder), task=record, labels=labels, max_pieces=int(window)
    )


def _bundled(path: Path, task: str | None) -> TaskModel:
    from limbeck.runtime import load

    loaded = load(path).model
    if task not in (None, loaded.task.name):
        raise ModelError(
            "the bundle is of another task", where=str(path), found=loaded.task.name, expected=task
        )
    return loaded


def answer_lines(
    model: TaskModel, lines: Iterable[str], *, source: str, batch: int = 64, n_best: int = 0
) -> Iterator[str]:
    """Answer lines of text or JSON: one line of JSON for each, in order.

    Args:
        lines: See `asking.read_line`.
        source: Where they come from, for messages.
        batch: Lines read before the first of them is answered.
        n_best: Tell so many answers beside the one, best first, where the task has several.

    Raises:
        RecipeError: Several answers are wanted of a task that gives one.
        DataError: A line is not what the task is asked of; the answers before it were given.
    """
    numbered = enumerate(lines, start=1)
    while True:
        asked: list[Asked] = []
        mistake: DataError | None = None
        try:
            for number, line in islice(numbered, batch):
                asked.append(read_line(model.task.name, line, f"{source}:{number}"))
        except DataError as error:  # of the line, or of what gives the lines
            mistake = error
        examples = [one.example for one in asked if one.example is not None]
        ranked = model.n_best(examples, count=n_best) if n_best else []
        found = iter(model.first_of(ranked) if n_best else model.answer(examples))
        more = iter(ranked)
        for one in asked:
            answer = told(one, None if one.example is None else next(found))
            if n_best:
                answer["answers"] = [] if one.example is None else list(map(placed, next(more)))
            yield json.dumps(answer, ensure_ascii=False)
        if mistake is not None:
            raise mistake
        if len(asked) < batch:
            return


def evaluate_file(model: str | Path, *, task: str, file: Path, language: str) -> Scores:
    """Score a model on one labelled file.

    Args:
        model: A task model's folder, or a hub id.
        task: A name of `TASKS`.
        file: In the layout that the task's benchmarks have. Entity types that the model does not
            know are read as `O` and told in the log; other unknown labels are an error.
        language: For the record, and for what does not count in answers to questions.

    Raises:
        LimbeckError: The model or the file cannot be read, or they are not of this task.
    """
    find_task(task)
    if not file.is_file():
        raise DataError("no such file", where=str(file))
    loaded = load_task_model(model, task=task)
    data = load_file(file, task=task, labels=loaded.labels, language=language)
    _tell_unknown(data)
    found = loaded.answer(data.examples)
    return score(loaded.task, data.examples, found, language=language)


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
