"""The tasks: how examples become windows, how logits become answers, how answers are scored.

A task is a record of functions over numpy arrays; `TASKS` is the table. Training and serving
share these functions, so a model is asked the same way in both.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from limbeck.errors import RecipeError
from limbeck.tasks import scores, tagging


@dataclass(frozen=True, slots=True)
class Task:
    """What a task is made of.

    Args:
        name: The word for it in a recipe.
        head: The kind of output layer, a key of `heads.HEADS`.
        primary: The metric that systems are ranked by.
        encode: Examples, tokenizer and labels to windows.
        decode: Examples, windows, logits and labels to one prediction per example.
        statistics: Examples and predictions to counts [N, K] that may be summed over examples.
        metrics: Such sums [..., K] to named arrays [...]; vectorised, for resampling.
        per_label: Examples and predictions to one `LabelScore` per label.
        check: Raises DataError when a score over the examples could mean nothing.
        agreement: Two lists of predictions to the share of equal answers.
        count_units: How many answers the examples ask for.
        majority: Training examples and examples to the predictions of who knows no words.
        from_text: A line of running text and its place to an example without labels, or None
            where the task cannot be asked of running text.
        relabelled: An example and a prediction to the example with the prediction for gold.
        describe: An example to what a file of predictions tells of it: `where`, text, `gold`.
        identify: An example to the texts whose equals must not be divided.
        expand_labels: What a recipe names (entity types, tags) to the model's label set.
    """

    name: str
    head: str
    primary: str
    encode: Callable[..., list[Any]]
    decode: Callable[..., list[Any]]
    statistics: Callable[..., np.ndarray]
    metrics: Callable[[np.ndarray], dict[str, np.ndarray]]
    per_label: Callable[..., tuple[scores.LabelScore, ...]]
    check: Callable[..., None]
    agreement: Callable[..., float]
    count_units: Callable[..., int]
    majority: Callable[..., list[Any]]
    from_text: Callable[[str, str], Any]
    relabelled: Callable[..., Any]
    describe: Callable[..., dict[str, Any]]
    identify: Callable[..., Sequence[str]]
    expand_labels: Callable[[Sequence[str]], tuple[str, ...]]


TASKS: dict[str, Task] = {
    "ner": Task(
        name="ner",
        head="tagging",
        primary="f1",
        encode=tagging.encode,
        decode=tagging.decode,
        statistics=scores.span_statistics,
        metrics=scores.span_metrics,
        per_label=scores.span_scores,
        check=scores.check_spans,
        agreement=scores.agreement,
        count_units=tagging.count_words,
        majority=tagging.majority,
        from_text=tagging.from_text,
        relabelled=tagging.relabelled,
        describe=tagging.describe,
        identify=tagging.identify,
        expand_labels=tagging.iob2_labels,
    ),
    "pos": Task(
        name="pos",
        head="tagging",
        primary="accuracy",
        encode=tagging.encode,
        decode=tagging.decode,
        statistics=scores.tag_statistics,
        metrics=scores.tag_metrics,
        per_label=scores.tag_scores,
        check=scores.check_tags,
        agreement=scores.agreement,
        count_units=tagging.count_words,
        majority=tagging.majority,
        from_text=tagging.from_text,
        relabelled=tagging.relabelled,
        describe=tagging.describe,
        identify=tagging.identify,
        expand_labels=tagging.plain_labels,
    ),
}
"""Every task by its name."""


def find_task(name: str) -> Task:
    """Gives the task of this name.

    Raises:
        RecipeError: there is none.
    """
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=1)
        raise RecipeError(
            "no such task",
            found=repr(name),
            expected="one of " + ", ".join(TASKS),
            do=f"did you mean {near[0]!r}?" if near else "",
        )
    return TASKS[name]
