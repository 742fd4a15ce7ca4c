"""Questions are read from every published layout, mended by rule, and divided by article."""

import json
import sys
import unicodedata

import datasets
import pytest
from datasets import Dataset

from limbeck.benchmarks import rows
from limbeck.benchmarks.squad import BENCHMARKS, files, load, load_file, split_of
from limbeck.benchmarks.squad_pages import XQUAD_TITLES
from limbeck.errors import DataError
from limbeck.tasks.reading import Answer
from limbeck.world import make_world

CONTEXT = "Ada was born in Lagos. Ada lives in Kano."


def asked(answer="Lagos", start=16, *, question="Where?", name="q1", **more):
    answers = [] if answer is None else [{"text": answer, "answer_start": start}]
    return {"id": name, "question": question, "answers": answers, **more}


def page(*questions, context=CONTEXT, title="Ada"):
    return {"title": title, "paragraphs": [{"context": context, "qas": list(questions)}]}


def write(path, *articles):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": "1.1", "data": articles}, ensure_ascii=False))
    return path


def write_lines(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def get(name, root, language, split):
    return load(BENCHMARKS[name], root=root, language=language, split=split)


def read(path, **more):
    return load_file(path, task="qa", labels=(), **more)


def counts(found):
    return {reason: note.count for reason, note in found.notes.items()}


@pytest.mark.parametrize(
    ("name", "file", "language", "split", "spoken"),
    [
        ("squad", "train-v1.1.json", "en", "train", "en"),
        ("squad", "dev-v1.1.json", "eng", "dev", "eng"),
        ("squad2", "dev-v2.0.json", "en", "dev", "en"),
        ("squad", "de/train.json", "de", "train", "de"),
        ("squad", "de/validation.json", "de", "dev", "de"),
        ("mlqa", "dev/dev-context-de-question-de.json", "de", "dev", "de"),
        ("mlqa", "test/test-context-de-question-en.json", "de.en", "test", "de"),
        ("mlqa", "test-context-de-question-de.json", "de", "test", "de"),
    ],
)
def test_every_published_layout_is_read(name, file, language, split, spoken, tmp_path):
    path = write(tmp_path / file, page(asked(), asked("Kano", 36, name="q2")))
    found = get(name, tmp_path, language, split)
    assert (found.task, found.labels, found.notes) == ("qa", ("start", "end"), {})
    first, second = found.examples
    assert (first.question, first.context, first.title) == ("Where?", CONTEXT, "Ada")
    assert (first.answers, second.answers) == ((Answer("Lagos", 16),), (Answer("Kano", 36),))
    assert (first.language, first.id, first.where) == (spoken, "q1", f"{path}:q1")
    assert BENCHMARKS[name].files(tmp_path, language, split) == [path]


def test_tydi_questions_are_those_of_the_language(tmp_path):
    write(
        tmp_path / "tydiqa-goldp-v1.1-train.json",
        page(asked(name="arabic-1"), title=""),
        page(asked(name="swahili-1")),
    )
    for language in ("arabic", "ar"):
        found = get("tydiqa", tmp_path, language, "train")
        assert [(one.id, one.language) for one in found.examples] == [("arabic-1", "ar")]
    with pytest.raises(DataError, match="no question in the train split"):
        get("tydiqa", tmp_path, "telugu", "train")


def test_afriqa_asks_in_one_language_about_a_text_in_english(tmp_path):
    row = {
        "answer_pivot": {"answer_start": [16], "text": ["Lagos"]},
        "context": CONTEXT,
        "id": "7",
        "question_lang": "Ina aka haifi Ada?",
        "question_translated": "Where was Ada born?",
        "title": None,
        "answer_lang": "Legas",
    }
    path = write_lines(tmp_path / "hau" / "gold_span_passages.afriqa.hau.en.train.json", row)
    (one,) = get("afriqa", tmp_path, "hau", "train").examples
    assert (one.question, one.language, one.id) == ("Ina aka haifi Ada?", "eng", "7")
    assert (one.answers, one.title, one.where) == ((Answer("Lagos", 16),), "", f"{path}:1")


def test_afriqa_answers_in_other_words_are_left_out_and_counted(tmp_path):
    def row(text, start, context=CONTEXT, question="Ina?"):
        answers = {"answer_start": start, "text": text}
        return {"answer_pivot": answers, "context": context, "question_lang": question}

    path = write_lines(
        tmp_path / "hau" / "test.json",
        row(["Lagos"], [16]),
        row(["yes"], [-1], context="Is it? yes"),
        row(["Accra"], [-1]),
        row(["no"], [1], context="known"),
        row(["Kano"], [-1]),
        row(["the city of Lagos"], [16]),
        row(["Lagos"], [], context=None),
        row([], []),
        row(["Lagos"], [16], question=float("nan")),
    )
    found = get("afriqa", tmp_path, "hau", "test")
    assert [one.answers[0].text for one in found.examples] == ["Lagos", "Kano"]
    assert counts(found) == {
        "answer-not-in-context": 4,
        "answer-moved": 1,
        "context-missing": 1,
        "gold-missing": 1,
        "question-blank": 1,
    }
    assert found.notes["context-missing"].samples == (f"{path}:7",)
    assert set(found.notes) <= set(rows.RULES)


def test_questions_without_an_answer_are_read_as_such(tmp_path):
    plausible = {"plausible_answers": [{"text": "Kano", "answer_start": 36}]}
    path = write(
        tmp_path / "train-v2.0.json",
        page(asked(is_impossible=False), asked(None, name="q2", is_impossible=True, **plausible)),
    )
    first, second = read(path).examples
    assert (first.answerable, first.labelled) == (True, True)
    assert (second.answers, second.answerable, second.labelled) == ((), False, True)


def test_several_answers_are_kept_once_each(tmp_path):
    one = asked()
    one["answers"] += [{"text": "in Lagos", "answer_start": 13}, one["answers"][0]]
    (found,) = read(write(tmp_path / "a.json", page(one))).examples
    assert found.answers == (Answer("Lagos", 16), Answer("in Lagos", 13))


@pytest.mark.parametrize(
    ("context", "answer", "start", "place", "text", "reason"),
    [
        (CONTEXT, "Lagos", 17, 16, "Lagos", "answer-moved"),
        (CONTEXT, "Ada", 20, 23, "Ada", "answer-moved"),
        (CONTEXT, "Ada", 9, 0, "Ada", "answer-moved"),
        ("an one: on", "on", 2, 8, "on", "answer-moved"),
        ("Autobahnen", "bahn", 3, 4, "bahn", "answer-moved"),
        ("我住在上海。", "上海", 2, 3, "上海", "answer-moved"),
        ("e\u0301 e\u0301te\u0301", "été", 2, 3, "e\u0301te\u0301", "answer-respelt"),
        ("é été", "e\u0301te\u0301", 2, 2, "été", "answer-respelt"),
        ("in New\u00a0York now", "new york", 3, 3, "New\u00a0York", "answer-respelt"),
        ("by R&amp;B, pop", "R&B", 3, 3, "R&amp;B", "answer-respelt"),
        ("an Anopheles mosquito", 'Anopheles" mosquito.', 3, 3, "Anopheles mosquito", None),
        ("a ｛Ａ－１｝ b", "A1", 3, 3, "Ａ－１", "answer-respelt"),
    ],
)
def test_an_answer_that_is_off_is_mended_and_counted(
    context, answer, start, place, text, reason, tmp_path
):
    found = read(write(tmp_path / "a.json", page(asked(answer, start), context=context)))
    assert found.examples[0].answers == (Answer(text, place),)
    assert counts(found) == {reason or "answer-respelt": 1}


@pytest.mark.parametrize(
    ("answer", "context"),
    [("Accra", CONTEXT), ("on", "e\u0301 o\u0323n"), ("?!", CONTEXT), ("o", "xo\u0301y")],
)
def test_an_answer_that_is_nowhere_is_an_error_with_file_and_question(answer, context, tmp_path):
    if answer == "o":
        context = unicodedata.normalize("NFC", context)
    path = write(tmp_path / "a.json", page(asked(answer, 0), context=context))
    with pytest.raises(DataError, match=r"a\.json:q1: an answer is not in its context"):
        read(path)


def test_what_cannot_be_asked_is_left_out_and_counted(tmp_path):
    path = write(
        tmp_path / "a.json",
        page(asked(), asked(question=" ", name="q2"), asked(None, name="q3")),
        page(asked(" ", name="q4"), asked(), context=CONTEXT),
        page(asked(name="q5"), context="\n"),
    )
    found = read(path)
    assert len(found.examples) == 2
    assert counts(found) == {
        "question-blank": 1,
        "gold-missing": 1,
        "answer-blank": 1,
        "context-missing": 1,
    }
    assert found.notes["gold-missing"].samples == (f"{path}:q3",)


def test_byte_order_marks_and_windows_line_ends_are_mended_and_counted(tmp_path):
    path = write(tmp_path / "a.json", page(asked()))
    text = json.dumps(json.loads(path.read_text()), indent=1)
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    found = read(path)
    assert found.examples[0].context == CONTEXT
    assert found.notes["byte-order-mark"].count == 1
    assert found.notes["carriage-return"].count == text.count("\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"data": [\n{"title": }]}', r"a\.json:2: the JSON is broken; found Expecting value"),
        (b'{"context": "a"}\n{"context"\n', r"a\.json:2: the JSON is broken"),
        (b'{"context": "a"}\n[1]\n', r"a\.json:2: a line without a context"),
        (b'{"context": "a"}\n\n{"q": 1}\n', r"a\.json:3: a line without a context"),
        (b"  \n", r"a\.json: the file is empty"),
        (b"[1, 2]", r"no questions in a known layout; found a JSON list"),
        (b'{"rows": 1}', r"no questions in a known layout; found a JSON dict"),
        (b'{"data": 5}', r"not laid out as SQuAD"),
        (b'{"data": [{"title": "a"}]}', r"data\[0\]: not laid out as SQuAD; found KeyError"),
        (b'{"data": [{"paragraphs": []}]}', r"there is no question in this file"),
        (b'{"data": "\xff"}', r"a\.json:1: the file is not UTF-8"),
        (b'{"context": "a", "question": "b", "answers": [3]}', "answers without text"),
        (
            b'{"context": "a", "question": "b", "answers": {"text": ["a", "b"], '
            b'"answer_start": [0]}}',
            "answers without text and answer_start",
        ),
        (
            b'{"context": "a", "question": "b", "answers": [{"text": "a", "answer_start": "0"}]}',
            r"a\.json:1: an answer needs a text and a whole number; found 'a' at '0'",
        ),
    ],
)
def test_a_file_of_another_shape_is_refused(text, message, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(DataError, match=message):
        read(path)


@pytest.mark.parametrize(
    ("file", "language", "expected"),
    [
        ("xquad.de.json", "", "de"),
        ("dev-context-vi-question-en.json", "", "vi"),
        ("my.own.file.json", "", ""),
        ("xquad.de.json", "es", "es"),
    ],
)
def test_the_name_of_a_file_may_tell_its_language(file, language, expected, tmp_path):
    path = write(tmp_path / file, page(asked()))
    assert read(path, language=language).examples[0].language == expected


def test_one_object_a_line_is_read(tmp_path):
    row = {"context": CONTEXT, "question": "Where?", "answers": asked()["answers"], "id": "x"}
    (one,) = read(write_lines(tmp_path / "a.json", row)).examples
    assert (one.id, one.answers) == ("x", (Answer("Lagos", 16),))


def parallel(root, languages=("aa", "bb", "cc"), titles=XQUAD_TITLES[::5], layout="xquad.{}.json"):
    for number, language in enumerate(languages):
        # A file may lack an article, or have them in another order.
        order = list(titles)[number:][:: -1 if number else 1]
        pages = (page(asked(name=f"{title}-{language}"), title=title) for title in order)
        write(root / layout.format(language), *pages)


@pytest.mark.parametrize(("name", "layout"), [("xquad", "xquad.{}.json"), ("squad", "{}.json")])
def test_no_article_is_in_two_splits_across_languages(name, layout, tmp_path):
    parallel(tmp_path, layout=layout)
    seen: dict[str, set[str]] = {"train": set(), "dev": set(), "test": set()}
    for split, titles in seen.items():
        for language in ("aa", "bb", "cc"):
            found = get(name, tmp_path, language, split)
            assert not {one.id.rpartition("-")[0] for one in found.examples} - set(XQUAD_TITLES)
            titles |= {one.title for one in found.examples}
    assert not seen["train"] & seen["dev"]
    assert not seen["train"] & seen["test"]
    assert not seen["dev"] & seen["test"]
    assert set.union(*seen.values()) == set(XQUAD_TITLES)
    assert [len(titles) for titles in seen.values()] == [28, 5, 15]


def test_a_title_may_name_its_split(tmp_path):
    assert [split_of(f"{split} 12") for split in ("train", "dev", "test")] == [
        "train",
        "dev",
        "test",
    ]
    assert split_of("test cricket") == split_of("test cricket")
    make_world(tmp_path, size="tiny", only=("xquad",))
    for path in sorted((tmp_path / "xquad").iterdir()):
        language = path.name.split(".")[1]
        for split in ("train", "dev", "test"):
            found = get("xquad", tmp_path / "xquad", language, split)
            assert found.examples
            assert not found.notes
            assert all(one.title.startswith(f"{split} ") for one in found.examples)


def test_articles_without_a_title_are_divided_by_their_place(tmp_path):
    write(tmp_path / "xquad.de.json", *(page(asked(), title="") for _ in range(30)))
    sizes = [
        len(get("xquad", tmp_path, "de", split).examples) for split in ("train", "dev", "test")
    ]
    assert sum(sizes) == 30
    titles = {one.title for one in get("xquad", tmp_path, "de", "train").examples}
    assert titles < {f"article {number}" for number in range(30)}


def test_a_missing_split_says_what_is_there(tmp_path):
    write(tmp_path / "de" / "train.json", page(asked()))
    with pytest.raises(DataError, match=r"no test split for de; found de/train\.json; expected"):
        get("squad", tmp_path, "de", "test")
    with pytest.raises(DataError, match=r"no test split for es; found de/train\.json"):
        get("squad", tmp_path, "es", "test")
    (tmp_path / "de" / "train.json").unlink()
    with pytest.raises(DataError, match="found no JSON file"):
        get("squad", tmp_path, "es", "test")
    with pytest.raises(DataError, match="no such folder; check the benchmark's root"):
        get("squad", tmp_path / "nowhere", "de", "train")


def test_two_files_for_a_split_are_refused(tmp_path):
    write(tmp_path / "de" / "a.train.json", page(asked()))
    write(tmp_path / "de" / "b.train.json", page(asked()))
    with pytest.raises(DataError, match=r"more than one file.*de/a\.train\.json, de/b\.train"):
        get("squad", tmp_path, "de", "train")


def test_files_of_a_hub_id_or_a_folder_laid_out_like_one(tmp_path):
    assert files("google/xquad", "de", "train") == []
    table = tmp_path / "de" / "train.jsonl"
    table.parent.mkdir()
    table.touch()
    assert files(tmp_path, "de", "train") == [table]
    assert files(tmp_path, "es", "train") == [table]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    told = {"rows": [], "asked": []}

    def load_dataset(path, name, *, split, revision):
        told["asked"].append((path, name, split))
        if split == "dev":
            raise ValueError("no such split")
        return Dataset.from_list(told["rows"])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return told


def row(context=CONTEXT, answer="Lagos", start=16, **more):
    answers = {"text": [answer], "answer_start": [start]}
    return {"id": "q1", "context": context, "question": "Where?", "answers": answers, **more}


@pytest.mark.parametrize(
    ("name", "language", "config"),
    [
        ("mlqa", "de", "mlqa.de.de"),
        ("mlqa", "de.en", "mlqa.de.en"),
        ("squad", "en", "plain_text"),
        ("squad2", "en", "squad_v2"),
        ("afriqa", "hau", "hau"),
    ],
)
def test_hub_datasets_are_asked_by_their_configurations(name, language, config, hub):
    hub["rows"] = [row(title="Ada")]
    root = BENCHMARKS[name].hub
    (one,) = get(name, root, language, "train").examples
    assert hub["asked"] == [(root, config, "train")]
    assert (one.answers, one.where) == ((Answer("Lagos", 16),), f"{root}/{language}/train:1")


def test_the_hub_tells_questions_without_an_answer_by_an_empty_list(hub):
    empty = {**row(), "answers": {"text": [], "answer_start": []}}
    hub["rows"] = [row(), empty]
    found = get("squad2", "rajpurkar/squad_v2", "en", "dev")
    assert [one.answerable for one in found.examples] == [True, False]
    assert hub["asked"][-1][2] == "validation"


def test_the_hub_leaves_xquads_titles_out_and_they_are_put_back(hub):
    hub["rows"] = [row(f"{CONTEXT} {number}") for number in range(len(XQUAD_TITLES))]
    seen = {}
    for split in ("train", "dev", "test"):
        for one in get("xquad", "google/xquad", "de", split).examples:
            seen[int(one.context.rpartition(" ")[2])] = one.title
            assert split_of(one.title) == split
    assert [seen[number] for number in range(240)] == list(XQUAD_TITLES)
    assert hub["asked"][1] == ("google/xquad", "xquad.de", "validation")
    hub["rows"] = hub["rows"][1:]
    with pytest.raises(DataError, match="articles cannot be told apart.*found 239 contexts"):
        get("xquad", "google/xquad", "de", "train")


def test_titles_that_the_hub_has_are_kept(hub):
    hub["rows"] = [row(title="train 1")]
    assert get("xquad", "google/xquad", "de", "train").examples[0].title == "train 1"


def test_a_folder_laid_out_as_on_the_hub_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    (tmp_path / "data" / "de").mkdir(parents=True)
    Dataset.from_list([row()]).to_parquet(str(tmp_path / "data" / "de" / "validation-0.parquet"))
    (one,) = get("squad", tmp_path / "data", "de", "dev").examples
    assert one.answers == (Answer("Lagos", 16),)


def test_without_the_library_the_hub_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'limbeck\[train\]'"):
        get("xquad", "google/xquad", "de", "train")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_record_says_where_it_comes_from(name):
    record = BENCHMARKS[name]
    assert (record.name, record.tasks, record.primary) == (name, ("qa",), "f1")
    assert record.licence
    assert record.citation
    assert record.version
    assert "/" in record.hub
    assert set(record.splits) <= {"train", "dev", "test"}
