"""The recipe: what a user writes, checked, with every default and its reason.

A recipe is one TOML file. `read_recipe` gives a checked `Recipe`, `explain` tells one field,
and `Recipe.model_json_schema()` is the schema an editor can use.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from limbeck.errors import RecipeError


def _knob(default: Any, text: str, *, unit: str = "", reason: str = "", **bounds: Any) -> Any:
    """Give a pydantic field that carries its unit and the reason of its default."""
    extra: Any = {"unit": unit, "reason": reason}
    return Field(default, description=text, json_schema_extra=extra, **bounds)


_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(pattern=_NAME)]
"""A word that may stand in the name of a file."""


def is_name(text: str) -> bool:
    """Whether a text may name a run or a language, and so stand in the name of a file."""
    return re.fullmatch(_NAME, text) is not None


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what pydantic would bend: "5" or true for a number, 1 for true."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        wanted = set(get_args(annotation) or (annotation,)) - {type(None)}
        words = {bool: "true or false", int: "a whole number", float: "a number"}
        is_scalar = isinstance(value, bool | str | int | float) and wanted
        is_bent = isinstance(value, str) or isinstance(value, bool) != (bool in wanted)
        if is_scalar and wanted <= words.keys() and is_bent:
            expected = " or ".join(words[one] for one in words if one in wanted)
            raise PydanticCustomError("kind", "Input should be {expected}", {"expected": expected})
        return value


class Languages(_Section):
    """The pair: one language with labels, one or several without."""

    source: Name = _knob(..., "The language whose labels are used, as named in `corpus`.")
    targets: list[Name] = _knob(
        ..., "The languages served zero-shot; their labels are only read to score.", min_length=1
    )

    @field_validator("targets")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        twice = [one for one in value if value.count(one) > 1]
        if twice:
            raise ValueError(f"'{twice[0]}' is named twice; leave one of the two out")
        return value


class Teacher(_Section):
    """The multilingual encoder, and how it is tuned on the task."""

    model: str = _knob(..., "A hub id or a folder with config, safetensors and tokenizer.json.")
    allow_remote_code: bool = _knob(
        False,
        "Accept a folder whose config names code of its own; transformers' class is used instead.",
        reason="code from a model folder can do anything, so it is never run",
    )
    epochs: float = _knob(
        2.0,
        "Times that the task's labels are gone through.",
        unit="passes",
        reason="enough for 12,544 sentences; S2 tunes 3-10 on less",
        gt=0,
    )
    learning_rate: float = _knob(
        3e-4,
        "Peak rate of AdamW, linear decay.",
        reason="right for encoders of a few million parameters; use 2e-5 to 5e-5 from 100 M on",
        gt=0,
    )
    batch_sentences: int = _knob(
        32, "Sentences (windows) a step.", unit="sentences", reason="S2: 8 to 32", gt=0
    )


class CorpusText(_Section):
    """Where one language's unlabelled text lies."""

    path: str | None = _knob(None, "A file or glob: .txt, .jsonl, .parquet, each may be .gz.")
    hub: str | None = _knob(None, "A hub data set, or a folder laid out like one; streamed.")
    name: str | None = _knob(None, "The hub data set's configuration.")
    split: str = _knob("train", "The hub data set's split.", reason="the usual name")
    column: str = _knob("text", "The column that holds the text.", reason="the usual name")

    @model_validator(mode="after")
    def _one_place(self) -> "CorpusText":
        if (self.path is None) == (self.hub is None):
            raise ValueError("give either `path` or `hub`")
        return self


class Filters(_Section):
    """What is not worth learning from; each dropped text is counted under its reason."""

    min_characters: int = _knob(
        10,
        "Shorter texts are dropped.",
        unit="characters",
        reason="shorter lines are headings, numbers and debris",
        ge=0,
    )
    scripts: dict[str, str] = _knob(
        {},
        "Language to ISO 15924 code: texts mostly in another script are dropped.",
        reason="real corpora mix scripts, so only where asked",
    )
    held_out: float = _knob(
        0.01,
        "Share of texts never trained on, by hash of the text.",
        reason="enough for a held-out loss, too little to be missed",
        gt=0,
        lt=0.5,
    )


class Corpus(BaseModel):
    """Unlabelled text: one entry a language (`yor = "yor.txt"`), and `filter`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, CorpusText] = Field(init=False)
    filter: Filters = _knob(Filters(), "What is dropped, and what is held out.")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            one: {"path": place} if isinstance(place, str) and one != "filter" else place
            for one, place in value.items()
        }

    @property
    def texts(self) -> dict[str, CorpusText]:
        """Language to the place of its text, in the recipe's order."""
        return dict(self.__pydantic_extra__ or {})


class Vocabulary(_Section):
    """Which pieces are kept: the likely ones in any of the corpora's languages."""

    min_probability: float = _knob(
        1e-6,
        "A piece is kept if its unigram probability reaches this in some language.",
        reason="S2 section 3",
        ge=0,
        lt=1,
    )
    max_pieces: int | None = _knob(
        None, "At most so many pieces, the likeliest first.", unit="pieces", gt=0
    )
    keep: str | None = _knob(
        None, "A file of words (one a line) whose pieces and characters are kept whatever happens."
    )


PlanName = Literal["every", "bottom", "top", "spread"]


class Student(_Section):
    """The student's depth and where its weights come from."""

    size: Literal["tiny", "small", "base"] = _knob(
        "base",
        "One dial: base is half of the teacher's layers, small a quarter, tiny an eighth.",
        reason="half the layers cost nothing measurable at our scale (results/tagging.md)",
    )
    layers: int | None = _knob(None, "Layers; overrides `size`.", unit="layers", gt=0)
    plan: PlanName | list[int] = _knob(
        "every",
        "Which teacher layer (from 1) each student layer copies, by rule or by number.",
        reason="S2: every r-th layer, the last included",
    )
    init: Literal["teacher", "random"] = _knob(
        "teacher",
        "Copy the teacher's weights, or draw them.",
        reason="copying matters more than the loss (The Privileged Students, 2024)",
    )


class GeneralObjective(_Section):
    """What phase 1 minimises."""

    kind: Literal["bistil"] = _knob("bistil", "S2: hidden states and attention maps.", reason="S2")
    hidden: float = _knob(1.0, "Weight of the hidden states' term.", reason="S2", ge=0)
    attention: float = _knob(
        0.0,
        "Weight of the attention maps' term; S2: 1.",
        reason="the states alone keep the score (results/tagging.md); maps not ablated yet",
        ge=0,
    )
    scale: Literal["relative", "plain"] = _knob(
        "relative",
        "Divide each layer's error by the teacher's mean square (relative), or not (plain, as S2).",
        reason="plain MSE is ruled by the layers with the largest states; not ablated yet",
    )
    masking: float = _knob(
        0.0,
        "Share of pieces masked 80/10/10 before both models read them.",
        reason="the task never sees masks; S2 masks 0.15; not ablated yet",
        ge=0,
        lt=1,
    )


class General(_Section):
    """Phase 1: general distillation on unlabelled text of every language of the recipe."""

    objective: GeneralObjective = _knob(GeneralObjective(), "What is minimised.")
    steps: int = _knob(
        800,
        "Optimiser steps; 0 leaves phase 1 out.",
        unit="steps",
        reason="minutes on two cores; S2 takes 200,000",
        ge=0,
    )
    batch_pieces: int = _knob(
        1024,
        "Pieces a step.",
        unit="pieces",
        reason="at a fixed number of pieces, more and smaller steps win; S2 takes 8 x 256",
        gt=0,
    )
    block_pieces: int = _knob(
        128, "Pieces a packed block.", unit="pieces", reason="sentences are shorter", gt=8
    )
    learning_rate: float = _knob(
        1e-3,
        "Peak rate of AdamW, linear decay.",
        reason="right for widths below 384; S2 takes 1e-4 at 768",
        gt=0,
    )
    warmup: float = _knob(0.05, "Share of the steps that warm up.", reason="usual", ge=0, lt=1)


class BenchmarkChoice(_Section):
    """Which labelled data, and which of its splits are read for what."""

    name: str = _knob(..., "A name from `limbeck explain benchmarks`.")
    root: str = _knob(..., "A folder laid out as published, or a hub id.")
    train_split: str = _knob("train", "Split of the source language tuned on.", reason="usual")
    dev_split: str = _knob(
        "dev",
        "Split of the source language that selects models; empty: a tenth of train, by hash.",
        reason="usual",
    )
    labels: list[str] | None = _knob(
        None, "Entity types kept; the others are read as O, in source and targets alike."
    )


class TaskObjective(_Section):
    """What phase 2 minimises."""

    kind: Literal["bistil", "kd", "labels"] = _knob(
        "bistil",
        "bistil: soft labels + states + maps. kd (S1): KL and gold. labels: no teacher.",
        reason="S2",
    )
    temperature: float = _knob(2.0, "Softens both models' logits.", reason="S1 and S2", gt=0)
    logits: float = _knob(1.0, "Weight of the teacher's soft labels.", reason="S2", ge=0)
    gold: float = _knob(1.0, "kd only: weight of the gold labels.", reason="S1", ge=0)
    hidden: float = _knob(1.0, "bistil only: weight of the states' term.", reason="S2", ge=0)
    attention: float = _knob(
        0.0, "bistil only: weight of the maps' term; S2: 1.", reason="as in `general`", ge=0
    )
    scale: Literal["relative", "plain"] = _knob(
        "relative", "As in `general.objective`.", reason="as there"
    )
    text: float = _knob(
        0.0,
        "Share of the steps on unlabelled text of the targets, which the tuned teacher labels.",
        reason="0 is S2",
        ge=0,
        lt=1,
    )


class Tuning(_Section):
    """Which of the student's parameters phase 2 may move."""

    kind: Literal["full"] = _knob("full", "full: all of them.", reason="the papers' baseline")


TaskKind = Literal["ner", "pos"]


class Task(_Section):
    """Phase 2: the task, learned from the source language's labels and the tuned teacher."""

    kind: TaskKind = _knob(..., "The task.")
    benchmark: BenchmarkChoice = _knob(..., "The labelled data.")
    train_language: str | None = _knob(
        None, "Language of the labels; the source language if not given."
    )
    objective: TaskObjective = _knob(TaskObjective(), "What is minimised.")
    tuning: Tuning = _knob(Tuning(), "Which parameters move.")
    head: Literal["teacher", "random"] = _knob(
        "teacher",
        "Start the task head from the tuned teacher's, or at random as S2.",
        reason="the states already match the teacher's; S2 draws it; not ablated yet",
    )
    epochs: float = _knob(
        2.0,
        "Times that the labels are gone through.",
        unit="passes",
        reason="as the teacher's",
        gt=0,
    )
    learning_rate: float = _knob(
        3e-4, "Peak rate of AdamW, linear decay.", reason="as the teacher's", gt=0
    )
    batch_sentences: int = _knob(
        32, "Sentences (windows) a step.", unit="sentences", reason="as the teacher's", gt=0
    )
    max_pieces: int = _knob(
        128,
        "Longer sentences are read in overlapping windows.",
        unit="pieces",
        reason="99.9 % of tagged sentences fit",
        gt=40,
    )
    evaluations: int = _knob(
        4,
        "How often the source's dev set is scored to select the model.",
        unit="times",
        reason="twice an epoch",
        gt=0,
    )


class Evaluate(_Section):
    """What is scored at the end: teacher and student, on the source and every target."""

    splits: list[str] = _knob(["test"], "Splits that are scored.", reason="usual", min_length=1)
    resamples: int = _knob(
        1000,
        "Bootstrap resamples of an interval.",
        unit="samples",
        reason="two digits of a 95 % interval",
        gt=0,
    )


class Machine(_Section):
    """How the work is carried out; nothing here changes a result's key."""

    device: str = _knob(
        "auto",
        "auto, cpu, cuda or mps; of several GPUs the first (CUDA_VISIBLE_DEVICES chooses).",
        reason="the fastest there is",
    )
    precision: Literal["auto", "fp32", "bf16"] = _knob(
        "auto",
        "auto: bf16 autocast where it has its own units and the architecture bears it.",
        reason="bf16: up to 10x faster with AMX, 100x slower on a CPU without (results/machine.md)",
    )
    compile: Literal["auto", "yes", "no"] = _knob(
        "auto",
        "torch.compile; auto: on an accelerator or with AMX, for runs of 1,000 steps and more.",
        reason="without AMX it gains 6-12 % and costs half a minute (results/machine.md)",
    )
    checkpoint_seconds: float = _knob(
        60.0, "A killed run loses at most about so much.", unit="seconds", reason="cheap", gt=0
    )


class Recipe(_Section):
    """One experiment, from corpora to scores."""

    name: Name = _knob(..., "The run's name: letters, digits, dot, dash, underscore.")
    seed: int = _knob(0, "Seed of everything that is drawn.", reason="any", ge=0)
    languages: Languages
    teacher: Teacher
    corpus: Corpus
    vocabulary: Vocabulary = Vocabulary()
    student: Student = Student()
    general: General = General()
    task: Task
    evaluate: Evaluate = Evaluate()
    machine: Machine = Machine()

    @model_validator(mode="after")
    def _languages_meet(self) -> "Recipe":
        spoken = [self.languages.source, *self.languages.targets]
        missing = [one for one in spoken if one not in self.corpus.texts]
        if missing:
            have = ", ".join(self.corpus.texts) or "none"
            field = "source" if missing[0] == self.languages.source else "targets"
            raise ValueError(
                f"languages.{field} names '{missing[0]}', which has no text in [corpus] "
                f"(it has: {have}); add corpus.{missing[0]}"
            )
        stray = [one for one in self.corpus.filter.scripts if one not in self.corpus.texts]
        if stray:
            raise ValueError(
                f"corpus.filter.scripts names '{stray[0]}', which has no text in [corpus] "
                f"(it has: {', '.join(self.corpus.texts)})"
            )
        return self

    @property
    def train_language(self) -> str:
        """The language whose labels are trained on."""
        return self.task.train_language or self.languages.source


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, or a shipped recipe by name.

    Relative paths in it are taken from the working folder.

    Args:
        path: A TOML file, or the name of a shipped recipe (`limbeck recipes`).
        overrides: `a.b=value` assignments, the value in TOML (a bare word is a string).

    Raises:
        RecipeError: The file is missing or not TOML, or a field is unknown, missing or wrong.
    """
    file = Path(path)
    if not file.exists() and str(path) in shipped_recipes():
        file = Path(str(resources.files("limbeck") / "recipes" / f"{path}.toml"))
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(
            "no such recipe",
            where=str(path),
            expected="a TOML file or one of: " + (", ".join(shipped_recipes()) or "(none shipped)"),
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError("cannot be read as TOML", where=str(file), found=str(error)) from None
    for override in overrides:
        _assign(values, override)
    return check_recipe(values, where=str(file))


def check_recipe(values: dict[str, Any], *, where: str = "recipe") -> Recipe:
    """Check plain values against the recipe's fields.

    Raises:
        RecipeError: Naming the first wrong field by its dotted path.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise _first_mistake(error, where) from None


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with limbeck."""
    folder = resources.files("limbeck") / "recipes"
    return sorted(e.name.removesuffix(".toml") for e in folder.iterdir() if e.name.endswith("toml"))


def _assign(values: dict[str, Any], override: str) -> None:
    dotted, sign, text = override.partition("=")
    if not sign or not dotted.strip():
        raise RecipeError(
            "not an assignment", where=f"--set {override}", expected="--set section.field=value"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    *sections, last = dotted.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise RecipeError(f"'{section}' is a value, not a section", where=f"--set {override}")
    values[last] = value


def _first_mistake(error: ValidationError, where: str) -> RecipeError:
    mistakes = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    mistake = mistakes[0]
    # The branches of a union ("literal[…]", "list[int]") are no part of a field's path.
    location = [str(part) for part in mistake["loc"] if "[" not in str(part)]
    place = f"{where}: {'.'.join(location)}" if location else where
    if mistake["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        return RecipeError(
            "unknown key",
            where=place,
            expected=f"'{near[0]}'" if near else "one of: " + ", ".join(known),
            do="see `limbeck explain " + (".".join(location[:-1]) or "recipe") + "`",
        )
    if mistake["type"] == "missing":
        return RecipeError("missing", where=place, do="add it to the recipe")
    if mistake["type"] == "value_error":
        return RecipeError(mistake["msg"].removeprefix("Value error, "), where=place)
    found = repr(mistake["input"])
    field = _field_of(location)
    return RecipeError(
        "a wrong value",
        where=place,
        found=found if len(found) < 80 else found[:77] + "…",
        expected=" or ".join(_expectations(mistake, mistakes)),
        do=f"see `limbeck explain {field}`" if field else "",
    )


def _expectations(first: ErrorDetails, mistakes: Sequence[ErrorDetails]) -> Iterator[str]:
    """Give what each branch of a union would have taken, or the one expectation there is."""
    place = [part for part in first["loc"] if "[" not in str(part)]
    for one in mistakes:
        if [part for part in one["loc"] if "[" not in str(part)][: len(place)] != place:
            continue
        if one["type"] in ("model_type", "dict_type"):
            yield "a section"
        elif one["type"] == "string_pattern_mismatch":
            yield "letters, digits, dot, dash and underscore, a letter or digit first"
        elif one["type"] == "too_short":
            yield "at least one entry"
        else:
            told = one["msg"].removeprefix("Input should be ")
            yield told.replace("a valid integer", "a whole number").replace("a valid", "a")


def _field_of(location: Sequence[str]) -> str:
    """Give the path that `explain` knows: numbers left out, a language's name is LANG."""
    path = [part for part in location if not part.isdigit()]
    if path[:1] == ["corpus"] and path[1:2] not in ([], ["filter"]):
        path[1] = "LANG"
    dotted = ".".join(path)
    return dotted if dotted in dict(fields()) else ""


def _section_type(field: FieldInfo) -> type[BaseModel] | None:
    for one in (field.annotation, *get_args(field.annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _known_keys(path: Sequence[str]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in path:
        if model is Corpus and part != "filter":
            model = CorpusText
            continue
        inner = _section_type(model.model_fields[part]) if part in model.model_fields else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def fields() -> Iterator[tuple[str, FieldInfo]]:
    """Every field of the recipe with its dotted path; a language's text is `corpus.LANG`."""

    def walk(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
        for name, field in model.model_fields.items():
            yield prefix + name, field
            inner = _section_type(field)
            if inner is not None:
                yield from walk(inner, f"{prefix}{name}.")
        if model is Corpus:
            yield from walk(CorpusText, f"{prefix}LANG.")

    yield from walk(Recipe, "")


def explain(field: str) -> list[str]:
    """Tell one field, or every field of a section.

    Args:
        field: Dotted path (`general.steps`), a section (`general`), or `recipe` for all.

    Returns:
        One line a field: path, type, default, unit, meaning, reason.

    Raises:
        RecipeError: No such field; names the nearest.
    """
    every = dict(fields())
    if field.startswith("corpus.") and field not in every:
        _, _, *rest = field.split(".")
        field = ".".join(["corpus", "LANG", *rest])
    chosen = [path for path in every if field in ("recipe", path) or path.startswith(f"{field}.")]
    if not chosen:
        near = difflib.get_close_matches(field, every, n=1, cutoff=0.3)
        raise RecipeError(
            "no such field", where=field, expected=f"'{near[0]}'" if near else "a recipe's field"
        )
    return [_explain_one(path, every[path]) for path in chosen]


def _explain_one(path: str, field: FieldInfo) -> str:
    inner = _section_type(field)
    if inner is not None and (field.is_required() or isinstance(field.default, BaseModel)):
        return f"[{path}] {field.description or (inner.__doc__ or '').splitlines()[0]}"
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    start = "required" if field.is_required() else f"default {field.default!r}"
    unit = f" {extra['unit']}" if extra.get("unit") else ""
    reason = f" Why: {extra['reason']}." if extra.get("reason") else ""
    return f"{path} ({_kind(field.annotation)}, {start}{unit}): {field.description}{reason}"


def _kind(annotation: Any) -> str:
    inner, origin = get_args(annotation), get_origin(annotation)
    if origin is Annotated:
        return _kind(inner[0])
    if origin in (Union, UnionType):
        return " | ".join(map(_kind, inner))
    if origin is Literal:
        return " | ".join(map(repr, inner))
    name = "None" if annotation is NoneType else annotation.__name__
    return f"{name}[{', '.join(map(_kind, inner))}]" if inner else name
