"""One training loop: pure batches, resumption bit by bit, the judge, precision, what is written."""

import gc
import io
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from limbeck import training, watch
from limbeck.encoder import base_encoder, layer_states
from limbeck.errors import LimbeckError
from limbeck.losses import gold_cross_entropy
from limbeck.sections import Machine
from limbeck.training import (
    Batch,
    Budget,
    Terms,
    choose_device,
    choose_precision,
    fit,
    should_compile,
)
from test_encoder import tiny_model

STEPS, CLASSES = 12, 3
CPU = torch.device("cpu")
ALWAYS = 1e-9
History = list[dict[str, float]]


def make_model(model_type: str = "bert", head: str = "tagging", **changes: Any) -> PreTrainedModel:
    return tiny_model(model_type, head, num_labels=CLASSES, num_hidden_layers=2, **changes)


def make_batch(step: int) -> Batch:
    draw = torch.Generator().manual_seed(step)
    ids = torch.randint(5, 53, (4, 6), generator=draw)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids % CLASSES}


def make_terms(model: PreTrainedModel, batch: Batch) -> Terms:
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    gold = gold_cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
    return {"gold": gold, "size": logits.square().mean() * 0.01}


def make_judge(model: PreTrainedModel) -> float:
    batch = make_batch(10_000)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return -float(gold_cross_entropy(logits.flatten(0, 1), batch["labels"].flatten()))


def run(
    work: Path,
    model: PreTrainedModel | None = None,
    *,
    batches: Callable[[int], Batch] = make_batch,
    terms: Callable[[PreTrainedModel, Batch], Terms] = make_terms,
    judge: Callable[[PreTrainedModel], float] | None = make_judge,
    steps: int = STEPS,
    evaluations: int = 4,
    every: float = 60.0,
    machine: Machine | None = None,
    **budget: Any,
) -> tuple[PreTrainedModel, History]:
    model = make_model() if model is None else model
    plan = Budget(steps=steps, learning_rate=3e-2, evaluations=evaluations, seed=5, **budget)
    machine = machine or Machine(device="cpu", precision="fp32", checkpoint_seconds=every)
    history = fit(model, batches, terms=terms, budget=plan, work=work, machine=machine, judge=judge)
    return model, history


@pytest.fixture(scope="module", autouse=True)
def few_objects_to_collect() -> Iterator[None]:
    """The Trainer collects garbage at every start, and the tests' imports are many objects."""
    gc.freeze()
    yield
    gc.unfreeze()


@dataclass(frozen=True, slots=True)
class Whole:
    """A run that nothing interrupted."""

    model: PreTrainedModel
    history: History
    best: dict[str, Tensor]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Whole]:
    @cache
    def get(model_type: str = "bert") -> Whole:
        work = tmp_path_factory.mktemp(model_type)
        model, history = run(work, make_model(model_type))
        return Whole(model, history, load_file(work / "best.safetensors"))

    return get


def judged(history: History) -> History:
    return [row for row in history if "judged" in row]


def same(a: PreTrainedModel, b: PreTrainedModel) -> bool:
    other = b.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in a.state_dict().items())


# steps


def test_batches_are_asked_for_in_order_of_the_step(tmp_path: Path) -> None:
    asked: list[int] = []
    run(tmp_path, batches=noting(asked))
    assert asked == list(range(STEPS))


def test_fit_is_adamw_with_linear_warmup_and_decay(tmp_path: Path) -> None:
    still: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model, _ = run(tmp_path, make_model(**still), judge=None, warmup=0.25)
    mine = make_model(**still).train()
    plain = [p for name, p in mine.named_parameters() if "bias" in name or "LayerNorm" in name]
    decayed = [p for p in mine.parameters() if not any(p is other for other in plain)]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}], lr=1.0
    )
    for step in range(STEPS):
        rate = step / 3 if step < 3 else (STEPS - step) / (STEPS - 3)
        for group in optimiser.param_groups:
            group["lr"] = 3e-2 * rate
        torch.stack(list(make_terms(mine, make_batch(step)).values())).sum().backward()
        nn.utils.clip_grad_norm_(mine.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    for name, tensor in mine.state_dict().items():
        # No loss depends on a key's bias: its gradient is rounding noise, which Adam blows up.
        if not name.endswith("key.bias"):
            assert torch.allclose(tensor, model.state_dict()[name], atol=1e-4), name


def test_one_step_is_not_spent_on_warming_up(tmp_path: Path) -> None:
    model, _ = run(tmp_path, judge=None, steps=1)
    assert not same(model, make_model())


def test_the_model_ends_in_eval_mode_and_the_loss_has_fallen(tmp_path: Path) -> None:
    model, history = run(tmp_path, steps=40)
    rows = [row for row in history if "gold" in row]
    assert not model.training
    assert rows[-1]["gold"] < 0.8 * rows[0]["gold"]


def test_the_seed_decides_the_dropout(tmp_path: Path) -> None:
    ways = [fit_with_seed(tmp_path / str(i), seed) for i, seed in enumerate((1, 1, 2))]
    assert same(ways[0], ways[1]) and not same(ways[0], ways[2])


def fit_with_seed(work: Path, seed: int) -> PreTrainedModel:
    model = make_model()
    budget = Budget(steps=3, learning_rate=1e-2, seed=seed)
    fit(model, make_batch, terms=make_terms, budget=budget, work=work, machine=Machine())
    return model


# resuming


class InterruptError(Exception):
    """Stands for a kill."""


def stopping(at: int) -> Callable[[int], Batch]:
    def batches(step: int) -> Batch:
        if step == at:
            raise InterruptError
        return make_batch(step)

    return batches


@pytest.mark.parametrize(
    ("stop", "model_type"), [(2, "bert"), (7, "bert"), (11, "bert"), (8, "modernbert")]
)
def test_an_interrupted_fit_ends_with_the_same_weights(
    tmp_path: Path, whole: Callable[..., Whole], stop: int, model_type: str
) -> None:
    expected = whole(model_type)
    with pytest.raises(InterruptError):
        run(tmp_path, make_model(model_type), batches=stopping(stop), every=ALWAYS)
    asked: list[int] = []
    resumed, history = run(tmp_path, make_model(model_type), batches=noting(asked))
    assert asked and asked[0] >= stop - 1
    assert same(expected.model, resumed)
    assert judged(history) == judged(expected.history)
    best = load_file(tmp_path / "best.safetensors")
    assert best.keys() == expected.best.keys()
    assert all(torch.equal(tensor, best[name]) for name, tensor in expected.best.items())
    assert rates(history) == rates(expected.history)


def noting(asked: list[int]) -> Callable[[int], Batch]:
    def batches(step: int) -> Batch:
        asked.append(step)
        return make_batch(step)

    return batches


def rates(history: History) -> list[tuple[float, float]]:
    return [(row["step"], row["learning_rate"]) for row in history if "gold" in row]


def test_the_last_weights_are_the_same_too(tmp_path: Path) -> None:
    expected, _ = run(tmp_path / "whole", judge=None)
    with pytest.raises(InterruptError):
        run(tmp_path / "cut", judge=None, batches=stopping(7), every=ALWAYS)
    resumed, _ = run(tmp_path / "cut", judge=None)
    assert same(expected, resumed)


CHILD = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_training as t
save = t.torch.save

def dying(what, where, *rest, **named):
    if "checkpoint-8" in str(where) and str(where).endswith("scheduler.pt"):
        os.kill(os.getpid(), signal.SIGKILL)
    save(what, where, *rest, **named)

t.torch.save = dying
t.run(Path({work!r}), every=t.ALWAYS)
"""


def test_a_process_killed_while_it_saves_is_resumed(
    tmp_path: Path, whole: Callable[..., Whole]
) -> None:
    code = CHILD.format(tests=str(Path(__file__).parent), work=str(tmp_path))
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False)
    assert ended.returncode == -9
    assert (tmp_path / "checkpoint-8" / "optimizer.pt").exists()
    resumed, history = run(tmp_path)
    assert same(whole().model, resumed)
    assert judged(history) == judged(whole().history)
    assert not (tmp_path / "checkpoint-8").exists()


def test_torn_checkpoints_are_dropped_and_the_last_whole_one_is_taken(tmp_path: Path) -> None:
    for step, whole in ((5, True), (10, True), (9, False), (100, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if whole:
            (folder / "complete").touch()
    assert training._last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-5"]
    assert training._last_checkpoint(tmp_path / "none") is None


def test_there_is_a_whole_checkpoint_at_any_time_once_one_was_written(tmp_path: Path) -> None:
    seen: list[int] = []

    def terms(model: PreTrainedModel, batch: Batch) -> Terms:
        folders = list(tmp_path.glob("checkpoint-*"))
        seen.append(len(folders))
        assert all((folder / "complete").exists() for folder in folders)
        return make_terms(model, batch)

    run(tmp_path, terms=terms, every=ALWAYS)
    assert seen[0] == 0 and set(seen[2:]) == {2}


def test_no_checkpoint_is_written_before_its_time(tmp_path: Path) -> None:
    run(tmp_path, every=60.0)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_finished_fit_is_not_repeated(tmp_path: Path) -> None:
    first, history = run(tmp_path, every=ALWAYS)

    def never(step: int) -> Batch:
        raise AssertionError(step)

    second, again = run(tmp_path, batches=never)
    assert same(first, second) and again == history


def test_a_checkpoint_is_read_without_running_a_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InterruptError):
        run(tmp_path, batches=stopping(6), every=ALWAYS)
    load, seen = torch.load, []

    def watched(*given: Any, **named: Any) -> Any:
        seen.append(named.get("weights_only"))
        return load(*given, **named)

    monkeypatch.setattr(torch, "load", watched)
    run(tmp_path)
    assert seen and all(seen)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "deberta-v2", "modernbert"])
def test_tied_weights_are_saved_once_and_restored(tmp_path: Path, model_type: str) -> None:
    def terms(model: PreTrainedModel, batch: Batch) -> Terms:
        return {"size": model(input_ids=batch["input_ids"]).logits.square().mean()}

    def falling(model: PreTrainedModel) -> float:
        return 1.0 - len(list(tmp_path.glob("best*")))

    model = make_model(model_type, "mlm")
    run(tmp_path, model, terms=terms, judge=falling, steps=4, evaluations=4, every=ALWAYS)
    saved = load_file(tmp_path / "best.safetensors")
    assert sum(tensor.numel() for tensor in saved.values()) == sum(
        {tensor.data_ptr(): tensor.numel() for tensor in model.state_dict().values()}.values()
    )
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied and saved.keys() < model.state_dict().keys()
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in saved.items())


# the judge


def script(values: list[float]) -> tuple[Callable[[PreTrainedModel], float], list[PreTrainedModel]]:
    """A judge that says these values, and the models that it saw."""
    left, seen = list(values), []

    def judge(model: PreTrainedModel) -> float:
        copy = make_model()
        copy.load_state_dict(model.state_dict())
        seen.append(copy)
        return left.pop(0)

    return judge, seen


@pytest.mark.parametrize(
    ("values", "winner"),
    [
        ([1, 2, 3, 4], 3),
        ([1, 3, 2, 0], 1),
        ([2, 2, 2, 2], 0),
        ([1, 3, 3, 2], 1),
        ([-5, -4, -6, -7], 1),
    ],
)
def test_the_best_weights_are_kept_and_the_earlier_win_ties(
    tmp_path: Path, values: list[float], winner: int
) -> None:
    judge, seen = script(values)
    model, history = run(tmp_path, judge=judge)
    assert same(model, seen[winner])
    assert not any(same(model, other) for other in seen if other is not seen[winner])
    assert [(row["step"], row["judged"]) for row in judged(history)] == list(
        zip((3, 6, 9, 12), values, strict=True)
    )


@pytest.mark.parametrize(
    ("evaluations", "steps"), [(1, [12]), (2, [6, 12]), (5, [3, 5, 8, 10, 12]), (100, range(1, 13))]
)
def test_judgements_are_spread_evenly_and_end_with_the_last_step(
    tmp_path: Path, evaluations: int, steps: list[int]
) -> None:
    _, history = run(tmp_path, judge=lambda model: 0.0, evaluations=evaluations)
    assert [row["step"] for row in judged(history)] == list(steps)


def test_the_judge_sees_no_dropout_and_no_gradient_and_training_goes_on(tmp_path: Path) -> None:
    trained: list[bool] = []

    def terms(model: PreTrainedModel, batch: Batch) -> Terms:
        trained.append(model.training and torch.is_grad_enabled())
        return make_terms(model, batch)

    def judge(model: PreTrainedModel) -> float:
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
        return make_judge(model)

    run(tmp_path, terms=terms, judge=judge)
    assert trained == [True] * STEPS


def test_weights_of_an_earlier_try_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").write_bytes(b"of another try")
    (tmp_path / "metrics.jsonl").write_text('{"step": 3, "judged": 99.0}\n')
    model, history = run(tmp_path, evaluations=1)
    assert len(judged(history)) == 1
    assert same(model, run(tmp_path / "fresh", evaluations=1)[0])


# what is not a number


def broken(at: int, where: str) -> Callable[[PreTrainedModel, Batch], Terms]:
    steps = iter(range(STEPS))

    def terms(model: PreTrainedModel, batch: Batch) -> Terms:
        found = make_terms(model, batch)
        if next(steps) == at:
            if where == "loss":
                return found | {"gold": found["gold"] * float("nan")}
            # Finite, with a gradient that is not: the square root at 0.
            return found | {"size": (found["size"] * 0.0).sqrt()}
        return found

    return terms


def test_a_loss_that_is_not_finite_is_one_line_and_nothing_is_lost(
    tmp_path: Path, whole: Callable[..., Whole]
) -> None:
    with pytest.raises(LimbeckError) as error:
        run(tmp_path, terms=broken(7, "loss"), every=ALWAYS)
    message = str(error.value)
    assert message.startswith("step 7: the loss is not finite; found gold=nan, size=")
    assert "\n" not in message and "machine.precision" in message
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "gold" in row] == [1, 2, 3, 4, 5, 6, 7]
    resumed, _ = run(tmp_path)
    assert same(resumed, whole().model)


def test_broken_weights_never_reach_a_checkpoint(
    tmp_path: Path, whole: Callable[..., Whole]
) -> None:
    with pytest.raises(LimbeckError, match="step 8: a weight is not finite; found .* tensors"):
        run(tmp_path, terms=broken(7, "gradient"), every=ALWAYS)
    resumed, _ = run(tmp_path)
    assert same(resumed, whole().model)


def test_broken_weights_of_the_last_step_are_told(tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match="step 12: a weight is not finite"):
        run(tmp_path, terms=broken(11, "gradient"), judge=None)


def test_a_judgement_that_is_not_finite_is_told(tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match="step 3: a judgement is not finite; found nan"):
        run(tmp_path, judge=lambda model: math.nan)


# machine


def config(model_type: str) -> Any:
    return transformers.AutoConfig.for_model(model_type)


@pytest.mark.parametrize(
    ("wanted", "device", "able", "model_type", "autocast", "reason"),
    [
        ("auto", "cpu", True, "bert", True, "bf16: the CPU has AMX"),
        ("auto", "cpu", False, "bert", False, "fp32: no bf16 units"),
        ("auto", "cuda", True, "bert", True, "bf16: the GPU has units for it"),
        ("auto", "cuda", False, "bert", False, "fp32: no bf16 units"),
        ("auto", "mps", True, "bert", False, "fp32: no bf16 units"),
        ("bf16", "cpu", False, "bert", True, "bf16: asked for"),
        ("fp32", "cuda", True, "bert", False, "fp32: asked for"),
        ("auto", "cuda", True, "deberta-v2", False, "fp32: deberta-v2 gives NaN below it"),
        ("bf16", "cuda", True, "deberta-v2", False, "fp32: deberta-v2 gives NaN below it"),
        ("fp32", "cpu", False, "deberta-v2", False, "fp32: deberta-v2 gives NaN below it"),
    ],
)
def test_the_precision_is_what_machine_and_model_bear(
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    device: str,
    able: bool,
    model_type: str,
    autocast: bool,
    reason: str,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: able)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able)
    found = choose_precision(wanted, torch.device(device), config(model_type))
    assert (found.autocast, found.reason) == (autocast, reason)


@pytest.mark.parametrize(
    ("wanted", "device", "amx", "steps", "expected"),
    [
        ("yes", "cpu", False, 1, True),
        ("no", "cuda", True, 10**6, False),
        ("auto", "cpu", False, 10**6, False),
        ("auto", "cpu", True, 1000, True),
        ("auto", "cpu", True, 999, False),
        ("auto", "cuda", False, 1000, True),
        ("auto", "cuda", False, 999, False),
        ("auto", "mps", False, 10**6, False),
    ],
)
def test_only_long_runs_on_fast_machines_are_compiled(
    monkeypatch: pytest.MonkeyPatch, wanted: str, device: str, amx: bool, steps: int, expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert should_compile(wanted, torch.device(device), steps) is expected


@pytest.mark.parametrize("wanted", ["cuda", "cuda:7", "mps", "xpu", "nonsense", ""])
def test_a_device_that_is_not_there_is_told_in_one_line(wanted: str) -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(LimbeckError, match=f"machine.device: .*found '{wanted}'") as error:
        choose_device(wanted)
    assert "\n" not in str(error.value)


def test_only_the_first_device_of_a_kind_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "empty", lambda *size, device: None)
    assert choose_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(LimbeckError, match="found 'cuda:3'.*CUDA_VISIBLE_DEVICES=3"):
        choose_device("cuda:3")


def test_auto_is_the_fastest_device_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "empty", lambda *size, device: None)
    for cuda, mps, expected in ((1, 1, "cuda"), (0, 1, "mps"), (0, 0, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=cuda: bool(found))
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda found=mps: bool(found))
        assert choose_device("auto").type == expected


def test_bfloat16_reaches_the_bare_encoder_the_teacher_and_the_judge(tmp_path: Path) -> None:
    teacher = make_model()
    seen: list[torch.dtype] = []
    for one in (teacher, model := make_model()):
        one.get_submodule("bert.encoder.layer.1.output.dense").register_forward_hook(
            lambda module, inputs, output: seen.append(output.dtype)
        )

    def formats(model: PreTrainedModel) -> Tensor:
        batch = {name: tensor for name, tensor in make_batch(0).items() if name != "labels"}
        layer_states(teacher, **batch, attention=False)
        return layer_states(model, **batch, attention=False).hidden[-1].float().square().mean()

    run(
        tmp_path,
        model,
        terms=lambda model, batch: {"size": formats(model)},
        judge=lambda model: float(formats(model)),
        steps=2,
        evaluations=1,
        machine=Machine(device="cpu", precision="bf16"),
    )
    assert seen == [torch.bfloat16] * 6


@pytest.mark.parametrize(("precision", "expected"), [("bf16", "eager"), ("fp32", "sdpa")])
def test_attention_is_eager_while_a_cpu_trains_in_bf16(
    tmp_path: Path, precision: Any, expected: str
) -> None:
    model = make_model()
    model.set_attn_implementation("sdpa")
    seen: set[str] = set()

    def terms(model: PreTrainedModel, batch: Batch) -> Terms:
        seen.add(model.config._attn_implementation)
        return make_terms(model, batch)

    machine = Machine(device="cpu", precision=precision)
    run(tmp_path, model, terms=terms, steps=2, machine=machine)
    assert seen == {expected} and model.config._attn_implementation == "sdpa"

    def broken(model: PreTrainedModel, batch: Batch) -> Terms:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        run(tmp_path / "broken", model, terms=broken, steps=2, machine=machine)
    assert model.config._attn_implementation == "sdpa"


def test_training_leaves_neither_precision_nor_compilation_in_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_nothing(self: nn.Module) -> None:
        self._compiled_call_impl = self._call_impl

    monkeypatch.setattr(nn.Module, "compile", compile_nothing)
    compiled: list[bool] = []

    def terms(model: PreTrainedModel, batch: Batch) -> Terms:
        compiled.append(base_encoder(model)._compiled_call_impl is not None)
        return make_terms(model, batch)

    machine = Machine(device="cpu", precision="bf16", compile="yes", checkpoint_seconds=ALWAYS)
    model = make_model()
    names = list(model.state_dict())
    run(tmp_path / "work", model, terms=terms, steps=2, evaluations=1, machine=machine)
    assert compiled == [True, True]
    assert base_encoder(model)._compiled_call_impl is None and "forward" not in vars(model)
    model.save_pretrained(tmp_path / "model")
    saved = load_file(tmp_path / "model" / "model.safetensors")
    checkpoint = load_file(tmp_path / "work" / "checkpoint-2" / "model.safetensors")
    assert sorted(names) == sorted(saved) == sorted(checkpoint)
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    assert same(model, type(model).from_pretrained(tmp_path / "model"))


def test_a_process_with_many_gpus_trains_on_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers.TrainingArguments, "n_gpu", 4)
    arguments = training._arguments(tmp_path, Budget(steps=3, learning_rate=1.0), CPU)
    assert arguments._n_gpu == 1


# what is told


def test_the_metrics_are_rows_of_steps_terms_and_rates(tmp_path: Path) -> None:
    _, history = run(tmp_path, steps=100)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == history
    rows = [row for row in history if "judged" not in row]
    assert [row["step"] for row in rows] == list(range(2, 101, 2))
    for row in rows:
        assert set(row) == {"step", "learning_rate", "gold", "size", "pieces_per_second"}
        assert all(math.isfinite(value) for value in row.values()) and row["pieces_per_second"] > 0
    assert rows[-1]["learning_rate"] == 0.0


def test_a_row_holds_the_mean_of_each_term_since_the_row_before(tmp_path: Path) -> None:
    steps = iter(range(1000))

    def terms(model: PreTrainedModel, batch: Batch) -> Terms:
        return {"step": next(steps) + 0.0 * make_terms(model, batch)["gold"]}

    def rename(model: PreTrainedModel, batch: Batch) -> Terms:
        return {"count": terms(model, batch)["step"]}

    _, history = run(tmp_path, terms=rename, judge=None, steps=100)
    assert [row["count"] for row in history[:3]] == [0.5, 2.5, 4.5]


def test_a_torn_line_of_metrics_is_forgotten(tmp_path: Path, whole: Callable[..., Whole]) -> None:
    with pytest.raises(InterruptError):
        run(tmp_path, batches=stopping(8), every=ALWAYS)
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 8, "lear')
    _, history = run(tmp_path)
    assert judged(history) == judged(whole().history)


def test_rows_after_the_checkpoint_are_written_anew(
    tmp_path: Path, whole: Callable[..., Whole]
) -> None:
    with pytest.raises(InterruptError):
        run(tmp_path, batches=stopping(8), every=ALWAYS)
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 11, "judged": 5.0}\n')
    _, history = run(tmp_path)
    steps = [row["step"] for row in history if "gold" in row]
    assert steps == list(range(1, STEPS + 1))
    assert judged(history) == judged(whole().history)


def test_nothing_is_drawn_where_stderr_is_no_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    run(tmp_path, every=ALWAYS)
    run(tmp_path, every=ALWAYS)
    assert capfd.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    # Not `sys` itself: pytest puts its own stream back between a fixture and its test.
    monkeypatch.setattr(watch, "sys", SimpleNamespace(stderr=stream))
    monkeypatch.setattr(
        watch, "Console", lambda stderr: Console(file=stream, force_terminal=True, width=120)
    )
    return stream


def test_one_bar_shows_name_steps_loss_and_rate(tmp_path: Path, terminal: Terminal) -> None:
    run(tmp_path)
    drawn = terminal.getvalue()
    for part in ("train", "12/12", "loss ", "pieces/s", "left"):
        assert part in drawn


def test_the_bar_counts_the_steps_of_this_process_alone(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InterruptError):
        run(tmp_path, batches=stopping(8), every=ALWAYS)
    update, counted = watch.Progress.update, []

    def watched(self: Any, line: Any, **named: Any) -> None:
        update(self, line, **named)
        counted.append(sum(sample.completed for sample in self.tasks[0]._progress))

    monkeypatch.setattr(watch.Progress, "update", watched)
    run(tmp_path)
    assert max(counted) <= STEPS - 7


def test_the_bar_is_put_away_when_training_fails(tmp_path: Path, terminal: Terminal) -> None:
    with pytest.raises(LimbeckError):
        run(tmp_path, terms=broken(2, "loss"))
    assert terminal.getvalue().endswith("\x1b[?25h")
