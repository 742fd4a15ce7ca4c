"""Exactly the entries that moved most are chosen, and all others keep their bits."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from limbeck import sparse
from limbeck.delta import apply
from limbeck.errors import ArtifactError, ModelError
from limbeck.parameters import unique_tensors
from limbeck.sparse import Hold, choose, read_sft
from test_encoder import tiny_model

Tensors = dict[str, Tensor]


def model_pair(kind: str) -> tuple[Tensors, Tensors]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"b": (3, 4), "a": (5,), "empty": (0, 2), "c": (2, 2, 2), "one": ()}
    before = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    if kind == "random":
        moves = {n: torch.randn(t.shape, generator=generator) for n, t in before.items()}
    elif kind == "all equal":
        moves = {name: torch.full_like(tensor, -0.5) for name, tensor in before.items()}
        before = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
    elif kind == "few values":
        moves = {
            name: torch.randint(-2, 3, tensor.shape, generator=generator).float()
            for name, tensor in before.items()
        }
        before = {name: torch.ones_like(tensor) for name, tensor in before.items()}
    else:
        moves = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
        moves["a"][1::2] = 1e-30
        moves["c"][0] = -2.0
        before = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
    return before, {name: before[name] + moves[name] for name in before}


def reference(before: Tensors, after: Tensors, count: int) -> dict[str, list[int]]:
    """A stable sort of everything, in the order of names and flat indices."""
    moves = [(after[n].float() - before[n].float()).abs().numpy().ravel() for n in before]
    order = np.argsort(-np.concatenate(moves), kind="stable")[:count]
    edges = np.cumsum([0, *map(len, moves)])
    return {
        name: sorted(int(i - low) for i in order if low <= i < high)
        for name, low, high in zip(before, edges, edges[1:], strict=False)
    }


def as_lists(chosen: Tensors) -> dict[str, list[int]]:
    assert all(indices.dtype == torch.int64 for indices in chosen.values())
    return {name: indices.tolist() for name, indices in chosen.items()}


@pytest.mark.parametrize("at_once", [3, 1 << 22])
@pytest.mark.parametrize("kind", ["random", "all equal", "few values", "partly unmoved"])
def test_exactly_as_many_as_asked_for_are_chosen_and_they_are_the_reference_s(
    kind: str, at_once: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sparse, "_ENTRIES_AT_ONCE", at_once)
    before, after = model_pair(kind)
    for count in range(sum(tensor.numel() for tensor in before.values()) + 1):
        chosen = as_lists(choose(before, after, count))
        assert sum(map(len, chosen.values())) == count
        assert chosen == reference(before, after, count)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_model_chooses_as_the_reference_does(data: st.DataObject):
    number = st.floats(-1e3, 1e3, width=32) | st.sampled_from([0.0, -0.0, 1.0, 1e-45, 3e38])
    before, after = {}, {}
    for name in data.draw(st.permutations(["x", "y", "z"])):
        size = data.draw(st.integers(0, 6))
        both = data.draw(st.lists(number, min_size=2 * size, max_size=2 * size))
        before[name], after[name] = torch.tensor(both[:size]), torch.tensor(both[size:])
    total = sum(tensor.numel() for tensor in before.values())
    count = data.draw(st.integers(0, total))
    assert as_lists(choose(before, after, count)) == reference(before, after, count)


def test_ties_go_to_the_tensor_that_was_named_first():
    before = {"z": torch.zeros(3), "a": torch.zeros(3)}
    after = {"a": torch.tensor([1.0, -1.0, 1.0]), "z": torch.tensor([0.5, -1.0, 1.0])}
    assert as_lists(choose(before, after, 3)) == {"z": [1, 2], "a": [0]}
    assert as_lists(choose(before, after, 5)) == {"z": [1, 2], "a": [0, 1, 2]}


def test_entries_of_other_dtypes_and_layouts_are_ranked_alike():
    before, after = model_pair("random")
    half = {name: tensor.bfloat16() for name, tensor in before.items()}
    tuned = {name: tensor.bfloat16() for name, tensor in after.items()}
    assert as_lists(choose(half, tuned, 9)) == reference(half, tuned, 9)
    turned = {name: tensor.double() for name, tensor in after.items()}
    turned["b"] = turned["b"].T.contiguous().T
    assert as_lists(choose(before, turned, 9)) == reference(before, after, 9)


def test_nothing_of_a_frozen_tensor_is_chosen():
    before, after = model_pair("random")
    rest = {name: before[name] for name in before if name != "b"}
    chosen = as_lists(choose(before, after, 6, frozen=["b"]))
    assert chosen.pop("b") == []
    assert chosen == reference(rest, after, 6)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"count": -1}, "cannot choose so many entries; found -1; expected 0 to 26"),
        ({}, {"count": 27}, "found 27"),
        ({}, {"count": 15, "frozen": ["b"]}, "expected 0 to 14"),
        ({}, {"frozen": ["B"]}, "B: a frozen tensor is not there"),
        ({"a": None}, {}, "a: the tuned model does not fit.*no such tensor"),
        ({"a": torch.zeros(4)}, {}, r"a: .*found \[4\]; expected \[5\]"),
        ({"a": torch.full((5,), torch.inf)}, {}, "a: .*no finite number"),
        ({"a": torch.full((5,), -torch.nan)}, {}, "a: .*no finite number"),
    ],
)
def test_what_cannot_be_chosen_from_is_told(change: Any, options: Any, message: str):
    before, after = model_pair("random")
    changed = {name: t for name, t in (after | change).items() if t is not None}
    with pytest.raises(ModelError, match=message):
        choose(before, changed, options.pop("count", 3), **options)


def test_tied_tensors_are_named_once():
    model = tiny_model("bert")
    named = unique_tensors(model)
    assert list(named) == [name for name, _ in model.named_parameters()]
    tied = nn.Linear(3, 2, bias=False)
    both = nn.ModuleDict({"a": tied, "b": nn.Linear(3, 2, bias=False), "c": nn.Linear(3, 2)})
    both["b"].weight = nn.Parameter(tied.weight.detach())
    assert list(unique_tensors(both)) == ["a.weight", "c.weight", "c.bias"]
    empty = nn.ParameterList([torch.zeros(0), torch.zeros(0)])
    assert list(unique_tensors(empty)) == ["0", "1"]


def net(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU())
    return layers.append(nn.Linear(8, 3)).to(dtype)


OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.3, eps=1e-3),
    "adamw foreach": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.3, foreach=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1, nesterov=True),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_held_entries_keep_their_bits_over_fifty_steps(optimizer: str, dtype: torch.dtype):
    model = net(dtype)
    encoder = {name: p for name, p in unique_tensors(model).items() if not name.startswith("5.")}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    tuned = {name: p + torch.randn_like(p) for name, p in before.items()}
    tuned["0.bias"] = before["0.bias"] + 100
    names = {name: before[name] for name in encoder}
    chosen = choose(names, tuned, 40, frozen=["2.weight"])
    inputs, labels = torch.randn(50, 16, 6, dtype=dtype), torch.randint(0, 3, (50, 16))
    hold = Hold(model, chosen)
    stepper = OPTIMIZERS[optimizer](model.parameters())
    hold.attach(stepper)
    for x, y in zip(inputs, labels, strict=True):
        stepper.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        hold.collect_gradients()
        nn.utils.clip_grad_norm_(hold.moving(model.parameters()), 0.1)
        stepper.step()
    assert hold.violations(model, before) == []
    state = [one for kept in stepper.state.values() for one in kept.values() if one.ndim]
    free = 40 + sum(p.numel() for name, p in model.named_parameters() if name not in chosen)
    assert sum(one.numel() for one in state) in (free, 2 * free), "of what moves alone"
    moved = 0
    for name, parameter in model.named_parameters():
        differs = (parameter != before[name]).view(-1)
        if name in chosen:
            assert not differs[~torch.isin(torch.arange(len(differs)), chosen[name])].any()
            moved += int(differs.sum())
        else:
            assert differs.any(), "a head that is not held must move"
    assert moved > 30
    assert not model.get_parameter("2.weight").requires_grad


def test_chosen_entries_move_as_if_they_alone_were_the_model_s():
    model, other = net(torch.float32), net(torch.float32)
    names = {name: p.detach().clone() for name, p in model.named_parameters()}
    chosen = choose(names, {n: t + torch.randn_like(t) for n, t in names.items()}, 60)
    hold = Hold(model, chosen)
    stepper = OPTIMIZERS["adamw"](model.parameters())
    hold.attach(stepper)
    whole = OPTIMIZERS["adamw"](other.parameters())
    inputs, labels = torch.randn(20, 16, 6), torch.randint(0, 3, (20, 16))
    for x, y in zip(inputs, labels, strict=True):
        for one, steps in ((model, stepper), (other, whole)):
            steps.zero_grad()
            one.zero_grad()
            nn.functional.cross_entropy(one(x), y).backward()
            if one is model:
                hold.collect_gradients()
            steps.step()
        with torch.no_grad():  # What the other's held entries become is put back by hand.
            for name, parameter in other.named_parameters():
                kept = names[name].clone().view(-1)
                kept[chosen[name]] = parameter.view(-1)[chosen[name]]
                parameter.copy_(kept.view(parameter.shape))
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter, other.get_parameter(name), atol=1e-6), name


def test_held_entries_that_moved_are_seen():
    model = net(torch.float32)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    hold = Hold(model, choose(before, {n: t + 1 for n, t in before.items()}, 20))
    assert hold.violations(model, before) == []
    with torch.no_grad():
        model.get_parameter("0.weight").add_(1e-3)
        model.get_parameter("5.bias")[0] = -0.0 * float(model.get_parameter("5.bias")[0])
    assert hold.violations(model, before) == ["0.weight", "5.bias"], "frozen ones are watched too"


def test_an_optimizer_on_its_way_is_refused():
    model = nn.Linear(3, 2)
    stepper = OPTIMIZERS["adamw"](model.parameters())
    model(torch.ones(3)).sum().backward()
    stepper.step()
    with pytest.raises(ModelError, match="has taken a step already"):
        Hold(model, {"weight": torch.tensor([1])}).attach(stepper)


def test_gradients_count_chosen_entries_alone_even_where_others_are_not_finite():
    model = nn.Linear(3, 2)
    hold = Hold(model, {"weight": torch.tensor([1, 4]), "bias": torch.arange(2)})
    model.weight.grad = torch.tensor([[torch.nan, 3.0, 9.0], [torch.inf, 4.0, 9.0]])
    model.bias.grad = torch.zeros(2)
    hold.collect_gradients()
    moving = hold.moving(model.parameters())
    assert [one.grad.tolist() for one in moving if one.grad is not None] == [[3, 4], [0, 0]]
    assert float(nn.utils.clip_grad_norm_(moving, 1.0)) == 5.0
    assert model.weight.grad is None
    hold.collect_gradients()
    assert moving[0].grad is None, "a step that does not reach a tensor does not move it"


def test_parameters_that_do_not_lie_in_order_are_held_too():
    model = nn.Linear(3, 2, bias=False)
    model.weight = nn.Parameter(torch.arange(6.0).view(3, 2).T)
    assert not model.weight.is_contiguous()
    hold = Hold(model, {"weight": torch.tensor([1, 4])})
    before = {"weight": model.weight.detach().clone()}
    stepper = torch.optim.SGD(model.parameters(), lr=1.0)
    hold.attach(stepper)
    model.weight.grad = torch.ones(3, 2).T
    hold.collect_gradients()
    stepper.step()
    assert hold.violations(model, before) == []
    assert model.weight.tolist() == [[0, 1, 4], [1, 2, 5]]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"heft": torch.tensor([0])}, "heft: there is no such parameter"),
        ({"weight": torch.tensor([0, 6])}, "weight: .*found 0 to 6; expected 0 to 5"),
        ({"weight": torch.tensor([-1, 2])}, "weight: .*found -1 to 2"),
    ],
)
def test_a_hold_that_does_not_fit_the_model_is_refused(chosen: Tensors, message: str):
    with pytest.raises(ModelError, match=message):
        Hold(nn.Linear(3, 2), chosen)


def published(tensor: Tensor) -> dict[str, Any]:
    """A difference as composable-sft writes it: steps of indices, first axis fastest."""
    flat = tensor.permute(*reversed(range(tensor.ndim))).reshape(-1)
    at = flat.nonzero().view(-1).numpy()
    steps = np.diff(at).tolist()
    return {
        "size": tensor.size(),
        "index_steps": [at[0], *steps] if at.size else steps,
        "values": flat[torch.from_numpy(at)],
    }


def sft_folder(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "pytorch_diff.bin")
    return folder


def as_older_numpy_wrote_it(path: Path) -> None:
    """Rename numpy's function in the pickle to what it was called before numpy 2."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content.replace(b"numpy._core.multi", b"numpy.core.multi"))


@pytest.mark.parametrize("layout", ["published", "published long ago", "sparse"])
def test_a_published_delta_is_read_and_applied(layout: str, tmp_path: Path):
    generator = torch.Generator().manual_seed(1)
    diffs = {
        name: torch.randn(shape, generator=generator).relu()
        for name, shape in {"w": (3, 5), "v": (7,), "k": (2, 3, 4), "n": (2, 2)}.items()
    }
    diffs["n"] = torch.zeros(2, 2)
    encode = Tensor.to_sparse if layout == "sparse" else published
    content = {"diffs": {n: encode(t) for n, t in diffs.items()}, "abs": {"head": torch.ones(2)}}
    if layout == "published":
        assert isinstance(content["diffs"]["w"]["index_steps"][0], np.integer)
        content["extra"] = 1
    folder = sft_folder(tmp_path, content)
    if layout == "published long ago":
        as_older_numpy_wrote_it(folder / "pytorch_diff.bin")
    delta, notes = read_sft(folder)
    model = {name: torch.zeros_like(t) for name, t in diffs.items()} | {"head": torch.zeros(2)}
    apply(model, delta, foreign=True)
    assert all(torch.equal(model[name], diffs[name]) for name in diffs)
    assert model["head"].tolist() == [1, 1]
    assert "the base is not named" in notes and "dense tensors: head" in notes
    assert ("not read: extra" in notes) is (layout == "published")
    assert delta.base == ""


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this must not run",)


VALUES = {"size": torch.Size([4]), "values": torch.ones(2)}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"diffs": {"w": Code()}}, "print"),
        ({"diffs": {"w": np.ones(2)}}, "numpy"),
        ({"diffs": {"w": torch.ones(2)}}, "layout torch.strided"),
        ({"diffs": {"w": torch.ones(2, 2).to_sparse(1)}}, "layout"),
        ({"diffs": {"w": VALUES | {"index_steps": [1, 0]}}}, "do not rise"),
        ({"diffs": {"w": VALUES | {"index_steps": [1, 7]}}}, "out of bounds"),
        ({"diffs": {"w": VALUES | {"index_steps": [1]}}}, "2 values for 1 entries"),
        ({"diffs": {"w": VALUES | {"index_steps": [np.uint8(1), 1]}}}, "a number of type"),
        ({"diffs": {"w": VALUES | {"index_steps": [1, 1], "values": [1.0]}}}, "list where"),
        ({"diffs": {"w": {"size": [4]}}}, "values"),
        ({"diffs": {}, "abs": {"h": 3}}, "int where a tensor"),
        ({"body": {}}, "diffs"),
        ([1], "list indices"),
    ],
)
def test_a_pickle_that_holds_anything_else_is_refused_in_one_line(
    content: Any, found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(ArtifactError, match=f"pytorch_diff.bin: .*found .*(?:{found})") as told:
        read_sft(sft_folder(tmp_path, content))
    assert "\n" not in str(told.value) and "weights_only" not in str(told.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "content", [None, b"", b"nonsense", pickle.dumps({"diffs": {}}), b"PK\3\4"]
)
def test_a_file_that_torch_did_not_write_is_refused(content: bytes | None, tmp_path: Path):
    if content is not None:
        (tmp_path / "pytorch_diff.bin").write_bytes(content)
    with pytest.raises(ArtifactError, match="no sparse fine-tuning") as told:
        read_sft(tmp_path)
    assert "\n" not in str(told.value)
