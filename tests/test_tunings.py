"""Which parameters a tuning moves: all, few entries, low ranks; how freely, and to what weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from limbeck.architectures import ARCHITECTURES, architecture_of
from limbeck.delta import SparseDelta
from limbeck.errors import RecipeError
from limbeck.parameters import encoder_tensors, head_tensors, linear_layers
from limbeck.sections import Machine, Tuning
from limbeck.sparse import Hold
from limbeck.sparse_tuning import DELTA, TermsOf, both, frozen_names, tune_with
from limbeck.training import Batch, Terms, fit
from limbeck.watch import Budget, Watch
from test_encoder import PIECES, tiny_model

CPU = Machine(device="cpu", precision="fp32", checkpoint_seconds=0.001)


def batches(step: int) -> Batch:
    draw = torch.Generator().manual_seed(step)
    ids = torch.randint(4, PIECES, (4, 10), generator=draw)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids % 2}


def loss(model: PreTrainedModel, batch: Batch) -> Terms:
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    wanted = batch["labels"] if logits.ndim == 3 else batch["labels"][:, 0]
    return {"gold": torch.nn.functional.cross_entropy(logits.flatten(0, -2), wanted.flatten())}


def tuned(
    model: PreTrainedModel, tuning: Tuning, work: Path, *, steps: int = 12, **more: bool
) -> list[dict[str, float]]:
    budget = Budget(steps=steps, learning_rate=1e-2, weight_decay=0.1)

    def run(folder: Path, hold: Hold | None, extra: TermsOf | None) -> list[dict[str, float]]:
        terms = both(loss, extra)
        return fit(model, batches, terms=terms, budget=budget, work=folder, machine=CPU, hold=hold)

    return tune_with(model, run, tuning=tuning, work=work, **more)


def state(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in model.named_parameters()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, int]:
    counts = {name: int((before[name] != after[name]).sum()) for name in before}
    return {name: count for name, count in counts.items() if count}


KINDS = {
    "full": Tuning(),
    "lt-sft": Tuning(kind="lt-sft", entries=50),
    "lora": Tuning(kind="lora", rank=2),
}


@pytest.mark.parametrize("model_type", ["bert", "modernbert", "deberta-v2", "distilbert"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_tuning_moves_what_it_says(kind: str, model_type: str, tmp_path: Path):
    model = tiny_model(model_type, head="tagging")
    names, before = list(dict(model.named_parameters())), state(model)
    inside, layers = set(encoder_tensors(model)), {f"{one}.weight" for one in linear_layers(model)}
    tuned(model, KINDS[kind], tmp_path)
    after = state(model)
    changed = moved(before, after)
    assert list(after) == names and all(one.requires_grad for one in model.parameters())
    heads = set(names) - inside
    assert heads & set(changed), "a head is always tuned"
    if kind == "full":
        assert sum(changed.values()) > 0.5 * sum(one.numel() for one in before.values())
    elif kind == "lt-sft":
        assert 0 < sum(changed.get(name, 0) for name in inside) <= 50
        assert set(SparseDelta.load(tmp_path / DELTA).dense) == set(head_tensors(model))
    else:
        assert set(changed) & inside == layers
        for name in layers:
            values = torch.linalg.svdvals((after[name] - before[name]).double())
            assert values[2:].max() < 1e-5 * values[0], f"{name}: the rank is 2"


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_tuning_ends_with_the_same_weights(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = tiny_model("bert", head="tagging")
    tuned(whole, KINDS[kind], tmp_path / "whole")
    real, broken = Watch.on_step_end, tiny_model("bert", head="tagging")

    def stop(self: Watch, *args: object, **kept: object) -> None:
        real(self, *args, **kept)
        if args[1].global_step == 7 and self.work.name != "full":  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "on_step_end", stop)
        with pytest.raises(KeyboardInterrupt):
            tuned(broken, KINDS[kind], tmp_path / "broken")
    again = tiny_model("bert", head="tagging")
    tuned(again, KINDS[kind], tmp_path / "broken")
    assert not moved(state(whole), state(again))


@pytest.mark.parametrize("kind", ["full", "lt-sft"])
def test_what_is_frozen_does_not_move(kind: str, tmp_path: Path):
    model = tiny_model("bert", head="tagging")
    before = state(model)
    tuning = Tuning(kind=kind, entries=200, freeze=["*LAYERNORM*", "*embeddings*"])  # type: ignore[arg-type]
    tuned(model, tuning, tmp_path)
    changed = moved(before, state(model))
    assert changed and not any("LayerNorm" in one or "embeddings" in one for one in changed)


def test_a_head_that_is_held_is_not_in_the_delta(tmp_path: Path):
    model = tiny_model("bert", head="tagging")
    before = state(model)
    tuned(model, KINDS["lt-sft"], tmp_path, head=False)
    assert set(moved(before, state(model))) <= set(encoder_tensors(model))
    assert not SparseDelta.load(tmp_path / DELTA).dense


def test_a_pull_to_the_start_keeps_the_encoder_nearer_to_it(tmp_path: Path):
    gone = []
    for weight in (0.0, 100.0):
        model = tiny_model("bert", head="tagging")
        before = {name: one.detach().clone() for name, one in encoder_tensors(model).items()}
        history = tuned(model, Tuning(l1=weight), tmp_path / str(weight), steps=40)
        now = encoder_tensors(model)
        gone.append(sum(float((now[n] - before[n]).detach().abs().sum()) for n in before))
        assert all(("l1" in row) == bool(weight) for row in history if "gold" in row)
    assert gone[1] < 0.5 * gone[0]


def test_names_that_freeze_nothing_are_told():
    names = ["encoder.norm.weight", "encoder.q.weight"]
    assert frozen_names(names, ["*Norm*"]) == names[:1]
    with pytest.raises(RecipeError, match=r"nothing is frozen.*found '\*nrm\*'.*encoder.norm"):
        frozen_names(names, ["*nrm*"])


def test_more_entries_than_there_are_is_told(tmp_path: Path):
    with pytest.raises(RecipeError, match="cannot choose so many entries; found 1000000"):
        tuned(tiny_model("bert", head="tagging"), Tuning(kind="lt-sft", entries=10**6), tmp_path)


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_an_encoder_has_the_same_names_under_every_head(model_type: str):
    masked = tiny_model(model_type, head="mlm")
    found = encoder_tensors(masked)
    assert found.keys() == encoder_tensors(tiny_model(model_type, head="tagging")).keys()
    (pieces,) = [name for name in found if name.endswith(architecture_of(masked.config).pieces)]
    outside = {one.data_ptr() for one in head_tensors(masked).values()}
    assert found[pieces].data_ptr() not in outside, "tied embeddings are the encoder's"
