"""Language deltas: learned, published, put together with a task's, distilled from, swapped."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import Told
from limbeck import distil, pipeline
from limbeck.artifact import Store
from limbeck.delta import SparseDelta, apply
from limbeck.delta_arithmetic import add
from limbeck.delta_file import base_hash
from limbeck.encoder import load_encoder
from limbeck.errors import ArtifactError, LimbeckError, ModelError
from limbeck.language_switch import LanguageSwitch
from limbeck.parameters import encoder_tensors
from limbeck.recipe import read_recipe, toml_string
from limbeck.report import write_report
from limbeck.student import trim_delta, trim_model
from limbeck.watch import Watch
from test_sparse import published, sft_folder

Call = Callable[..., Told]
Runs = Callable[..., pipeline.Run]

SHORT = ["adapt.steps=12", "adapt.batch_pieces=128", "adapt.block_pieces=32"]
SHORT += ["adapt.learning_rate=1e-2", "adapt.tuning.density=0.05"]
SPARSE = ['teacher.tuning={kind="lt-sft", density=0.1}', 'task.tuning={kind="lt-sft"}']


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def run(store: Path, recipe_text: Callable[..., str]) -> Runs:
    def get(name: str, *more: str, until: str | None = None) -> pipeline.Run:
        recipe = store / f"{name}.toml"
        recipe.write_text(recipe_text(), encoding="utf-8")
        given = [*([] if name == "plain" else SHORT), *more]
        return pipeline.run(read_recipe(recipe, given), Store(store), name=name, until=until)

    return get


def deltas_of(finished: pipeline.Run) -> dict[str, SparseDelta]:
    folder = finished.artifacts["adapt"].folder
    return {one: SparseDelta.load(folder / f"{one}.delta.safetensors") for one in ("aaa", "bbb")}


def test_the_whole_path_with_language_deltas(
    run: Runs, store: Path, tiny_teacher: Path, tmp_path: Path
):
    finished = run("adapted", *SPARSE)
    told = finished.to_dict()
    base = encoder_tensors(load_encoder(tiny_teacher, head="mlm"))
    total = sum(one.numel() for one in base.values())
    for language, delta in deltas_of(finished).items():
        assert len(delta) == round(0.05 * total) and not delta.dense
        assert delta.base == base_hash(base)
        assert not any(len(part) for name, part in delta.parts.items() if "norm" in name)
        losses = delta.provenance["held_out_loss"]
        assert delta.provenance["language"] == language and losses["after"] < losses["before"]
    teacher = load_encoder(finished.artifacts["teacher"].path("model"), head="tagging")
    tuned = encoder_tensors(teacher)
    assert sum(int((tuned[name] != base[name]).sum()) for name in base) <= round(0.15 * total)
    task = SparseDelta.load(finished.artifacts["teacher"].path("delta.safetensors"))
    assert task.base == base_hash(base), "it goes on the model without the language"
    assert task.provenance["task"] == "pos" and task.provenance["languages"] == ["aaa"]
    systems = told["scores"]
    own, none = systems["teacher, own language's delta"], systems["teacher, no language delta"]
    assert list(own) == list(none) == ["aaa", "bbb"]
    same = own["aaa"]["metrics"]["accuracy"]
    assert same == pytest.approx(systems["teacher"]["aaa"]["metrics"]["accuracy"], abs=0.05)
    write_report("adapted", store, tmp_path / "report.html")
    assert "own language&#39;s delta" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert run("adapted", *SPARSE).made == 0


def test_a_delta_that_does_not_help_is_told(
    run: Runs, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("limbeck.adapt.mean_held_out", lambda *_, **__: 2.0)
    run("harm", "adapt.steps=2", until="adapt")
    assert "aaa: held-out loss 2.000 before, 2.000 after; its delta does not help" in caplog.text


def test_phase_1_asks_the_teacher_in_the_batch_s_language(
    run: Runs, store: Path, monkeypatch: pytest.MonkeyPatch
):
    adapted, plain = run("adapted", *SPARSE), run("plain")
    assert "adapt" not in plain.artifacts
    assert adapted.artifacts["student"].folder == plain.artifacts["student"].folder
    spoken: list[str | None] = []
    real = LanguageSwitch.to

    def to(self: LanguageSwitch, language: str | None) -> None:
        spoken.append(language)
        real(self, language)

    monkeypatch.setattr(LanguageSwitch, "to", to)
    monkeypatch.setattr(distil, "held_out_loss", lambda *_, **__: 0.0)
    recipe = read_recipe(store / "adapted.toml", [*SHORT, *SPARSE, "general.steps=5"])
    pipeline.run(recipe, Store(store), until="general")
    assert spoken == ["aaa", "bbb", "aaa", "bbb", "aaa"], "in turn, as the batches"


def test_a_delta_at_hand_is_not_learned_again(run: Runs, tmp_path: Path):
    first = run("adapted", *SPARSE)
    made = first.artifacts["adapt"].folder / "aaa.delta.safetensors"
    given = shutil.copyfile(made, tmp_path / "aaa.delta")
    again = run("given", f"adapt.deltas.aaa={toml_string(given)}", *SPARSE)
    assert again.artifacts["adapt"].manifest.section["languages"] == ["bbb"]
    for language, delta in deltas_of(again).items():
        other = deltas_of(first)[language]
        assert all(torch.equal(delta.parts[n].values, other.parts[n].values) for n in other.parts)
    task = first.artifacts["teacher"].path("delta.safetensors")
    put = [f"teacher.delta={toml_string(task)}", f"adapt.deltas.aaa={toml_string(given)}"]
    composed = run("composed", *put)
    one, other = (each.artifacts["teacher"].path("model") for each in (first, composed))
    weights, found = (load_file(each / "model.safetensors") for each in (one, other))
    assert weights.keys() == found.keys()
    assert all(torch.allclose(weights[name], found[name], atol=1e-6) for name in weights)


def test_a_published_sft_s_folder_stands_for_a_language(
    run: Runs, tiny_teacher: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    learned = deltas_of(run("adapted", *SPARSE))["aaa"]
    whole = encoder_tensors(load_encoder(tiny_teacher, head="mlm"))
    changed = {name: torch.zeros_like(one) for name, one in whole.items()}
    apply(changed, learned, foreign=True)
    # As published: a head's tensors among them, and no word of the base.
    diffs = {name: published(one) for name, one in changed.items()}
    diffs["head.norm.weight"] = published(torch.ones(8))
    dense = {"head.dense.weight": torch.ones(2, 2)}
    folder = sft_folder(tmp_path, {"diffs": diffs, "abs": dense})
    given = f"adapt.deltas.aaa={toml_string(folder)}"
    with pytest.raises(LimbeckError, match="teacher.foreign"):
        run("published", given, *SPARSE, until="adapt")
    found = run("published", given, "teacher.foreign=true", *SPARSE, until="adapt")
    assert found.artifacts["adapt"].manifest.section["languages"] == ["bbb"]
    read = deltas_of(found)["aaa"]
    assert {name for name, part in read.parts.items() if len(part)} == {
        name for name, part in learned.parts.items() if len(part)
    }
    assert len(read) == len(learned) and not read.dense
    assert "adapt.deltas.aaa: left out, not of the encoder: head.norm.weight" in caplog.text
    put_on = {name: torch.zeros_like(one) for name, one in changed.items()}
    apply(put_on, read, foreign=True)
    assert all(torch.equal(put_on[name], changed[name]) for name in changed)
    sft_folder(tmp_path, {"diffs": {f"bert.{name}": one for name, one in diffs.items()}})
    with pytest.raises(ModelError, match="no tensor of the delta is one of the teacher's encoder"):
        run("published", given, "teacher.foreign=true", *SPARSE, until="adapt")


def test_more_than_ten_labels_keep_their_order(run: Runs, tmp_path: Path):
    finished = run("adapted", *SPARSE)
    delta = SparseDelta.load(finished.artifacts["teacher"].path("delta.safetensors"))
    labels = [f"L{number}" for number in range(12)]
    about = dict(delta.provenance["config"]) | {"id2label": dict(enumerate(labels))}
    replace(delta, provenance={**delta.provenance, "config": about}).save(tmp_path / "d")
    with pytest.raises(LimbeckError, match=", ".join(labels)):
        run("many", f"teacher.delta={toml_string(tmp_path / 'd')}")


def stopping_at(language: str, training: str) -> Callable[..., None]:
    real = Watch.on_step_end

    def stop(self: Watch, *args: Any, **kept: Any) -> None:
        real(self, *args, **kept)
        here = self.work.name == training and self.work.parent.name == language
        if here and args[1].global_step == 5:
            raise KeyboardInterrupt

    return stop


def test_a_killed_adaptation_ends_with_the_same_deltas(run: Runs, monkeypatch: pytest.MonkeyPatch):
    more = ["seed=5", "machine.checkpoint_seconds=0.001"]
    for place in (("aaa", "sparse"), ("bbb", "full")):
        with monkeypatch.context() as patch:
            patch.setattr(Watch, "on_step_end", stopping_at(*place))
            with pytest.raises(KeyboardInterrupt):
                run("killed", *more)
    resumed = run("killed", *more)
    found = deltas_of(resumed)
    shutil.rmtree(resumed.artifacts["adapt"].folder)
    whole = deltas_of(run("killed", *more))
    for language, delta in whole.items():
        assert all(
            torch.equal(part.indices, found[language].parts[name].indices)
            and torch.equal(part.values, found[language].parts[name].values)
            for name, part in delta.parts.items()
        )


def test_adapt_publishes_a_delta_and_a_task_s_is_put_together_with_it(
    run: Runs, limbeck: Call, tiny_teacher: Path, tiny_data: Path, tmp_path: Path
):
    file, sets = tmp_path / "bbb.delta", [f"--set={one}" for one in SHORT]
    text = tiny_data / "corpora/bbb.txt"
    command = ["adapt", tiny_teacher, "--language", "bbb", "--corpus", text, "-o", file]
    told = limbeck(*command, *sets, "--store", tmp_path / "store", "--json")
    assert told.code == 0, told.err
    found = json.loads(told.out)
    assert (
        found["entries"] > 0 and found["held_out_loss"]["after"] < found["held_out_loss"]["before"]
    )
    again = limbeck(*command, *sets, "--store", tmp_path / "store")
    assert again.code == 2 and "exists already" in again.err
    file.rename(tmp_path / "old.delta")
    assert limbeck(*command, *sets, "--store", tmp_path / "store").code == 0
    assert file.read_bytes() == (tmp_path / "old.delta").read_bytes()

    task = run("adapted", *SPARSE).artifacts["teacher"].path("delta.safetensors")
    on, off, one = tmp_path / "on", tmp_path / "off", tmp_path / "one"
    told = limbeck("delta", "apply", tiny_teacher, file, task, "-o", on)
    assert told.code == 0, told.err
    lines = tmp_path / "lines.txt"
    lines.write_text("Ab cd.\n", encoding="utf-8")
    answer = limbeck("predict", on, lines)
    assert answer.code == 0 and set(json.loads(answer.out)["labels"]) <= {
        "NOUN", "VERB", "ADJ", "DET", "PUNCT"
    }  # fmt: skip
    encoder = encoder_tensors(load_encoder(on, head="tagging"))
    base = encoder_tensors(load_encoder(tiny_teacher, head="mlm"))
    total = add(SparseDelta.load(file), SparseDelta.load(task))
    assert sum(int((encoder[n] != base[n]).sum()) for n in base) <= len(total)

    told = limbeck("delta", "revert", on, file, "-o", one)
    assert told.code == 0, told.err
    alone = tmp_path / "alone"
    assert limbeck("delta", "apply", tiny_teacher, task, "-o", alone).code == 0
    assert same_tensors(one, alone), "one of two is taken off"
    assert limbeck("delta", "revert", on, file, task, "-o", off).code == 0
    assert same_tensors(off, tiny_teacher)
    assert (off / "config.json").read_text() == (tiny_teacher / "config.json").read_text()
    assert {path.name for path in off.iterdir()} == {path.name for path in tiny_teacher.iterdir()}


def same_tensors(a: Path, b: Path) -> bool:
    one, other = (load_file(folder / "model.safetensors") for folder in (a, b))
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (['adapt.deltas.ccc="x"'], "adapt.deltas names 'ccc', which is no language"),
        (['adapt.deltas.aaa="nowhere"'], "adapt.deltas.aaa: no such delta; found nowhere"),
        (['adapt.tuning.kind="full"'], "a language's delta is sparse"),
        (['adapt.tuning.freeze=["*nothing*"]'], r"tuning.freeze.*found '\*nothing\*'"),
        (["adapt.tuning.density=0.999"], "cannot choose so many entries"),
        (["adapt.tuning.density=1e-9"], "tuning.density: .*cannot choose.*found 0"),
    ],
)
def test_what_cannot_be_adapted_is_told(more: list[str], message: str, run: Runs):
    with pytest.raises(LimbeckError, match=message):
        run("wrong", "adapt.steps=2", *more)


def test_deltas_of_another_model_are_refused(run: Runs, tmp_path: Path):
    finished = run("adapted", *SPARSE)
    foreign = tmp_path / "model"
    shutil.copytree(finished.artifacts["adapt"].folder, tmp_path / "deltas")
    model = read_recipe(Path(finished.store) / "adapted.toml").teacher.model
    shutil.copytree(model, foreign)
    tensors = load_file(foreign / "model.safetensors")
    name = next(name for name in tensors if name.startswith("model."))
    tensors[name] += 1
    save_file(tensors, foreign / "model.safetensors", metadata={"format": "pt"})
    given = [
        f"adapt.deltas.{one}={toml_string(tmp_path / f'deltas/{one}.delta.safetensors')}"
        for one in ("aaa", "bbb")
    ]
    other = f"teacher.model={toml_string(foreign)}"
    with pytest.raises(ArtifactError, match="not the delta's base"):
        run("foreign", other, *given)
    assert run("foreign", other, *given, "teacher.foreign=true").made > 0
    task = finished.artifacts["teacher"].path("delta.safetensors")
    with pytest.raises(ArtifactError, match="the teacher is not the delta's base"):
        run("foreign", other, f"teacher.delta={toml_string(task)}")
    with pytest.raises(LimbeckError, match="not of this task and these labels"):
        root = Path(read_recipe(Path(finished.store) / "adapted.toml").task.benchmark.root)
        kind = ["task.kind=ner", f"task.benchmark.root={toml_string(root.parent / 'ner')}"]
        run("foreign", *kind, f"teacher.delta={toml_string(task)}")


def test_a_model_tuned_on_a_task_is_not_adapted(
    run: Runs, limbeck: Call, tiny_data: Path, tmp_path: Path
):
    model = run("plain").artifacts["task"].path("model")
    text = tiny_data / "corpora/aaa.txt"
    command = ["adapt", model, "--language", "x", "--corpus", text, "-o", tmp_path / "d"]
    told = limbeck(*command, "--store", tmp_path / "store")
    assert told.code == 2 and "the checkpoint lacks its head" in told.err


def test_a_model_in_half_precision_is_no_base(
    run: Runs, limbeck: Call, tiny_teacher: Path, tmp_path: Path
):
    half = tmp_path / "half"
    shutil.copytree(tiny_teacher, half)
    tensors = load_file(half / "model.safetensors")
    save_file(
        {name: one.bfloat16() for name, one in tensors.items()},
        half / "model.safetensors",
        metadata={"format": "pt"},
    )
    delta = run("adapted", *SPARSE).artifacts["adapt"].path("aaa.delta.safetensors")
    told = limbeck("delta", "apply", half, delta, "-o", tmp_path / "on")
    assert told.code == 2 and "not stored in float32" in told.err
    told = limbeck("delta", "apply", half, delta, delta, "-o", tmp_path / "on")
    assert told.code == 2 and "a delta is named twice" in told.err


def test_a_switch_does_not_drift_and_fits_a_trimmed_teacher(run: Runs, tiny_teacher: Path):
    deltas = deltas_of(run("adapted", *SPARSE))
    model = load_encoder(tiny_teacher, head="mlm")
    tensors = encoder_tensors(model)
    before = {name: one.detach().clone() for name, one in tensors.items()}
    switch = LanguageSwitch(tensors, deltas)
    assert all(torch.equal(tensors[n], before[n]) for n in before)
    states: dict[str | None, dict[str, torch.Tensor]] = {}
    for language in ("aaa", "bbb", "aaa", None, "bbb", "bbb", "aaa"):
        switch.to(language)
        now = {name: one.detach().clone() for name, one in tensors.items()}
        first = states.setdefault(language, now)
        assert all(torch.equal(first[n], now[n]) for n in now)
    assert all(torch.equal(states[None][n], before[n]) for n in before)
    with pytest.raises(ModelError, match="no delta of this language; found 'xxx'"):
        switch.to("xxx")
    switch.to(None)
    assert all(torch.equal(tensors[n], before[n]) for n in before)

    kept = torch.arange(0, model.config.vocab_size, 3)
    kept = torch.cat([torch.arange(5), kept[kept > 4]]).numpy()
    small = trim_model(model, kept)
    remapped = {one: trim_delta(delta, model, kept) for one, delta in deltas.items()}
    other = LanguageSwitch(encoder_tensors(small), remapped, foreign=True)
    for language in deltas:
        switch.to(language)
        other.to(language)
        expected = encoder_tensors(trim_model(model, kept))
        assert all(torch.equal(one, expected[n]) for n, one in encoder_tensors(small).items())
