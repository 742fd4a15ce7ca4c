"""The recipe: what a user writes, checked, read and explained.

A recipe is one TOML file. `read_recipe` gives a checked `Recipe`, `explain` tells one field,
and `Recipe.model_json_schema()` is the schema an editor can use. What reads and explains it takes
any `Kind` of recipe.
"""

import difflib
import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from limbeck.errors import RecipeError
from limbeck.sections import (
    Adaptation,
    Corpus,
    CorpusText,
    Export,
    General,
    Languages,
    Machine,
    Name,
    Section,
    Student,
    Teacher,
    Vocabulary,
    knob,
)
from limbeck.task_section import BenchmarkChoice, Evaluate, Task


class Recipe(Section):
    """One experiment, from corpora to scores."""

    name: Name = knob(..., "The run's name: letters, digits, dot, dash, underscore.")
    seed: int = knob(0, "Seed of everything that is drawn.", reason="any", ge=0)
    languages: Languages
    teacher: Teacher
    adapt: Adaptation | None = knob(
        None, "Language adaptation of the teacher; without this section there is none."
    )
    corpus: Corpus
    vocabulary: Vocabulary = Vocabulary()
    student: Student = Student()
    general: General = General()
    task: Task
    evaluate: Evaluate = Evaluate()
    export: Export | None = knob(None, "The bundle; without this section there is none.")
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
        if self.adapt is not None:
            strange = [one for one in self.adapt.deltas if one not in spoken]
            if strange:
                raise ValueError(
                    f"adapt.deltas names '{strange[0]}', which is no language of this recipe "
                    f"(they are: {', '.join(spoken)})"
                )
        known = [*self.train_languages, *spoken]
        strange = [one for one in self.evaluate.languages or () if one not in known]
        if strange:
            raise ValueError(
                f"evaluate.languages names '{strange[0]}', which is no language of this recipe "
                f"(they are: {', '.join(dict.fromkeys(known))})"
            )
        return self

    @property
    def train_languages(self) -> list[str]:
        """The languages whose labels are trained on, each once."""
        return list(dict.fromkeys(self.task.train_languages or [self.languages.source]))

    def benchmark_of(self, language: str) -> BenchmarkChoice:
        """The labelled data of a language: a target's may be in a benchmark of its own."""
        other = self.evaluate.benchmark
        return self.task.benchmark if other is None or language in self.train_languages else other

    @property
    def scored_languages(self) -> list[str]:
        """The languages scored against gold labels, each once."""
        usual = [*self.train_languages, *self.languages.targets]
        return list(dict.fromkeys(self.evaluate.languages or usual))


Root = TypeVar("Root", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Kind(Generic[Root]):
    """A kind of recipe.

    Args:
        root: Its model.
        name: What `explain` takes for all of its fields.
        prefix: What stands before a field's path where `explain` is asked for it.
        folder: Where its shipped recipes lie, below `limbeck/recipes`.
    """

    root: type[Root]
    name: str
    prefix: str = ""
    folder: str = ""


DISTILLATION = Kind(Recipe, "recipe")
"""The recipe that `limbeck run` carries out."""


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, or a shipped recipe by name.

    Relative paths in it are taken from the working folder.

    Args:
        path: A TOML file, or the name of a shipped recipe (`limbeck recipes`).
        overrides: `a.b=value` assignments, the value in TOML (a bare word is a string).

    Raises:
        RecipeError: The file is missing or not TOML, or a field is unknown, missing or wrong.
    """
    return read_as(DISTILLATION, path, overrides)


def read_as(kind: Kind[Root], path: str | Path, overrides: Sequence[str] = ()) -> Root:
    """Read a recipe of some kind; otherwise as `read_recipe`.

    Raises:
        RecipeError: As `read_recipe`.
    """
    file, shipped = Path(path), shipped_recipes(kind)
    if not file.is_file() and str(path) in shipped:
        file = Path(str(_shipped_folder(kind) / f"{path}.toml"))
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(
            "no such recipe",
            where=str(path),
            expected="a TOML file or one of: " + (", ".join(shipped) or "(none shipped)"),
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError("cannot be read as TOML", where=str(file), found=str(error)) from None
    for override in overrides:
        assign(values, override)
    return check_as(kind, values, where=str(file))


def check_recipe(values: dict[str, Any], *, where: str = "recipe") -> Recipe:
    """Check plain values against the recipe's fields.

    Raises:
        RecipeError: Naming the first wrong field by its dotted path.
    """
    return check_as(DISTILLATION, values, where=where)


def check_as(kind: Kind[Root], values: dict[str, Any], *, where: str = "recipe") -> Root:
    """Check plain values against the fields of a kind of recipe.

    Raises:
        RecipeError: Naming the first wrong field by its dotted path.
    """
    try:
        return kind.root.model_validate(values)
    except ValidationError as error:
        raise _first_mistake(kind, error, where) from None


def shipped_recipes(kind: Kind[Any] = DISTILLATION) -> list[str]:
    """Names of the recipes of a kind that come with limbeck."""
    folder = _shipped_folder(kind)
    return sorted(e.name.removesuffix(".toml") for e in folder.iterdir() if e.name.endswith("toml"))


def _shipped_folder(kind: Kind[Any]) -> Any:
    return (resources.files("limbeck") / "recipes").joinpath(*filter(None, [kind.folder]))


def toml_string(text: str | Path) -> str:
    """Give a text or a path as TOML writes a string, for `--set` and for a recipe."""
    # A string of JSON is one of TOML, but for the one control character that JSON leaves bare.
    return json.dumps(str(text), ensure_ascii=False).replace("\x7f", "\\u007f")


def assign(values: dict[str, Any], override: str) -> None:
    """Carry out an assignment such as `a.b=5`, the value in TOML, on a recipe's plain values.

    Raises:
        RecipeError: It is none, or a part of its path is no table.
    """
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


def _first_mistake(kind: Kind[Any], error: ValidationError, where: str) -> RecipeError:
    mistakes = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    mistake = mistakes[0]
    # The branches of a union ("literal[…]", "list[int]") are no part of a field's path.
    location = [str(part) for part in mistake["loc"] if "[" not in str(part)]
    place = f"{where}: {'.'.join(location)}" if location else where
    if mistake["type"] == "extra_forbidden":
        known = _known_keys(kind, location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        section = kind.prefix + ".".join(location[:-1]) if location[:-1] else kind.name
        return RecipeError(
            "unknown key",
            where=place,
            expected=f"'{near[0]}'" if near else "one of: " + ", ".join(known),
            do=f"see `limbeck explain {section}`",
        )
    if mistake["type"] == "missing":
        return RecipeError("missing", where=place, do="add it to the recipe")
    if mistake["type"] == "value_error":
        return RecipeError(mistake["msg"].removeprefix("Value error, "), where=place)
    found = repr(mistake["input"])
    field = _field_of(kind, location)
    return RecipeError(
        "a wrong value",
        where=place,
        found=found if len(found) < 80 else found[:77] + "…",
        expected=" or ".join(_expectations(mistake, mistakes)),
        do=f"see `limbeck explain {kind.prefix}{field}`" if field else "",
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


def _field_of(kind: Kind[Any], location: Sequence[str]) -> str:
    """Give the path that `explain` knows: numbers left out, a language's name is LANG."""
    path = [part for part in location if not part.isdigit()]
    if path[:1] == ["corpus"] and path[1:2] not in ([], ["filter"]):
        path[1] = "LANG"
    dotted = ".".join(path)
    return dotted if dotted in dict(fields(kind)) else ""


def _section_type(field: FieldInfo) -> type[BaseModel] | None:
    for one in (field.annotation, *get_args(field.annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _known_keys(kind: Kind[Any], path: Sequence[str]) -> list[str]:
    model: type[BaseModel] = kind.root
    for part in path:
        if model is Corpus and part != "filter":
            model = CorpusText
            continue
        inner = _section_type(model.model_fields[part]) if part in model.model_fields else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def fields(kind: Kind[Any] = DISTILLATION) -> Iterator[tuple[str, FieldInfo]]:
    """Every field of a recipe with its dotted path; a language's text is `corpus.LANG`."""

    def walk(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
        for name, field in model.model_fields.items():
            yield prefix + name, field
            inner = _section_type(field)
            if inner is not None:
                yield from walk(inner, f"{prefix}{name}.")
        if model is Corpus:
            yield from walk(CorpusText, f"{prefix}LANG.")

    yield from walk(kind.root, "")


def explain(field: str, kind: Kind[Any] = DISTILLATION) -> list[str]:
    """Tell one field, or every field of a section.

    Args:
        field: Dotted path (`general.steps`), a section (`general`), or the kind's name for all.
        kind: The kind of recipe.

    Returns:
        One line a field: path, type, default, unit, meaning, reason.

    Raises:
        RecipeError: No such field; names the nearest.
    """
    every = {kind.prefix + path: one for path, one in fields(kind)}
    corpus = f"{kind.prefix}corpus"
    if field.startswith(f"{corpus}.") and field not in every:
        _, *rest = field.removeprefix(f"{corpus}.").split(".")
        field = ".".join([corpus, "LANG", *rest])
    chosen = [path for path in every if field in (kind.name, path) or path.startswith(f"{field}.")]
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
    return f"{path} ({_type_of(field.annotation)}, {start}{unit}): {field.description}{reason}"


def _type_of(annotation: Any) -> str:
    inner, origin = get_args(annotation), get_origin(annotation)
    if origin is Annotated:
        return _type_of(inner[0])
    if origin in (Union, UnionType):
        return " | ".join(map(_type_of, inner))
    if origin is Literal:
        return " | ".join(map(repr, inner))
    name = "None" if annotation is NoneType else annotation.__name__
    return f"{name}[{', '.join(map(_type_of, inner))}]" if inner else name
