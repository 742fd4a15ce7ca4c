"""The report tells what a run gave, to everyone, from one file, whatever is missing."""

import itertools
import json
import re
import shutil
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import pytest

from conftest import Finished, Told
from limbeck import pipeline
from limbeck.artifact import Store
from limbeck.benchmarks import BENCHMARKS
from limbeck.errors import ArtifactError
from limbeck.recipe import check_recipe, read_recipe
from limbeck.report import page as page_module
from limbeck.report import words, write_report
from limbeck.report.diagram import draw_plan
from limbeck.report.gather import gather
from limbeck.report.mistakes import MOST_LOST, MOST_WON, read_answers
from limbeck.report.page import render
from limbeck.report.summary import headline
from limbeck.task_section import TaskKind

VOID = {"meta", "link", "br", "hr", "img", "input"}
STAGES = ("corpus", "vocabulary", "teacher", "student", "general", "task", "evaluate")
EVIL = "<script>alert(1)</script>"


@dataclass
class Element:
    """An element of a page, with everything below it."""

    tag: str
    attributes: dict[str, str | None]
    children: list["Element"] = field(default_factory=list)
    text: str = ""

    def all(self, *tags: str) -> Iterator["Element"]:
        """Give the elements below that have one of these tags, in the order of the page."""
        for child in self.children:
            if not tags or child.tag in tags:
                yield child
            yield from child.all(*tags)

    def whole(self) -> str:
        """Give all text in it, as it is written."""
        return " ".join([self.text, *(child.whole() for child in self.children)]).strip()

    def flat(self) -> str:
        """Give all text in it, every white space a single space."""
        return flat(self.whole())


class Reader(HTMLParser):
    """Reads a page and fails where a tag is not closed by its like."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"<{tag}> says an attribute twice"
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert any(one.tag == "svg" for one in self.open), f"<{tag}/> outside of a drawing"
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].text += data


def flat(text: str) -> str:
    return " ".join(text.split())


def parsed(page: str) -> Element:
    """Give a page's tree; every tag must be closed."""
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert len(reader.open) == 1, f"<{reader.open[-1].tag}> stays open"
    return reader.open[0]


def made(store: Path, run: str = "tiny") -> str:
    """Give the report of a run."""
    return render(gather(run, store))


def changed(store: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what the store says of the run."""
    path = store / "runs" / "tiny.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")


def folder_of(store: Path, stage: str) -> Path:
    (found,) = store.glob(f"{stage}-*")
    return found


def answers(*rows: Mapping[str, Any]) -> str:
    """Give lines as `limbeck run` writes them."""
    return "".join(json.dumps({"where": "data/test.txt:1", **row}) + "\n" for row in rows)


@pytest.fixture(scope="module")
def page(finished: Finished) -> str:
    """Give the report of a run where nothing is missing."""
    return made(finished.store)


@pytest.fixture(scope="module")
def crowded(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the report of four languages, two splits, two hundred labels, and evil words."""
    store = Path(shutil.copytree(finished.store, tmp_path_factory.mktemp("crowded") / "store"))
    long = "Donaudampfschifffahrtsgesellschaftskapitän" * 3
    labels = [f"LABEL-{number:03}-{'$x$' * (number % 4)}" for number in range(198)]
    labels += [EVIL, "名詞\x07"]

    def change(record: dict[str, Any]) -> None:
        recipe = record["recipe"]
        recipe["languages"] = {"source": "eng", "targets": ["yor", "pcm", "en_ewt"]}
        recipe["evaluate"]["splits"] = ["dev", "test"]
        recipe["teacher"]["model"] = f"/nowhere/{long}"
        places = [
            f"{one}.{split}" for one in ("yor", "pcm", "en_ewt", "eng") for split in ("dev", "test")
        ]
        for by_place in record["scores"].values():
            told = by_place["bbb"]
            told["per_label"] = [
                {"label": one, "precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": n + 1}
                for n, one in enumerate(labels)
            ]
            by_place.clear()
            by_place.update(dict.fromkeys(places, told))
        against = record["student_against_teacher"]["bbb"] | {"retention": 0.9031}
        record["student_against_teacher"] = dict.fromkeys(places, against)
        record["student_against_teacher"]["pcm.test"] = {**against, "retention": 1.0024}

    changed(store, change)
    evaluated = folder_of(store, "evaluate")
    row = {
        "words": ["a", EVIL, long, "ọmọ", "שלום"],
        "gold": [EVIL, "A", "A", "A", "A"],
        "teacher": [EVIL, "A", "A", "B", "A"],
        "student": ["B", EVIL, "B", "A", "A"],
    }
    for place in ("yor.test", "yor.dev", "pcm.test", "eng.test"):
        (evaluated / f"predictions.{place}.jsonl").write_text(answers(row), encoding="utf-8")
    return made(store)


# What the page tells


def test_the_command_writes_the_page_and_says_where(
    limbeck: Callable[..., Told], finished: Finished, tmp_path: Path, page: str
):
    output = tmp_path / "new" / "r.html"
    told = limbeck("report", "tiny", "--store", finished.store, "-o", output)
    assert (told.code, told.err) == (0, "") and told.out.startswith(str(output))
    assert output.read_text(encoding="utf-8") == page


def test_the_page_starts_with_the_result_and_the_key_figures(page: str):
    main = next(parsed(page).all("main"))
    (title,) = main.all("h1")
    assert re.fullmatch(
        r"The student keeps [\d.]+\s% of its teacher’s bbb accuracy with \d\d\s% "
        r"of its parameters\.",
        title.text,
    )
    cards = next(main.all("dl"))
    told = {next(one.all("dt")).text for one in cards.children}
    assert told == {
        "bbb accuracy kept", "Parameters", "Weights in memory", "A sentence takes", "Layers",
        "Vocabulary",
    }  # fmt: skip


def test_the_page_holds_the_numbers_of_the_run(page: str, finished: Finished):
    facts = gather("tiny", finished.store)
    text = parsed(page).flat()
    for place in facts.places:
        for system in ("teacher", "trimmed teacher", "student", "majority label"):
            assert words.points(facts.value(system, place)) in text
        assert flat(words.percent(facts.against[place.key].loyalty)) in text
    for size in facts.sizes.values():
        assert words.count(size.total) in text and words.count(size.embedding) in text
    for name, key in facts.keys.items():
        assert key in text and f"{name}-{key[:12]}" in text
    assert "copies of the teacher’s 2 and 4" in text and "20 steps of 128 pieces" in text
    for term in ("gold labels", "hidden states", "teacher’s soft labels", "dev accuracy"):
        assert term in text
    for reason in ("too short", "duplicate", "wrong script"):
        assert f"dropped: {reason}" in text


def test_a_sentence_of_each_language_is_shown_with_its_word_marked(page: str):
    sentences = [one for one in parsed(page).all("p") if one.attributes.get("class") == "sentence"]
    assert {one.attributes["lang"] for one in sentences} == {"aaa", "bbb"}
    for one in sentences:
        assert one.attributes["dir"] == "auto" and len(list(one.all("mark"))) == 1
    assert max(Counter(one.attributes["lang"] for one in sentences).values()) <= 12


def test_the_recipe_on_the_page_is_the_recipe(page: str, finished: Finished):
    recipe = json.loads((finished.store / "runs" / "tiny.json").read_text())["recipe"]
    blocks = [one.whole() for one in parsed(page).all("pre")]
    (text,) = [one for one in blocks if "[languages]" in one]
    assert check_recipe(tomllib.loads(text)) == check_recipe(recipe)


def test_the_same_run_gives_the_same_bytes_wherever_its_store_lies(page: str, kept_store: Path):
    assert made(kept_store) == page == made(kept_store)


def test_making_the_report_writes_nothing_into_the_store(finished: Finished, tmp_path: Path):
    before = {path: path.stat().st_mtime_ns for path in finished.store.rglob("*")}
    write_report("tiny", finished.store, tmp_path / "r.html")
    assert {path: path.stat().st_mtime_ns for path in finished.store.rglob("*")} == before


# For everyone, from one file


def test_the_page_loads_nothing_and_runs_nothing(page: str, crowded: str):
    for text in (page, crowded):
        for one in parsed(text).all():
            assert one.tag not in {"script", "iframe", "object", "embed", "img", "base", "form"}
            for name, value in one.attributes.items():
                assert not name.startswith("on") and name not in {"src", "srcset"}, one.tag
                if name in {"href", "action"}:
                    assert value and value.startswith(("#", "data:image/svg+xml;base64,")), value
                for target in re.findall(r"url\(([^)]*)\)", value or ""):
                    assert target.startswith("#")
        style = "".join(one.text for one in parsed(text).all("style"))
        assert "url(" not in style and "@import" not in style
        assert "default-src 'none'" in text


def test_every_id_is_told_once_and_every_reference_has_its_target(page: str, crowded: str):
    for text in (page, crowded):
        elements = list(parsed(text).all())
        ids = [one.attributes["id"] for one in elements if "id" in one.attributes]
        assert len(ids) == len(set(ids))
        for one in elements:
            wanted = (one.attributes.get("aria-labelledby") or "").split()
            target = one.attributes.get("href") or ""
            wanted += [target[1:]] if target.startswith("#") else []
            for value in one.attributes.values():
                wanted += re.findall(r"url\(#([^)]*)\)", value or "")
            assert set(wanted) <= set(ids), (one.tag, wanted)


def test_headings_go_down_one_level_at_a_time_and_landmarks_are_there(page: str):
    tree = parsed(page)
    levels = [int(one.tag[1]) for one in tree.all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for tag in ("header", "nav", "main", "footer", "title"):
        assert len([one for one in tree.all(tag) if tag != "title" or not one.attributes]) == 1
    assert next(tree.all("html")).attributes["lang"] == "en"
    sections = [one.attributes.get("id") for one in tree.all("section")]
    linked = [one.attributes["href"] for nav in tree.all("nav") for one in nav.all("a")]
    assert [f"#{one}" for one in sections if one] == linked
    first = next(one for one in tree.all("a"))
    assert first.attributes["href"] == "#main", "the first link skips to the result"


def test_every_figure_has_words_for_those_who_cannot_see_it(page: str):
    tree = parsed(page)
    figures = list(tree.all("figure"))
    assert len(figures) > 10
    for one in figures:
        (drawing,) = one.all("svg")
        assert drawing.attributes["role"] == "img" and drawing.attributes["aria-labelledby"]
        assert next(drawing.all("title")).text and len(next(drawing.all("desc")).text) > 20
        assert next(one.all("figcaption")).whole()
        is_plan = one.attributes.get("class") == "plan"
        assert is_plan or [table for told in one.all("details") for table in told.all("table")]
    others = [one for one in tree.all("svg") if one.attributes.get("role") != "img"]
    assert all(one.attributes["aria-hidden"] == "true" for one in others)


def test_every_table_has_a_caption_and_says_what_its_headers_head(page: str):
    tables = list(parsed(page).all("table"))
    for one in tables:
        assert next(one.all("caption")).whole()
        assert all(told.attributes["scope"] in ("row", "col") for told in one.all("th"))
        widths = {len(row.children) for row in one.all("tr")}
        assert len(widths) == 1
    scrolls = [one for one in parsed(page).all("div") if one.attributes.get("class") == "scroll"]
    assert len(scrolls) == len(tables)
    for one in scrolls:
        assert one.attributes["tabindex"] == "0" and one.attributes["aria-label"]


def test_drawings_are_sized_by_their_view_box_and_coloured_by_the_page(page: str):
    for one in parsed(page).all("svg"):
        assert "viewbox" in one.attributes
        assert not {"width", "height"} & one.attributes.keys()
        for told in one.all():
            assert not re.search("#[0-9a-f]{6}", told.attributes.get("style") or "")
            assert "font-family" not in (told.attributes.get("style") or "")
            assert told.tag not in ("style", "metadata")


def schemes() -> dict[str, dict[str, str]]:
    """Give the colours of each scheme by name."""
    style = (Path(page_module.__file__).parent / "page.css").read_text(encoding="utf-8")
    light, dark, printed = re.findall(r":root \{(.*?)\}", style, re.S)
    found = {}
    for name, block in (("light", light), ("dark", dark), ("print", printed)):
        found[name] = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    return found


def luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_stands_out_from_what_is_behind_it(scheme: str):
    """*Source*: WCAG 2.2, 1.4.3 (AA): 4.5 to 1."""
    colours = schemes()[scheme]
    pairs = [(ink, on) for ink in ("ink", "muted", "accent") for on in ("paper", "surface")]
    pairs += [
        ("accent", "soft"),
        ("ink", "soft"),
        ("ink", "mark"),
        ("good", "paper"),
        ("bad", "paper"),
    ]
    pairs += [(f"on-part-{number}", f"part-{number}") for number in range(1, 5)]
    for ink, on in pairs:
        dark, light = sorted((luminance(colours[ink]), luminance(colours[on])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{ink} on {on}"


def test_what_users_wrote_is_shown_and_never_run(crowded: str):
    assert EVIL not in crowded and "&lt;script&gt;alert(1)&lt;/script&gt;" in crowded
    marked = [one for one in parsed(crowded).all("mark") if EVIL in one.text]
    assert marked and not list(parsed(crowded).all("script"))


# Whatever is there


def test_several_targets_splits_and_two_hundred_labels_have_their_place(crowded: str):
    tree = parsed(crowded)
    text = tree.flat()
    assert "keeps 90.3 % (English-EWT) to 100.2 % (Nigerian Pidgin) of its teacher’s" in text
    for name in ("Yoruba, dev", "Nigerian Pidgin, test", "English-EWT, test", "English, dev"):
        assert name in text
    assert "and 176 rarer labels in the table" in text
    (table,) = [
        one
        for one in tree.all("table")
        if next(one.all("caption")).whole() == "Yoruba, test: labels"
    ]
    assert len(list(table.all("tr"))) == 201
    assert "The predictions of this test set are gone" in text


def test_a_teacher_that_scores_nothing_leaves_nothing_to_keep(kept_store: Path):
    def change(record: dict[str, Any]) -> None:
        for by_place in record["scores"].values():
            for told in by_place.values():
                told.update(metrics={"f1": 0.0}, interval={"f1": [0.0, 0.0]}, primary="f1")
                told["per_label"] = []
        for told in record["student_against_teacher"].values():
            told.update(a=0.0, b=0.0, difference=0.0, interval=[0.0, 0.0], retention=None)

    changed(kept_store, change)
    page = made(kept_store)
    (title,) = parsed(page).all("h1")
    assert title.text.startswith("The teacher’s bbb F1 is 0, so its student")
    assert "a dash where the teacher scores 0" in page and "kept no scores by label" in page
    assert "no better in bbb than always" in page


def test_targets_that_keep_the_same_are_told_together(kept_store: Path):
    def change(record: dict[str, Any]) -> None:
        record["recipe"]["languages"]["targets"] = ["bbb", "aaa"]
        for told in record["student_against_teacher"].values():
            told["retention"] = 0.5

    changed(kept_store, change)
    told = flat(headline(gather("tiny", kept_store)))
    assert re.fullmatch(
        r"The student keeps 50\.0 % of its teacher’s accuracy in bbb and aaa .*", told
    )


def test_a_run_without_phase_1_says_so(kept_store: Path):
    def change(record: dict[str, Any]) -> None:
        record["recipe"]["general"]["steps"] = 0

    changed(kept_store, change)
    (folder_of(kept_store, "general") / "metrics.jsonl").unlink()
    text = parsed(made(kept_store)).whole()
    assert "Phase 1 was left out" in text
    assert "Phase 1: hidden states" not in text and "Phase 2: hidden states" in text


@pytest.mark.parametrize("stage", [*STAGES, "every stage"])
def test_an_artifact_that_is_gone_leaves_the_rest_standing(kept_store: Path, stage: str):
    for one in STAGES if stage == "every stage" else [stage]:
        shutil.rmtree(folder_of(kept_store, one))
    tree = parsed(made(kept_store))
    assert len(list(tree.all("section"))) == 10
    assert "gone from the store" in tree.whole()


def test_predictions_that_are_gone_are_said_to_be_gone(kept_store: Path):
    (folder_of(kept_store, "evaluate") / "predictions.bbb.jsonl").unlink()
    tree = parsed(made(kept_store))
    assert tree.whole().count("The predictions of this test set are gone") == 1
    assert any(one.attributes.get("class") == "sentence" for one in tree.all("p"))


@pytest.mark.parametrize(
    ("measured", "told"), [("fidelity", "Fidelity"), ("speed", "A sentence takes")]
)
def test_what_a_run_did_not_measure_has_no_place(
    kept_store: Path, page: str, measured: str, told: str
):
    assert told in page
    changed(kept_store, lambda record: record.pop(measured))
    assert told not in made(kept_store)


def test_a_run_that_scored_the_source_alone_still_tells_the_targets_fidelity(
    kept_store: Path, finished: Finished
):
    alone = read_recipe(finished.recipe, ['evaluate.languages=["aaa"]'])
    pipeline.run(alone, Store(kept_store), name="alone")
    output = kept_store / "alone.html"
    write_report("alone", kept_store, output)
    page = output.read_text(encoding="utf-8")
    assert "no target was scored" in page and "Fidelity" in page


def test_masked_language_modelling_learns_from_no_layer(kept_store: Path):
    def change(record: dict[str, Any]) -> None:
        record["recipe"]["student"]["init"] = "random"
        record["recipe"]["general"]["objective"] |= {"kind": "mlm", "masking": 0.15}

    changed(kept_store, change)
    page = made(kept_store)
    assert "mlm: masking 0.15" in page and "they learn from" not in page


def test_a_folder_is_no_place_for_a_report(kept_store: Path):
    with pytest.raises(ArtifactError, match="is a folder.*name of an HTML file"):
        write_report("tiny", kept_store, kept_store)


def test_a_student_drawn_at_random_copies_nothing(kept_store: Path):
    def change(record: dict[str, Any]) -> None:
        record["recipe"]["student"]["init"] = "random"

    changed(kept_store, change)
    page = made(kept_store)
    assert "drawn at random" in page and '<path d="M126' not in page


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ({"kind": "labels", "text": 0.0}, "gold labels only, without a teacher"),
        (
            {"kind": "kd", "temperature": 2.0, "logits": 1.0, "gold": None, "hidden": 1.0},
            "kd: teacher’s soft labels × 1, gold labels × 1, temperature 2; 25\u00a0% of the steps",
        ),
        (
            {"kind": "bistil", "hidden": 0.5, "text": 0.0},
            "bistil: teacher’s soft labels × 1, hidden states × 0.5, temperature 2, scale relative",
        ),
    ],
)
def test_every_objective_is_told_by_what_it_reads(
    kept_store: Path, objective: dict[str, Any], expected: str
):
    changed(kept_store, lambda record: record["recipe"]["task"].update(objective=objective))
    text = made(kept_store)
    assert expected in text
    assert ("from the tuned teacher’s answers" in text) == (objective["kind"] != "labels")


def test_curves_of_many_terms_and_of_one_step_are_drawn(kept_store: Path):
    rows = [
        {"step": 5, "hidden": 0.5, "attention": 2.0, "pieces_per_second": 9.0},
        {"step": 9, "hidden": 1e-5, "attention": float("nan"), "pieces_per_second": 9.0},
        {"step": 9, "judged": -0.25},
    ]
    path = folder_of(kept_store, "general") / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder_of(kept_store, "task") / "metrics.jsonl").write_text('{"step": 1, "logits": 0.0}\n')
    text = parsed(made(kept_store)).whole()
    for told in ("Phase 1: attention maps", "Phase 1: held-out loss", "From 0.25 at step 9"):
        assert told in text


def test_lost_characters_are_told_one_by_one(kept_store: Path):
    path = folder_of(kept_store, "vocabulary") / "manifest.json"
    manifest = json.loads(path.read_text())
    lost = {"character": "̣", "name": "COMBINING DOT BELOW", "is_mark": True}
    manifest["metrics"]["report"]["languages"]["bbb"]["lost"] = [
        {**lost, "fate": "bytes", "occurrences": 1234}
    ]
    path.write_text(json.dumps(manifest))
    text = parsed(made(kept_store)).flat()
    assert "Combining dot below bbb tone or other mark spelled in bytes 1,234" in text


# What a user did wrong


def test_a_run_that_is_not_there_names_its_like(
    limbeck: Callable[..., Told], finished: Finished, tmp_path: Path
):
    told = limbeck("report", "tinny", "--store", finished.store, "-o", tmp_path / "r.html")
    assert told.code == 2 and told.err.count("\n") == 1
    assert "no such run in the store; found 'tinny'" in told.err and "did you mean" in told.err
    assert not (tmp_path / "r.html").exists()
    with pytest.raises(ArtifactError, match="see `limbeck status`"):
        gather("elsewhere/zzz", finished.store)
    with pytest.raises(ArtifactError, match="no such store"):
        gather("tiny", tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "was not written by this limbeck"),
        ('{"format": 99}', "found format 99"),
        ('{"format": 1}', "tells no scores of teacher and student"),
        ('{"format": 1, "scores": {}}', "KeyError: 'scores.teacher'"),
    ],
)
def test_a_damaged_run_is_one_clear_line(kept_store: Path, text: str, expected: str):
    (kept_store / "runs" / "tiny.json").write_text(text)
    with pytest.raises(ArtifactError, match=re.escape(expected)):
        gather("tiny", kept_store)


@pytest.mark.parametrize("system", ["teacher", "student"])
@pytest.mark.parametrize("part", ["scores", "size"])
def test_a_run_without_teacher_or_student_is_no_finished_run(
    kept_store: Path, system: str, part: str
):
    changed(kept_store, lambda record: record[part].pop(system))
    with pytest.raises(ArtifactError, match=rf"{part}\.{system}"):
        gather("tiny", kept_store)


@pytest.mark.parametrize("line", ["{", "[]", '{"hidden": 1}', "3"])
def test_a_damaged_curve_is_named_by_its_line(kept_store: Path, line: str):
    path = folder_of(kept_store, "task") / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n')
    with pytest.raises(ArtifactError, match=r"metrics\.jsonl:2: is no row of a training curve"):
        gather("tiny", kept_store)


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"where": "f:1", "words": ["a"], "gold": [], "teacher": [], "student": []}'],
)
def test_damaged_predictions_are_named_by_their_line(tmp_path: Path, line: str):
    path = tmp_path / "predictions.aaa.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(ArtifactError, match=r"jsonl:1: is no line of predictions"):
        read_answers(path)


def test_a_missing_plotting_library_says_the_line_to_type(
    limbeck: Callable[..., Told], finished: Finished, monkeypatch
):
    for package in ("matplotlib", "jinja2"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            told = limbeck("report", "tiny", "--store", finished.store)
        assert told.code == 2
        assert told.err == f"limbeck: this needs {package}; pip install 'limbeck[train]'\n"


# Its parts


def test_words_are_counted_by_who_is_right(tmp_path: Path):
    path = tmp_path / "predictions.aaa.jsonl"
    rows = [
        {
            "words": list("abcd"),
            "gold": list("NNVN"),
            "teacher": list("NNVA"),
            "student": list("NVAA"),
        },
        {
            "words": list("efgh"),
            "gold": list("NNVN"),
            "teacher": list("ANVA"),
            "student": list("NVVA"),
        },
    ]
    path.write_text(answers(*rows))
    found = read_answers(path)
    assert (found.both_right, found.both_wrong, found.lost.count, found.won.count) == (2, 2, 3, 1)
    assert [(one.gold, one.said, one.count) for one in found.lost.confusions] == [
        ("N", "V", 2),
        ("V", "A", 1),
    ]
    assert [(one.word, one.student) for one in found.lost.examples] == [
        ("b", "V"),
        ("c", "A"),
        ("f", "V"),
    ]
    assert (found.won.examples[0].before, found.won.examples[0].word) == ("", "e")
    assert found.lost.examples[0].where == "test.txt:1"


def test_examples_are_few_and_short_whatever_the_test_set(tmp_path: Path):
    path = tmp_path / "predictions.aaa.jsonl"
    count = 90
    row = {
        "words": [f"w{number}" for number in range(count)],
        "gold": ["A"] * count,
        "teacher": ["A", "B"] * (count // 2),
        "student": ["B", "A"] * (count // 2),
    }
    path.write_text(answers(*[row] * 20))
    found = read_answers(path)
    assert (len(found.lost.examples), len(found.won.examples)) == (6, 4)
    assert len(found.lost.examples) <= MOST_LOST and len(found.won.examples) <= MOST_WON
    for one in (*found.lost.examples, *found.won.examples):
        assert len(one.before.split()) <= 15 and len(one.after.split()) <= 15
    assert len({one.word for one in found.lost.examples}) == 6


@pytest.mark.parametrize("layers", [1, 4, 12, 48])
def test_the_plan_is_drawn_within_its_box(layers: int):
    plan = list(range(1, layers + 1))[1::2] or [1]
    drawn = draw_plan(plan, layers=layers, kept_pieces=0.4, is_copied=True)
    assert len(drawn.teacher) == layers and len(drawn.student) == len(drawn.paths) == len(plan)
    assert [one.number for one in drawn.teacher if one.is_copied] == plan
    assert all(0 < one.y < one.y + one.height < drawn.height for one in drawn.teacher)
    assert draw_plan(plan, layers=layers, kept_pieces=0.4, is_copied=False).paths == ()


def test_languages_of_every_benchmark_have_a_name():
    for benchmark in BENCHMARKS.values():
        for language in benchmark.languages:
            if benchmark.name == "tydiqa":
                continue  # It calls them by their names.
            assert words.name_of(language).partition("-")[0] != language, language
            assert words.tag_of(language) != "und"
    assert (words.name_of("yor"), words.tag_of("yor")) == ("Yoruba", "yo")
    assert (words.name_of("my.own-lect"), words.tag_of("my.own-lect")) == ("my.own-lect", "und")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (words.signed(-0.0004), "0.0"),
        (words.signed(-0.0123), "−1.2"),
        (words.signed(0.005), "+0.5"),
        (words.percent(None), "–"),
        (words.percent(1.0024), "100.2 %"),
        (words.p_value(0.000999), "p < 0.001"),
        (words.p_value(0.0042), "p = 0.004"),
        (words.p_value(0.381), "p = 0.38"),
        (words.millions(12_752_113), "12.8 M"),
        (words.millions(5_430_000), "5.43 M"),
        (words.millions(271_000_000), "271 M"),
        (words.millions(512), "512"),
        (words.megabytes(21_700_000), "21.7 MB"),
        (words.megabytes(12), "12 bytes"),
        (words.duration(2.123), "2.1 s"),
        (words.duration(450.4), "7 min 30 s"),
        (words.duration(7260), "2 h 1 min"),
        (words.significant(float("nan")), "nan"),
        (words.significant(-0.0123456), "−0.01235"),
        (words.listed(["a", "b", "c"]), "a, b and c"),
        (words.toml({"a": None, "b.c": {"d": [True, 1e-6, 'x"y'], "e": {}}}), None),
    ],
)
def test_numbers_are_written_for_people(told: str, expected: str | None):
    if expected is None:
        assert tomllib.loads(told) == {"b.c": {"d": [True, 1e-6, 'x"y']}}
    else:
        assert told.replace("\u00a0", " ") == expected


# In a browser

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Give a headless browser that loads files."""
    if not CHROMIUM or not DRIVER:
        pytest.skip("no chromium with chromedriver on this machine")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def test_a_browser_shows_it_at_every_width_and_in_both_schemes(
    browser: Any, page: str, crowded: str, tmp_path: Path
):
    command = browser.execute_cdp_cmd
    for name, text in (("plain", page), ("crowded", crowded)):
        path = tmp_path / f"{name}.html"
        path.write_text(text, encoding="utf-8")
        papers = set()
        for width in (360, 1280):
            for scheme in ("light", "dark"):
                size = {
                    "width": width,
                    "height": 800,
                    "deviceScaleFactor": 1,
                    "mobile": width < 600,
                }
                feature = {"name": "prefers-color-scheme", "value": scheme}
                command("Emulation.setDeviceMetricsOverride", size)
                command("Emulation.setEmulatedMedia", {"features": [feature]})
                browser.get(path.as_uri())
                # Also what is folded away must fit.
                browser.execute_script(
                    "for (const one of document.querySelectorAll('details')) one.open = true"
                )
                whole, inner, paper = browser.execute_script(
                    "return [document.documentElement.scrollWidth, innerWidth,"
                    " getComputedStyle(document.body).backgroundColor]"
                )
                assert inner == width and whole <= inner, (name, width, scheme)
                papers.add(paper)
        assert len(papers) == 2, "light and dark look alike"
    assert browser.get_log("browser") == []


@pytest.mark.parametrize(
    ("row", "asked", "told"),
    [
        (
            {"words": ["a", "b"], "gold": ["X", "Y"], "teacher": ["X", "Y"], "student": ["X", "X"]},
            "b",
            ("Y", "Y", "X"),
        ),
        (
            {
                "words": ["a", "b"],
                "gold": [[2, "det"], [0, "root"]],
                "teacher": [[2, "det"], [0, "root"]],
                "student": [[0, "root"], [0, "root"]],
            },
            "a",
            ("det of b", "det of b", "root"),
        ),
        (
            {"text": "x", "pair": "y", "gold": "no", "teacher": "no", "student": "yes"},
            "x ⏵ y",
            ("no", "no", "yes"),
        ),
        (
            {
                "question": "who?",
                "gold": ["Ann", "Ann B"],
                "teacher": {"text": "Ann B"},
                "student": {"text": ""},
            },
            "who?",
            ("Ann", "Ann", "(none)"),
        ),
    ],
)
def test_mistakes_are_told_whatever_the_task(
    row: dict[str, Any], asked: str, told: tuple[str, str, str], tmp_path: Path
):
    path = tmp_path / "predictions.jsonl"
    path.write_text(json.dumps({"where": "f:1", **row}) + "\n")
    (one,) = read_answers(path).lost.examples
    assert (one.word, one.gold, one.teacher, one.student) == (asked, *told)


def test_every_task_has_its_words():
    assert set(words.TASKS) == set(get_args(TaskKind))
