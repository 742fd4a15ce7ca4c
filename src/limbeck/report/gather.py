"""What a store tells about a finished run, as values that check themselves."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from limbeck.artifact import FORMAT, Artifact, Store
from limbeck.bench import Latency
from limbeck.errors import ArtifactError, LimbeckError
from limbeck.evaluate import Scores
from limbeck.hub import depth, read_config
from limbeck.report.mistakes import Answers, read_answers

SYSTEMS = ("teacher", "student")
"""What every evaluated run holds; others are shown as they come."""


@dataclass(frozen=True, slots=True)
class Place:
    """A test set: one split of one language.

    Args:
        key: Its name in the scores: the language, or `<language>.<split>` where there are several.
        language: The language, as the recipe names it.
        split: The split.
        is_target: It is in a language that is served without labels.
        is_only_split: No other split of the language was scored.
    """

    key: str
    language: str
    split: str
    is_target: bool
    is_only_split: bool


@dataclass(frozen=True, slots=True)
class Against:
    """The student against its teacher on one test set.

    Args:
        difference: Student minus teacher, by the primary metric, 0 to 1.
        interval: 95 % interval of the difference.
        p_value: Of the paired test.
        retention: Student over teacher; None where the teacher scores 0.
        loyalty: Share of words that both answer alike.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float
    retention: float | None
    loyalty: float


@dataclass(frozen=True, slots=True)
class Size:
    """Parameters of a system by part, and their bytes in memory; of a bundle, its files' bytes."""

    total: int
    embedding: int
    layers: int
    other: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a report tells.

    Args:
        name: The run's name.
        recipe: The resolved recipe, plain values.
        keys: Stage to key of its artifact, in order.
        places: Test sets, the targets' first.
        scores: System to key of a place to scores.
        against: Key of a place to comparison of student and teacher.
        fidelity: Language to the student's score on unlabelled text, the teacher's answers for
            gold; empty where the run did not measure it.
        sizes: System to size.
        speeds: System to speed; empty where the run did not measure it.
        artifacts: Stage to artifact; without those that are gone from the store.
        curves: Stage to the rows of its `metrics.jsonl`; without stages that trained nothing.
        answers: Key of a place to what was answered there; without those whose file is gone.
        teacher_layers: Depth of the teacher; None where its artifact is gone.
    """

    name: str
    recipe: Mapping[str, Any]
    keys: dict[str, str]
    places: tuple[Place, ...]
    scores: dict[str, dict[str, Scores]]
    against: dict[str, Against]
    fidelity: dict[str, Scores]
    sizes: dict[str, Size]
    speeds: dict[str, Latency]
    artifacts: dict[str, Artifact]
    curves: dict[str, tuple[dict[str, float], ...]]
    answers: dict[str, Answers]
    teacher_layers: int | None

    @property
    def primary(self) -> str:
        """Name of the metric that systems are ranked by."""
        return self.scores["student"][self.places[0].key].primary

    @property
    def languages(self) -> list[str]:
        """The languages of its text, the source first."""
        told = self.recipe["languages"]
        return list(dict.fromkeys([told["source"], *told["targets"]]))

    def value(self, system: str, place: Place) -> float:
        """Give a system's score by the primary metric, 0 to 1."""
        return self.scores[system][place.key].metrics[self.primary]

    def counts(self, stage: str) -> Mapping[str, Any]:
        """Give what a stage counted; nothing where its artifact is gone."""
        return self.artifacts[stage].manifest.counts if stage in self.artifacts else {}

    def metrics(self, stage: str) -> Mapping[str, Any]:
        """Give what a stage measured; nothing where its artifact is gone."""
        return self.artifacts[stage].manifest.metrics if stage in self.artifacts else {}


def gather(run: str, root: Path) -> Facts:
    """Read a run and its artifacts from a store.

    Args:
        run: The run's name.
        root: The store's folder.

    Raises:
        ArtifactError: There is no such store or run, or a file of it is damaged.
    """
    record = _read_run(run, root)
    path = root / "runs" / f"{run}.json"
    try:
        _check_systems(record)
        store, keys = Store(root), record["keys"]
        artifacts = {name: store.find(name, key) for name, key in keys.items()}
        found = {name: one for name, one in artifacts.items() if one is not None}
        places = _places(record["recipe"])
        return Facts(
            name=run,
            recipe=record["recipe"],
            keys=keys,
            places=places,
            scores=_scores(record["scores"], places),
            against={
                place.key: _fitting(Against, record["student_against_teacher"][place.key])
                for place in places
            },
            fidelity={
                language: Scores.from_dict(told)
                for language, told in record.get("fidelity", {}).items()
            },
            sizes={name: _fitting(Size, told) for name, told in record["size"].items()},
            speeds={
                name: _fitting(Latency, told) for name, told in record.get("speed", {}).items()
            },
            artifacts=found,
            curves={stage: rows for stage, one in found.items() if (rows := _rows(one.folder))},
            answers=_answers(found.get("evaluate"), places),
            teacher_layers=_teacher_layers(found.get("teacher")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            "does not tell what a finished run tells",
            where=str(path),
            found=f"{type(error).__name__}: {error}",
            do="run the recipe again: finished stages are kept",
        ) from error


def _read_run(run: str, root: Path) -> dict[str, Any]:
    if not (root / "store.json").exists():
        raise ArtifactError("no such store", where=str(root), do="name one with --store")
    path = root / "runs" / f"{run}.json"
    names = sorted(one.stem for one in (root / "runs").glob("*.json"))
    if run not in names:
        near = difflib.get_close_matches(run, names, n=3, cutoff=0.4)
        known = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
        raise ArtifactError(
            "no such run in the store",
            where=str(root),
            found=repr(run),
            expected=f"one of {known}" if names else "",
            do=f"did you mean {' or '.join(near)}?" if near else "see `limbeck status`",
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            "cannot be read as JSON",
            where=str(path),
            found=str(error),
            do="delete it and run the recipe again: finished stages are kept",
        ) from None
    found = record.get("format") if isinstance(record, dict) else None
    if found != FORMAT:
        raise ArtifactError(
            "was not written by this limbeck",
            where=str(path),
            found=f"format {found}",
            expected=f"format {FORMAT}",
            do="run the recipe again, or use the limbeck that wrote it",
        )
    if "scores" not in record:
        raise ArtifactError(
            "tells no scores of teacher and student",
            where=str(path),
            expected="a run that `limbeck run` finished",
            do="see `limbeck status`",
        )
    return dict(record)


def _check_systems(record: Mapping[str, Any]) -> None:
    for part in ("scores", "size"):
        for system in SYSTEMS:
            if system not in record[part]:
                raise KeyError(f"{part}.{system}")


def train_languages(recipe: Mapping[str, Any]) -> list[str]:
    """Give the languages whose labels were trained on."""
    named = recipe["task"]["train_language"] or recipe["languages"]["source"]
    return [named] if isinstance(named, str) else list(named)


def _places(recipe: Mapping[str, Any]) -> tuple[Place, ...]:
    """Give the test sets, the targets' first; `stages.evaluate` names them in the same way."""
    targets = recipe["languages"]["targets"]
    splits = recipe["evaluate"]["splits"]
    return tuple(
        Place(
            key=language if len(splits) == 1 else f"{language}.{split}",
            language=language,
            split=split,
            is_target=language in targets,
            is_only_split=len(splits) == 1,
        )
        for language in dict.fromkeys([*targets, *train_languages(recipe)])
        if language in (recipe["evaluate"].get("languages") or [language])
        for split in splits
    )


def _scores(told: Mapping[str, Any], places: tuple[Place, ...]) -> dict[str, dict[str, Scores]]:
    return {
        system: {place.key: Scores.from_dict(by_place[place.key]) for place in places}
        for system, by_place in told.items()
    }


def _fitting(record: type, values: Mapping[str, Any]) -> Any:
    """Give a record from the values that it names; it may be told more."""
    told = {one.name: values[one.name] for one in fields(record)}
    return record(**{name: tuple(v) if isinstance(v, list) else v for name, v in told.items()})


def _rows(folder: Path) -> tuple[dict[str, float], ...]:
    path = folder / "metrics.jsonl"
    if not path.exists():
        return ()
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            rows.append({**row, "step": row["step"]})
        except (ValueError, TypeError, KeyError) as error:
            raise ArtifactError(
                "is no row of a training curve",
                where=f"{path}:{number}",
                found=str(error),
                do=f"delete {folder} and run again",
            ) from None
    return tuple(rows)


def _answers(evaluated: Artifact | None, places: tuple[Place, ...]) -> dict[str, Answers]:
    if evaluated is None:
        return {}
    files = {one.key: evaluated.folder / f"predictions.{one.key}.jsonl" for one in places}
    return {key: read_answers(path) for key, path in files.items() if path.exists()}


def _teacher_layers(teacher: Artifact | None) -> int | None:
    if teacher is None:
        return None
    try:
        return depth(read_config(teacher.folder / "model"))
    except LimbeckError:
        return None
