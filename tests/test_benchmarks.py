import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from limbeck import benchmarks
from limbeck.benchmarks import BENCHMARKS, Examples, check_labels, conll, divide, load, rows
from limbeck.errors import DataError, RecipeError
from limbeck.tasks import TASKS

NER = "Ada B-PER\nLovelace I-PER\nlived O\n\nLagos B-LOC\n"
UNER = (
    "# newdoc id = a\n# sent_id = a-1\n# text = Ada lives\n1\tAda\tB-PER\t-\tx\n"
    "2\tlives\tO\t-\t-\n\n"
    "# sent_id = a-2\n1\tLagos\tB-LOC\t-\tx\n"
)
POS = "Ada PROPN\nlives VERB\n\nHere ADV\n"


def write(root, text, *, language="yor", name="test.txt"):
    path = root / language / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def load_ner(root, **more):
    return load(BENCHMARKS["masakhaner"], root=root, language="yor", split="test", **more)


def words(found):
    return [one.words for one in found.examples]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_tells_what_it_is(name):
    record = BENCHMARKS[name]
    assert record.name == name
    assert record.licence and record.citation and record.tasks
    assert set(record.tasks) <= set(TASKS) and set(record.splits) <= {"train", "dev", "test"}
    for task in record.tasks:
        assert not record.primary or record.primary == TASKS[task].primary
    other = next(task for task in TASKS if task not in record.tasks)
    with pytest.raises(RecipeError, match=f"{name} has no labels for this task; found '{other}'"):
        load(record, root="x", language="yor", split="test", task=other)


@pytest.mark.parametrize("name", ["masakhaner", "masakhapos", "uner", "conll"])
def test_every_benchmark_of_tags_keeps_its_contract(name, tmp_path):
    record = BENCHMARKS[name]
    for task in record.tasks:
        write(tmp_path / task, NER if task == "ner" else POS)
        found = load(BENCHMARKS[name], root=tmp_path / task, language="yor", split="test")
        assert isinstance(found, Examples)
        assert found.task == task
        labels = {label for one in found.examples for label in one.labels}
        assert labels <= set(found.labels)
        assert len(set(found.labels)) == len(found.labels)
        assert not record.labels or found.labels == TASKS[task].expand_labels(record.labels)
        assert found.examples[0].where == f"{tmp_path / task / 'yor' / 'test.txt'}:1"
        assert {reason.split(" ")[0] for reason in found.notes} <= set(rows.RULES)
        check_labels(task, found)
        with pytest.raises(DataError, match=r"no train split for yor.*yor \(test\)"):
            load(BENCHMARKS[name], root=tmp_path / task, language="yor", split="train")


def test_the_layout_is_told_from_the_file_so_one_root_holds_both_formats(tmp_path):
    write(tmp_path, NER)
    write(tmp_path, UNER, language="eng", name="dev.iob2")
    write(tmp_path, UNER, language="UNER_English-EWT", name="en_ewt-ud-dev.iob2")
    for language in ("eng", "UNER_English-EWT"):
        found = load(BENCHMARKS["masakhaner"], root=tmp_path, language=language, split="dev")
        assert words(found) == [("Ada", "lives"), ("Lagos",)]
        assert [one.labels for one in found.examples] == [("B-PER", "O"), ("B-LOC",)]
        assert found.notes["comment"].count == 4
        assert found.examples[1].where.endswith(":8")
    assert load_ner(tmp_path).labels == found.labels


def test_four_columns_and_tabs_are_read(tmp_path):
    write(tmp_path, "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n")
    found = load(BENCHMARKS["conll"], root=tmp_path, language="yor", split="test")
    assert words(found) == [("EU", "rejects")]
    assert found.labels == ("O", "B-ORG", "I-ORG")
    assert found.notes["document-start"].count == 1
    write(tmp_path, "New York\tB-LOC\nis\tO\n# a comment\n", language="eng", name="test.tsv")
    found = load(BENCHMARKS["conll"], root=tmp_path, language="eng", split="test")
    assert words(found) == [("New York", "is")]
    assert found.notes["comment"].count == 1


def test_a_label_subset_maps_other_entities_to_o_and_counts_their_words(tmp_path):
    write(tmp_path, "Ada B-PER\non O\nMay B-DATE\n1 I-DATE\n")
    found = load_ner(tmp_path, labels=["PER", "ORG", "LOC"])
    assert found.labels == ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
    assert found.examples[0].labels == ("B-PER", "O", "O", "O")
    assert found.notes["outside-labels DATE"].count == 2
    assert found.notes["outside-labels DATE"].samples[0].endswith("test.txt:3")
    assert found.notes["label-unseen"].count == 5


def test_the_labels_of_a_model_keep_their_order(tmp_path):
    write(tmp_path, NER)
    order = ("B-LOC", "I-LOC", "O", "B-PER", "I-PER")
    assert load_ner(tmp_path, labels=order).labels == order
    assert load(
        BENCHMARKS["conll"], root=tmp_path, language="yor", split="test", labels=["ORG", "PER"]
    ).labels == (
        "O",
        "B-ORG",
        "I-ORG",
        "B-PER",
        "I-PER",
    )


DIRT = {
    "byte-order-mark": ("\ufeffAda B-PER\nis O\n", [("Ada", "is")]),
    "carriage-return": ("Ada B-PER\r\nis O\r\n\r\nLagos B-LOC\r\n", [("Ada", "is"), ("Lagos",)]),
    "blank-line-with-spaces": ("Ada B-PER\n \t\nLagos B-LOC\n", [("Ada",), ("Lagos",)]),
    "irregular-spacing": ("Ada B-PER\nis\tO \n so  O\n", [("Ada", "is", "so")]),
    "space-in-word": ("Ada B-PER\n10 000 O\n", [("Ada", "10 000")]),
    "empty-word": ("Ada B-PER\n O\nis O\n", [("Ada", "is")]),
    "document-start": ("-DOCSTART-\nAda B-PER\n", [("Ada",)]),
    "comment": ("# id 7\nAda B-PER\n# O\n", [("Ada", "#")]),
    "word-range": (
        "1-2\tdel\t_\t-\n1\tde\tO\t-\n2\tel\tO\t-\n2.1\tx\t_\t-\n3\tAda\tB-PER\t-\n",
        [("de", "el", "Ada")],
    ),
    "invisible-word": ("Ada B-PER\n\u200b O\n", [("Ada", "\u200b")]),
    "invisible-character": ("Ada\u200f B-PER\n", [("Ada\u200f",)]),
    "not-nfc": ("Ade\u0301 B-PER\n", [("Ade\u0301",)]),
    "inside-without-begin": ("Ada B-PER\nin I-LOC\n", [("Ada", "in")]),
    "label-unseen": ("Ada B-PER\n", [("Ada",)]),
}


@pytest.mark.parametrize("reason", DIRT)
def test_each_kind_of_dirt_is_mended_by_a_named_counted_rule(reason, tmp_path):
    text, expected = DIRT[reason]
    write(tmp_path, text)
    found = load_ner(tmp_path)
    assert words(found) == expected
    assert found.notes[reason].count >= 1
    assert found.notes[reason].samples
    assert set(found.notes) <= {reason, "label-unseen", "irregular-spacing"}


def test_every_rule_has_a_test():
    elsewhere = {"empty-sentence", "erratum", "outside-labels"}
    trees = {"empty-node", "root-relation", "relation-without-subtype", "relation-unknown"}
    texts = {
        "blank-line",
        "quote-kept",
        "other-language",
        "empty-text",
        "untranslated",
        "no-gold-label",
        "label-respelt",
    }
    questions = {
        "answer-moved",
        "answer-respelt",
        "answer-blank",
        "question-blank",
        "context-missing",
        "gold-missing",
        "answer-not-in-context",
    }
    assert set(rows.RULES) == set(DIRT) | elsewhere | trees | texts | questions


def test_an_empty_word_in_a_numbered_file_is_left_out_and_counted(tmp_path):
    write(tmp_path, "1\tAda\tB-PER\t-\n2\t\tO\t-\n3\tis\tO\t\n")
    found = load_ner(tmp_path)
    assert words(found) == [("Ada", "is")]
    assert found.notes["empty-word"].count == 1


def test_an_empty_tag_in_a_numbered_file_is_no_tag(tmp_path):
    path = write(tmp_path, "1\tAda\tPROPN\n2\tis\t\n")
    with pytest.raises(DataError, match=r"test\.txt:2.*wrong number of columns"):
        conll.read_file(path)


def test_doubled_spaces_in_the_first_line_are_no_column(tmp_path):
    write(tmp_path, "Ada  B-PER\nis O\n")
    found = load_ner(tmp_path)
    assert words(found) == [("Ada", "is")]
    assert found.notes["irregular-spacing"].samples[0].endswith("test.txt:1")


def test_what_is_left_of_annotation_in_universal_ner_is_read_as_its_authors_do(tmp_path):
    write(tmp_path, "1\tAda\tB-PER\n2\tBrexit\tB-OTH\n3\tvote\tI-OTH\n4\tis\tB-O\n")
    found = load(BENCHMARKS["uner"], root=tmp_path, language="yor", split="test")
    assert found.examples[0].labels == ("B-PER", "O", "O", "O")
    assert found.notes["erratum B-OTH"].count == found.notes["erratum B-O"].count == 1


def test_a_clean_file_has_no_notes(tmp_path):
    write(tmp_path, POS)
    assert conll.read(tmp_path, "yor", "test").notes == {}


def test_old_macintosh_line_ends_are_line_ends(tmp_path):
    write(tmp_path, NER.replace("\n", "\r"))
    assert words(load_ner(tmp_path)) == [("Ada", "Lovelace", "lived"), ("Lagos",)]


def test_a_note_keeps_the_first_places_only(tmp_path):
    write(tmp_path, "Ada B-PER\n" + "is  O\n" * 5)
    note = load_ner(tmp_path).notes["irregular-spacing"]
    assert note.count == 5
    assert [place.rpartition(":")[2] for place in note.samples] == ["2", "3", "4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Ada B-LOCATION\n", r":1.*outside the tag set.*B-LOCATION.*did you mean 'B-LOC'"),
        ("Ada B-PER\nis o\n", r":2.*outside the tag set.*'o'.*did you mean 'O'"),
        ("Ada b-per\n", r":1.*did you mean 'B-PER'"),
        ("Ada _\n", r":1.*outside the tag set.*'_'.*correct the line"),
        ("Ada S-PER\n", r":1.*did you mean"),
        ("Ada B-PER\nis\n", r":2.*wrong number of columns"),
        ("Ada\nis\n", r":1.*one column"),
        ("1\tAda\tB-PER\n2\tis\n", r":2.*wrong number of columns"),
        ("1\tAda\tB-PER\n2\t\tis\tO\n", r":2.*wrong number of columns"),
        ("a b c O\nd e O\n", r":2.*wrong number of columns"),
        ("", "the file is empty"),
        ("\n \n\n", "the file is empty"),
        ("-DOCSTART- -X- O\n", "no sentence in this file"),
        ("Adé B-PER\n".encode("latin-1"), r":1.*not UTF-8.*0xe9"),
        ("Ada B-PER\n".encode("utf-16"), r":1.*not UTF-8"),
        ("Ada I-PER\nis O\nin I-LOC\nand O\nat B-LOC\n", r":1.*do not begin with B-.*IOB1"),
    ],
)
def test_what_no_rule_mends_is_named_with_file_and_line(text, message, tmp_path):
    write(tmp_path, text)
    with pytest.raises(DataError, match=message) as caught:
        load_ner(tmp_path)
    assert "test.txt" in str(caught.value)


def test_a_missing_split_lists_what_is_there(tmp_path):
    write(tmp_path, NER)
    write(tmp_path, NER, language="hau", name="dev.conll")
    with pytest.raises(DataError, match=r"no dev split for ibo.*hau \(dev\), yor \(test\)"):
        load(BENCHMARKS["masakhaner"], root=tmp_path, language="ibo", split="dev")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no folder with a train, dev or test file"):
        load(BENCHMARKS["masakhaner"], root=tmp_path / "empty", language="ibo", split="dev")
    with pytest.raises(DataError, match="no such folder"):
        load(BENCHMARKS["masakhaner"], root=tmp_path / "nowhere", language="ibo", split="dev")


def test_two_files_for_one_split_are_refused(tmp_path):
    write(tmp_path, NER)
    write(tmp_path, NER, name="test.conll")
    with pytest.raises(DataError, match=r"test\.conll, test\.txt"):
        load_ner(tmp_path)


def test_names_that_do_not_exist_are_answered_with_the_nearest(tmp_path):
    write(tmp_path, NER)
    with pytest.raises(RecipeError, match="did you mean 'masakhaner'"):
        benchmarks.find_benchmark("masakaner")
    assert benchmarks.find_benchmark("uner") is BENCHMARKS["uner"]
    with pytest.raises(RecipeError, match="no labels for this task"):
        load_ner(tmp_path, task="pos")
    with pytest.raises(RecipeError, match="no such task"):
        load_ner(tmp_path, task="poetry")
    with pytest.raises(RecipeError, match=r"no such label.*B-PERS.*did you mean 'B-PER'"):
        load_ner(tmp_path, labels=["PERS"])


def test_the_task_of_your_own_files_is_told_from_the_tags_or_given(tmp_path):
    write(tmp_path, POS)
    assert load(BENCHMARKS["conll"], root=tmp_path, language="yor", split="test").labels == (
        "ADV",
        "PROPN",
        "VERB",
    )
    with pytest.raises(DataError, match=r":1.*outside the tag set.*PROPN"):
        load(BENCHMARKS["conll"], root=tmp_path, language="yor", split="test", task="ner")


def test_a_part_of_speech_outside_the_labels_asked_for_is_refused(tmp_path):
    write(tmp_path, POS)
    with pytest.raises(DataError, match=r":4.*outside the labels asked for.*ADV"):
        load(
            BENCHMARKS["masakhapos"],
            root=tmp_path,
            language="yor",
            split="test",
            labels=["VERB", "PROPN"],
        )


def test_a_published_mistake_in_the_table_is_corrected_and_counted(tmp_path, monkeypatch):
    from dataclasses import replace

    record = replace(BENCHMARKS["masakhaner"], errata={"B-PERS": "B-PER"})
    monkeypatch.setitem(benchmarks.BENCHMARKS, "masakhaner", record)
    write(tmp_path, "Ada B-PERS\n")
    found = load_ner(tmp_path)
    assert found.examples[0].labels == ("B-PER",)
    assert found.notes["erratum B-PERS"].count == 1


def test_examples_without_an_entity_are_refused(tmp_path):
    write(tmp_path, "Ada O\nis O\n")
    with pytest.raises(DataError, match=r"test\.txt:1.*no entity"):
        check_labels("ner", load_ner(tmp_path))


def many(tmp_path, n=400):
    write(
        tmp_path,
        "".join(f"word{i % (n - 20)} NOUN\nis VERB\n\n" for i in range(n)),
        name="train.txt",
    )
    return load(BENCHMARKS["masakhapos"], root=tmp_path, language="yor", split="train")


def test_dividing_is_by_sentence_and_keeps_equal_ones_together(tmp_path):
    whole = many(tmp_path).examples
    train, dev = divide(whole, task="pos", fraction=0.25, seed=1)
    assert len(train) + len(dev) == 400
    assert not {one.words for one in train} & {one.words for one in dev}
    assert 60 < len(dev) < 140
    assert divide(whole, task="pos", fraction=0.25, seed=1) == (train, dev)
    assert divide(whole, task="pos", fraction=0.25, seed=2) != (train, dev)
    assert set(divide(whole[:50], task="pos", fraction=0.25, seed=1)[1]) <= set(dev)


def test_a_division_that_leaves_a_side_empty_is_refused(tmp_path):
    whole = many(tmp_path, 30).examples
    with pytest.raises(RecipeError, match="between 0 and 1"):
        divide(whole, task="pos", fraction=1.0)
    with pytest.raises(DataError, match="too few examples to divide"):
        divide(whole, task="pos", fraction=1e-9)


def hub_folder(root, *, tags, feature, language="yor", column="ner_tags", tokens=None):
    tokens = tokens or [["Ada", "lives"], ["Lagos"]]
    table = Dataset.from_dict(
        {"tokens": tokens, column: tags},
        features=Features({"tokens": Sequence(Value("string")), column: Sequence(feature)}),
    )
    folder = root / language
    folder.mkdir(parents=True)
    table.to_parquet(str(folder / "validation-00000.parquet"))
    return root


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.mark.parametrize("as_class", [True, False], ids=["class ids", "strings"])
def test_a_folder_laid_out_as_on_the_hub_is_read(as_class, tmp_path, cache):
    feature = ClassLabel(names=["O", "B-PER", "I-PER"]) if as_class else Value("string")
    tags = [[1, 0], [0]] if as_class else [["B-PER", "O"], ["O"]]
    root = hub_folder(tmp_path / "data", tags=tags, feature=feature)
    found = load(BENCHMARKS["masakhaner"], root=root, language="yor", split="dev")
    assert words(found) == [("Ada", "lives"), ("Lagos",)]
    assert [one.labels for one in found.examples] == [("B-PER", "O"), ("O",)]
    assert found.examples[1].where == f"{root}/yor/dev:2"


def test_rows_without_words_are_counted(tmp_path, cache):
    root = hub_folder(
        tmp_path / "data",
        tags=[["B-PER", "O"], [], ["O"]],
        tokens=[["Ada", ""], [], ["is"]],
        feature=Value("string"),
    )
    found = load(BENCHMARKS["masakhaner"], root=root, language="yor", split="dev")
    assert words(found) == [("Ada",), ("is",)]
    assert found.notes["empty-word"].count == found.notes["empty-sentence"].count == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tags": [["O"], ["O"]]}, r"dev:1.*1 tags for 2 words"),
        ({"tags": [["O", "-1"], ["O"]]}, r"dev:1.*outside the tag set.*-1"),
        ({"tags": [["O", "O"], ["O"]], "column": "chunks"}, "lacks a column.*tokens, chunks"),
        ({"tags": [[], []], "tokens": [[], []]}, "no sentence in this dataset"),
    ],
)
def test_a_hub_dataset_of_another_shape_is_refused(more, message, tmp_path, cache):
    root = hub_folder(tmp_path / "data", feature=Value("string"), **more)
    with pytest.raises(DataError, match=message):
        load(BENCHMARKS["masakhaner"], root=root, language="yor", split="dev")


def test_a_missing_class_is_not_mistaken_for_the_last_one(tmp_path, cache):
    feature = ClassLabel(names=["O", "B-PER", "I-PER"])
    root = hub_folder(tmp_path / "data", tags=[[1, -1], [0]], feature=feature)
    with pytest.raises(DataError, match=r"outside the tag set.*-1"):
        load(BENCHMARKS["masakhaner"], root=root, language="yor", split="dev")


def test_a_dataset_that_does_not_load_says_why(monkeypatch):
    tried = []

    def fail(path, name, *, split, revision):
        tried.append((path, name, split, revision))
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"neither a folder here nor a dataset.*offline"):
        load(BENCHMARKS["masakhaner"], root="masakhane/masakhaner2", language="yor", split="dev")
    assert ("masakhane/masakhaner2", "yor", "validation", "refs/convert/parquet") in tried


def test_without_the_library_the_hub_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'limbeck\[train\]'"):
        load(BENCHMARKS["masakhaner"], root="masakhane/masakhaner2", language="yor", split="dev")


def test_files_are_those_that_are_read(tmp_path):
    for name in ("train.txt", "en_ewt-ud-dev.iob2", "test.conll", "README.md", "dev.txt.bak"):
        write(tmp_path, POS, name=name)
    for split, name in (("train", "train.txt"), ("dev", "en_ewt-ud-dev.iob2")):
        (path,) = conll.files(tmp_path, "yor", split)
        assert path.name == name
        assert conll.read(tmp_path, "yor", split).source == str(path)


def test_files_of_a_hub_layout_are_all_tables_and_of_a_hub_id_none(tmp_path):
    for language, name in (("yor", "train-0.parquet"), ("yor", "x.jsonl"), ("hau", "x.parquet")):
        write(tmp_path, "", language=language, name=name)
    names = [path.name for path in conll.files(tmp_path, "yor", "dev")]
    assert names == ["train-0.parquet", "x.jsonl"]
    assert len(conll.files(tmp_path, "swa", "dev")) == 3
    assert conll.files("some/dataset", "yor", "dev") == []


@pytest.mark.parametrize(
    ("task", "labels", "expected"),
    [
        ("pos", ["O", "B-PER"], "the model's labels are another task's; found pos, .*expected ner"),
        ("ner", ["ADV", "VERB"], "expected pos"),
        ("pos", ["PROPN", "VERB"], "a tag outside the labels asked for; found 'ADV'"),
    ],
)
def test_a_file_is_read_with_a_models_labels_or_refused(tmp_path, task, labels, expected):
    with pytest.raises(DataError, match=expected):
        benchmarks.load_file(write(tmp_path, POS), task=task, labels=labels)
    found = benchmarks.load_file(write(tmp_path, POS), task="pos", labels=["VERB", "ADV", "PROPN"])
    assert found.labels == ("VERB", "ADV", "PROPN") and len(found.examples) == 2
