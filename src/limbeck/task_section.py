"""The recipe's sections on phase 2 and on scoring: the task, its labels, what is minimised."""

from typing import Literal

from pydantic import model_validator

from limbeck.sections import Section, Tuning, knob


class BenchmarkChoice(Section):
    """Which labelled data, and which of its splits are read for what."""

    name: str = knob(..., "A name from `limbeck explain benchmarks`.")
    root: str = knob(..., "A folder laid out as published, or a hub id.")
    train_split: str = knob("train", "Split of the source language tuned on.", reason="usual")
    dev_split: str = knob(
        "dev",
        "Split of the source language that selects models; empty: a tenth of train, by hash.",
        reason="usual",
    )
    labels: list[str] | None = knob(
        None, "Entity types kept; the others are read as O, in source and targets alike."
    )


class TaskObjective(Section):
    """What phase 2 minimises."""

    kind: Literal["bistil", "kd", "labels"] = knob(
        "bistil",
        "bistil: soft labels + states + maps. kd (S1): KL and gold. labels: no teacher.",
        reason="S2",
    )
    temperature: float = knob(2.0, "Softens both models' logits.", reason="S1 and S2", gt=0)
    logits: float = knob(1.0, "Weight of the teacher's soft labels.", reason="S2", ge=0)
    gold: float | None = knob(
        None,
        "Weight of the gold labels; if not given, 1 for kd (S1) and 0 for bistil (S2).",
        ge=0,
    )
    hidden: float = knob(1.0, "bistil only: weight of the states' term.", reason="S2", ge=0)
    attention: float = knob(
        0.0, "bistil only: weight of the maps' term; S2: 1.", reason="as in `general`", ge=0
    )
    scale: Literal["relative", "plain"] = knob(
        "relative", "As in `general.objective`.", reason="as there"
    )
    text: float | None = knob(
        None,
        "Share of the steps on unlabelled text of the targets, answered by the tuned teacher; "
        "if not given, 0.25, and 0 for labels.",
        reason="S2 has none; loyalty in the targets rises by 10 points (results/README.md)",
        ge=0,
        lt=1,
    )

    @model_validator(mode="after")
    def _text_has_a_teacher(self) -> "TaskObjective":
        if self.kind == "labels" and self.text:
            raise ValueError(
                "unlabelled text needs a teacher, and kind labels has none; "
                "set kind to bistil or kd, or text to 0"
            )
        return self

    @property
    def gold_weight(self) -> float:
        """The weight of the gold labels, the default put in."""
        if self.gold is None:
            return 1.0 if self.kind == "kd" else 0.0
        return self.gold

    @property
    def text_share(self) -> float:
        """The share of steps on unlabelled text, the default put in."""
        if self.text is None:
            return 0.0 if self.kind == "labels" else 0.25
        return self.text


OBJECTIVE_FIELDS = {
    "bistil": {"kind", "temperature", "logits", "gold", "hidden", "attention", "scale", "text"},
    "kd": {"kind", "temperature", "logits", "gold", "text"},
    "labels": {"kind", "text"},
}
"""Phase-2 objective to the fields that it reads; the others change nothing."""


TaskKind = Literal["ner", "pos", "parsing", "nli", "paraphrase", "topics", "sentiment", "qa"]
WINDOW_PIECES = {"topics": 256, "qa": 256}
"""Longest window of tasks on texts."""
DEFAULT_WINDOW = 128
"""Longest window of the other tasks, in pieces."""


class Task(Section):
    """Phase 2: the task, learned from the source language's labels and the tuned teacher."""

    kind: TaskKind = knob(..., "The task.")
    benchmark: BenchmarkChoice = knob(..., "The labelled data.")
    train_language: str | list[str] | None = knob(
        None,
        "Language of the labels, or several, whose labels are pooled; the source language if not "
        "given.",
    )
    objective: TaskObjective = knob(TaskObjective(), "What is minimised.")
    tuning: Tuning = knob(Tuning(), "Which parameters move.")
    head: Literal["teacher", "random"] = knob(
        "teacher",
        "Start the task head from the tuned teacher's, or at random as S2.",
        reason="the states already match the teacher's; S2 draws it; not ablated yet",
    )
    epochs: float = knob(
        2.0,
        "Times that the labels are gone through.",
        unit="passes",
        reason="as the teacher's",
        gt=0,
    )
    learning_rate: float = knob(
        3e-4, "Peak rate of AdamW, linear decay.", reason="as the teacher's", gt=0
    )
    batch_sentences: int = knob(
        32, "Sentences (windows) a step.", unit="sentences", reason="as the teacher's", gt=0
    )
    max_pieces: int | None = knob(
        None,
        "Longer sentences and contexts are read in overlapping windows, longer texts are cut; if "
        "not given 128, and 256 for topics and qa.",
        unit="pieces",
        gt=40,
    )
    evaluations: int = knob(
        4,
        "How often the source's dev set is scored to select the model.",
        unit="times",
        reason="twice an epoch",
        gt=0,
    )

    @property
    def window_pieces(self) -> int:
        """The longest window, the default put in."""
        return self.max_pieces or WINDOW_PIECES.get(self.kind, DEFAULT_WINDOW)

    @property
    def train_languages(self) -> list[str]:
        """The languages that `train_language` names, none where it names none."""
        named = self.train_language or []
        return [named] if isinstance(named, str) else named


class Evaluate(Section):
    """What is scored at the end: teacher and student, on the source and every target."""

    languages: list[str] | None = knob(
        None,
        "Languages with gold labels to score; if not given, the labels' language and each target. "
        "The others are only compared with their teacher, on held-out text.",
        min_length=1,
    )
    benchmark: BenchmarkChoice | None = knob(
        None,
        "Where the targets' gold labels are, if in another benchmark than those learned from.",
    )

    @model_validator(mode="after")
    def _labels_are_those_learned(self) -> "Evaluate":
        if self.benchmark is not None and self.benchmark.labels is not None:
            raise ValueError(
                "evaluate.benchmark.labels is not read: targets are scored in the labels learned; "
                "leave it out"
            )
        return self

    splits: list[str] = knob(["test"], "Splits that are scored.", reason="usual", min_length=1)
    resamples: int = knob(
        1000,
        "Bootstrap resamples of an interval.",
        unit="samples",
        reason="two digits of a 95 % interval",
        gt=0,
    )
