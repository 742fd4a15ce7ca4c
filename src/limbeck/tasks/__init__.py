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
from limbeck.tasks import (
    answer_scores,
    classification,
    label_scores,
    parsing,
    reading,
    scores,
    tagging,
    tree_scores,
)


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
        count_cut: Examples, tokenizer and longest window to how many texts are cut to fit; None
            where long ones are read in several windows.
        confusion: Examples and predictions to labels and int64 [C, C], how often each gold label
            (row) was taken for each (column); None where answers are no single labels.
        calibrate: Dev examples and predictions to what `settle` is told beside, by name: settings
            that are chosen on the source's dev set and kept in the model's config; none where
            none is needed. None where there is nothing to choose.
        settle: Predictions and these settings to the final predictions.
        n_best: As `decode`, without labels and with a `count`: to the best answers of each example,
            best first. None where an answer is one label, tree or list of tags.
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
    count_cut: Callable[..., int] | None = None
    confusion: Callable[..., tuple[tuple[str, ...], np.ndarray]] | None = None
    calibrate: Callable[..., dict[str, float]] | None = None
    settle: Callable[..., list[Any]] | None = None
    n_best: Callable[..., list[tuple[Any, ...]]] | None = None


def _task(
    name: str, *, head: str, primary: str, family: Any, scored: Any, **more: Callable[..., Any]
) -> Task:
    """Give a task of the functions of a family's module and of the module of its scores."""
    reads = ("encode", "decode", "count_units", "from_text", "relabelled", "describe", "identify")
    counts = ("statistics", "metrics", "per_label", "check", "agreement", "majority")
    found = {one: getattr(family, one) for one in reads if one not in more}
    found |= {
        one: getattr(scored, one, None) or getattr(family, one) for one in counts if one not in more
    }
    return Task(name, head, primary, **{"expand_labels": tuple, **found, **more})


_TAGGING: dict[str, Any] = {"head": "tagging", "family": tagging, "scored": scores}
_PARSING: dict[str, Any] = {"head": "tree", "family": parsing, "scored": tree_scores}
_TEXTS: dict[str, Any] = {
    "head": "text",
    "family": classification,
    "scored": label_scores,
    "count_cut": classification.count_cut,
    "confusion": label_scores.confusion,
}
_PAIRS: dict[str, Any] = _TEXTS | {"from_text": classification.pair_from_text}
_READING: dict[str, Any] = {
    "head": "span",
    "family": reading,
    "scored": answer_scores,
    "calibrate": answer_scores.calibrate,
    "settle": reading.settle,
    "n_best": reading.n_best,
}
_SPANS: dict[str, Any] = {
    "statistics": scores.span_statistics,
    "metrics": scores.span_metrics,
    "per_label": scores.span_scores,
    "check": scores.check_spans,
    "expand_labels": tagging.iob2_labels,
}
_TAGS: dict[str, Any] = {
    "statistics": scores.tag_statistics,
    "metrics": scores.tag_metrics,
    "per_label": scores.tag_scores,
    "check": scores.check_tags,
}

TASKS: dict[str, Task] = {
    "ner": _task("ner", primary="f1", **_TAGGING, **_SPANS),
    "pos": _task("pos", primary="accuracy", **_TAGGING, **_TAGS),
    "parsing": _task("parsing", primary="las", **_PARSING),
    "nli": _task("nli", primary="accuracy", **_PAIRS),
    "paraphrase": _task("paraphrase", primary="accuracy", **_PAIRS),
    "topics": _task("topics", primary="macro_f1", **_TEXTS),
    "sentiment": _task("sentiment", primary="macro_f1", **_TEXTS),
    "qa": _task("qa", primary="f1", **_READING),
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
