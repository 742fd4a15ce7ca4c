"""Every task on a tiny generated world: the whole path, the report, and the model's own score."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from conftest import Told
from limbeck import pipeline
from limbeck.artifact import Store
from limbeck.delta import SparseDelta, apply
from limbeck.pretrain_recipe import read_pretrain_recipe
from limbeck.recipe import read_recipe, toml_string
from limbeck.report import write_report
from limbeck.watch import Watch
from limbeck.world import make_world

PLACES = {
    "pos": ("conll", "pos", "pos/qab/test.txt"),
    "parsing": ("ud", "ud", "ud/qab/test.conllu"),
    "nli": ("pairs", "nli", "nli/qab/test.tsv"),
    "topics": ("masakhanews", "news", "news/qab/test.tsv"),
    "qa": ("xquad", "xquad", "xquad/xquad.qab.json"),
}
"""Task to the benchmark that reads the world's files, where they are, and one file of them."""

LINES = {
    "nli": ["Ab cd.\tAb."],
    "qa": ['{"question": "Ab?", "context": "Cd ab ef."}'],
}
ANSWERS_OF = {
    "pos": {"labels"},
    "parsing": {"heads", "relations"},
    "nli": {"label"},
    "topics": {"label"},
    "qa": {"answer"},
}
ANSWERS = set().union(*ANSWERS_OF.values())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder, size="tiny", languages=("qaa", "qab"))
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def teacher(world: Path, store: Path) -> Path:
    texts = [f"corpus.{one}={toml_string(world / f'corpora/{one}.txt')}" for one in ("qaa", "qab")]
    sizes = ["tokenizer.pieces=400", "model.layers=2", "model.width=16", "training.steps=20"]
    text = 'name = "teacher"\n[corpus]\nqaa = "x"\nqab = "x"\n'
    (store / "teacher.toml").write_text(text)
    recipe = read_pretrain_recipe(
        store / "teacher.toml",
        [*texts, *sizes, "model.heads=2", "training.batch_pieces=512", "training.block_pieces=64"],
    )
    return pipeline.run(recipe, Store(store)).artifacts["pretrain"].path("model")


@pytest.fixture(scope="module")
def run(world: Path, store: Path, teacher: Path) -> Callable[..., pipeline.Run]:
    def get(task: str, *more: str) -> pipeline.Run:
        benchmark, folder, _ = PLACES[task]
        places = {
            "corpus.qaa": world / "corpora/qaa.txt",
            "corpus.qab": world / "corpora/qab.txt",
            "teacher.model": teacher,
            "task.benchmark.root": world / folder,
        }
        given = [f"{field}={toml_string(path)}" for field, path in places.items()]
        short = ["general.steps=3", "teacher.epochs=1", "task.epochs=1", "student.layers=1"]
        names = [f"task.kind={task}", f"task.benchmark.name={benchmark}", "evaluate.resamples=20"]
        recipe = read_recipe("quickstart", [*given, *short, *names, *more])
        return pipeline.run(recipe, Store(store), name=task)

    return get


@pytest.mark.parametrize("task", PLACES)
def test_a_task_goes_the_whole_way(
    task: str,
    run: Callable[..., pipeline.Run],
    world: Path,
    store: Path,
    limbeck: Callable[..., Told],
    tmp_path: Path,
):
    finished = run(task)
    told = finished.to_dict()
    assert list(told["scores"]["student"]) == ["qaa", "qab"]
    assert {"teacher", "student", "majority label"} <= told["scores"].keys()
    assert list(told["fidelity"]) == ([] if task == "qa" else ["qaa", "qab"])
    assert told["size"]["student"]["total"] < told["size"]["teacher"]["total"]
    assert run(task).made == 0, "a second run does nothing"

    write_report(task, store, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "{{" not in page and told["run"] in page

    model = Path(told["artifacts"]["task"]) / "model"
    file = world / PLACES[task][2]
    alone = limbeck("evaluate", model, "--task", task, "--file", file, "--json")
    assert alone.code == 0, alone.err
    if task != "qa":  # The file holds the questions of every split.
        expected: dict[str, Any] = told["scores"]["student"]["qab"]["metrics"]
        assert json.loads(alone.out)["metrics"] == pytest.approx(expected)
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(LINES.get(task, ["Ab cd.", ""])), encoding="utf-8")
    answers = limbeck("predict", model, lines)
    assert answers.code == 0, answers.err
    assert [set(json.loads(line)) & ANSWERS for line in answers.out.splitlines()] == [
        ANSWERS_OF[task]
    ] * len(lines.read_text().splitlines())
    assert Tokenizer.from_file(str(model / "tokenizer.json")).get_vocab_size() > 0

    several = limbeck("predict", model, lines, "--n-best", "3")
    if task != "qa":
        assert several.code == 2 and "this task gives one answer" in several.err
        return
    for line, ranked in zip(answers.out.splitlines(), several.out.splitlines(), strict=True):
        one, more = json.loads(line), json.loads(ranked)
        found = more.pop("answers")
        assert more == one and 1 <= len(found) <= 3
        scores = [each["score"] for each in found]
        assert scores == sorted(scores, reverse=True)


def test_labels_of_several_languages_are_pooled(run: Callable[..., pipeline.Run]):
    one, both = run("pos"), run("pos", 'task.train_language=["qaa", "qab"]')
    counts = [each.artifacts["teacher"].manifest.counts for each in (one, both)]
    assert counts[1]["train"] == 2 * counts[0]["train"] > 0
    assert counts[1]["notes"].keys() == {"qaa", "qab"}


SPARSE = ['task.tuning={kind="lt-sft", density=0.05}', "evaluate.resamples=10"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_sparse_tuning_moves_few_entries_and_leaves_its_delta(run: Callable[..., pipeline.Run]):
    finished = run("pos", *SPARSE)
    before, after = (
        weights(finished.artifacts[stage].path("model")) for stage in ("general", "task")
    )
    shared = [name for name in before if name in after and name.startswith("model.")]
    moved = sum(int((before[name] != after[name]).sum()) for name in shared)
    total = sum(before[name].numel() for name in shared)
    assert 0 < moved <= round(0.05 * total)
    delta = SparseDelta.load(finished.artifacts["task"].path("delta.safetensors"))
    assert len(delta) == round(0.05 * total) and "classifier.weight" in delta.dense
    on_base = {name: before[name].clone() for name in shared}
    apply(on_base, delta, dense=False)
    for name in shared:
        assert torch.allclose(on_base[name], after[name], atol=1e-7), name
    assert run("pos").artifacts["general"].folder == finished.artifacts["general"].folder


@pytest.mark.parametrize("killed_in", ["full", "sparse"])
def test_a_sparse_tuning_killed_in_either_training_ends_with_the_same_weights(
    killed_in: str, run: Callable[..., pipeline.Run], monkeypatch: pytest.MonkeyPatch
):
    more = [*SPARSE, "machine.checkpoint_seconds=0.001", "task.epochs=2"]
    expected = weights(run("pos", *more).artifacts["task"].path("model"))
    again = [*more, f"task.learning_rate={2e-3 if killed_in == 'full' else 3e-3}"]
    real, count = Watch.on_step_end, {"steps": 0}

    def stop(self: Watch, *args: Any, **kept: Any) -> None:
        real(self, *args, **kept)
        if self.work.name == killed_in and args[1].global_step == 5:
            count["steps"] += 1
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "on_step_end", stop)
        with pytest.raises(KeyboardInterrupt):
            run("pos", *again)
    assert count["steps"] == 1
    resumed = run("pos", *again)
    (folder,) = [resumed.artifacts["task"].folder]
    found = weights(folder / "model")
    shutil.rmtree(folder)
    whole = weights(run("pos", *again).artifacts["task"].path("model"))
    assert found.keys() == whole.keys() == expected.keys()
    assert all(torch.equal(found[name], whole[name]) for name in found)


def test_a_model_that_does_not_say_its_task_and_lines_that_cannot_be_read_are_told(
    run: Callable[..., pipeline.Run], limbeck: Callable[..., Told], tmp_path: Path
):
    folder = run("pos").artifacts["task"].path("model")
    broken = tmp_path / "lines.txt"
    broken.write_bytes(b"fine\n\xff\n")
    found = limbeck("predict", folder, broken)
    assert found.code == 2 and f"{broken}:2: the line is not UTF-8" in found.err
    assert limbeck("predict", folder, tmp_path / "none").err.count("no such file") == 1
    other = tmp_path / "model"
    shutil.copytree(folder, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "limbeck": None}))
    found = limbeck("predict", other, broken)
    assert found.code == 2 and "does not say what its task is" in found.err
    found = limbeck("predict", other, broken, "--task", "topics")
    assert found.code == 2 and "is no model of this task: its head is another" in found.err
