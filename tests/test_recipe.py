"""A recipe is checked field by field, and every field can be explained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from limbeck.errors import RecipeError
from limbeck.pretrain_recipe import PRETRAINING
from limbeck.recipe import (
    DISTILLATION,
    Recipe,
    check_recipe,
    explain,
    fields,
    read_recipe,
    shipped_recipes,
)
from limbeck.sections import is_name

MINIMAL: dict[str, Any] = {
    "name": "r",
    "languages": {"source": "eng", "targets": ["yor"]},
    "teacher": {"model": "xlm-roberta-base"},
    "corpus": {"eng": "eng.txt", "yor": {"hub": "some/text", "column": "line"}},
    "vocabulary": {},
    "student": {},
    "general": {"objective": {}},
    "task": {"kind": "ner", "benchmark": {"name": "masakhaner", "root": "ner"}},
    "evaluate": {},
    "machine": {},
}

# Numbers that have no unit: rates, shares, weights, seeds.
PURE = {"seed", "learning_rate", "held_out", "min_probability", "hidden", "attention", "logits"}
PURE |= {"gold", "text", "masking", "warmup", "temperature", "coverage", "sampling_exponent"}
PURE |= {"weight_decay", "dropout", "l1", "scale"}

OWN = [(path, field, DISTILLATION) for path, field in fields()]
FIELDS = [*OWN, *((f"pretrain.{path}", field, PRETRAINING) for path, field in fields(PRETRAINING))]
PLAIN = [(path, field) for path, field, _ in FIELDS if not isinstance(field.default, BaseModel)]


def changed(path: str, value: object) -> dict[str, Any]:
    """Give the minimal recipe with one field set."""
    values: dict[str, Any] = json.loads(json.dumps(MINIMAL))
    *sections, last = path.split(".")
    inner = values
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[last] = value
    return values


def mistake(path: str, value: object) -> str:
    """Give what is said of the minimal recipe with one field set."""
    with pytest.raises(RecipeError) as told:
        check_recipe(changed(path, value), where="r.toml")
    return str(told.value)


def number_kinds(annotation: Any) -> set[Any]:
    return {int, float} & {annotation, *get_args(annotation)}


@pytest.mark.parametrize(("path", "field", "kind"), FIELDS, ids=[path for path, *_ in FIELDS])
def test_every_field_has_a_meaning(path: str, field: Any, kind: Any):
    is_section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    assert field.description or (is_section and field.annotation.__doc__)
    (line, *_) = explain(path, kind)
    assert path in line and len(line) > len(path) + 10


@pytest.mark.parametrize(("path", "field"), PLAIN, ids=[path for path, _ in PLAIN])
def test_every_number_has_a_unit_and_every_default_a_reason(path: str, field: Any):
    extra = field.json_schema_extra or {}
    if number_kinds(field.annotation) and path.rpartition(".")[2] not in PURE:
        assert extra.get("unit") or "list" in str(field.annotation), "give it a unit"
    if not field.is_required() and field.default is not None:
        assert extra.get("reason"), "say why this is the default"


def test_explain_tells_type_default_unit_meaning_and_reason():
    (line,) = explain("general.block_pieces")
    assert line.startswith("general.block_pieces (int, default 128 pieces): Pieces a packed block.")
    assert line.endswith("Why: sentences are shorter.")
    (required,) = explain("task.kind")
    assert "required" in required


def test_explain_tells_a_section_a_language_and_everything():
    assert len(explain("recipe")) == len(OWN)
    assert len(explain("pretrain", PRETRAINING)) == len(FIELDS) - len(OWN)
    lines = explain("teacher")
    assert lines[0].startswith("[teacher]") and len(lines) == 16
    assert explain("corpus.yor.path") == explain("corpus.LANG.path")
    assert explain("corpus.yor") == explain("corpus.LANG")


def test_explain_names_the_nearest_field():
    with pytest.raises(RecipeError, match=r"general\.stpes: no such field; expected 'general\.st"):
        explain("general.stpes")
    with pytest.raises(RecipeError, match="expected a recipe's field"):
        explain("§§§")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("general.stesp", "r.toml: general.stesp: unknown key; expected 'steps'; see"),
        ("langauges", "r.toml: langauges: unknown key; expected 'languages'"),
        ("task.objective.kindd", "r.toml: task.objective.kindd: unknown key; expected 'kind'"),
        ("corpus.yor.colum", "r.toml: corpus.yor.colum: unknown key; expected 'column'"),
        ("corpus.filter.held", "expected 'held_out'; see `limbeck explain corpus.filter`"),
        (
            "evaluate.zzz",
            "expected one of: languages, benchmark, splits, resamples; see `limbeck explain",
        ),
        ("zzz", "expected one of: name, seed, languages"),
    ],
)
def test_an_unknown_key_names_file_path_and_the_nearest_key(path: str, expected: str):
    assert expected in mistake(path, 1)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("general.steps", "100", "found '100'; expected a whole number; see `limbeck explain"),
        ("general.steps", True, "found True; expected a whole number"),
        ("general.steps", 1.5, "expected a whole number, got a number with a fractional part"),
        ("general.steps", -1, "found -1; expected greater than or equal to 0"),
        ("general.learning_rate", "fast", "found 'fast'; expected a number"),
        ("general.learning_rate", float("nan"), "found nan"),
        ("student.layers", "6", "found '6'; expected a whole number"),
        (
            "export",
            {"backend": "openvino", "quantization": "dynamic"},
            "export: OpenVINO runs static 8 bits: export.quantization must be static",
        ),
        ("student.plan", 5, "r.toml: student.plan: a wrong value; found 5; expected 'every', 'bot"),
        ("student.plan", "evry", "'spread' or a list"),
        ("teacher.allow_remote_code", 1, "found 1; expected true or false"),
        ("teacher.allow_remote_code", "yes", "found 'yes'; expected true or false"),
        ("languages.targets", [], "found []; expected at least one entry"),
        ("languages.targets", "yor", "found 'yor'; expected a list"),
        ("languages.targets", ["../x"], "languages.targets.0: a wrong value; found '../x'"),
        ("name", "a b", "expected letters, digits, dot, dash and underscore"),
        ("general", 5, "r.toml: general: a wrong value; found 5; expected a section"),
        ("corpus", "x.txt", "r.toml: corpus: a wrong value; found 'x.txt'; expected a section"),
        ("corpus.filter", "x", "r.toml: corpus.filter: a wrong value; found 'x'"),
        ("corpus.yor", 5, "r.toml: corpus.yor: a wrong value; found 5; expected a section"),
        ("task.kind", "nre", "found 'nre'; expected 'ner', 'pos', "),
        ("machine.device", "x" * 99, "…"),
    ],
)
def test_a_wrong_value_is_told_with_what_was_found_and_expected(path, value, expected):
    if path == "machine.device":
        value = [value]
    told = mistake(path, value)
    assert expected in told and "\n" not in told


def test_a_whole_number_may_be_written_as_a_power_of_ten():
    assert check_recipe(changed("general.steps", 1e3)).general.steps == 1000
    assert check_recipe(changed("general.learning_rate", 1)).general.learning_rate == 1


@pytest.mark.parametrize("path", ["name", "teacher", "languages", "corpus", "task", "task.kind"])
def test_a_missing_field_is_named(path: str):
    values = json.loads(json.dumps(MINIMAL))
    *sections, last = path.split(".")
    inner = values
    for section in sections:
        inner = inner[section]
    del inner[last]
    with pytest.raises(RecipeError, match=f"r.toml: {path}: missing; add it to the recipe"):
        check_recipe(values, where="r.toml")


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("languages.source", "swa", r"languages\.source names 'swa', .* \[corpus\] \(it has: eng"),
        ("languages.targets", ["swa"], r"languages\.targets names 'swa', .*; add corpus\.swa"),
        ("languages.targets", ["yor", "yor"], r"languages\.targets: 'yor' is named twice"),
        ("corpus.filter.scripts", {"swa": "Latn"}, r"corpus\.filter\.scripts names 'swa'"),
    ],
)
def test_a_language_of_one_section_that_another_lacks_names_both(path, value, expected):
    with pytest.raises(RecipeError, match=expected):
        check_recipe(changed(path, value))


def test_a_language_may_be_source_and_target_at_once():
    assert check_recipe(changed("languages.targets", ["eng"])).languages.targets == ["eng"]


def test_a_corpus_is_a_path_or_a_hub_data_set_but_not_both():
    recipe = check_recipe(MINIMAL)
    assert recipe.corpus.texts["eng"].path == "eng.txt"
    assert recipe.corpus.texts["yor"].hub == "some/text"
    for place in ({}, {"path": "x", "hub": "y"}):
        assert "corpus.yor: give either `path` or `hub`" in mistake("corpus.yor", place)


def test_the_resolved_recipe_holds_every_default_and_reads_back():
    recipe = check_recipe(MINIMAL)
    dumped = recipe.model_dump(mode="json")
    assert dumped["task"]["epochs"] == 2.0 and recipe.task.window_pieces == 128
    assert check_recipe(json.loads(json.dumps(dumped))) == recipe
    assert recipe.train_languages == ["eng"]
    assert check_recipe(changed("task.train_language", "yor")).train_languages == ["yor"]


def test_the_schema_is_plain_json_and_tells_every_section():
    schema = json.loads(json.dumps(Recipe.model_json_schema()))
    assert set(schema["required"]) == {"name", "languages", "teacher", "corpus", "task"}
    assert schema["$defs"]["General"]["properties"]["steps"]["unit"] == "steps"
    assert schema["$defs"]["General"]["additionalProperties"] is False


def test_overrides_are_toml_values_or_bare_words(tiny_recipe: Path):
    overrides = ["general.steps=3", "student.plan=[1, 4]", "machine.device=cpu", 'name="b"']
    recipe = read_recipe(tiny_recipe, [*overrides, "corpus.ccc.path=c.txt"])
    assert (recipe.general.steps, recipe.student.plan) == (3, [1, 4])
    assert (recipe.machine.device, recipe.name) == ("cpu", "b")
    assert recipe.corpus.texts["ccc"].path == "c.txt"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("general.steps", "--set general.steps: not an assignment; expected --set section.field"),
        ("=3", "not an assignment"),
        ("name.first=x", "'name' is a value, not a section"),
        ("general.stesp=3", "general.stesp: unknown key; expected 'steps'"),
        ("general.steps=many", "found 'many'; expected a whole number"),
    ],
)
def test_a_bad_override_is_told(tiny_recipe: Path, override: str, expected: str):
    with pytest.raises(RecipeError) as told:
        read_recipe(tiny_recipe, [override])
    assert expected in str(told.value)


def test_paths_are_kept_as_written_whatever_folder_the_recipe_lies_in(
    tmp_path: Path, recipe_text: Callable[..., str]
):
    path = tmp_path / "deep" / "r.toml"
    path.parent.mkdir()
    path.write_text(recipe_text())
    recipe = read_recipe(path, ["corpus.bbb=some/where.txt"])
    assert recipe.corpus.texts["bbb"].path == "some/where.txt"


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_loads(name: str):
    assert read_recipe(name).name == name


def test_a_folder_of_the_same_name_does_not_hide_a_shipped_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("quickstart").mkdir()
    assert read_recipe("quickstart").name == "quickstart"


def test_there_are_shipped_recipes_and_an_unknown_one_names_them():
    assert shipped_recipes()
    with pytest.raises(RecipeError, match=f"nothing: no such recipe; .*{shipped_recipes()[0]}"):
        read_recipe("nothing")


def test_a_file_that_is_not_toml_or_not_text_is_told_with_its_name(tmp_path: Path):
    path = tmp_path / "r.toml"
    for content in (b"name = ", b"\xff\xfe", b"a = 1\na = 2"):
        path.write_bytes(content)
        with pytest.raises(RecipeError, match=r"r\.toml: cannot be read as TOML; found "):
            read_recipe(path)
    with pytest.raises(RecipeError, match="cannot be read as TOML"):
        read_recipe(tmp_path)


def test_a_name_cannot_leave_its_folder():
    assert is_name("eng-yor_1.b")
    assert not any(map(is_name, ("", "../x", "a/b", ".hidden", "a b", "a\n")))
