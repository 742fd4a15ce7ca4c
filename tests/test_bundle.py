"""Bundles: what torch answers, without torch; damaged ones and strange input are told."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import limbeck as package
from conftest import Finished, Told
from limbeck import backends, candidates, pipeline, rounding
from limbeck import export as exporting
from limbeck.answering import TaskModel, outputs_by
from limbeck.architectures import ARCHITECTURES
from limbeck.artifact import Store, file_hash, write_json
from limbeck.backends import is_installed, session
from limbeck.bench import Latency
from limbeck.benchmarks import load_file
from limbeck.bundle import RECORD, _digest, card, read_bundle
from limbeck.encoder import load_encoder
from limbeck.errors import ArtifactError, DataError, ExportError, RecipeError
from limbeck.export import export
from limbeck.finetune import outputs_of, task_model
from limbeck.gates import Gate, fall, is_open
from limbeck.judge import load_task_model
from limbeck.recipe import read_recipe
from limbeck.report import write_report
from limbeck.rounding import copied, matrices, quantized
from limbeck.runtime import Predictor, load
from limbeck.tasks import TASKS
from limbeck.tasks.classification import LabelledText
from limbeck.tasks.windows import Window
from limbeck.tracing import inputs_of, to_onnx
from test_encoder import PIECES, shallow_model

Call = Callable[..., Told]

# Not `importorskip`: imported by anything but limbeck, it tells its makers so.
needs_openvino = pytest.mark.skipif(not is_installed("openvino"), reason="needs limbeck[openvino]")

STRANGE = ["", " ", "🙂 🙃", "שלום עולם", "a\0b", "e\u0301 ẹ́", "\u200f\u202eabc", "x" * 5000]


@pytest.fixture(scope="module", autouse=True)
def traced_once() -> Iterator[None]:
    """Trace a model once, which takes seconds: the same weights give the same graph."""
    made: dict[str, onnx.ModelProto] = {}

    def remembered(model: Any, *, head: str, windows: Sequence[Window]) -> onnx.ModelProto:
        weights = b"".join(one.numpy().tobytes() for one in model.state_dict().values())
        told = f"{head} {model.config._attn_implementation} {model.config.to_json_string()}"
        place = hashlib.sha256(told.encode() + weights).hexdigest()
        if place not in made:
            made[place] = to_onnx(model, head=head, windows=windows)
        return copied(made[place])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "to_onnx", remembered)
        yield


@pytest.fixture(scope="module")
def model(finished: Finished) -> Path:
    (one,) = Store(finished.store).artifacts("task")
    return one.folder / "model"


@pytest.fixture(scope="module")
def dev(tiny_data: Path) -> Path:
    return tiny_data / "pos/aaa/dev.txt"


@pytest.fixture(scope="module")
def bundle(model: Path, dev: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from limbeck.shipping import ship

    folder = tmp_path_factory.mktemp("bundle") / "pos.limbeck"
    ship(str(model), folder, dev=dev, language="aaa", tolerance=0.05)
    return folder


@pytest.fixture
def unpacked(bundle: Path, tmp_path: Path) -> Path:
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Predictor:
    return load(bundle)


def test_a_bundle_answers_as_its_model_by_the_command_line(
    model: Path, bundle: Path, tiny_data: Path, limbeck: Call, tmp_path: Path
):
    whole = tmp_path / "whole"
    told = limbeck("export", model, "-o", whole, "--no-int8", "--json")
    assert told.code == 0, told.err
    found = json.loads(told.out)
    assert found["precision"] == "fp32" and found["agreement"] == 1.0 and found["sentences"] > 0
    file = tiny_data / "pos/bbb/test.txt"
    scores = [
        json.loads(limbeck("evaluate", one, "--task", "pos", "--file", file, "--json").out)
        for one in (model, whole, bundle)
    ]
    assert scores[0] == scores[1], "to the digit"
    assert scores[2]["metrics"]["accuracy"] == pytest.approx(
        scores[0]["metrics"]["accuracy"], abs=0.1
    )
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(["Ab cd.", "", "ef"]), encoding="utf-8")
    first, second = (limbeck("predict", one, lines).out for one in (model, whole))
    assert first == second and len(first.splitlines()) == 3
    assert "this is a bundle already" in limbeck("export", bundle, "-o", tmp_path / "x").err
    assert "is not empty" in limbeck("export", model, "-o", whole).err
    copied = tmp_path / "copy"
    copied.mkdir()
    for path in model.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    told = limbeck("export", copied, "-o", tmp_path / "y")
    assert told.code == 2 and "no text to try the bundle on" in told.err


def test_a_bundle_is_asked_without_torch(bundle: Path):
    code = f"""
import sys, limbeck
found = limbeck.load({str(bundle)!r}).predict(["Ab cd.", "", {{"words": ["ef"]}}])
assert [len(one["labels"]) for one in found] == [3, 0, 1], found
assert not {{"torch", "transformers", "onnx"}} & set(sys.modules)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_the_record_and_the_card_say_what_it_is(bundle: Path):
    about, files = read_bundle(bundle)
    assert (about.task, about.precision) == ("pos", "int8") and about.inputs[0] == "input_ids"
    told = about.scores["int8"]
    assert told["metric"] == "accuracy" and told["n"] == 24 and told["fall"] <= 0.05
    page = files["README.md"].decode()
    assert "In 8 bits accuracy is" in page and ", ".join(about.labels) in page
    assert "of them makes" not in page
    told |= {"tolerance": 0.005, "fall": 0.0143, "but_for_one": 0.0}
    let_through = card(replace(about, scores={**about.scores, "int8": told}))
    assert "(n = 24; 0.93 more than the 0.50 allowed, which is no more than one" in let_through
    assert package.load is load
    with pytest.raises(AttributeError, match="no attribute 'unload'"):
        package.unload  # noqa: B018


def test_answers_do_not_hang_on_what_stands_beside_them(predictor: Predictor):
    texts = ["Ab cd ef.", "gh", "Ij kl mn op qr st uv wx yz. " * 9, *STRANGE]
    alone = [predictor.predict([text])[0] for text in texts]
    assert predictor.predict(texts) == alone
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda text: predictor.predict([text])[0], texts * 4)) == alone * 4


def test_texts_are_read_at_once_where_a_model_is_small(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[tuple[int, str]] = []

    def noted(*given: Any, threads: int, **named: Any) -> Any:
        run = session(*given, threads=threads, **named)

        def told(batch: Any) -> Any:
            asked.append((threads, threading.current_thread().name))
            return run(batch)

        return told

    monkeypatch.setattr(backends, "session", noted)
    texts = ["Ab cd ef.", "gh", "Ij kl mn op.", *STRANGE]
    expected = load(bundle, threads=1).predict(texts)
    assert {name for _, name in asked} == {"MainThread"}
    asked.clear()
    assert load(bundle, threads=2).predict(texts) == expected
    assert all(number == 1 and name != "MainThread" for number, name in asked)
    asked.clear()
    load(bundle, threads=2).predict(texts[:1])
    assert asked == [(1, "MainThread")], "one text needs no other thread"
    asked.clear()
    monkeypatch.setattr(backends, "TOGETHER", 0)
    assert load(bundle, threads=2).predict(texts[:1]) == expected[:1]
    assert asked == [(2, "MainThread")], "a long one is read by all"
    asked.clear()
    monkeypatch.setattr(backends, "SMALL", 0)
    assert load(bundle, threads=2).predict(texts) == expected
    assert set(asked) == {(2, "MainThread")}


LATE = """
import sys, threading, limbeck
model = limbeck.load(sys.argv[1], threads=2)
texts = ["Ab cd.", "ef", "Gh ij kl."]
expected = model.predict(texts)

def late():
    threading.main_thread().join()
    print(model.predict(texts) == expected)

threading.Thread(target=late).start()
"""
FORKED = """
import os, sys, limbeck
model = limbeck.load(sys.argv[1], threads=2)
texts = ["Ab cd.", "ef", "Gh ij kl."]
expected = model.predict(texts)
if os.fork() == 0:  # as a server does that loads before it forks
    os._exit(0 if model.predict(texts) == expected else 1)
print(os.wait()[1] == 0)
"""


@pytest.mark.parametrize(
    "code", [LATE, pytest.param(FORKED, marks=pytest.mark.slow)], ids=["late", "forked"]
)
def test_several_texts_are_answered_while_a_process_ends_and_in_a_fork(bundle: Path, code: str):
    # Told so, tokenizers keeps its own threads in a fork too, where there are none of them.
    free = {name: one for name, one in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    ended = subprocess.run(
        [sys.executable, "-c", code, str(bundle)],
        capture_output=True,
        text=True,
        timeout=120,
        env=free,
    )
    assert ended.stdout == "True\n", ended.stderr


def test_a_number_of_threads_below_zero_is_told(bundle: Path):
    with pytest.raises(RecipeError, match="no number of threads; found -1"):
        load(bundle, threads=-1)


def test_strange_text_is_answered_with_places_in_it(predictor: Predictor):
    for text in STRANGE:
        (found,) = predictor.predict([text])
        for word, (start, stop) in zip(found["words"], found.get("places", []), strict=True):
            assert text[start:stop] == word
        assert len(found["labels"]) == len(found["words"])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("Ab cd", "is one text; found 'Ab cd'; expected a list"),
        ([5], "input 0: is neither a text nor an object; found int"),
        ({"text": "Ab"}, "is one object; found 'text'; expected a list"),
        (["a", {"words": {1}}], "input 1: the field words is no list of texts; found set"),
        ([{"words": [["a"], 1]}], "found a list of int, list"),
        ([{"word": []}], "input 0: the field text is no text"),
    ],
)
def test_what_cannot_be_asked_is_told(predictor: Predictor, inputs: Any, message: str):
    with pytest.raises(DataError, match=message):
        predictor.predict(inputs)


@pytest.mark.parametrize(
    "text", ['{"quoted" she said}', '{"text": "x"}', "\ufeffab cd", "ab\ncd \r\n"]
)
def test_a_text_is_a_text_whatever_it_looks_like(predictor: Predictor, text: str):
    (found,) = predictor.predict([text])
    assert found["text"] == text
    assert [text[start:stop] for start, stop in found["places"]] == found["words"]
    assert "".join(found["words"]) == "".join(text.split())


def test_a_recipe_s_bundle_is_scored_beside_the_rest(finished: Finished, kept_store: Path):
    recipe = read_recipe(finished.recipe, ["export.tolerance=0.2"])
    told = pipeline.run(recipe, Store(kept_store), name="shipped").to_dict()
    rows = told["scores"]
    assert list(rows["student, bundle"]) == ["aaa", "bbb"]
    values = [rows[one]["bbb"]["metrics"]["accuracy"] for one in ("student", "student, bundle")]
    assert values[0] == pytest.approx(values[1], abs=0.2)
    assert told["speed"]["student, bundle"]["p50_ms"] > 0
    made = Path(told["artifacts"]["export"]) / "bundle"
    about, _ = read_bundle(made)
    assert about.languages == ("aaa", "bbb") and about.scores["int8"]["metric"] == "accuracy"
    write_report("shipped", kept_store, kept_store / "report.html")
    assert "student, bundle" in (kept_store / "report.html").read_text(encoding="utf-8")


def test_a_bundle_that_8_bits_would_break_is_made_in_32(
    finished: Finished, kept_store: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(exporting, "fall", lambda *_: {
        "metric": "x", "fall": 1.0, "but_for_one": 1.0, "int8": 0.0, "fp32": 1.0, "n": 1
    })  # fmt: skip
    monkeypatch.setattr(exporting, "_by_damage", lambda *_: [])
    recipe = read_recipe(finished.recipe, ["export.int8=true"])
    made = pipeline.run(recipe, Store(kept_store), until="export").artifacts
    told = made["export"].manifest.metrics
    assert told["precision"] == "fp32" and "loses too much" in told["refused_int8"]
    assert set(made) == {"corpus", "vocabulary", "teacher", "student", "general", "task", "export"}


def test_a_line_that_is_no_utf8_and_a_very_long_one(bundle: Path, limbeck: Call, tmp_path: Path):
    file = tmp_path / "lines.txt"
    file.write_bytes(b"fine\n\xff\n")
    told = limbeck("predict", bundle, file)
    assert told.code == 2 and f"{file}:2: the line is not UTF-8" in told.err
    assert json.loads(told.out)["words"] == ["fine"], "what came before it is answered"
    deep = "[" * 100_000
    file.write_text(f'fine\n{{"words": {deep}\n', encoding="utf-8")
    told = limbeck("predict", bundle, file)
    assert told.code == 2 and f"{file}:2: is no JSON; found nested too deeply" in told.err
    file.write_text("ab cd " * 1000, encoding="utf-8")
    told = limbeck("predict", bundle, file)
    assert told.code == 0 and len(json.loads(told.out)["labels"]) == 2000


def rewritten(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / RECORD).read_text())
    record["sha256"] = {name: file_hash(folder / name) for name in record["sha256"]}
    record |= changes
    write_json(folder / RECORD, record | {"record": _digest(record)})


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit": (
        lambda one: (one / "model.onnx").write_bytes((one / "model.onnx").read_bytes()[:-1] + b"x"),
        "model.onnx: the bundle is damaged: a file has another checksum",
    ),
    "a file": (lambda one: (one / "tokenizer.json").unlink(), "missing.*no tokenizer.json"),
    "no record": (lambda one: (one / RECORD).write_text("{"), "record cannot be read"),
    "an older than the first": (lambda one: rewritten(one, format=-1), "cannot be read; found -1"),
    "a field": (lambda one: rewritten(one, colour="red"), "not as limbeck writes it.*field colour"),
    "a kind": (lambda one: rewritten(one, labels=None), "labels is of another kind"),
    "a list": (lambda one: rewritten(one, inputs=[1]), "inputs is of another kind"),
    "sums": (lambda one: rewritten(one, sha256=None), "another checksum"),
    "newer": (lambda one: rewritten(one, format=99), "newer limbeck's.*format 99.*upgrade"),
    "a letter": (
        lambda one: (one / RECORD).write_text((one / RECORD).read_text().replace("NOUN", "NOON")),
        "limbeck.json: the bundle is damaged",
    ),
    "a task": (lambda one: rewritten(one, task="chess"), "does not know.*chess"),
    "a backend": (
        lambda one: rewritten(one, backend="abacus"),
        "run by what this limbeck does not know; found abacus.*upgrade limbeck",
    ),
    "a graph": (
        lambda one: [(one / "model.onnx").write_bytes(b"no graph"), rewritten(one)],
        "graph cannot be run",
    ),
    "a tokenizer": (
        lambda one: [(one / "tokenizer.json").write_text("{}"), rewritten(one)],
        "tokenizer cannot be read",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_bundle_is_refused(kind: str, unpacked: Path):
    spoil, message = DAMAGE[kind]
    spoil(unpacked)
    with pytest.raises(ArtifactError, match=message):
        load(unpacked)


def test_an_archive_that_is_none_or_holds_more_is_refused(bundle: Path, tmp_path: Path):
    with pytest.raises(ArtifactError, match="no such bundle"):
        load(tmp_path / "nowhere")
    (tmp_path / "text.limbeck").write_text("no zip")
    with pytest.raises(ArtifactError, match="not a readable zip archive"):
        load(tmp_path / "text.limbeck")
    other = tmp_path / "other.limbeck"
    other.write_bytes(bundle.read_bytes())
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr("../outside", "x")
    with pytest.raises(ArtifactError, match=r"holds a file that no bundle holds.*'\.\./outside'"):
        load(other)
    with zipfile.ZipFile(bundle) as archive:
        record = archive.read(RECORD)
    with zipfile.ZipFile(tmp_path / "less.limbeck", "w") as archive:
        archive.writestr(RECORD, record)
    with pytest.raises(ArtifactError, match=r"missing.*no model\.onnx"):
        load(tmp_path / "less.limbeck")
    with zipfile.ZipFile(tmp_path / "swollen.limbeck", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(RECORD, record)
        archive.writestr("model.onnx", bytes(1 << 24))
    with pytest.raises(ArtifactError, match=r"model\.onnx would unpack to 16,777,216 bytes"):
        load(tmp_path / "swollen.limbeck")
    torn = tmp_path / "torn.limbeck"
    content = bytearray(bundle.read_bytes())
    content[2000:2100] = bytes(100)
    torn.write_bytes(content)
    with pytest.raises(ArtifactError):
        load(torn)


def test_a_newer_archive_may_hold_more_and_is_told_as_newer(unpacked: Path, tmp_path: Path):
    rewritten(unpacked, format=99)
    with zipfile.ZipFile(tmp_path / "newer.limbeck", "w") as archive:
        for one in unpacked.iterdir():
            archive.write(one, one.name)
        archive.writestr("head.onnx", "x")
    with pytest.raises(ArtifactError, match="newer limbeck's.*upgrade"):
        load(tmp_path / "newer.limbeck")


def test_what_was_to_be_a_bundle_is_told_as_one(
    bundle: Path, unpacked: Path, limbeck: Call, tmp_path: Path
):
    (unpacked / RECORD).unlink()
    named = tmp_path / "named.zip"
    named.write_bytes(bundle.read_bytes())
    lines = tmp_path / "lines.txt"
    lines.write_text("ab\n")
    assert "no limbeck.json" in limbeck("predict", unpacked, lines).err
    assert "no such bundle" in limbeck("predict", tmp_path / "nowhere.limbeck", lines).err
    assert limbeck("predict", named, lines).code == 0


@pytest.mark.parametrize(
    ("fall_of", "but_for_one", "tolerance", "expected"),
    [
        (1 - 199 / 200, 1 - 199 / 200, 0.005, True),  # a fall of the tolerance, but for rounding
        (0.006, 0.004, 0.005, True),
        (0.006, 0.0055, 0.005, False),
        (0.06, 0.0, 0.005, False),
        (0.06, 0.06, 0.06, True),
        (0.001, 0.0, 0.0, False),
        (-0.1, -0.1, 0.0, True),
    ],
)
def test_a_tolerance_is_rounded_up_to_a_whole_example(
    fall_of: float, but_for_one: float, tolerance: float, expected: bool
):
    assert is_open({"fall": fall_of, "but_for_one": but_for_one}, tolerance) is expected


@pytest.fixture(scope="module")
def gate(model: Path, dev: Path) -> Gate:
    asked = load_task_model(model)
    found = load_file(dev, task="pos", labels=asked.labels, language="aaa").examples
    return Gate(found[:8], found)


def asked_of(loaded: Any, model: Path) -> TaskModel:
    told = load_task_model(model)
    return task_model(
        loaded, told.tokenizer, task=told.task, labels=told.labels, max_pieces=told.max_pieces
    )


@pytest.mark.parametrize("quantization", ["dynamic", "static"])
def test_a_matrix_that_8_bits_would_break_stays_in_32(model: Path, gate: Gate, quantization: str):
    loaded = load_encoder(model, head="tagging", attention="sdpa")
    layer: Any = loaded.get_submodule("model.layers.0")
    with torch.no_grad():
        # A norm's outputs, its weights taken off, add up to nothing, so in 32 bits nothing has
        # changed; in 8 all that the matrix had is less than one of its steps.
        layer.mlp.Wi.weight += 1e3 / layer.mlp_norm.weight
    asked = asked_of(loaded, model)
    tried = Gate(gate.labelled)
    made = export(loaded, asked, tried, int8=True, tolerance=0.02, quantization=quantization)
    found = made.found["int8"]
    assert found["metric"] == "agreement with 32 bits" and found["n"] == 24
    assert found["fall"] <= 0.02 and made.precision == "int8"
    assert {"model.layers.0.mlp.Wi", "classifier"} <= set(found["kept"]), "the head is small"
    assert found["quantization"] == quantization


def test_a_table_that_8_bits_would_break_stays_in_32(
    model: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
):
    def broken(graph: onnx.ModelProto, names: Sequence[str]) -> None:
        for one in graph.graph.initializer:
            if one.name in names:
                nothing = np.zeros(tuple(one.dims), dtype=np.float32)
                one.CopyFrom(onnx.numpy_helper.from_array(nothing, one.name))

    monkeypatch.setattr(rounding, "LARGE_ENTRIES", 1000)
    monkeypatch.setattr(rounding, "_shorten_tables", broken)
    loaded = load_encoder(model, head="tagging", attention="sdpa")
    made = export(loaded, asked_of(loaded, model), Gate(gate.labelled), int8=True, tolerance=0.1)
    told = made.found["int8"]
    assert made.precision == "int8" and told["fall"] <= 0.1
    assert any(name.endswith("tok_embeddings.weight") for name in told["kept"]), told["kept"]


@pytest.mark.parametrize(("worse", "better", "least"), [(1, 0, 0.0), (2, 0, 0.05), (3, 2, 0.0)])
def test_what_one_example_makes_is_no_fall(worse: int, better: int, least: float):
    task = TASKS["topics"]
    examples = [LabelledText(f"text {n}", label="ab"[n % 2]) for n in range(21)]
    gold = [one.label for one in examples]
    turned = {"a": "b", "b": "a"}
    before = [turned[one] if n < better else one for n, one in enumerate(gold)]
    after = [turned[one] if n >= 21 - worse else one for n, one in enumerate(gold)]
    told = fall(task, before, after, Gate(examples, examples))
    assert told["fall"] > 0.04 and told["but_for_one"] == pytest.approx(least, abs=0.01)
    alike = fall(task, before, after, Gate(examples))
    assert alike["but_for_one"] == alike["fall"] == pytest.approx((worse + better) / 21)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Give a table of milliseconds by candidate that the clock shows; others take a second."""
    shown: dict[str, float] = {}

    def latency(systems: Any, inputs: Any, **_: int) -> dict[str, Latency]:
        for answer in systems.values():
            answer(inputs[0])
        return {name: Latency(shown.get(name, 1000.0), 0, 0, len(inputs)) for name in systems}

    monkeypatch.setattr(exporting, "latency", latency)
    return shown


@needs_openvino
def test_the_fastest_candidate_that_passes_is_written(
    model: Path, dev: Path, timed: dict[str, float], limbeck: Call, tmp_path: Path
):
    timed |= {"openvino, static": 2.0, "onnxruntime, dynamic": 3.0}
    output = tmp_path / "auto.limbeck"
    told = limbeck(
        "export", model, "-o", output, "--backend", "auto", "--tolerance", 9, "--dev", dev
    )
    assert told.code == 0, told.err
    assert "int8, run by openvino" in told.out
    assert "tried: openvino, static: 2.00 ms a sentence (median of 57), accuracy " in told.out
    about, files = read_bundle(output)
    assert about.backend == "openvino" and set(about.versions) == {"limbeck", "torch", "openvino"}
    assert [one["p50_ms"] for one in about.scores["tried"]] == [3.0, 1000.0, 2.0]
    assert about.scores["int8"]["quantization"] == "static"
    assert files["README.md"].decode().count("- Tried: ") == 3
    texts = ["Ab cd.", *STRANGE]
    found = [load(output, backend=one).predict(texts) for one in (None, "openvino", "onnxruntime")]
    assert found[0] == found[1] and len(found[2]) == len(texts)


def test_a_candidate_that_fails_is_told_and_the_next_is_taken(
    model: Path, gate: Gate, timed: dict[str, float], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(candidates, "is_installed", lambda name: name == "onnxruntime")
    timed["onnxruntime, dynamic"] = 1.0
    loaded = load_encoder(model, head="tagging", attention="sdpa")
    asked, judge = asked_of(loaded, model), exporting._tried

    def strict(traced: Any, made_as: Any, *rest: Any, **named: Any) -> Any:
        if made_as.quantization in refused:
            raise ExportError("too strange")
        return judge(traced, made_as, *rest, **named)

    refused = {"dynamic"}
    monkeypatch.setattr(exporting, "_tried", strict)
    made = export(loaded, asked, gate, int8=True, tolerance=0.2, backend="auto")
    assert made.made_as == candidates.Candidate("onnxruntime", "static")
    first, second = made.found["tried"]
    assert first["refused"] == "too strange" and "p50_ms" not in first
    assert second["p50_ms"] == 1000.0 and second["metric"] == "accuracy"
    refused.add("static")
    with pytest.raises(ExportError, match="no candidate passes.*dynamic: too strange; .*static: "):
        export(loaded, asked, gate, int8=True, backend="auto")


def test_a_choice_that_cannot_be_is_told(
    model: Path, limbeck: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    told = limbeck("export", model, "-o", tmp_path / "x", "--backend", "abacus")
    assert told.code == 2 and "no such way to make a bundle; found backend abacus" in told.err
    monkeypatch.setitem(sys.modules, "openvino", None)
    told = limbeck("export", model, "-o", tmp_path / "x", "--backend", "openvino")
    assert told.code == 2 and "not installed; found no openvino; pip install" in told.err


@needs_openvino
def test_a_bundle_can_be_run_by_another_backend(bundle: Path, predictor: Predictor):
    texts = ["Ab cd ef.", "gh", "Ij kl mn op."]
    other = load(bundle, backend="openvino", threads=1)
    assert other.about.backend == "onnxruntime"
    assert [len(one["labels"]) for one in other.predict(texts)] == [4, 1, 5]
    with pytest.raises(RecipeError, match="no such backend; found 'abacus'; expected one of: onnx"):
        load(bundle, backend="abacus")


def test_a_bundle_from_before_there_were_backends_is_run_by_onnxruntime(
    unpacked: Path, predictor: Predictor
):
    record = json.loads((unpacked / RECORD).read_text())
    del record["backend"], record["record"]
    record["format"] = 1
    write_json(unpacked / RECORD, record | {"record": _digest(record)})
    old = load(unpacked)
    assert old.about.backend == "onnxruntime"
    assert old.predict(["Ab cd."]) == predictor.predict(["Ab cd."])


def test_gates_that_do_not_open_are_told(model: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch):
    loaded = load_encoder(model, head="tagging", attention="sdpa")
    asked = asked_of(loaded, model)
    with pytest.raises(ExportError, match=r"in 8 bits the model loses too much.*--no-int8"):
        export(loaded, asked, gate, int8=True, tolerance=-1.0)
    other = load_encoder(model, head="tagging", attention="sdpa")
    with torch.no_grad():
        other.classifier.weight.neg_()
    with pytest.raises(ExportError, match="does not answer as torch does.*% of the answers agree"):
        export(other, asked, gate, int8=False)
    monkeypatch.setattr(exporting, "to_onnx", to_onnx)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: 1 / 0)
    with pytest.raises(ExportError, match="modernbert with this head cannot be exported"):
        export(loaded, asked, gate, int8=False)


def test_rounded_tables_are_as_near_as_8_bits_are():
    loaded = shallow_model("bert", "tagging", vocab_size=9000)
    graph = to_onnx(loaded, head="tagging", windows=[window(5), window(9)])
    small = quantized(graph, keep=matrices(graph))
    assert not any(node.op_type == "MatMulInteger" for node in small.graph.node)
    assert small.ByteSize() < graph.ByteSize() - 9000 * 8 * 2
    names = inputs_of(loaded, "tagging")
    exact, rounded = (
        outputs_by(session(one.SerializeToString(), names), [window(12)], head="tagging", pad_id=3)
        for one in (graph, small)
    )
    assert 0 < np.abs(exact[0] - rounded[0]).max() < 0.05


def window(pieces: int) -> Window:
    ids = np.random.default_rng(pieces).integers(4, PIECES, pieces)
    words = np.arange(1, pieces - 1)
    return Window(0, ids, {"firsts": words, "lasts": words})


def test_products_are_named_after_their_modules():
    loaded = shallow_model("bert", "tagging")
    graph = to_onnx(loaded, head="tagging", windows=[window(5), window(9)])
    names = matrices(graph)
    assert "classifier" in names and "bert.encoder.layer.0.attention.self.query" in names
    assert not any(name.startswith("node_") for name in names)
    twice = to_onnx(
        shallow_model("deberta-v2", "tagging"), head="tagging", windows=[window(5), window(9)]
    )
    assert len({node.name for node in twice.graph.node}) == len(twice.graph.node)


def test_a_graph_does_not_tell_where_it_was_made(unpacked: Path):
    graph = (unpacked / "model.onnx").read_bytes()
    assert b".py" not in graph and b"stack_trace" not in graph


EVERY = list(product(sorted(ARCHITECTURES), ("tagging", "text", "span", "tree")))
OFTEN = {("modernbert", "tree"), ("xlm-roberta", "span"), ("bert", "text")}
OFTEN |= {("deberta-v2", "tagging")}


@pytest.mark.parametrize(
    ("model_type", "head"),
    [pytest.param(*one, marks=() if one in OFTEN else pytest.mark.slow) for one in EVERY],
)
def test_every_architecture_gives_in_a_graph_what_it_gives_in_torch(model_type: str, head: str):
    loaded = shallow_model(model_type, head)
    graph = to_onnx(loaded, head=head, windows=[window(5), window(9)])
    asked = [window(3), window(17), window(8), replace(window(8), example=1)]
    run = session(graph.SerializeToString(), inputs_of(loaded, head))
    pad = loaded.config.pad_token_id or 0
    found = outputs_by(run, asked, head=head, pad_id=pad)
    for one, other in zip(outputs_of(loaded, asked, head=head), found, strict=True):
        assert one.shape == other.shape and np.allclose(one, other, atol=1e-4)


def test_a_bench_sets_a_bundle_beside_its_model(
    bundle: Path, model: Path, tiny_data: Path, limbeck: Call, monkeypatch: pytest.MonkeyPatch
):
    from limbeck import race

    limits = {"fp32_flops": 1e9, "bf16_flops": 1e9, "int8_flops": 1e9, "memory_bytes": 1e9}
    monkeypatch.setattr(race, "_STARTS", 1)
    monkeypatch.setattr(race, "_ROUNDS", 1)
    monkeypatch.setattr(race, "ceilings", lambda threads: limits)
    assert race.texts_beside(model), "of the store"
    arguments = ("bench", bundle, "--vs", model, "--sentences", 4, "--threads", 1)
    told = limbeck(*arguments, "--text", tiny_data / "corpora/bbb.txt", "--json")
    assert told.code == 0, told.err
    found = json.loads(told.out)
    shipped, whole = found["systems"].values()
    assert (shipped["backend"], shipped["precision"]) == ("onnxruntime", "int8")
    assert (whole["backend"], whole["precision"], whole["n"]) == ("torch", "fp32", 4)
    assert shipped["parameters"] == whole["parameters"] > 0
    assert shipped["flops_per_word"] == whole["flops_per_word"] > 0
    assert shipped["peak_memory_bytes"] < whole["peak_memory_bytes"]
    assert shipped["share"]["compute"] > 0 and found["machine"]["ceilings"]["1"] == limits
    lines = tiny_data / "corpora/bbb.txt"
    told = limbeck(*arguments[:2], "--backend", "onnxruntime", *arguments[4:], "--text", lines)
    assert told.code == 0 and f"{bundle.name}, onnxruntime" in told.out, told.err
    assert "soonest" not in told.out, "there is no other"
    told = limbeck("bench", bundle)
    assert told.code == 2 and "name a file with --text" in told.err
