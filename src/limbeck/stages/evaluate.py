"""Stage evaluate: teacher and student on the source and every target, with intervals."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from limbeck.bench import latency
from limbeck.benchmarks import Examples
from limbeck.benchmarks.rows import SAMPLES, Note
from limbeck.bundle import BUNDLED, bytes_on_disk
from limbeck.corpus import read_texts
from limbeck.evaluate import compare, loyalty, score
from limbeck.overlap import standing_in
from limbeck.recipe import Recipe
from limbeck.stages.export import BUNDLE
from limbeck.stages.labels import (
    benchmark_files,
    benchmark_section,
    labels_section,
    notes_of,
    read_labelled,
    read_test_sets,
)
from limbeck.stages.models import NO_LANGUAGE, swapped_teacher, trimmed_tuned_teacher
from limbeck.stages.record import Job, Outcome, Stage, languages_of
from limbeck.tasks import TASKS
from limbeck.tokenizer import load_tokenizer

log = logging.getLogger(__name__)

OWN_DELTA = "teacher, own language's delta"
NO_DELTA = "teacher, no language delta"
"""The teacher with the source's language delta swapped for the target's, or taken off."""

_TIMED = 100
"""Sentences of the first test set whose answers are timed, one at a time."""

_TOLD_FROM = 0.01
"""Share of a test set from which it is told that corpora hold it."""

_MOST_TEXTS = 500
"""Held-out texts a language on which teacher and student are compared: some 10,000 words."""


def _section(recipe: Recipe) -> dict[str, Any]:
    other = recipe.evaluate.benchmark
    return {
        **recipe.evaluate.model_dump(exclude={"benchmark"}),
        **labels_section(recipe),
        **({"target_benchmark": benchmark_section(other)} if other else {}),
        "languages": recipe.scored_languages,
        "targets": recipe.languages.targets,
    }


def _outside(recipe: Recipe) -> dict[str, str]:
    scored = recipe.scored_languages
    return benchmark_files(recipe, dict.fromkeys(scored, recipe.evaluate.splits))


def _run(job: Job) -> Outcome:
    from limbeck.encoder import load_encoder
    from limbeck.parameters import count_parameters, model_bytes

    recipe = job.recipe
    trimmed = load_tokenizer(job.inputs["vocabulary"].path("tokenizer"))
    full = load_tokenizer(job.inputs["teacher"].path("model"))
    task = TASKS[recipe.task.kind]
    teacher, student = (
        load_encoder(job.inputs[stage].path("model"), head=task.head, attention="sdpa")
        for stage in ("teacher", "task")
    )
    systems = {
        "teacher": (teacher, full),
        "trimmed teacher": (trimmed_tuned_teacher(job, attention="sdpa"), trimmed),
        "student": (student, trimmed),
    }
    labelled = read_labelled(recipe)
    scores: dict[str, dict[str, Any]] = {}
    against: dict[str, Any] = {}
    notes: dict[str, Any] = {}
    timed: tuple[Any, ...] = ()
    swapped, bundle = swapped_teacher(job), _bundle(job)
    for place, language, data in read_test_sets(recipe, labelled.labels):
        timed = timed or data.examples[:_TIMED]
        found = _predictions(recipe, systems, data.examples)
        if bundle is not None:
            found[BUNDLED] = bundle.answer(data.examples)
        if swapped is not None:
            found |= _swapped(recipe, swapped, (language, full), data.examples)
        found["majority label"] = task.majority(labelled.train, data.examples)
        for name, predictions in found.items():
            scored = score(
                task,
                data.examples,
                predictions,
                language=place,
                resamples=recipe.evaluate.resamples,
            )
            scores.setdefault(name, {})[place] = scored.to_dict()
        _write_predictions(job.folder / f"predictions.{place}.jsonl", data, found)
        difference = compare(
            task,
            data.examples,
            found["student"],
            found["teacher"],
            resamples=recipe.evaluate.resamples,
        )
        against[place] = {
            **difference.to_dict(),
            "retention": difference.a / difference.b if difference.b else None,
            "loyalty": loyalty(task, found["student"], found["teacher"]),
        }
        notes[place] = notes_of(data) | _already_read(job, language, data.examples)
    size = {
        name: {**count_parameters(model), "bytes": model_bytes(model)}
        for name, (model, _) in systems.items()
    }
    if bundle is not None:
        shipped = job.inputs["export"].path(BUNDLE)
        size[BUNDLED] = size["student"] | {"bytes": bytes_on_disk(shipped)}
    return Outcome(
        counts={"notes": notes},
        metrics={
            "scores": scores,
            "student_against_teacher": against,
            "fidelity": _fidelity(job, systems),
            "size": size,
            "speed": _speed(recipe, systems, timed, bundle),
        },
    )


def _already_read(job: Job, language: str, examples: Sequence[Any]) -> dict[str, Any]:
    """Note the test texts that stand in their language's corpus, as `notes_of` does."""
    if language not in languages_of(job.recipe):
        return {}
    told = [TASKS[job.recipe.task.kind].describe(example) for example in examples]
    texts = [one.get("context") or one.get("text") or " ".join(one["words"]) for one in told]
    parts = (job.inputs["corpus"].path(f"{language}.{part}.txt") for part in ("train", "heldout"))
    lines = chain.from_iterable(map(read_texts, parts))
    found = sorted({place for _, place in standing_in(texts, lines)})
    if not found:
        return {}
    if len(found) >= _TOLD_FROM * len(texts):
        log.warning(
            "%s: %d of %d test texts stand in its corpus; on text never read scores may be lower",
            language,
            len(found),
            len(texts),
        )
    samples = tuple(told[place]["where"] for place in found[:SAMPLES])
    return {"stands in the corpus, unlabelled": asdict(Note(len(found), samples))}


def _bundle(job: Job) -> Any:
    """Give the student's bundle, ready to be asked; None where there is none."""
    if "export" not in job.inputs:
        return None
    from limbeck.runtime import load

    return load(job.inputs["export"].path(BUNDLE)).model


def _swapped(
    recipe: Recipe, swapped: Any, asked: tuple[str, Any], examples: Sequence[Any]
) -> dict[str, Any]:
    """Answer with a language's own delta in the source's stead, and with no language's."""
    (model, switch), (language, tokenizer) = swapped, asked
    found: dict[str, Any] = {}
    for name, spoken in ((OWN_DELTA, language), (NO_DELTA, NO_LANGUAGE)):
        # A language of the labels alone may have no text, and so no delta: no language's is on.
        switch.to(spoken if switch.speaks(spoken) else NO_LANGUAGE)
        found |= _predictions(recipe, {name: (model, tokenizer)}, examples)
    return found


def _fidelity(job: Job, systems: Mapping[str, Any]) -> dict[str, Any]:
    """Score the student on held-out text with its teacher's answers for gold: no label is read."""
    recipe, task = job.recipe, TASKS[job.recipe.task.kind]
    told = {}
    for language in languages_of(recipe):
        path = job.inputs["corpus"].path(f"{language}.heldout.txt")
        lines = islice(read_texts(path), _MOST_TEXTS)
        asked = [task.from_text(line, str(path)) for line in lines]
        examples = [one for one in asked if one is not None]
        if not examples:
            continue
        pair = {name: systems[name] for name in ("teacher", "student")}
        found = _predictions(recipe, pair, examples)
        scored = score(
            task,
            [task.relabelled(e, a) for e, a in zip(examples, found["teacher"], strict=True)],
            found["student"],
            language=language,
            resamples=recipe.evaluate.resamples,
        )
        told[language] = scored.to_dict()
    return told


def _speed(
    recipe: Recipe, systems: Mapping[str, Any], examples: Sequence[Any], bundle: Any
) -> dict[str, Any]:
    """Time one sentence at a time, from words to labels."""

    def answer(name: str) -> Any:
        one = {name: systems[name]}
        return lambda example: _predictions(recipe, one, [example])

    asked = {name: answer(name) for name in systems}
    if bundle is not None:
        asked[BUNDLED] = lambda example: bundle.answer([example])
    timed = latency(asked, examples)
    return {name: one.to_dict() for name, one in timed.items()}


def _predictions(
    recipe: Recipe, systems: Mapping[str, Any], examples: Sequence[Any]
) -> dict[str, Any]:
    from limbeck.finetune import predict
    from limbeck.training import choose_device

    return {
        name: predict(
            model,
            tokenizer,
            task=TASKS[recipe.task.kind],
            examples=examples,
            labels=[model.config.id2label[i] for i in range(model.config.num_labels)],
            max_pieces=recipe.task.window_pieces,
            device=choose_device(recipe.machine.device),
        )
        for name, (model, tokenizer) in systems.items()
    }


def _write_predictions(path: Path, data: Examples, found: Mapping[str, Any]) -> None:
    describe = TASKS[data.task].describe
    with path.open("w", encoding="utf-8") as stream:
        for i, example in enumerate(data.examples):
            row = describe(example)
            row |= {name: _plain(predictions[i]) for name, predictions in found.items()}
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def _plain(prediction: Any) -> Any:
    return asdict(prediction) if is_dataclass(prediction) else prediction  # type: ignore[arg-type]


STAGE = Stage(
    "evaluate",
    6,
    ("corpus", "vocabulary", "adapt", "teacher", "task", "export"),
    _section,
    _outside,
    _run,
)
