"""A teacher from corpora: every tokenizer with every architecture, resumed, and as good as told."""

import json
import signal
import socket
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from conftest import Started, Told, start
from limbeck import pipeline, together, training
from limbeck.artifact import Store, file_hash
from limbeck.certify import trim_and_certify
from limbeck.encoder import load_encoder
from limbeck.errors import DataError, LimbeckError, RecipeError
from limbeck.parameters import count_parameters
from limbeck.pretrain import held_out_mlm
from limbeck.pretrain_recipe import MODEL_FIELDS, Model, read_pretrain_recipe
from limbeck.sections import Machine
from limbeck.stages.text import open_corpora
from test_encoder import tiny_model

RECIPE = """\
name = "tiny"

[corpus]
aaa = "{data}/corpora/aaa.txt"
bbb = "{data}/corpora/bbb.txt"
filter = {{ held_out = 0.1 }}

[tokenizer]
pieces = 120

[model]
layers = 2
width = 8
heads = 2
positions = 40

[training]
steps = 3
batch_pieces = 128
block_pieces = 32
learning_rate = 1e-2
evaluations = 1

[survey]
parallel = {{ aaa = "{data}/corpora/aaa.txt", bbb = "{data}/corpora/bbb.txt" }}
lines = 20

[machine]
device = "cpu"
precision = "fp32"
"""
KINDS, ARCHITECTURES = ("unigram", "bpe", "wordpiece"), ("modernbert", "bert", "xlm-roberta")
ALL = ("corpus", "tokenizer", "pretrain", "survey")
Run = Callable[..., pipeline.Run]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE.format(data=tiny_data), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def run(recipe: Path, store: Path) -> Run:
    def get(*overrides: str, at: Path = store) -> pipeline.Run:
        return pipeline.run(read_pretrain_recipe(recipe, overrides), Store(at))

    return get


def model_of(finished: pipeline.Run) -> Path:
    return finished.artifacts["pretrain"].path("model")


def wanted(kind: str, architecture: str) -> tuple[str, ...]:
    pieces = {"bpe": 300}.get(kind, 120)
    return (
        f"tokenizer.kind={kind}",
        f"tokenizer.pieces={pieces}",
        f"model.architecture={architecture}",
    )


@pytest.mark.parametrize(("kind", "architecture"), [*product(KINDS, ARCHITECTURES)])
def test_every_tokenizer_and_architecture_gives_a_folder_that_transformers_loads(
    run: Run, kind: str, architecture: str
):
    finished = run(*wanted(kind, architecture))
    assert tuple(finished.artifacts) == ALL
    folder = model_of(finished)
    model = AutoModelForMaskedLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.model_type == architecture
    assert model.config.vocab_size == len(tokenizer) == {"bpe": 300}.get(kind, 120)
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tokenizer.model_max_length == 40
    # As many pieces as the model says it can read, and padding.
    batch = tokenizer(["a " * 90, "a"], truncation=True, padding="max_length", return_tensors="pt")
    assert batch["input_ids"].shape == (2, 40)
    with torch.no_grad():
        assert torch.isfinite(model(**batch).logits).all()
    load_encoder(folder, head="tagging", labels=["O", "B-PER"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_can_be_trimmed_and_certified(
    run: Run, tiny_data: Path, tmp_path: Path, kind: str
):
    architecture = dict(zip(KINDS, ARCHITECTURES, strict=True))[kind]
    folder = model_of(run(*wanted(kind, architecture)))
    certificate = trim_and_certify(
        str(folder),
        tmp_path / "trimmed",
        corpora={"aaa": str(tiny_data / "corpora" / "aaa.txt")},
        min_probability=1e-3,
        held_out_fraction=0.1,
    )
    assert certificate.holds, certificate.lines()
    assert certificate.after.pieces < certificate.before.pieces


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): file_hash(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("manifest.json", "metrics.jsonl")
    }


def test_the_same_recipe_gives_the_same_bytes_and_another_seed_other_weights(
    run: Run, tmp_path: Path
):
    first, second = run(), run(at=tmp_path)
    for stage in ALL:
        folders = [one.artifacts[stage].folder for one in (first, second)]
        assert folders[0].name == folders[1].name
        assert contents(folders[0]) == contents(folders[1]), stage
    told = [one.artifacts["survey"].manifest.metrics for one in (first, second)]
    assert told[0] == told[1]
    other = run("seed=1")
    assert other.artifacts["tokenizer"].folder == first.artifacts["tokenizer"].folder
    weights = [model_of(one) / "model.safetensors" for one in (first, other)]
    assert weights[0].read_bytes() != weights[1].read_bytes()


def test_a_second_run_makes_nothing(run: Run):
    run()
    assert run().made == 0


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("name=other", ()),
        ("machine.checkpoint_seconds=1", ()),
        ("machine.precision=fp32", ()),
        ("survey.lines=10", ("survey",)),
        ("training.masking=0.3", ("pretrain", "survey")),
        ("training.steps=4", ("pretrain", "survey")),
        ("model.layers=1", ("pretrain", "survey")),
        ("seed=5", ("pretrain", "survey")),
        ("tokenizer.pieces=100", ("tokenizer", "pretrain", "survey")),
        ("corpus.filter.min_characters=20", ALL),
        ("corpus.ccc={data}/corpora/ccc.txt", ALL),
    ],
)
def test_a_field_remakes_the_stages_that_depend_on_it(
    run: Run, recipe: Path, store: Path, tiny_data: Path, override: str, expected: tuple[str, ...]
):
    run()
    changed = read_pretrain_recipe(recipe, [override.format(data=tiny_data)])
    planned = pipeline.plan(changed, Store(store))
    assert tuple(one.stage.name for one in planned if not one.is_done) == expected


def test_fields_that_an_architecture_does_not_read_change_nothing(
    run: Run, recipe: Path, store: Path
):
    run(*wanted("unigram", "bert"))
    overrides = [*wanted("unigram", "bert"), "model.window=9", "model.global_every=2"]
    planned = pipeline.plan(read_pretrain_recipe(recipe, overrides), Store(store))
    assert all(one.is_done for one in planned)
    assert MODEL_FIELDS.keys() == set(ARCHITECTURES)
    assert set().union(*MODEL_FIELDS.values()) == set(Model.model_fields)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), {"full": 2, "inner": 12}),
        (("model.layers=4", "model.global_every=3"), {"full": 2, "inner": 12}),
        (("model.feed_forward=20",), {"full": 2, "inner": 20}),
    ],
)
def test_modernbert_is_as_large_as_asked(
    run: Run, overrides: tuple[str, ...], expected: dict[str, int]
):
    config = AutoModelForMaskedLM.from_pretrained(model_of(run(*overrides))).config
    assert config.layer_types.count("full_attention") == expected["full"]
    assert config.intermediate_size == expected["inner"]


def test_dropout_reaches_every_dropout_but_the_classifiers(run: Run):
    for architecture in ARCHITECTURES:
        kind = wanted("unigram", architecture)
        config = AutoModelForMaskedLM.from_pretrained(
            model_of(run(*kind, "training.dropout=0.3"))
        ).config.to_dict()
        found = {name: rate for name, rate in config.items() if "drop" in name}
        assert set(found.values()) - {None} == {0.0, 0.3}, found
        assert all(rate == 0.3 for name, rate in found.items() if not name.startswith("class"))


def test_the_loss_falls_and_the_manifest_tells_it_by_language(run: Run, store: Path):
    learned = ("training.steps=60", "training.evaluations=3", "model.width=16")
    finished = run(*learned)
    rows = finished.artifacts["pretrain"].path("metrics.jsonl").read_text().splitlines()
    curve = [row["mlm"] for row in map(json.loads, rows) if "mlm" in row]
    assert np.mean(curve[-5:]) < 0.85 * np.mean(curve[:5])
    told = finished.artifacts["survey"].manifest.metrics
    assert told["held_out_loss"].keys() == {"aaa", "bbb"}
    mean = np.mean(list(told["held_out_loss"].values()))
    pretrained = finished.artifacts["pretrain"].manifest.metrics["held_out_loss"]
    assert mean == pytest.approx(pretrained, rel=1e-4) and mean < np.log(120)
    layers = told["retrieval"]["aaa"]["bbb"]
    assert len(layers) == 3 and all(0 <= share <= 1 for share in layers)
    model = load_encoder(model_of(finished), attention="sdpa")
    assert told["size"] == count_parameters(model)


def test_the_held_out_loss_is_the_dense_one_whatever_the_batch(run: Run):
    finished = run()
    model = load_encoder(model_of(finished), attention="sdpa")
    text = open_corpora(
        finished.artifacts["tokenizer"].path("blocks"),
        model_of(finished),
        languages=["aaa", "bbb"],
        block_pieces=32,
    )
    options: dict[str, Any] = {"masking": 0.15, "device": torch.device("cpu")}
    one, many = (held_out_mlm(model, text, batch=batch, **options) for batch in (1, 50))
    assert one == pytest.approx(many, rel=1e-5)
    total, count = 0.0, 0
    for i in range(min(len(text.held_out["bbb"]), 64)):
        block = text.held_out["bbb"].block(i)[None]
        masked = text.mask(block, rng=np.random.default_rng([i, 2]), probability=0.15)
        with torch.no_grad():
            logits = model(input_ids=torch.from_numpy(masked.ids)).logits
        labels = torch.from_numpy(masked.labels)
        total += torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), reduction="sum"
        ).item()
        count += int((labels >= 0).sum())
    assert one["bbb"] == pytest.approx(total / count, rel=1e-4)


def test_a_killed_run_resumes_to_the_same_weights(recipe: Path, tmp_path: Path, caplog):
    long = ("training.steps=60", "training.evaluations=4", "training.dropout=0.1")
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    sets = [word for one in long for word in ("--set", one)]
    often = ("--set", "machine.checkpoint_seconds=0.05")
    started = start(tmp_path, "pretrain", recipe, "--store", killed, *sets, *often)
    deadline = time.monotonic() + 180
    while not list(killed.glob("pretrain-*/work/checkpoint-*/complete")):
        assert started.process.is_alive(), started.wait()
        assert time.monotonic() < deadline, "no checkpoint in three minutes"
        time.sleep(0.005)
    started.process.kill()
    assert started.wait().code == -signal.SIGKILL
    (folder,) = killed.glob("pretrain-*")
    assert not (folder / "manifest.json").exists(), "it was quicker than the kill"
    caplog.set_level("INFO")
    wanted_recipe = read_pretrain_recipe(recipe, long)
    resumed = pipeline.run(wanted_recipe, Store(killed))
    assert "pretrain: resumes" in caplog.text and resumed.made == 2
    expected = pipeline.run(wanted_recipe, Store(straight))
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        pair = [model_of(one) / name for one in (resumed, expected)]
        assert pair[0].read_bytes() == pair[1].read_bytes(), name
    told = [one.artifacts["survey"].manifest.metrics for one in (resumed, expected)]
    assert told[0] == told[1]


# several processes


def start_two(folder: Path, *args: object) -> list[Started]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        start(folder, *args, RANK=rank, LOCAL_RANK=rank, TORCHELASTIC_RUN_ID=port, **shared)
        for rank in ("0", "1")
    ]


def curve(finished: Path) -> list[tuple[float, float]]:
    (path,) = finished.glob("pretrain-*/metrics.jsonl")
    rows = map(json.loads, path.read_text().splitlines())
    return [(row["step"], row.get("mlm", row.get("judged"))) for row in rows]


def test_two_processes_give_the_curve_of_one_even_when_killed(recipe: Path, tmp_path: Path):
    long = ("training.steps=30", "training.evaluations=3", "training.batch_pieces=160")
    sets = [word for one in (*long, "machine.checkpoint_seconds=0.02") for word in ("--set", one)]
    store = tmp_path / "two"
    arguments = ("pretrain", recipe, "--store", store, *sets, "--json")
    both = start_two(tmp_path, *arguments)
    deadline = time.monotonic() + 180
    while not list(store.glob("pretrain-*/work/checkpoint-*/complete")):
        assert all(one.process.is_alive() for one in both), [one.wait() for one in both]
        assert time.monotonic() < deadline, "no checkpoint in three minutes"
        time.sleep(0.005)
    for one in both:
        one.process.kill()
    assert {one.wait().code for one in both} == {-signal.SIGKILL}
    ended = [one.wait() for one in start_two(tmp_path, *arguments)]
    assert [one.code for one in ended] == [0, 0], ended
    assert json.loads(ended[0].out)["made"] == 2 and ended[1].out == "", "the first alone tells"
    assert "pretrain: resumes" in ended[0].err and "pretrain" not in ended[1].err
    expected = pipeline.run(read_pretrain_recipe(recipe, long), Store(tmp_path / "one"))
    assert len(curve(store)) == 33
    for mine, theirs in zip(curve(store), curve(tmp_path / "one"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    weights = [load_file(next(tmp_path.glob(f"{one}/pretrain-*/model/model.safetensors")))
               for one in ("one", "two")]  # fmt: skip
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], atol=1e-3), name
    assert expected.made == 4


def test_training_that_cannot_be_shared_is_refused_to_several_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(LimbeckError, match="general is trained by one process; found 2 processes"):
        training.fit(
            tiny_model("bert"),
            lambda step: {},
            terms=lambda model, batch: {},
            budget=training.Budget(steps=1, learning_rate=0.1),
            work=tmp_path,
            machine=Machine(),
            name="general",
        )


def test_the_parts_of_a_batch_are_the_batch(monkeypatch: pytest.MonkeyPatch):
    batch = {"a": torch.arange(10).view(5, 2), "b": torch.arange(5)}
    monkeypatch.setenv("WORLD_SIZE", "3")
    parts = []
    for rank in "012":
        monkeypatch.setenv("RANK", rank)
        parts.append(together.part_of(batch))
    assert [len(part["b"]) for part in parts] == [2, 2, 1]
    for name, whole in batch.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), whole)
    with pytest.raises(RecipeError, match="fewer rows than there are processes; found 2 rows"):
        together.part_of({"a": torch.zeros(2, 4)})


# what cannot be


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.stesp=3", "training.stesp: unknown key; expected 'steps'; see `limbeck explain"
         " pretrain.training`"),
        ("modle.layers=3", "modle: unknown key; expected 'model'; see `limbeck explain pretrain`"),
        ("training.steps=many", "expected a whole number; see `limbeck explain pretrain.training"),
        ("tokenizer.kind=bytes", "expected 'unigram', 'bpe' or 'wordpiece'"),
        ("model.heads=3", "model: width 8 is not divisible by heads 3; change model.width or mo"),
        ("model.heads=8", "rotary positions need an even number of dimensions a head, 8 / 8 is o"),
        ("training.block_pieces=64", "a block of training.block_pieces = 64 does not fit into mod"),
        ("training.masking=0", "expected greater than 0"),
        ("corpus.filter.scripts.zzz=Latn", "names 'zzz', which has no text in [corpus] (it has: "),
        ('survey.parallel={ aaa = "a.txt" }', "survey: parallel text needs two languages or mo"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_recipe_is_one_line(recipe: Path, override: str, expected: str):
    with pytest.raises(RecipeError) as told:
        read_pretrain_recipe(recipe, [override])
    assert expected in str(told.value) and "\n" not in str(told.value)


def test_a_recipe_without_text_is_refused(tmp_path: Path):
    path = tmp_path / "r.toml"
    path.write_text('name = "x"\n[corpus]\n')
    with pytest.raises(RecipeError, match=r"r\.toml: \[corpus\] names no text; add a language"):
        read_pretrain_recipe(path)
    with pytest.raises(RecipeError, match="no such recipe; expected a TOML file or one of: afro"):
        read_pretrain_recipe("nothing")


@pytest.mark.parametrize(
    ("override", "error", "expected"),
    [
        ("corpus.ccc=nowhere.txt", DataError, "corpus.ccc: no such file; found nowhere.txt"),
        ("survey.parallel.bbb={short}", DataError, "survey.parallel.bbb: {short}: parallel text m"
         "ust say the same in the same line; found 2 lines; expected 300 lines, as aaa has"),
        ("survey.parallel.bbb={empty}", DataError, "found 0 lines; expected 300 lines, as aaa"),
        ("survey.parallel.bbb=nowhere.txt", LimbeckError, "nowhere.txt: cannot be read; found No "),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_told_before_any_work(
    recipe: Path, tmp_path: Path, override: str, error: type[LimbeckError], expected: str
):
    files = {"short": tmp_path / "short.txt", "empty": tmp_path / "empty.txt"}
    files["short"].write_text("one line\nand another\n")
    files["empty"].touch()
    changed = read_pretrain_recipe(recipe, [override.format(**files)])
    with pytest.raises(error) as told:
        pipeline.run(changed, Store(tmp_path / "store"))
    assert expected.format(**files) in str(told.value)
    assert not list((tmp_path / "store").glob("*-*"))


def test_more_pieces_than_the_text_yields_are_told_before_training(run: Run, tmp_path: Path):
    with pytest.raises(DataError, match=r"tokenizer\.pieces: the text does not yield so many"):
        run("tokenizer.pieces=9000", at=tmp_path)
    assert not list(tmp_path.glob("pretrain-*"))


# the command


def test_pretrain_prints_one_json_object_and_copies_the_model(
    limbeck: Callable[..., Told], run: Run, recipe: Path, store: Path, tmp_path: Path
):
    run()
    output = tmp_path / "deep" / "model"
    told = limbeck("pretrain", recipe, "--store", store, "-o", output, "--json")
    assert told.code == 0 and told.out.count("\n") == 1
    found = json.loads(told.out)
    assert found.keys() >= {"run", "store", "artifacts", "held_out_loss", "retrieval", "size"}
    assert found["made"] == 0 and found["model"] == str(output)
    assert contents(output) == contents(Path(found["artifacts"]["pretrain"]) / "model")
    again = limbeck("pretrain", recipe, "--store", store, "-o", output)
    assert again.code == 2 and "the output folder is not empty" in again.err
    lines = limbeck("pretrain", recipe, "--store", store, "--name", "b").out
    for word in ("held-out loss in nats", "aaa-bbb", "pieces", "model: ", "nothing ran"):
        assert word in lines


def test_plan_tells_of_pretraining_too(
    limbeck: Callable[..., Told], run: Run, recipe: Path, store: Path
):
    run()
    lines = limbeck("plan", recipe, "--store", store).out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        [stage, "done"] for stage in ("corpus", "tokenizer", "pretrain", "survey")
    ]
    wrong = limbeck("plan", "world")
    assert wrong.code == 2 and "world/corpora/qaa.txt" in wrong.err


def test_explain_tells_of_pretraining_too(limbeck: Callable[..., Told]):
    told = limbeck("explain", "pretrain.training.steps").out
    assert told.startswith("pretrain.training.steps (int, default 6000 steps)") and "Why:" in told
    everything = limbeck("explain", "pretrain").out
    assert "[pretrain.model]" in everything and "pretrain.corpus.LANG.path" in everything
    assert limbeck("explain", "pretrain.corpus.yor.path").out.startswith("pretrain.corpus.LANG")
    wrong = limbeck("explain", "pretrain.training.stepz")
    assert wrong.code == 2 and "expected 'pretrain.training.steps'" in wrong.err
