import dataclasses
import json
import sys

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from limbeck.benchmarks import rows, texts
from limbeck.benchmarks.texts import NLI, PAIR_TASKS, TEXT_BENCHMARKS, files, load, load_file
from limbeck.errors import DataError, RecipeError
from limbeck.world import make_world

NEWS = (
    "category\theadline\ttext\turl\n"
    'sports\tA goal\t"He said ""go"".\n\nThen a\ttab."\thttps://a\n'
    "health\t'Well'\tAll is well.\thttps://b\n"
)
TWEETS = 'ID\ttweet\tlabel\nx1\t"so it goes\tpositive\nx2\tno""\tnegative\nx3\thm "\tneutral\n'
SICK = (
    "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n"
    "1\tA man runs\tA man moves\t4.5\tENTAILMENT\n2\tA man runs\tA man sits\t2\tCONTRADICTION\n"
)
PAIRS = "premise\thypothesis\tlabel\nHe runs .\tHe moves .\tentailment\nHe runs .\tNo .\tneutral\n"
AMERICAS = (
    "id\tlanguage\tpremise\thypothesis\tlabel\n7\taym\tp\th\tneutral\n8\taym\tq\th\tentailment\n"
)
XNLI = (
    "language\tgold_label\tsentence1_parse\tsentence1\tsentence2\tgenre\n"
    "ar\tneutral\tx\ta1\ta2\tfiction\nsw\tcontradiction\tx\tb1\tb2\tfiction\n"
    "sw\tentailment\tx\tc1\tc2\tfiction\n"
)
PAWSX = "id\tsentence1\tsentence2\tlabel\n1\tA b\tB a\t0\n2\tC d\tC d !\t1\n"
MULTINLI = "".join(
    json.dumps({"gold_label": label, "sentence1": "p", "sentence2": "h", "votes": [label]}) + "\n"
    for label in ("neutral", "-", "contradiction")
)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(name, root, language="yor", split="test", **more):
    return load(TEXT_BENCHMARKS[name], root=root, language=language, split=split, **more)


def pairs_of(found):
    return [(one.text, one.pair, one.label) for one in found.examples]


PUBLISHED = {
    "masakhanews": ("yor/test.tsv", NEWS, "yor", "test", ["sports", "health"]),
    "afrisenti": ("yor/test.tsv", TWEETS, "yor", "test", ["positive", "negative", "neutral"]),
    "sick": ("eng/train.tsv", SICK, "eng", "train", ["entailment", "contradiction"]),
    "multinli": (
        "multinli_1.0_train.jsonl",
        MULTINLI,
        "eng",
        "train",
        ["neutral", "contradiction"],
    ),
    "xnli": ("xnli.dev.tsv", XNLI, "sw", "dev", ["contradiction", "entailment"]),
    "americasnli": ("dev/aym.tsv", AMERICAS, "aym", "dev", ["neutral", "entailment"]),
    "pawsx": ("de/translated_train.tsv", PAWSX, "de", "train", ["different", "paraphrase"]),
    "texts": ("yor/test.tsv", "text\tlabel\na\tx\nb\ty\n", "yor", "test", ["x", "y"]),
    "pairs": ("yor/test.tsv", PAIRS, "yor", "test", ["entailment", "neutral"]),
}


@pytest.mark.parametrize("name", TEXT_BENCHMARKS)
def test_every_set_of_texts_is_read_as_published(name, tmp_path):
    path, text, language, split, expected = PUBLISHED[name]
    written = write(tmp_path / path, text)
    record = TEXT_BENCHMARKS[name]
    found = read(name, tmp_path, language, split)
    assert [one.label for one in found.examples] == expected
    assert found.labels == record.labels or not record.labels
    assert found.task in record.tasks
    assert all((one.pair is not None) == (found.task in PAIR_TASKS) for one in found.examples)
    assert {reason.split(" ")[0] for reason in found.notes} <= set(rows.RULES)
    assert found.examples[0].where.startswith(f"{written}:")
    assert files(tmp_path, language, split) == [written]
    assert record.name == name
    assert record.licence and record.citation
    with pytest.raises(DataError, match="no nowhere split for"):
        read(name, tmp_path, language, "nowhere")


@pytest.mark.parametrize(
    ("name", "path", "text", "language", "split"),
    [
        ("masakhanews", "data/yor/validation.tsv", NEWS, "yor", "dev"),
        ("sick", "SICK_train.txt", SICK, "en", "train"),
        ("sick", "SICK_trial.txt", SICK, "eng", "dev"),
        ("sick", "SICK_test_annotated.txt", SICK, "eng", "test"),
        ("xnli", "XNLI-1.0/xnli.test.tsv", XNLI, "sw", "test"),
        (
            "xnli",
            "XNLI-MT-1.0/multinli/multinli.train.sw.tsv",
            "premise\thypo\tlabel\na\tb\tneutral\nc\td\tcontradictory\n",
            "sw",
            "train",
        ),
        ("multinli", "multinli_1.0_dev_matched.jsonl", MULTINLI, "eng", "dev"),
        ("multinli", "multinli_1.0_dev_mismatched.txt", XNLI, "eng", "test"),
        ("pawsx", "x-final/de/dev_2k.tsv", PAWSX, "de", "dev"),
        ("pairs", "yor/test.jsonl", MULTINLI, "yor", "test"),
    ],
)
def test_other_published_layouts_are_found(name, path, text, language, split, tmp_path, cache):
    written = write(tmp_path / path, text)
    assert len(read(name, tmp_path, language, split).examples) >= 2
    assert files(tmp_path, language, split) == [written]
    with pytest.raises(DataError):
        read(name, tmp_path, "zzz", split)


def test_a_headline_and_a_quoted_text_of_several_lines_are_one_text(tmp_path):
    write(tmp_path / "yor/test.tsv", NEWS)
    first, second = read("masakhanews", tmp_path).examples
    assert first.text == 'A goal\nHe said "go".\n\nThen a\ttab.'
    assert second.text == "'Well'\nAll is well."
    assert [one.where.rpartition(":")[2] for one in (first, second)] == ["2", "5"]


def test_a_quote_in_a_tweet_swallows_no_line_and_is_kept_and_counted(tmp_path):
    write(tmp_path / "yor/test.tsv", TWEETS)
    found = read("afrisenti", tmp_path)
    assert [one.text for one in found.examples] == ['"so it goes', 'no""', 'hm "']
    assert found.notes["quote-kept"] == rows.Note(1, (f"{tmp_path}/yor/test.tsv:2",))


def test_the_rows_of_other_languages_are_left_out_and_counted(tmp_path):
    write(tmp_path / "xnli.dev.tsv", XNLI)
    found = read("xnli", tmp_path, "sw", "dev")
    assert pairs_of(found) == [("b1", "b2", "contradiction"), ("c1", "c2", "entailment")]
    assert found.notes["other-language"].count == 1
    with pytest.raises(DataError, match="no row of the language zh.*the languages ar, sw"):
        read("xnli", tmp_path, "zh", "dev")


def test_labels_mean_the_same_in_every_set(tmp_path):
    write(tmp_path / "eng/test.tsv", SICK)
    write(tmp_path / "eng/dev.tsv", PAIRS.replace("neutral", "Contradictory"))
    write(tmp_path / "eng/train.tsv", PAIRS.replace("entailment", "0").replace("neutral", "2"))
    for split, name in (("test", "sick"), ("dev", "pairs"), ("train", "xnli")):
        found = read(name, tmp_path, "eng", split)
        assert found.examples[0].label == "entailment"
        assert (found.task, found.labels) == ("nli", NLI)
    assert found.notes["label-respelt 2"] == rows.Note(1, (f"{tmp_path}/eng/train.tsv:3",))
    assert found.notes["label-unseen"] == rows.Note(1, ("neutral",))


def test_the_labels_of_a_model_keep_their_order(tmp_path):
    write(tmp_path / "yor/test.tsv", PAIRS)
    order = ("contradiction", "entailment", "neutral")
    assert read("pairs", tmp_path, labels=order).labels == order


@pytest.mark.parametrize(
    ("name", "text", "labels", "message"),
    [
        (
            "pairs",
            PAIRS.replace("neutral", "nuetral"),
            NLI,
            r"test\.tsv:3: a label outside.*'nuetral', in a table with the labels 'entailment', "
            r"'nuetral'.*one of entailment, neutral, contradiction; did you mean 'neutral'",
        ),
        ("pairs", PAIRS, ("entailment", "contradiction"), r"test\.tsv:3.*'neutral'"),
        ("masakhanews", NEWS, ("health", "politics"), r"test\.tsv:2.*'health', 'sports'.*one of"),
        ("afrisenti", TWEETS.replace("neutral", "mixed"), None, r"test\.tsv:4.*'mixed'"),
        ("texts", "text\tlabel\na\tx\nb\t\n", None, r"test\.tsv:3: a row without a label"),
        ("pairs", PAIRS.replace("neutral", "0"), None, r"test\.tsv:2.*'entailment'.*different"),
    ],
)
def test_a_label_outside_the_set_is_an_error_that_lists_both_sets(
    name, text, labels, message, tmp_path
):
    write(tmp_path / "yor/test.tsv", text)
    with pytest.raises(DataError, match=message):
        read(name, tmp_path, labels=labels)


def test_many_labels_are_listed_in_part(tmp_path):
    write(tmp_path / "yor/test.tsv", "text\tlabel\n" + "".join(f"a\tl{i:02}\n" for i in range(20)))
    with pytest.raises(DataError, match="'l11', …; expected one of l01"):
        read("texts", tmp_path, labels=["l01", "l02"])


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("multinli", "a\tb\t-", "no-gold-label"),
        ("sick", "a\tb\t-1", "no-gold-label"),
        ("pawsx", "a\tb\t", "no-gold-label"),
        ("pawsx", "a\t\t1", "empty-text"),
        ("pawsx", "NS\tb\t1", "untranslated"),
        ("americasnli", " \tb\t1", "empty-text"),
        ("xnli", "a\t\u200b\t1", "empty-text"),
        ("pairs", "", "blank-line"),
        ("pairs", "e\u0301\tb\tneutral", "not-nfc"),
    ],
)
def test_each_kind_of_dirt_has_a_named_counted_rule(name, row, reason, tmp_path):
    labels = "01" if name == "pawsx" else ("entailment", "neutral")
    text = f"sentence1\tsentence2\tlabel\na\tb\t{labels[0]}\n{row}\nc\td\t{labels[1]}\n"
    write(tmp_path / "yor/test.tsv", text)
    found = read(name, tmp_path)
    assert len(found.examples) == (3 if reason == "not-nfc" else 2)
    assert found.notes[reason] == rows.Note(1, (f"{tmp_path}/yor/test.tsv:3",))


def test_a_byte_order_mark_and_windows_line_ends_are_left_out(tmp_path):
    for text in (PAIRS.replace("\n", "\r\n"), PAIRS.replace("\n", "\r")):
        write(tmp_path / "yor/test.tsv", "\ufeff" + text)
        found = read("pairs", tmp_path)
        assert pairs_of(found)[1] == ("He runs .", "No .", "neutral")
        assert found.notes["byte-order-mark"].count == 1
        assert found.notes["carriage-return"].count == 3
    write(tmp_path / "yor/test.tsv", NEWS.replace("\n", "\r\n"))
    assert read("masakhanews", tmp_path).examples[0].text.count("\r") == 0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "pairs",
            b"premise\thypothesis\tlabel\na\tb\tneutral\nx\xff",
            r"tsv:3: the file is not UTF",
        ),
        ("pairs", "", "the file is empty"),
        ("pairs", "\n \t\n", "the file is empty"),
        ("pairs", "premise\thypothesis\tlabel\n", "no row in this table"),
        (
            "pairs",
            "premise\tlabel\na\tb\n",
            r"tsv:1.*lacks a column.*premise, label.*hypothesis, h",
        ),
        ("pairs", "\nsentence1\tsentence2\na\tb\n", r"tsv:2.*sentence1, sentence2.*one of label"),
        ("texts", "words\tlabel\na\tb\n", r"tsv:1.*words, label.*one of text, tweet"),
        ("pairs", PAIRS + "a\tb\n", r"tsv:4.*wrong number of fields.*2: 'a . b'.*3: premise, h"),
        ("pairs", PAIRS + "a\tb\tc\td\n", r"tsv:4.*wrong number of fields.*found 4"),
        ("masakhanews", NEWS + 'health\tx\t"open\ty\n', r"tsv:6: a row is not quoted.*health"),
        ("masakhanews", NEWS + 'health\tx\t"a" b\ty\n', r"tsv:6: a row is not quoted as CSV is"),
        ("masakhanews", NEWS + "health\tx\ty\n", r"tsv:6.*wrong number of fields.*found 3"),
        ("masakhanews", NEWS + "health\t\ty\tz\n", r"tsv:6: the text is empty"),
        ("pairs", PAIRS + "a\t \tneutral\n", r"tsv:4: the second text is empty"),
        ("pairs", "premise\thypothesis\tlabel\na\tb\t-\n", "every row.*left out.*1 no-gold-label"),
    ],
)
def test_what_no_rule_mends_is_an_error_with_file_and_line(name, text, message, tmp_path):
    write(tmp_path / "yor/test.tsv", text)
    with pytest.raises(DataError, match=message):
        read(name, tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"jsonl:2: a line is not JSON"),
        ("[1]", r"jsonl:2: a line is no JSON object; found \[1\]"),
        ('{"premise": "a", "label": "x"}', r"jsonl:2: a row lacks a column.*expected hypothesis"),
        ('{"premise": ["a"], "hypothesis": "b", "label": "x"}', r"jsonl:2.*premise = \['a'\]"),
        ('{"premise": null, "hypothesis": "b", "label": "neutral"}', r"jsonl:2: the text is empty"),
    ],
)
def test_a_damaged_json_line_is_named(line, message, tmp_path):
    good = json.dumps({"premise": "a", "hypothesis": "b", "label": "neutral"})
    write(tmp_path / "yor/test.jsonl", f"{good}\n{line}\n")
    with pytest.raises(DataError, match=message):
        read("pairs", tmp_path)


def test_a_blank_line_between_json_lines_or_quoted_rows_is_counted(tmp_path):
    good = json.dumps({"premise": "a", "hypothesis": "b", "label": "neutral"})
    write(tmp_path / "yor/test.jsonl", f"{good}\n\n{good}\n")
    assert read("pairs", tmp_path).notes["blank-line"].count == 1
    write(tmp_path / "hau/test.tsv", NEWS + "\n" + "health\ta\tb\tc\n")
    found = read("masakhanews", tmp_path, "hau")
    assert found.notes["blank-line"].samples == (f"{tmp_path}/hau/test.tsv:6",)
    assert found.examples[2].where.endswith(":7")


def test_two_files_for_one_split_are_refused(tmp_path):
    write(tmp_path / "yor/dev.tsv", PAIRS)
    write(tmp_path / "yor/validation.tsv", PAIRS)
    with pytest.raises(DataError, match=r"more than one file.*dev\.tsv.*validation\.tsv"):
        read("pairs", tmp_path, split="dev")


def test_a_missing_split_names_those_that_are_there(tmp_path):
    write(tmp_path / "yor/dev.tsv", PAIRS)
    with pytest.raises(DataError, match=r"no train split for yor.*yor \(dev\)"):
        read("pairs", tmp_path, split="train")
    (tmp_path / "yor/dev.tsv").unlink()
    with pytest.raises(DataError, match="no folder with a train, dev or test file"):
        read("pairs", tmp_path, split="train")
    with pytest.raises(DataError, match=r"/no/where/x: no such folder; check the benchmark's root"):
        read("pairs", "/no/where/x")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.tsv: the file cannot be read.*No such file"):
        load_file(tmp_path / "nothing.tsv", task="nli", labels=NLI)


def test_the_task_is_told_from_the_labels_or_by_the_caller(tmp_path):
    write(tmp_path / "yor/test.tsv", PAWSX)
    assert read("pairs", tmp_path).task == "paraphrase"
    write(tmp_path / "yor/test.tsv", TWEETS)
    assert read("texts", tmp_path).task == "sentiment"
    assert read("texts", tmp_path, task="topics").task == "topics"
    with pytest.raises(RecipeError, match="afrisenti has no labels for this task; found 'topics'"):
        read("afrisenti", tmp_path, task="topics")


def test_one_file_is_read_with_the_labels_of_a_model(tmp_path):
    path = write(tmp_path / "a.tsv", SICK)
    labels = ("contradiction", "entailment", "neutral")
    found = load_file(path, task="nli", labels=labels)
    assert found.labels == labels
    assert pairs_of(found)[0] == ("A man runs", "A man moves", "entailment")
    path = write(tmp_path / "news.tsv", NEWS.replace("sports", "Sports"))
    assert load_file(path, task="topics", labels=["health", "sports"]).examples[0].label == "sports"
    with pytest.raises(DataError, match="do not tell labels apart"):
        load_file(write(path, "text\tlabel\na\tx\n"), task="topics", labels=["x", "y"])
    with pytest.raises(RecipeError, match="'ner'; expected one of nli, paraphrase, topics, sent"):
        load_file(path, task="ner", labels=["x"])


def test_the_generated_world_is_read_by_the_ordinary_readers(tmp_path):
    make_world(tmp_path, size="tiny", only=("nli", "news"))
    for split in ("train", "dev", "test"):
        found = read("pairs", tmp_path / "nli", "qab", split)
        assert (found.task, found.labels) == ("nli", NLI)
        assert {one.label for one in found.examples} == set(NLI)
        assert not found.notes
        assert read("xnli", tmp_path / "nli", "qab", split).examples == found.examples
        news = read("masakhanews", tmp_path / "news", "qaa", split)
        assert {one.label for one in news.examples} <= set(texts.TOPICS)
        assert all("\n" in one.text for one in news.examples)
        assert set(news.notes) <= {"label-unseen"}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def hub_rows(names=("entailment", "neutral", "contradiction")):
    return Dataset.from_dict(
        {"premise": ["a", "b", "c"], "hypothesis": ["x", "y", "z"], "label": [2, 0, -1]},
        features=Features(
            {
                "premise": Value("string"),
                "hypothesis": Value("string"),
                "label": ClassLabel(names=list(names)) if names else Value("int64"),
            }
        ),
    )


@pytest.mark.parametrize("names", [NLI, None], ids=["named", "numbered"])
def test_a_folder_laid_out_as_on_the_hub_is_read(names, tmp_path, cache):
    folder = tmp_path / "data" / "sw"
    folder.mkdir(parents=True)
    hub_rows(names).to_parquet(str(folder / "validation-00000.parquet"))
    found = read("xnli", tmp_path / "data", "sw", "dev")
    assert pairs_of(found) == [("a", "x", "contradiction"), ("b", "y", "entailment")]
    assert found.notes["no-gold-label"].samples == (f"{tmp_path}/data/sw/dev:3",)
    assert files(tmp_path / "data", "sw", "dev") == [folder / "validation-00000.parquet"]


@pytest.mark.parametrize(
    ("name", "language", "configuration", "spelling"),
    [
        ("xnli", "sw", "sw", "validation"),
        ("multinli", "eng", None, "validation_matched"),
        ("sick", "en", None, "dev"),
    ],
)
def test_a_hub_id_is_asked_for_its_configuration_and_split(
    name, language, configuration, spelling, monkeypatch
):
    asked = []

    def answer(path, name, *, split, revision):
        asked.append((path, name, split, revision))
        if split != spelling or not revision:
            raise ValueError(f"no split {split}")
        return hub_rows()

    monkeypatch.setattr(datasets, "load_dataset", answer)
    record = TEXT_BENCHMARKS[name]
    found = read(name, record.hub, language, "dev")
    assert len(found.examples) == 2
    assert asked[-1] == (record.hub, configuration, spelling, "refs/convert/parquet")
    assert files(record.hub, language, "dev") == []


def test_a_clone_of_a_dataset_of_english_alone_is_read_as_english_alone(tmp_path, cache):
    for place, language in (("data", "eng"), ("swa", "swa")):
        (tmp_path / place).mkdir()
        hub_rows().to_parquet(str(tmp_path / place / "train-0.parquet"))
        assert len(read("multinli", tmp_path, language, "train").examples) == 2
    with pytest.raises(DataError, match="neither a folder here nor a dataset that loads"):
        read("multinli", tmp_path, "eng", "train")


def test_a_dataset_that_does_not_load_or_lacks_columns_says_why(monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"some/xnli/sw/test: neither.*ConnectionError: offline"):
        read("xnli", "some/xnli", "sw")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: hub_rows())
    with pytest.raises(DataError, match=r"some/x/sw/test: the table lacks.*one of text, tweet"):
        read("texts", "some/x", "sw")


def test_without_the_library_the_hub_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'limbeck\[train\]'"):
        read("xnli", "facebook/xnli", "sw")


def test_records_say_what_may_be_asked_of_them():
    for record in TEXT_BENCHMARKS.values():
        assert set(record.tasks) <= {*PAIR_TASKS, *texts.SINGLE_TASKS}
        assert set(record.errata.values()) <= {*NLI, *texts.PARAPHRASE}
        assert record.primary in ("accuracy", "macro_f1", "")
        assert len(set(record.languages)) == len(record.languages)
        assert dataclasses.replace(record) == record
