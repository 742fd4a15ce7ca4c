"""Treebanks are read as trees, from folders of CoNLL-U and as the hub has them."""

import datasets
import pytest
from datasets import Dataset

from limbeck.benchmarks import rows, ud
from limbeck.errors import DataError, RecipeError
from limbeck.tasks import tree_scores
from limbeck.tasks.parsing import ParsedSentence
from limbeck.tasks.trees import to_conllu
from limbeck.world import make_world


def line(index, word, head="_", relation="_"):
    return f"{index}\t{word}\tl\tX\t_\t_\t{head}\t{relation}\t_\t_\n"


DU = line("1-2", "du") + line(1, "de", 3, "case") + line(2, "le", 3, "det:poss")
GOOD = "# sent_id = 1\n" + DU + line(3, "x", 0, "root") + "\n" + line(1, "y", 0, "root") + "\n"


def write(root, text, *, language="fra", name="test.conllu"):
    path = root / language / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def load(root, *, language="fra", split="test", **more):
    return ud.load(ud.BENCHMARK, root=root, language=language, split=split, **more)


def test_a_file_is_read_as_published(tmp_path):
    path = write(tmp_path, GOOD)
    found = load(tmp_path)
    assert found.examples == (
        ParsedSentence(
            ("de", "le", "x"), (3, 3, 0), ("case", "det:poss", "root"), ((1, 2, "du"),), f"{path}:3"
        ),
        ParsedSentence(("y",), (0,), ("root",), (), f"{path}:7"),
    )
    assert found.labels == ("case", "det:poss", "root")
    assert (found.task, set(found.notes)) == ("parsing", {"comment"})
    assert load(tmp_path, task="parsing") == found
    with pytest.raises(RecipeError, match="ud has no labels for this task; found 'pos'"):
        load(tmp_path, task="pos")


@pytest.mark.parametrize(
    ("folder", "name", "split", "language"),
    [
        ("fra", "fr_gsd-ud-dev.conllu", "dev", "fra"),
        ("fra", "train.conllu", "train", "fra"),
        ("fra", "validation.conllu", "dev", "fra"),
        ("UD_French-GSD", "fr_gsd-ud-test.conllu", "test", "UD_French-GSD"),
        ("UD_French-GSD", "fr_gsd-ud-test.conllu", "test", "fr_gsd"),
    ],
)
def test_the_split_is_told_by_the_name_of_the_file(folder, name, split, language, tmp_path):
    path = write(tmp_path, GOOD, language=folder, name=name)
    write(tmp_path, GOOD, language=folder, name="latest.conllu")
    assert len(load(tmp_path, language=language, split=split).examples) == 2
    assert ud.files(tmp_path, language, split) == [path]


def test_a_split_in_several_files_is_read_in_order_but_two_treebanks_are_refused(tmp_path):
    for part in "ba":
        text = f"# {part}\n" + line(1, part, 0, "root")
        write(tmp_path, text, name=f"cs_pdt-ud-train-{part}.conllu")
    found = load(tmp_path, split="train")
    assert [one.words for one in found.examples] == [("a",), ("b",)]
    assert found.notes["comment"].count == 2
    assert [name.rpartition("-")[2] for name in found.notes["comment"].samples] == [
        "a.conllu:1",
        "b.conllu:1",
    ]
    write(tmp_path, GOOD, name="cs_cac-ud-train.conllu")
    with pytest.raises(DataError, match=r"more than one treebank.*cs_cac-ud-train\.conllu, cs_pdt"):
        load(tmp_path, split="train")


DIRT = {
    "byte-order-mark": "\ufeff" + GOOD,
    "carriage-return": GOOD.replace("\n", "\r\n"),
    "blank-line-with-spaces": GOOD.replace("\n\n", "\n \t\n", 1),
    "empty-sentence": "# nothing\n\n" + GOOD,
    "empty-node": GOOD.replace("3\tx", line("2.1", "z") + "3\tx"),
    "irregular-spacing": GOOD.replace("\tx\t", "\tx \t"),
    "root-relation": GOOD.replace("det:poss", "root"),
    "invisible-character": GOOD.replace("de\t", "de\u200b\t"),
    "not-nfc": GOOD.replace("le\t", "le\u0301\t"),
}


@pytest.mark.parametrize("reason", DIRT)
def test_what_can_be_mended_is_counted(reason, tmp_path):
    write(tmp_path, DIRT[reason])
    found = load(tmp_path)
    assert [one.heads for one in found.examples] == [(3, 3, 0), (0,)]
    assert found.examples[0].words[2] == "x"
    assert found.notes[reason].samples
    assert set(found.notes) == {reason, "comment"}
    assert reason in rows.RULES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("x\tl\tX\t", "x\tl\t"), r":5: .*wrong number of columns; found 9 in '3"),
        (line(1, "a", 0, "root").replace("\t", " "), r":1: .*found 1 in .*separated by tabs"),
        (line(1, "a", 2, "det") + line(2, "b", 1, "det"), r":1: .*circle; found 1 → 2 → 1"),
        (
            line(1, "a", 0, "root") + line(2, "b", 1, "x") + line(3, "c", 0, "root"),
            r":3: .*more than one root; found the words 1, 3",
        ),
        (GOOD.replace("3\tdet", "4\tdet"), r":4: a head .*found '4' for word 2 \(le\).*0 to 3"),
        (GOOD.replace("3\tdet", "2\tdet"), r":4: a head .*found '2' for word 2"),
        (GOOD.replace("3\tdet", "-1\tdet"), r":4: a head .*found '-1'"),
        (GOOD.replace("3\tdet", "_\tdet"), r":4: a head .*found '_'"),
        (GOOD.replace("3\tdet", "٣\tdet"), r":4: a head .*found '٣'"),
        (GOOD.replace("det:poss", "_"), r":4: a word has a head but no relation.*word 2 \(le\)"),
        (GOOD.replace("2\tle", "3\tle"), r":4: .*not numbered after.*expected word 2"),
        (GOOD.replace("2\tle", "2\t"), r":4: a word without a form"),
        (GOOD.replace("1-2", "2-3"), r":2: .*expected word 1"),
        (GOOD.replace("1-2", "1-4"), r":3: multiword tokens .*found 1-4"),
        (line("1-2", "ab"), r":1: a sentence has no words"),
        ("# a\n\n", "there is no sentence here"),
        ("", "there is no sentence here"),
        (GOOD.encode().replace(b"x", b"\xff"), r":5: the file is not UTF-8; found byte 0xff"),
    ],
)
def test_what_no_rule_mends_is_named_with_file_and_line(text, message, tmp_path):
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=message) as told:
        load(tmp_path)
    assert str(told.value).startswith(str(path))


def test_a_training_split_is_fitted_to_the_labels_given(tmp_path):
    write(tmp_path, GOOD, name="train.conllu")
    labels = ("root", "det", "case", "obj")
    found = load(tmp_path, split="train", labels=labels)
    assert found.examples[0].relations == ("case", "det", "root")
    assert found.labels == labels
    assert found.notes["relation-without-subtype det:poss"].samples[0].endswith("train.conllu:4")
    assert found.notes["label-unseen"].samples == ("obj",)
    with pytest.raises(DataError, match=r"train\.conllu:4: .*found 'det:poss'.*root case"):
        load(tmp_path, split="train", labels=("root", "case"))


def test_other_splits_keep_their_relations_and_count_the_unknown(tmp_path):
    path = write(tmp_path, GOOD)
    for found in (
        load(tmp_path, labels=("root", "det")),
        ud.load_file(path, task="parsing", labels=("root", "det")),
    ):
        assert found.examples[0].relations == ("case", "det:poss", "root")
        assert found.labels == ("root", "det")
        assert found.notes["relation-unknown case"].samples == (f"{path}:3",)
        assert found.notes["relation-unknown det:poss"].count == 1
    assert {name.split(" ")[0] for name in found.notes} <= set(rows.RULES)


def test_a_file_for_another_task_or_without_arcs_is_refused(tmp_path):
    path = write(tmp_path, line(1, "a", 0, "root"))
    with pytest.raises(RecipeError, match="trees is for parsing; found 'ner'"):
        ud.load_file(path, task="ner", labels=("root",))
    with pytest.raises(DataError, match="has another for its head"):
        ud.load_file(path, task="parsing", labels=("root",))


def test_what_is_missing_is_told_with_what_is_there(tmp_path):
    write(tmp_path, GOOD)
    with pytest.raises(DataError, match=r"no train split for fra; found fra \(test\)"):
        load(tmp_path, split="train")
    with pytest.raises(DataError, match="found no folder with a train"):
        load(tmp_path / "fra", language="eng")
    with pytest.raises(DataError, match="no such folder"):
        load(tmp_path / "nowhere")
    assert ud.files("universal-dependencies/universal_dependencies", "en_ewt", "test") == []
    assert ud.files(tmp_path, "eng", "test") == []


def test_what_is_written_is_read_back(tmp_path):
    write(tmp_path, GOOD)
    found = load(tmp_path).examples
    trees = [tuple(zip(one.heads, one.relations, strict=True)) for one in found]
    write(tmp_path, to_conllu(found, trees), language="back")
    back = load(tmp_path, language="back").examples
    assert [(one.words, one.heads, one.relations, one.ranges) for one in back] == [
        (one.words, one.heads, one.relations, one.ranges) for one in found
    ]


def test_the_trees_of_a_made_world_are_read(tmp_path):
    make_world(tmp_path, size="tiny", only=("ud",), languages=("qaa",))
    for split in ud.BENCHMARK.splits:
        found = load(tmp_path / "ud", language="qaa", split=split)
        tree_scores.check(found.examples)
        assert "root" in found.labels
        assert set(found.notes) <= {"comment", "not-nfc"}


COLUMNS = {
    "tokens": [["du", "de", "le", "x"], ["y"]],
    "head": [["None", "3", "3", "0"], ["0"]],
    "deprel": [["_", "case", "det:poss", "root"], ["root"]],
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()

    def make(**columns):
        folder = tmp_path / "hub" / "fr_gsd"
        folder.mkdir(parents=True)
        table = Dataset.from_dict({**COLUMNS, **columns})
        table.to_parquet(str(folder / "test-00000.parquet"))
        return tmp_path / "hub"

    return make


def test_a_folder_laid_out_as_on_the_hub_is_read(hub):
    root = hub()
    found = load(root, language="fr_gsd")
    assert [one.words for one in found.examples] == [("de", "le", "x"), ("y",)]
    assert [one.heads for one in found.examples] == [(3, 3, 0), (0,)]
    assert found.examples[0].relations == ("case", "det:poss", "root")
    assert found.examples[1].where == f"{root}/fr_gsd/test:2"
    assert {name: note.count for name, note in found.notes.items()} == {"word-range": 1}
    assert ud.files(root, "fr_gsd", "test") == [root / "fr_gsd" / "test-00000.parquet"]


def test_rows_of_the_hub_without_words_are_counted(hub):
    root = hub(tokens=[["a"], []], head=[["0"], []], deprel=[["root"], []])
    assert load(root, language="fr_gsd").notes["empty-sentence"].count == 1


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"head": [["0"], ["0"]]}, "test:1: a row needs one head and one relation per word"),
        ({"head": [["None", "3", "3", "9"], ["0"]]}, r"test:1: a head must.*'9' for word 3 \(x\)"),
        ({"head": [["None", "0", "3", "0"], ["0"]]}, "test:1: .*more than one root"),
        ({"tokens": [[], []], "head": [[], []], "deprel": [[], []]}, "no sentence here"),
    ],
)
def test_a_row_of_the_hub_that_is_no_tree_is_refused(columns, message, hub):
    with pytest.raises(DataError, match=message):
        load(hub(**columns), language="fr_gsd")


def test_a_hub_id_is_loaded_by_its_configuration(monkeypatch):
    asked = []

    def load_dataset(path, name, *, split, revision):
        asked.append((path, name, split, revision))
        return Dataset.from_dict(COLUMNS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(load(ud.BENCHMARK.hub, language="fr_gsd").examples) == 2
    assert asked == [(ud.BENCHMARK.hub, "fr_gsd", "test", None)]
