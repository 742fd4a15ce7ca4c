"""The labelled data of a recipe: what its key holds, what is read, and what is told early."""

from pathlib import Path
from typing import Any

import pytest

from limbeck.errors import LimbeckError, RecipeError
from limbeck.recipe import check_recipe
from limbeck.stages import evaluate, teacher
from limbeck.stages.labels import read_labelled, read_test_sets, train_files

PAIRS = "premise\thypothesis\tlanguage\tlabel\n"


def recipe(root: Path, kind: str, name: str, **more: Any):
    values: dict[str, Any] = {
        "name": "x",
        "languages": {"source": "aa", "targets": ["bb"]},
        "teacher": {"model": "m"},
        "corpus": {"aa": "a.txt", "bb": "b.txt"},
        "task": {"kind": kind, "benchmark": {"name": name, "root": str(root)}},
    }
    values["task"] |= more.pop("task", {})
    return check_recipe(values | more)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_the_targets_benchmark_is_in_the_key_of_their_scores(tmp_path: Path):
    sections = []
    for other in (None, "americasnli", "pairs"):
        given = {"benchmark": {"name": other, "root": "some/hub"}} if other else {}
        made = recipe(tmp_path, "nli", "xnli", evaluate=given)
        sections.append(evaluate.STAGE.section(made))
        assert sections[0]["benchmark"] == sections[-1]["benchmark"]
    assert len({str(one) for one in sections}) == 3


def test_a_hub_id_is_in_the_key_and_a_folders_place_is_not(tmp_path: Path):
    def key(root: object) -> dict[str, Any]:
        return teacher.STAGE.section(recipe(Path(str(root)), "nli", "xnli"))

    assert key("me/one") != key("me/two")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert key(tmp_path / "a") == key(tmp_path / "b")


def test_files_of_one_name_in_two_splits_are_both_in_the_key(tmp_path: Path):
    rows = "".join(f"a {i}\tb {i}\tes\tneutral\n" for i in range(3))
    for split in ("train", "dev"):
        write(tmp_path / split / "aa.tsv", PAIRS + rows)
    made = recipe(tmp_path, "nli", "americasnli")
    before = train_files(made)
    assert set(before) == {"aa/train/aa.tsv", "aa/dev/aa.tsv"}
    write(tmp_path / "train" / "aa.tsv", PAIRS + rows.upper())
    after = train_files(made)
    assert after["aa/train/aa.tsv"] != before["aa/train/aa.tsv"]
    assert after["aa/dev/aa.tsv"] == before["aa/dev/aa.tsv"]


def test_a_tag_that_only_dev_has_is_no_mistake_with_several_languages_either(tmp_path: Path):
    for language, tag in (("aa", "NOUN"), ("bb", "VERB")):
        write(tmp_path / language / "train.txt", f"a {tag}\nb DET\n\nc DET\n")
        write(tmp_path / language / "dev.txt", "a INTJ\nb DET\n")
    for train in ("aa", ["aa", "bb"]):
        found = read_labelled(recipe(tmp_path, "pos", "conll", task={"train_language": train}))
        assert "INTJ" not in found.labels and found.dev[0].labels[0] == "INTJ"
    assert found.labels == ("DET", "NOUN", "VERB") and len(found.train) == 4


def test_targets_of_another_benchmark_are_scored_in_the_labels_learned(tmp_path: Path):
    write(tmp_path / "a/aa/train.txt", "a B-PER\nb B-DATE\n\nc O\n")
    write(tmp_path / "a/aa/dev.txt", "a B-PER\n")
    write(tmp_path / "a/aa/test.txt", "a B-DATE\n")
    write(tmp_path / "b/bb/test.txt", "# text = a\n1\ta\tB-PER\t-\tx\n")
    other: dict[str, Any] = {"benchmark": {"name": "uner", "root": str(tmp_path / "b")}}
    made = recipe(tmp_path / "a", "ner", "masakhaner", evaluate=other)
    labels = read_labelled(made).labels
    found = {language: data for _, language, data in read_test_sets(made, labels)}
    assert found["bb"].labels == labels and "B-DATE" in labels
    with pytest.raises(RecipeError, match="evaluate.benchmark.labels is not read"):
        recipe(
            tmp_path,
            "ner",
            "masakhaner",
            evaluate={"benchmark": other["benchmark"] | {"labels": ["PER"]}},
        )


def test_a_window_longer_than_the_teachers_positions_is_told_early(tmp_path: Path):
    from limbeck.pipeline import _check_window

    made = recipe(tmp_path, "topics", "texts")
    _check_window(made, None)
    with pytest.raises(LimbeckError, match=r"task\.max_pieces: a window is longer than .* 256"):
        _check_window(made, 128)
