"""The generated world: exact labels, published formats, real difficulty, equal bytes."""

import csv
import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

from limbeck.benchmarks import Examples, find_benchmark, load
from limbeck.corpus import CorpusSource, prepare, words_of
from limbeck.errors import DataError, RecipeError
from limbeck.tasks.scores import spans
from limbeck.world import SETS, SIZES, World, facts, make_world
from limbeck.world.chorus import MAX_WORDS, MIN_WORDS
from limbeck.world.languages import DEFAULT_LANGUAGES, LANGUAGES, spell
from limbeck.world.lexicon import TOPICS, make_lexicon, make_vocabulary
from limbeck.world.logic import LABELS, Claim, judge

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class Made:
    """A tiny world in all its languages, and where it lies."""

    folder: Path
    world: World


@dataclass(frozen=True, slots=True)
class Node:
    """A line of CoNLL-U."""

    form: str
    upos: str
    features: str
    head: int
    relation: str
    misc: str


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("world")
    return Made(folder, make_world(folder, size="tiny", languages=tuple(LANGUAGES)))


def examples(made: Made, task: str, language: str, split: str) -> Examples:
    record = find_benchmark("conll")
    return load(record, root=made.folder / task, language=language, split=split, task=task)


def trees(made: Made, language: str, split: str) -> list[list[Node]]:
    page = (made.folder / "ud" / language / f"{split}.conllu").read_text(encoding="utf-8")
    found = []
    for block in page.strip().split("\n\n"):
        comments = [line for line in block.split("\n") if line.startswith("#")]
        rows = [line.split("\t") for line in block.split("\n") if not line.startswith("#")]
        assert [row[0] for row in rows] == [str(n) for n in range(1, len(rows) + 1)]
        assert all(len(row) == 10 and all(row) for row in rows)
        nodes = [Node(r[1], r[3], r[5], int(r[6]), r[7], r[9]) for r in rows]
        text = "".join(one.form + ("" if "SpaceAfter=No" in one.misc else " ") for one in nodes)
        assert comments[1] == f"# text = {text.strip()}"
        found.append(nodes)
    return found


def table(made: Made, name: str, language: str, split: str) -> list[dict[str, str]]:
    path = made.folder / name / language / f"{split}.tsv"
    with path.open(encoding="utf-8", newline="") as page:
        return list(csv.DictReader(page, delimiter="\t"))


def articles(made: Made, language: str) -> list[dict]:
    path = made.folder / "xquad" / f"xquad.{language}.json"
    return json.loads(path.read_text(encoding="utf-8"))["data"]


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        found.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("task", ["pos", "ner"])
def test_tagged_sets_are_read_without_mending(made: Made, task: str, language: str):
    for split in SPLITS:
        read = examples(made, task, language, split)
        assert len(read.examples) == made.world.counts[f"{task}/{split}"]
        assert set(read.notes) <= {"label-unseen"}
    types = {label[2:] for label in examples(made, "ner", language, "train").labels} - {""}
    assert types == {"PER", "ORG", "LOC", "DATE"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_trees_have_one_root_and_no_circle(made: Made, language: str):
    for split in SPLITS:
        found = trees(made, language, split)
        assert len(found) == made.world.counts[f"ud/{split}"]
        for nodes in found:
            roots = [one for one in nodes if one.head == 0]
            assert [one.relation for one in roots] == ["root"]
            assert sum(one.relation == "root" for one in nodes) == 1
            for start in range(1, len(nodes) + 1):
                at, steps = start, 0
                while at:
                    at, steps = nodes[at - 1].head, steps + 1
                    assert steps <= len(nodes)
            marks = [one for one in nodes if one.upos == "PUNCT"]
            assert marks and all(one.relation == "punct" for one in marks)
            assert all(nodes[one.head - 1].upos != "PUNCT" for one in nodes if one.head)


def crosses(nodes: list[Node]) -> bool:
    arcs = [sorted((n, one.head)) for n, one in enumerate(nodes, start=1) if one.head]
    return any(a < c < b < d for (a, b), (c, d) in itertools.permutations(arcs, 2))


def test_only_the_language_that_extraposes_crosses_arcs(made: Made):
    for language in LANGUAGES:
        crossing = sum(crosses(nodes) for nodes in trees(made, language, "train"))
        assert (crossing > 0) == (LANGUAGES[language].relatives == "extraposed"), language


@pytest.mark.parametrize("language", LANGUAGES)
def test_plain_sentences_have_the_order_that_the_language_states(made: Made, language: str):
    orders = Counter()
    for nodes in trees(made, language, "train"):
        places = {one.relation[:5]: n for n, one in enumerate(nodes) if one.head or n}
        root = next(n for n, one in enumerate(nodes) if one.head == 0)
        parts = {
            one.relation: n
            for n, one in enumerate(nodes)
            if one.head == root + 1 and one.relation in ("nsubj", "obj")
        }
        if len(parts) == 2 and nodes[root].upos == "VERB" and places:
            order = sorted(((parts["nsubj"], "S"), (root, "V"), (parts["obj"], "O")))
            orders["".join(letter for _, letter in order)] += 1
    assert orders.most_common(1)[0][0] == LANGUAGES[language].order


@pytest.mark.parametrize("language", LANGUAGES)
def test_entailment_pairs_are_balanced_and_no_sentence_entails_itself(made: Made, language: str):
    for split in SPLITS:
        rows = table(made, "nli", language, split)
        assert list(rows[0]) == ["premise", "hypothesis", "label"]
        number = made.world.counts[f"nli/{split}"]
        assert Counter(row["label"] for row in rows) == dict.fromkeys(LABELS, number // 3)
        assert all(row["premise"] != row["hypothesis"] for row in rows)
        texts = [row[key] for row in rows for key in ("premise", "hypothesis")]
        assert all(text[0].isupper() and text.endswith(".") for text in texts)


CLAIMS = [
    Claim(quantifier, frozenset(kinds), frozenset(details))
    for quantifier in ("some", "every", "no")
    for kinds in ((), ("first",), ("second",))
    for details in ((), ("place",), ("manner",), ("place", "manner"))
]


def is_true(claim: Claim, model: tuple[tuple[set[str], list[set[str]]], ...]) -> bool:
    """Say whether a claim holds in a model: of each thing what it is, and its events."""
    does = [
        any(claim.details <= event for event in events)
        for kinds, events in model
        if claim.restrictions <= kinds
    ]
    return {"some": any(does), "every": all(does), "no": not any(does)}[claim.quantifier]


def test_the_judge_agrees_with_all_small_models():
    kinds = [set(), {"first"}, {"second"}, {"first", "second"}]
    events = [
        [],
        [set()],
        [{"place"}],
        [{"manner"}],
        [{"place"}, {"manner"}],
        [{"place", "manner"}],
    ]
    things = list(itertools.product(kinds, events))
    models = list(itertools.combinations_with_replacement(things, 2))
    truths = {claim: [is_true(claim, model) for model in models] for claim in CLAIMS}
    filled = {
        one: [any(one <= kinds for kinds, _ in model) for model in models]
        for one in {claim.restrictions for claim in CLAIMS}
    }
    for premise, hypothesis in itertools.product(CLAIMS, repeat=2):
        seen = {
            truths[hypothesis][n]
            for n in range(len(models))
            if filled[premise.restrictions][n]
            and filled[hypothesis.restrictions][n]
            and truths[premise][n]
        }
        expected = {(True,): "entailment", (False,): "contradiction"}.get(tuple(seen), "neutral")
        assert judge(premise, hypothesis) == expected, (premise, hypothesis)


@pytest.mark.parametrize("language", LANGUAGES)
def test_news_have_the_columns_of_masakhanews_and_every_topic_as_often(made: Made, language: str):
    for split in SPLITS:
        rows = table(made, "news", language, split)
        assert list(rows[0]) == ["category", "headline", "text", "url"]
        number = made.world.counts[f"news/{split}"]
        assert Counter(row["category"] for row in rows) == dict.fromkeys(
            TOPICS, number // len(TOPICS)
        )
        assert all(row["headline"] and row["text"] for row in rows)


def test_answers_stand_at_their_offsets_and_questions_are_parallel(made: Made):
    ids = set()
    for language in LANGUAGES:
        asked = []
        for article in articles(made, language):
            (paragraph,) = article["paragraphs"]
            for question in paragraph["qas"]:
                (answer,) = question["answers"]
                start, text = answer["answer_start"], answer["text"]
                assert text and paragraph["context"][start : start + len(text)] == text
                around = f" {paragraph['context']} "[start : start + len(text) + 2]
                assert not around[0].isalnum() and not around[-1].isalnum()
                assert question["question"].endswith("?")
                asked.append(question["id"])
        assert len(set(asked)) == len(asked)
        ids.add(tuple(asked))
        for split in SPLITS:
            number = sum(one.startswith(f"{split}-") for one in asked)
            assert number == made.world.counts[f"xquad/{split}"]
    assert len(ids) == 1


def test_the_place_of_the_subject_alone_does_not_give_the_answer(made: Made):
    firsts = total = 0
    for article in articles(made, "qaa"):
        (paragraph,) = article["paragraphs"]
        for question in paragraph["qas"]:
            total += 1
            firsts += question["answers"][0]["answer_start"] == 0
    assert firsts < total / 2


def test_spans_of_parallel_sentences_have_the_same_types(made: Made):
    def types(language: str) -> list[Counter]:
        read = examples(made, "ner", language, "test").examples
        return [Counter(span.kind for span in spans(one.labels)) for one in read]

    assert all(types(language) == types("qaa") for language in LANGUAGES)


def test_a_name_keeps_to_its_span(made: Made):
    for language in LANGUAGES:
        for one in examples(made, "ner", language, "train").examples:
            for span in spans(one.labels):
                if span.kind != "DATE":
                    words = one.words[span.start : span.stop]
                    assert all(word[0].isupper() for word in words), (one.where, words)


def sentences(made: Made, language: str, split: str) -> set[str]:
    """Give the sentences of all labelled sets, as words with a space between."""
    texts = [" ".join(row.words) for row in examples(made, "pos", language, split).examples]
    texts += [" ".join(row.words) for row in examples(made, "ner", language, split).examples]
    texts += [" ".join(node.form for node in nodes) for nodes in trees(made, language, split)]
    running = [row[key] for row in table(made, "nli", language, split) for key in row][:]
    running += [row["text"] for row in table(made, "news", language, split)]
    for article in articles(made, language):
        if article["title"].startswith(split):
            running.append(article["paragraphs"][0]["context"])
    for text in running:
        texts += [f"{one} ." for one in split_text(text)]
    return set(texts) - {f"{label} ." for label in LABELS}


def split_text(text: str) -> list[str]:
    found = " ".join(words_of(text)).split(" .")
    return [one.strip() for one in found if one.strip()]


@pytest.mark.parametrize("language", LANGUAGES)
def test_splits_are_disjoint_and_no_corpus_has_a_test_sentence(made: Made, language: str):
    train, dev, test = (sentences(made, language, split) for split in SPLITS)
    assert not train & dev and not train & test and not dev & test
    page = (made.folder / "corpora" / f"{language}.txt").read_text(encoding="utf-8")
    corpus = {f"{one} ." for one in split_text(page.replace("\n", " "))}
    assert len(corpus) > 500 and not corpus & (dev | test)


@pytest.mark.parametrize("language", LANGUAGES)
def test_corpora_are_paragraphs_with_words_as_often_as_zipf_says(
    made: Made, language: str, tmp_path: Path
):
    path = made.folder / "corpora" / f"{language}.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == made.world.counts["corpora"]
    counts = [len(split_text(line)) for line in lines]
    assert min(counts) >= 2 and max(counts) <= 6
    for line in lines:
        for sentence in split_text(line):
            length = len([word for word in sentence.split() if word != ","])
            assert MIN_WORDS <= length <= MAX_WORDS
    words = Counter(word for line in lines for word in words_of(line.lower()) if word.isalpha())
    ranked = [number for _, number in words.most_common()]
    common = ranked[: len(ranked) // 10]
    assert sum(common) > 0.35 * sum(ranked), "few words are most of the text"
    assert ranked[len(ranked) // 2] < 0.1 * ranked[0], "most words are rare"
    source = CorpusSource(str(path))
    script = LANGUAGES[language].script
    (counted,) = prepare({language: source}, tmp_path, scripts={language: script}).values()
    assert counted.kept == len(lines)


def test_names_and_numbers_stand_in_the_corpora_of_all_languages(made: Made):
    vocabulary = make_vocabulary(0, SIZES["tiny"].scale)
    texts = {
        language: set(words_of((made.folder / "corpora" / f"{language}.txt").read_text("utf-8")))
        for language in LANGUAGES
    }
    for kind, shelf in vocabulary.names.items():
        for name in shelf.items[:3]:
            for language, words in texts.items():
                assert spell(name, LANGUAGES[language].script) in words, (kind, name, language)
    numbers = [{word for word in words if word.isdigit()} for words in texts.values()]
    assert len(set.intersection(*numbers)) > 30


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_alone_do_not_tell_their_tags(made: Made, language: str):
    tags: dict[str, Counter] = defaultdict(Counter)
    for split in SPLITS:
        pairs = [(one.form, one.upos) for nodes in trees(made, language, split) for one in nodes]
        for one in examples(made, "pos", language, split).examples:
            pairs += zip(one.words, one.labels, strict=True)
        for word, tag in pairs:
            tags[word.lower()][tag] += 1
    shared = [found for found in tags.values() if {"NOUN", "VERB"} <= set(found)]
    assert shared, "a word is a noun here and a verb there"
    kinds: dict[str, set[str]] = defaultdict(set)
    for split in SPLITS:
        for one in examples(made, "ner", language, split).examples:
            for word, label in zip(one.words, one.labels, strict=True):
                kinds[word].add(label[2:])
    assert any({"PER", "LOC"} <= found for found in kinds.values())
    assert any({"PER", "ORG"} <= found for found in kinds.values())
    assert any(word.isdigit() and {"", "DATE"} <= found for word, found in kinds.items())
    known, asked = (
        {word for one in examples(made, "pos", language, split).examples for word in one.words}
        for split in ("train", "test")
    )
    assert len(asked - known) > 20, "the test split has words that training has not"


def test_baselines_stay_clearly_below_a_perfect_score(made: Made):
    highest = {"pos": 0.96, "ner": 0.8, "ud": 0.75, "nli": 0.8, "news": 0.8, "xquad": 0.75}
    assert tuple(made.world.floors) == SETS
    for name, row in made.world.floors.items():
        assert tuple(row) == tuple(LANGUAGES)
        for language, floor in row.items():
            scores = [floor.majority, floor.lookup, floor.copy or 0.0]
            assert all(0 <= score < highest[name] for score in scores), (name, language)
            if language != "qaa" and name == "pos":
                assert floor.copy is not None and floor.copy < floor.lookup
            if name in ("pos", "ner", "ud", "xquad"):
                assert floor.majority < floor.lookup
        if name == "nli":
            assert {floor.majority for floor in row.values()} == {round(1 / 3, 4)}


def test_cognates_follow_the_sound_laws_and_the_stated_share(made: Made):
    vocabulary = make_vocabulary(0, 2.0)
    for language in LANGUAGES.values():
        lexicon = make_lexicon(0, vocabulary, language)
        regular = sum(
            lexicon.forms[concept] == language.changed(proto)
            for concept, proto in vocabulary.protos.items()
        )
        assert abs(regular / len(vocabulary.protos) - language.cognates) < 0.08
        for kind in ("verb.meet", "adjective", "thing"):
            forms = [
                spell(form, language.script)
                for one, form in lexicon.forms.items()
                if one.startswith(kind)
            ]
            assert len(set(forms)) == len(forms)
    shares = {one.code: one.cognates for one in made.world.languages}
    assert shares["qaa"] > 0.9 and all(shares["qaa"] > shares[code] for code in list(shares)[1:])


@pytest.mark.parametrize(
    ("word", "script", "spelt"),
    [
        ("Kora", "Cyrl", "Кора"),
        ("zhisha", "Cyrl", "жиша"),
        ("Kos", "Grek", "Κος"),
        ("1987", "Cyrl", "1987"),
        ("Kora", "Latn", "Kora"),
    ],
)
def test_names_are_spelt_in_the_letters_of_the_language(word: str, script: str, spelt: str):
    assert spell(word, script) == spelt


def test_the_same_seed_gives_the_same_bytes_in_any_process(tmp_path: Path):
    found = []
    for number in ("0", "4711"):
        folder = tmp_path / number
        code = (
            "import sys; from pathlib import Path; from limbeck.world import make_world\n"
            "make_world(Path(sys.argv[1]), seed=3, size='tiny')\n"
            "assert 'torch' not in sys.modules"
        )
        subprocess.run(
            [sys.executable, "-c", code, folder],
            check=True,
            env=os.environ | {"PYTHONHASHSEED": number},
            timeout=120,
        )
        found.append(digest(folder))
    assert found[0] == found[1]


def test_parallel_text_has_a_sentence_a_line_in_every_language(made: Made):
    texts = [(made.folder / "parallel" / f"{one}.txt").read_text("utf-8") for one in LANGUAGES]
    lines = [text.splitlines() for text in texts]
    assert {len(one) for one in lines} == {made.world.counts["parallel"]}
    assert all(len(set(one)) == len(one) and all(one) for one in lines)


def test_a_set_made_alone_is_the_same_as_among_the_others(tmp_path: Path):
    make_world(tmp_path / "whole", size="tiny")
    world = make_world(tmp_path / "part", size="tiny", only=("ner",))
    assert set(world.floors) == {"ner"} and not (tmp_path / "part" / "pos").exists()
    for path in (tmp_path / "part").rglob("*.txt"):
        whole = tmp_path / "whole" / path.relative_to(tmp_path / "part")
        assert path.read_bytes() == whole.read_bytes()


def test_another_seed_gives_another_world(made: Made, tmp_path: Path):
    make_world(tmp_path, seed=1, size="tiny", languages=["qaa"])
    here, there = (root / "corpora" / "qaa.txt" for root in (made.folder, tmp_path))
    ours = set(words_of(here.read_text("utf-8").lower()))
    others = set(words_of(there.read_text("utf-8").lower()))
    assert len(ours & others) < 0.5 * len(ours)


def test_a_world_without_a_wish_has_the_four_languages(tmp_path: Path):
    world = make_world(tmp_path, size="tiny")
    assert tuple(one.code for one in world.languages) == DEFAULT_LANGUAGES
    assert {one.order for one in world.languages} == {"SVO", "SOV", "VSO"}
    assert len({one.script for one in world.languages}) == 2
    assert facts(tmp_path) == world


def test_facts_are_what_was_told(made: Made):
    assert facts(made.folder) == made.world


@pytest.mark.parametrize(
    ("page", "what"),
    [
        (None, "no world in this folder"),
        ("{", "not the facts of a world"),
        ("[]", "not the facts of a world"),
        ('{"format": 99}', "format 99"),
        ('{"format": 1, "seed": 0}', "size"),
    ],
)
def test_what_are_no_facts_is_told(tmp_path: Path, page: str | None, what: str):
    if page is not None:
        (tmp_path / "world.json").write_text(page, encoding="utf-8")
    with pytest.raises(DataError, match=what):
        facts(tmp_path)


@pytest.mark.parametrize(
    ("wish", "what"),
    [
        ({"size": "huge"}, "no such size"),
        ({"only": ("poems",)}, "no such set"),
        ({"languages": ["qaa", "eng"]}, "no such language"),
        ({"languages": ["qaa", "qaa"]}, "named twice"),
    ],
)
def test_a_wish_that_cannot_be_met_is_told(tmp_path: Path, wish: dict, what: str):
    with pytest.raises(RecipeError, match=what):
        make_world(tmp_path / "world", **wish)
    assert not (tmp_path / "world").exists()
