"""What a budget buys for a recipe: told before anything is made, from a config alone."""

import io
import json
import re
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from tokenizers import Tokenizer

from conftest import LANGUAGES, LAYERS, Finished, Told
from limbeck.anatomy import anatomy
from limbeck.artifact import Store
from limbeck.budget import SHARES, Budget, Rate, Rates, parse_budget
from limbeck.hub import config_folder
from limbeck.offer import CLASSES, LINES, SENTENCE_PIECES, Offer, _sentence, offer, tokenizer_size
from limbeck.recipe import Recipe, read_recipe
from limbeck.shipping import ship
from limbeck.stages.record import layer_plan_of
from limbeck.tables import offer_lines, offer_table
from limbeck.tasks import TASKS
from limbeck.tokenizer import trim_tokenizer
from test_costs import quick

Call = Callable[..., Told]
RATES = {
    "int8": Rates(Rate(1.0, 2.0, 10_000, 20_000), Rate(1.0, 1.0, 10_000, 10_000), 0.0),
    "fp32": Rates(Rate(2.0, 4.0, 40_000, 80_000), Rate(2.0, 2.0, 40_000, 40_000), 0.0),
}
AMPLE, TIGHT, NOTHING = "1s 9MB", "5ms 9MB", "0.1ms 1kB"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list:
    """Costs that are told instead of measured; what is asked is kept."""
    from limbeck import costs

    asked: list = []

    def measure(config, shape, *, where=""):
        asked.append(shape)
        return RATES

    monkeypatch.setattr(costs, "measure", measure)
    return asked


def shown(found: Offer) -> str:
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(offer_table(found))
    return console.export_text()


@pytest.fixture
def recipe(tiny_recipe: Path) -> Recipe:
    return read_recipe(tiny_recipe)


def test_the_command_prints_one_json_object_with_every_configuration(
    limbeck: Call, tiny_recipe: Path, tiny_teacher: Path, measured: list
):
    told = limbeck("plan", tiny_recipe, "--budget", TIGHT, "--json")
    assert told.code == 0 and told.out.count("\n") == 1
    found = json.loads(told.out)
    assert found["budget"] == {"latency_ms": 5.0, "disk_bytes": 9_000_000}
    assert found["machine"].keys() >= {"cpu", "cores", "onnxruntime"}
    assert found["teacher"] == str(tiny_teacher)
    assert found["sentence_pieces"] == measured[0].sentence_pieces
    assert found["costs"]["rates"]["int8"]["whole"]["layer_ms"] == 2.0
    rows = found["configurations"]
    pieces = json.loads((tiny_teacher / "config.json").read_text())["vocab_size"]
    assert len(rows) == 2 * LAYERS * len(SHARES) and {one["pieces"] for one in rows} == {pieces}
    fitting = [(one["layers"], one["feed_forward"]) for one in rows if one["fits"]]
    # One layer fits in 32 bits too where it has half of the neurons or fewer.
    deeper = [(3, 0.25), *((2, share) for share in SHARES)]
    assert fitting == [*deeper, (1, 1.0), (1, 0.5), (1, 0.5), (1, 0.25), (1, 0.25)]
    assert found["pareto"] == [
        {key: one[key] for key in one if key not in ("fits", "pareto")}
        for one in rows
        if one["pareto"]
    ]
    assert found["nearest"] is None and found["recipe"]["layers"] == 2


def test_the_table_shows_what_fits_and_what_to_set(
    limbeck: Call, tiny_recipe: Path, measured: list
):
    told = limbeck("plan", tiny_recipe, "--budget", TIGHT)
    assert told.code == 0
    assert re.search(
        r"^ +2 +100 % +\d+ +int8 +5\.0 +0\.\d +yes +\* +--set student\.layers=2", told.out, re.M
    )
    assert "--set vocabulary.max_pieces=" in told.out
    assert "the recipe as it is" in told.out and "States have the teacher's width" in told.out
    assert f"--json has all {2 * LAYERS * len(SHARES)}." in told.out


def test_what_is_said_to_be_set_gives_that_student(tiny_recipe: Path, measured: list):
    listed = read_recipe(tiny_recipe, ["student.plan=[1, 2, 4]"])
    found = offer(listed, parse_budget(AMPLE))
    table = shown(found)
    fields = re.findall(r"--set (\S+)", table)[:4]
    assert fields == [
        "student.plan=every",
        f"student.layers={LAYERS}",
        f"vocabulary.max_pieces={found.costs.pieces}",
        "export.int8=true",
    ]
    asked = read_recipe(tiny_recipe, ["student.plan=[1, 2, 4]", *fields])
    assert len(layer_plan_of(asked)) == LAYERS
    again = offer(asked, parse_budget(AMPLE))
    assert again.standing.pieces == found.costs.pieces and again.standing.fits
    assert again.standing.disk_bytes == again.best[0].disk_bytes
    assert "export.int8" not in shown(again), "the recipe has it already"


def test_where_nothing_fits_the_nearest_is_named_with_what_it_needs(
    limbeck: Call, tiny_recipe: Path, measured: list
):
    told = limbeck("plan", tiny_recipe, "--budget", NOTHING)
    assert told.code == 0 and "Nothing fits 0.1ms 0.001MB; the nearest is shown" in told.out
    (needed,) = re.findall(r"--budget '(.*?)'", told.out)
    found = json.loads(limbeck("plan", tiny_recipe, "--budget", needed, "--json").out)
    assert [one["layers"] for one in found["pareto"]] == [1]
    missed = json.loads(limbeck("plan", tiny_recipe, "--budget", NOTHING, "--json").out)
    assert missed["pareto"] == [] and missed["nearest"]["layers"] == 1
    assert missed["nearest"]["needs"] == found["budget"]
    assert missed["recipe"]["fits"] is False


def test_whether_the_recipe_fits_hangs_on_its_vocabulary_until_that_is_set(
    tiny_recipe: Path, measured: list
):
    sizes = {
        pieces: offer(
            read_recipe(tiny_recipe, [f"vocabulary.max_pieces={pieces}"]), Budget(1000.0)
        ).standing.disk_bytes
        for pieces in (100, 101)
    }
    assert sizes[100] and sizes[101] and sizes[100] < sizes[101]
    budget = Budget(None, sizes[100])
    unset = offer(read_recipe(tiny_recipe), budget)
    assert unset.standing.fits is None and unset.standing.most_pieces == 100
    assert unset.standing.pieces is None and unset.standing.disk_bytes is None
    assert "fits with 100 pieces" in shown(unset)
    for pieces, fits in ((100, True), (101, False)):
        recipe = read_recipe(tiny_recipe, [f"vocabulary.max_pieces={pieces}"])
        assert offer(recipe, budget).standing.fits is fits
    assert offer(read_recipe(tiny_recipe), Budget(1000.0)).standing.fits is True
    assert offer(read_recipe(tiny_recipe), Budget(0.5)).standing.fits is False


def test_a_recipe_is_priced_in_the_precision_of_its_bundle(tiny_recipe: Path, measured: list):
    def precision(*overrides: str) -> str:
        return offer(read_recipe(tiny_recipe, overrides), Budget(9.0)).standing.precision

    assert precision() == precision("export.int8=true") == "int8"
    assert precision("export.int8=false") == "fp32"


def test_the_sentence_is_the_median_of_the_corpora(
    recipe: Recipe, tiny_teacher: Path, tiny_data: Path, measured: list
):
    found = offer(recipe, Budget(9.0))
    tokenizer = Tokenizer.from_file(str(tiny_teacher / "tokenizer.json"))
    files = [tiny_data / f"corpora/{one}.txt" for one in LANGUAGES[:2]]
    lines = [line for file in files for line in file.read_text().splitlines()[:LINES]]
    lengths = [len(tokenizer.encode(one).ids) for one in lines]
    assert found.sentence.pieces == min(48, round(statistics.median(lengths)))
    assert found.sentence.source == f"the median of {len(lengths)} lines of aaa, bbb"


def test_a_question_is_priced_with_its_text_and_a_pair_as_two_lines(
    tiny_recipe: Path, tiny_teacher: Path
):
    one, two, window = (
        _sentence(made, tiny_teacher, asked=None, most=200)
        for made in (
            read_recipe(tiny_recipe),
            read_recipe(tiny_recipe, ["task.kind=nli", "task.benchmark.name=pairs"]),
            read_recipe(tiny_recipe, ["task.kind=qa", "task.benchmark.name=squad"]),
        )
    )
    assert two.pieces in (2 * one.pieces - 1, 2 * one.pieces, 2 * one.pieces + 1)
    assert "twice the median" in two.source
    assert window.pieces == 200 and "a window" in window.source


def test_without_corpora_or_tokenizer_or_weights_a_config_is_enough(
    tiny_recipe: Path, tiny_teacher: Path, tmp_path: Path, measured: list
):
    folder = tmp_path / "config only"
    folder.mkdir()
    shutil.copy(tiny_teacher / "config.json", folder)
    bare = offer(read_recipe(tiny_recipe, [f"teacher.model={folder}"]), Budget(9.0))
    assert bare.costs.tokenizer.source.startswith("a guess")
    assert bare.sentence.pieces == SENTENCE_PIECES and "default" in bare.sentence.source
    text = re.sub(r"^aaa = .*", 'aaa = "nowhere.txt"', tiny_recipe.read_text(), flags=re.M)
    text = re.sub(r"^bbb = .*", 'bbb = { hub = "some/where" }', text, flags=re.M)
    tiny_recipe.write_text(text)
    far = offer(read_recipe(tiny_recipe), Budget(9.0))
    assert far.sentence.pieces == SENTENCE_PIECES


def test_a_sentence_may_be_asked_for_within_what_is_read_at_once(
    limbeck: Call, tiny_recipe: Path, measured: list
):
    told = limbeck("plan", tiny_recipe, "--budget", "9ms", "--pieces", 20, "--json")
    found = json.loads(told.out)
    assert (found["sentence_pieces"], found["sentence_pieces_from"]) == (20, "--pieces")
    for pieces in (2, 49):
        told = limbeck("plan", tiny_recipe, "--budget", "9ms", "--pieces", pieces)
        assert told.code == 2 and "--pieces: no sentence of this length" in told.err
        assert f"found {pieces}; expected 3 to 48" in told.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--budget", "20 ms"), "--budget: this is no amount; found '20'"),
        (("--budget", ""), "--budget: a budget of nothing"),
        (("--pieces", "20"), "--pieces: only a budget has a sentence"),
    ],
)
def test_what_is_no_budget_is_one_line_and_exit_code_2(
    limbeck: Call, tiny_recipe: Path, arguments: tuple[str, ...], expected: str
):
    told = limbeck("plan", tiny_recipe, *arguments)
    assert (told.code, told.out) == (2, "") and told.err.count("\n") == 1
    assert told.err.startswith(f"limbeck: {expected}")


def test_a_recipe_of_pretraining_has_no_student(limbeck: Call, tmp_path: Path):
    path = tmp_path / "three.toml"
    path.write_text('name = "three"\n[corpus]\naaa = "aaa.txt"\n')
    told = limbeck("plan", path, "--budget", "20ms")
    assert told.code == 2 and "a recipe of pretraining has no student" in told.err


def test_heads_have_the_classes_of_the_recipes_labels_or_the_tasks(
    tiny_recipe: Path, measured: list
):
    assert CLASSES.keys() == TASKS.keys()
    offer(read_recipe(tiny_recipe), Budget(9.0))
    labels = ["task.kind=ner", 'task.benchmark.labels=["PER", "LOC"]']
    offer(read_recipe(tiny_recipe, labels), Budget(9.0))
    assert [one.classes for one in measured] == [CLASSES["pos"], 5]


def test_a_tokenizer_weighs_what_is_written_with_all_of_its_pieces(
    tiny_teacher: Path, tmp_path: Path
):
    parts = anatomy(Tokenizer.from_file(str(tiny_teacher / "tokenizer.json")))
    trim_tokenizer(tiny_teacher, list(range(parts.size)), tmp_path)
    size = tokenizer_size(tiny_teacher)
    written = (tmp_path / "tokenizer.json").stat().st_size
    assert size.fixed_bytes + parts.size * size.piece_bytes == pytest.approx(written, rel=0.01)


def test_a_config_is_fetched_from_the_hub_without_weights(tiny_teacher: Path, monkeypatch):
    import huggingface_hub

    asked: list[list[str]] = []

    def download(model: str, *, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(tiny_teacher)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert config_folder("some/model") == tiny_teacher and asked == [["*.json"]]


def test_a_bundle_weighs_what_was_told_before_its_student_was_made(
    finished: Finished, tmp_path: Path, tiny_data: Path, monkeypatch
):
    from limbeck import costs

    monkeypatch.setattr(costs, "latency", quick())
    monkeypatch.setitem(CLASSES, "pos", 5)
    (task,) = Store(finished.store).artifacts("task")
    about = json.loads((task.folder / "model" / "config.json").read_text())
    ship(
        str(task.folder / "model"),
        tmp_path / "bundle",
        dev=tiny_data / "pos/aaa/dev.txt",
        language="aaa",
        tolerance=1.0,
    )
    size = sum(one.stat().st_size for one in (tmp_path / "bundle").iterdir())
    pieces = [f"vocabulary.max_pieces={about['vocab_size']}"]
    told: Offer = offer(read_recipe(finished.recipe, pieces), Budget(None, size))
    assert told.standing.layers == about["num_hidden_layers"]
    assert told.standing.disk_bytes == pytest.approx(size, rel=0.03)
    assert any("a layer 0.00 ms" in line for line in offer_lines(told))
