"""The tasks: how examples become windows, how logits become answers, how answers are scored.

A task is a record of functions over numpy arrays; `TASKS` is the table. Training and serving
share these functions, so a model is asked the same way in both.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
        confusion: Examples and predictions to labels and int64 [C, C], how often each gold label
            (row) was taken for each (column); None where answers are no single labels.
        calibrate: Dev examples and predictions to what `decode` is told beside, by name: settings
            that are chosen on the source's dev set and kept in the model's config. None where
            there is nothing to choose.
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
    confusion: Callable[..., tuple[tuple[str, ...], np.ndarray]] | None = None
    calibrate: Callable[..., dict[str, float]] | None = None


_NER = Task(
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
)
_TOPICS = Task(
    name="topics",
    head="text",
    primary="macro_f1",
    encode=classification.encode,
    decode=classification.decode,
    statistics=label_scores.statistics,
    metrics=label_scores.metrics,
    per_label=label_scores.per_label,
    check=label_scores.check,
    agreement=label_scores.agreement,
    count_units=classification.count_units,
    majority=classification.majority,
    from_text=classification.from_text,
    relabelled=classification.relabelled,
    describe=classification.describe,
    identify=classification.identify,
    expand_labels=tuple,
    confusion=label_scores.confusion,
)
_PARSING = Task(
    name="parsing",
    head="tree",
    primary="las",
    encode=parsing.encode,
    decode=parsing.decode,
    statistics=tree_scores.statistics,
    metrics=tree_scores.metrics,
    per_label=tree_scores.per_label,
    check=tree_scores.check,
    agreement=tree_scores.agreement,
    count_units=parsing.count_units,
    majority=parsing.majority,
    from_text=parsing.from_text,
    relabelled=parsing.relabelled,
    describe=parsing.describe,
    identify=parsing.identify,
    expand_labels=tuple,
)
_QA = Task(
    name="qa",
    head="span",
    primary="f1",
    encode=reading.encode,
    decode=reading.decode,
    statistics=answer_scores.statistics,
    metrics=answer_scores.metrics,
    per_label=answer_scores.per_label,
    check=answer_scores.check,
    agreement=answer_scores.agreement,
    count_units=reading.count_units,
    majority=answer_scores.majority,
    from_text=reading.from_text,
    relabelled=reading.relabelled,
    describe=reading.describe,
    identify=reading.identify,
    expand_labels=tuple,
    calibrate=answer_scores.calibrate,
)
_PAIRS = replace(_TOPICS, primary="accuracy", from_text=classification.pair_from_text)

TASKS: dict[str, Task] = {
    "ner": _NER,
    "pos": replace(
        _NER,
        name="pos",
        primary="accuracy",
        statistics=scores.tag_statistics,
        metrics=scores.tag_metrics,
        per_label=scores.tag_scores,
        check=scores.check_tags,
        expand_labels=tagging.plain_labels,
    ),
    "parsing": _PARSING,
    "nli": replace(_PAIRS, name="nli"),
    "paraphrase": replace(_PAIRS, name="paraphrase"),
    "topics": _TOPICS,
    "sentiment": replace(_TOPICS, name="sentiment"),
    "qa": _QA,
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
