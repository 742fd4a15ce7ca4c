"""Deltas add, scale, move to a trimmed vocabulary, and come off again to the bit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from limbeck import delta_file as module
from limbeck.architectures import ARCHITECTURES
from limbeck.delta import SparseDelta, Undo, apply, between, put, take
from limbeck.delta_arithmetic import add, density, nbytes, remap, revert_with, scale
from limbeck.delta_file import Part, base_hash
from limbeck.errors import ArtifactError, ModelError
from limbeck.parameters import base_prefix, unique_tensors
from limbeck.piece_map import PieceMap
from limbeck.sparse import choose
from limbeck.student import trim_model
from test_encoder import PIECES, tiny_model

Tensors = dict[str, Tensor]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def copy(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def same_bits(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and base_hash(one) == base_hash(other)


def tiny_base(dtype: torch.dtype = torch.float32) -> Tensors:
    generator = torch.Generator().manual_seed(0)
    shapes = {"w": (6, 4), "v": (9,), "head": (2, 3)}
    return {n: torch.randn(s, generator=generator).to(dtype) for n, s in shapes.items()}


def drawn(model: Tensors, seed: int, *, count: int = 12, **options: Any) -> SparseDelta:
    """A delta of `w` and `v` on a base, with `count` entries."""
    generator = torch.Generator().manual_seed(seed)
    inner = {name: model[name] for name in ("w", "v")}
    after = {
        name: (t.double() + torch.randn(t.shape, generator=generator)).to(t.dtype)
        for name, t in inner.items()
    }
    return between(inner, after, choose(inner, after, count), **options)


def bits(width: int) -> st.SearchStrategy[np.ndarray]:
    kind = {2: np.int16, 4: np.int32}[width]
    return arrays.arrays(kind, 8)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from([torch.float32, torch.bfloat16]))
def test_revert_gives_back_every_bit_of_any_model(data: st.DataObject, dtype: torch.dtype):
    pattern = data.draw(bits(dtype.itemsize))
    base = {"x": torch.from_numpy(pattern.copy()).view(dtype), "rest": torch.ones(1)}
    indices = sorted(data.draw(st.sets(st.integers(0, 7))))
    number = st.floats(width=32, allow_nan=False, allow_infinity=False)
    values = data.draw(st.lists(number, min_size=len(indices), max_size=len(indices)))
    part = Part((8,), torch.tensor(indices, dtype=torch.int64), torch.tensor(values).float())
    model = copy(base)
    undo = apply(model, SparseDelta({"x": part}), foreign=True)
    undo.revert(model)
    assert same_bits(model, base)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from([torch.float32, torch.bfloat16]))
def test_the_applied_delta_gives_the_tuned_model_as_near_as_is_told(
    data: st.DataObject, dtype: torch.dtype
):
    number = st.floats(-(2.0**100), 2.0**100, width=32)
    both = torch.tensor(data.draw(st.lists(number, min_size=8, max_size=8))).to(dtype)
    before, after = {"x": both[:4].clone()}, {"x": both[4:].clone()}
    every = {"x": torch.arange(4)}
    model = copy(before)
    apply(model, between(before, after, every))
    old, new, got = (tensors["x"].double() for tensors in (before, after, model))
    largest = torch.maximum(old.abs(), new.abs())
    ulp = torch.exp2(torch.floor(torch.log2(largest.clamp(min=1e-300)))) * 2.0**-23
    assert bool(((got - new).abs() <= ulp.clamp(min=2.0**-149)).all())
    near = (old / 2 <= new) & (new <= old * 2) & (old > 0)
    assert torch.equal(got[near], new[near])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_delta_goes_on_and_comes_off_on_every_dtype(dtype: torch.dtype):
    base = tiny_base(dtype)
    model, delta = copy(base), drawn(base, 1)
    assert len(delta) == 12
    undo = apply(model, delta)
    assert not same_bits(model, base)
    assert torch.equal(model["head"], base["head"])
    undo.revert(model)
    assert same_bits(model, base)


def test_entries_of_tensors_that_do_not_lie_in_order_are_found_by_the_same_index():
    turned = torch.arange(6.0).view(3, 2).T
    put(turned, torch.tensor([1, 4]), torch.tensor([-1.0, -2.0]))
    assert turned.tolist() == [[0, -1, 4], [1, -2, 5]]
    assert take(turned, torch.tensor([1, 4])).tolist() == [-1, -2]
    assert base_hash({"a": turned}) == base_hash({"a": turned.contiguous()})


def test_parameters_of_a_model_are_changed_in_place():
    model = tiny_model("bert")
    tensors = unique_tensors(model)
    before = base_hash(tensors)
    after = {name: p.detach() * 2 for name, p in tensors.items()}
    undo = apply(tensors, between(tensors, after, choose(tensors, after, 50)))
    assert base_hash(unique_tensors(model)) != before
    undo.revert(model.state_dict())
    assert base_hash(unique_tensors(model)) == before


def test_one_rounding_for_the_sum_whatever_the_order():
    base = tiny_base()
    one, other = drawn(base, 1, provenance={"language": "yor"}), drawn(base, 2)
    both = {}
    for name, delta in {"ab": add(one, other), "ba": add(other, one)}.items():
        both[name] = copy(base)
        apply(both[name], delta)
    assert same_bits(both["ab"], both["ba"])
    for name in ("w", "v"):
        dense = torch.zeros(base[name].numel())
        for delta in (one, other):
            dense[delta.parts[name].indices] += delta.parts[name].values
        expected = base[name] + dense.view(base[name].shape)
        assert torch.equal(both["ab"][name], expected)
    assert add(one, other).provenance == {"sum": [{"language": "yor"}, {}]}
    assert add(one, other).base == one.base


def test_deltas_of_different_tensors_add_as_if_applied_in_turn():
    base = tiny_base()
    inner = {name: base[name] for name in ("w", "v")}
    after = {name: tensor + 1 for name, tensor in inner.items()}
    one = between(inner, after, {"w": torch.tensor([0, 5, 7])})
    other = between(inner, after, {"w": torch.tensor([1, 6]), "v": torch.tensor([8])})
    summed, in_turn = copy(base), copy(base)
    apply(summed, add(one, other))
    apply(in_turn, one)
    apply(in_turn, other, foreign=True)
    assert same_bits(summed, in_turn)


def test_a_part_without_counterpart_is_kept_in_a_sum():
    one = SparseDelta({"w": Part((3,), torch.tensor([1]), torch.ones(1))}, "base")
    other = SparseDelta({"v": Part((3,), torch.tensor([2]), torch.ones(1).bfloat16())}, "base")
    assert list(add(one, other).parts) == ["w", "v"]
    twice = add(other, other).parts["v"]
    assert twice.values.dtype == torch.float32 and twice.values.tolist() == [2]


def test_deltas_of_two_bases_do_not_add():
    base = tiny_base()
    one, other = drawn(base, 1), drawn(base, 2, base="0" * 64)
    with pytest.raises(ArtifactError, match="do not belong to one base; found .* and 000000000000"):
        add(one, other)
    unknown = drawn(base, 2, base="")
    with pytest.raises(ArtifactError, match="found no base and no base"):
        add(unknown, unknown)
    assert add(one, other, foreign=True).base == ""


def test_deltas_that_do_not_fit_each_other_do_not_add():
    one = SparseDelta({"w": Part((3,), torch.tensor([1]), torch.ones(1))}, "base")
    wide = SparseDelta({"w": Part((4,), torch.tensor([1]), torch.ones(1))}, "base")
    with pytest.raises(ModelError, match=r"w: .*found \[3\] and \[4\]"):
        add(one, wide)
    heads = [SparseDelta({}, "base", {"head": torch.full((2,), value)}) for value in (1.0, 2.0)]
    with pytest.raises(ModelError, match="head: both deltas bring this tensor"):
        add(*heads)
    assert add(heads[0], heads[0]).dense["head"].tolist() == [1, 1]


def test_a_delta_scales():
    base = tiny_base()
    delta = drawn(base, 1)
    model, twice = copy(base), copy(base)
    apply(model, scale(delta, 0.0))
    assert all(torch.equal(model[name], base[name]) for name in base)
    apply(twice, scale(delta, 2.0))
    expected = copy(base)
    apply(expected, add(delta, delta))
    assert same_bits(twice, expected)
    assert scale(delta, 2.0).provenance == {"scaled": 2.0, "of": {}}
    for factor in (float("nan"), 1e39):
        with pytest.raises(ModelError, match="no finite number"):
            scale(delta, factor)


def test_deltas_come_off_in_the_reverse_order_alone():
    base = tiny_base()
    model = copy(base)
    first = apply(model, drawn(base, 1))
    between_them = copy(model)
    second = apply(model, drawn(base, 2), foreign=True)
    with pytest.raises(ModelError, match="was changed after this delta"):
        first.revert(model)
    second.revert(model)
    assert same_bits(model, between_them)
    first.revert(model)
    assert same_bits(model, base)


def test_one_of_several_deltas_is_taken_out_with_the_base():
    base = tiny_base()
    language, task, more = (drawn(base, seed) for seed in (1, 2, 3))
    model, expected, two = copy(base), copy(base), copy(base)
    apply(model, language)
    apply(model, task, foreign=True)
    revert_with(model, base, language, keep=[task])
    apply(expected, task)
    assert same_bits(model, expected)
    revert_with(model, base, task)
    assert same_bits(model, base)
    apply(two, add(add(language, task), more))
    revert_with(two, base, task, keep=[language, more])
    apply(model, add(language, more))
    assert same_bits(two, model)


def test_the_base_to_revert_with_must_be_the_delta_s_own():
    base = tiny_base()
    model, delta = copy(base), drawn(base, 1)
    apply(model, delta)
    tuned = copy(model)
    other = base | {"v": base["v"] + 1}
    with pytest.raises(ArtifactError, match="not the delta's base"):
        revert_with(model, other, delta)
    with pytest.raises(ModelError, match="w: the base has another dtype; found torch.bfloat16"):
        revert_with(model, {name: t.bfloat16() for name, t in base.items()}, delta)
    with pytest.raises(ModelError, match="w: the delta does not fit"):
        revert_with(model, {}, delta)
    assert same_bits(model, tuned)


def test_a_foreign_base_is_refused_unless_allowed():
    base = tiny_base()
    delta = drawn(base, 1)
    other = copy(base)
    other["v"][3] = torch.nextafter(other["v"][3], torch.tensor(9.0))
    untouched = copy(other)
    line = f"base: the model is not .*; found {base_hash({n: other[n] for n in ('w', 'v')})[:12]}"
    with pytest.raises(ArtifactError, match=f"{line}; expected {delta.base[:12]}; apply it to"):
        apply(other, delta)
    assert same_bits(other, untouched)
    apply(other, delta, foreign=True)
    assert not same_bits(other, untouched)
    with pytest.raises(ArtifactError, match="found a delta that names no base"):
        apply(base, drawn(base, 1, base=""))
    apply(base | {"head": torch.zeros(1)}, delta)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v": None}, r"v: the delta does not fit .*found no such tensor; expected \[9\]"),
        ({"v": torch.zeros(8)}, r"v: .*found \[8\]; expected \[9\]"),
        ({"head": None}, "head: .*no such tensor"),
    ],
)
def test_nothing_is_changed_where_a_delta_does_not_fit(change: Any, message: str):
    base = tiny_base()
    delta = drawn(base, 1, dense={"head": torch.ones(2, 3)})
    model = {name: t for name, t in (copy(base) | change).items() if t is not None}
    before = copy(model)
    with pytest.raises(ModelError, match=message):
        apply(model, delta)
    assert same_bits(model, before)


def test_dense_tensors_come_along_or_are_left_out():
    base = tiny_base()
    delta = drawn(base, 1, dense={"head": torch.ones(2, 3)})
    model = copy(base)
    undo = apply(model, delta)
    assert bool((model["head"] == 1).all())
    undo.revert(model)
    assert same_bits(model, base)
    without = copy(base)
    del without["head"]
    apply(without, delta, dense=False)


@pytest.mark.parametrize("values", [None, torch.float32, torch.bfloat16])
def test_a_delta_survives_its_file(values: torch.dtype | None, tmp_path: Path):
    base = tiny_base()
    provenance = {"language": "yor", "made by": "ẹ̀rọ", "recipe": {"steps": [1, 2]}}
    dense = {"head": torch.ones(2, 3).bfloat16(), "one": torch.tensor(3)}
    delta = drawn(base, 1, dense=dense, provenance=provenance)
    for name in ("a", "b"):
        delta.save(tmp_path / name, values=values)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    loaded = SparseDelta.load(tmp_path / "a")
    assert (loaded.base, loaded.provenance) == (delta.base, provenance)
    assert list(loaded.parts) == list(delta.parts) == ["w", "v"]
    assert same_bits(dict(loaded.dense), dense)
    for name, part in delta.parts.items():
        found = loaded.parts[name]
        assert found.shape == part.shape and torch.equal(found.indices, part.indices)
        assert torch.equal(found.values, part.values.to(values or torch.float32))
    if values != torch.bfloat16:
        loaded.save(tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == (tmp_path / "a").read_bytes()
    with pytest.raises(ModelError, match="not a delta's dtype; found torch.float16"):
        delta.save(tmp_path / "half", values=torch.float16)


def test_an_undo_survives_its_file(tmp_path: Path):
    for dtype in DTYPES:
        base = tiny_base(dtype)
        model = copy(base)
        apply(model, drawn(base, 1, dense={"head": torch.ones(2, 3)})).save(tmp_path / "undo")
        Undo.load(tmp_path / "undo").revert(model)
        assert same_bits(model, base)
    with pytest.raises(ArtifactError, match="no delta file; found a file of kind 'undo'"):
        SparseDelta.load(tmp_path / "undo")


GAPS = [
    [],
    [0],
    [254],
    [255],
    [0, 1, 256, 257, 514],
    [65_534, 131_069],
    [65_535, 65_536, 131_072],
    [3, 300_000, 300_001, 2**31, 2**32 + 5, 2**34],
    [*range(0, 5000, 2), *range(10**6, 10**6 + 3000)],
    list(range(0, 10**6, 1000)),
    list(range(0, 10**8, 10**6)),
]


@pytest.mark.parametrize("indices", GAPS, ids=lambda indices: f"{len(indices)} entries")
def test_indices_survive_whatever_the_gaps(indices: list[int], tmp_path: Path):
    part = Part((2**35,), torch.tensor(indices, dtype=torch.int64), torch.rand(len(indices)))
    delta = SparseDelta({"x": part, "none": Part((2,), part.indices[:0], part.values[:0])})
    delta.save(tmp_path / "delta")
    loaded = SparseDelta.load(tmp_path / "delta")
    assert torch.equal(loaded.parts["x"].indices, part.indices)
    assert torch.equal(loaded.parts["x"].values, part.values)
    assert loaded.parts["none"].shape == (2,) and len(loaded.parts["none"]) == 0


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 2**33) | st.integers(1, 300), max_size=60))
def test_steps_give_back_their_indices(steps: list[int]):
    indices = torch.tensor(steps, dtype=torch.int64).cumsum(0) - 1
    assert torch.equal(module._indices(*module._steps(indices)), indices)


def test_an_entry_takes_five_bytes_and_a_far_jump_widens_no_other(tmp_path: Path):
    count = 20_000
    indices = torch.arange(count) * 12
    indices[count // 2 :] += 10**7
    part = Part((2 * 10**7,), indices, torch.rand(count))
    delta = SparseDelta({"x": part})
    assert nbytes(delta) == 5 * count + 8
    delta.save(tmp_path / "delta")
    header = (tmp_path / "delta").stat().st_size - nbytes(delta)
    assert 0 < header < 1500
    delta.save(tmp_path / "small", values=torch.bfloat16)
    assert (tmp_path / "small").stat().st_size < 3 * count + 1500
    sparse_steps = SparseDelta({"x": Part(part.shape, torch.arange(100) * 70_000, torch.ones(100))})
    assert nbytes(sparse_steps) == 100 * (4 + 4)
    assert nbytes(SparseDelta({}, "", {"head": torch.ones(3)})) == 12


def rewrite(path: Path, change: Callable[[dict[str, Any]], None], *, honest: bool = True) -> None:
    """Change the facts of a file, with a right checksum unless told otherwise."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["limbeck"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(header["content"])
    if honest:
        header["digest"] = module._digest(header["content"])
    save_file(tensors, path, {"limbeck": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda facts: facts.update(format=2), "format 2 of a newer limbeck"),
        (lambda facts: facts.update(kind="cake"), "a file of kind 'cake'"),
        (lambda facts: facts.update(tensors="0"), "another checksum"),
        (lambda facts: facts["shapes"].update(w=[1]), "entries of a tensor do not rise"),
        (lambda facts: facts["shapes"].update(w=["x"]), "invalid literal"),
        (lambda facts: facts.pop("shapes"), "'shapes'"),
        (lambda facts: facts.pop("base"), "'base'"),
        (lambda facts: facts.update(provenance=3), "'int' object"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_refused(change: Any, found: str, tmp_path: Path):
    path = tmp_path / "delta"
    drawn(tiny_base(), 1).save(path)
    rewrite(path, change)
    with pytest.raises(ArtifactError, match=f"delta: this is no delta file; found .*{found}"):
        SparseDelta.load(path)


def test_facts_that_were_changed_by_hand_are_seen(tmp_path: Path):
    path = tmp_path / "delta"
    drawn(tiny_base(), 1).save(path)
    rewrite(path, lambda facts: facts.update(base="0" * 64), honest=False)
    with pytest.raises(ArtifactError, match="found another checksum"):
        SparseDelta.load(path)


def test_a_damaged_file_is_refused_wherever_the_damage_is(tmp_path: Path):
    drawn(tiny_base(), 1, dense={"head": torch.ones(2)}).save(tmp_path / "whole")
    whole, path = (tmp_path / "whole").read_bytes(), tmp_path / "delta"
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ArtifactError, match="this is no delta file") as told:
            SparseDelta.load(path)
        assert "\n" not in str(told.value)
    for length in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ArtifactError, match="this is no delta file"):
            SparseDelta.load(path)


def test_a_foreign_file_is_refused(tmp_path: Path):
    save_file({"x": torch.ones(2)}, tmp_path / "plain")
    save_file({"x": torch.ones(2)}, tmp_path / "tagged", {"limbeck": "[]"})
    torch.save({"x": torch.ones(2)}, tmp_path / "pickle")
    for name in ("plain", "tagged", "pickle", "missing"):
        with pytest.raises(ArtifactError, match=f"{name}: this is no delta file; found"):
            SparseDelta.load(tmp_path / name)
        with pytest.raises(ArtifactError, match=f"{name}: this is no undo file; found"):
            Undo.load(tmp_path / name)


@pytest.mark.parametrize(
    ("indices", "values", "message"),
    [
        (torch.tensor([0, 0]), torch.ones(2), "do not rise inside it; found 0 to 0"),
        (torch.tensor([1, 0]), torch.ones(2), "found 0 to 1; expected 0 to 5"),
        (torch.tensor([5, 6]), torch.ones(2), "found 5 to 6"),
        (torch.tensor([-1, 6]), torch.ones(2), "found -1 to 6"),
        (torch.tensor([1, 2]), torch.ones(3), r"no indices and values; .*\[2\] and \[3\]"),
        (torch.tensor([1.0]), torch.ones(1), "found torch.float32"),
        (torch.tensor([[1]]), torch.ones(1, 1), r"int64 \[1, 1\]"),
    ],
)
def test_a_part_checks_itself(indices: Tensor, values: Tensor, message: str):
    with pytest.raises(ModelError, match=message):
        Part((2, 3), indices, values)


def test_a_delta_checks_its_numbers():
    for values, message in (
        (torch.tensor([torch.nan]), "w: a difference is no finite number"),
        (torch.ones(1).half(), "w: not a delta's dtype; found torch.float16"),
    ):
        with pytest.raises(ModelError, match=message):
            SparseDelta({"w": Part((1,), torch.tensor([0]), values)})


def test_a_delta_is_between_models_that_are_alike():
    base = tiny_base()
    for after, chosen in (
        ({}, {"w": torch.tensor([0])}),
        (base | {"w": base["w"][:2]}, {"w": torch.tensor([0])}),
        (base, {"u": torch.tensor([0])}),
    ):
        with pytest.raises(ModelError, match="is not alike in both models"):
            between(base, after, chosen)


def test_a_hash_tells_names_dtypes_shapes_and_bytes_apart():
    base = {"a": torch.zeros(4), "b": torch.ones(2)}
    assert base_hash(base) == base_hash({"b": torch.ones(2), "a": torch.zeros(4)})
    others = [
        {"a": torch.zeros(4)},
        {"a": torch.zeros(4), "c": torch.ones(2)},
        {"a": torch.zeros(2, 2), "b": torch.ones(2)},
        {"a": torch.zeros(4, dtype=torch.int32), "b": torch.ones(2)},
        {"a": -torch.zeros(4), "b": torch.ones(2)},
    ]
    assert len({base_hash(one) for one in [base, *others]}) == 6


def test_a_hash_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch):
    base = tiny_base()
    whole = base_hash(base)
    monkeypatch.setattr(module, "_BYTES_AT_ONCE", 5)
    assert base_hash(base) == whole


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta", "modernbert", "deberta-v2"])
@pytest.mark.parametrize(
    "kept", [[*range(0, PIECES, 2), 1, 3], [1, 2, 3, 4, 50, 52], range(PIECES)]
)
def test_a_remapped_delta_on_the_trimmed_model_is_the_trimmed_model_with_the_delta(
    model_type: str, kept: Any
):
    full, kept = tiny_model(model_type), np.array(sorted({*kept, 1, 2, 3, 4}))
    trimmed, piece_map = trim_model(full, kept), PieceMap(kept, PIECES)
    tensors = unique_tensors(full)
    after = {name: p.detach() + torch.randn_like(p) for name, p in tensors.items()}
    delta = between(tensors, after, choose(tensors, after, 900))
    architecture, prefix = ARCHITECTURES[model_type], base_prefix(full)
    small = unique_tensors(trimmed)
    names = (prefix + architecture.pieces, *architecture.vocabulary_outputs)
    moved = remap(delta, piece_map, names, base=base_hash(small))
    positions = prefix + architecture.positions
    if architecture.positions:
        rows, left = tensors[positions].shape[0], small[positions].shape[0]
        lower = PieceMap(np.arange(rows - left, rows), rows)
        moved = remap(moved, lower, [positions], base=moved.base)
    apply(small, moved)
    apply(tensors, delta)
    expected = trim_model(full, kept).state_dict()
    assert same_bits(dict(trimmed.state_dict()), dict(expected))
    assert (len(moved) == len(delta)) is (len(kept) == PIECES)


def test_dense_rows_are_remapped_and_a_map_that_does_not_fit_is_told():
    piece_map = PieceMap(np.array([0, 2]), 3)
    delta = SparseDelta(
        {"w": Part((3, 2), torch.tensor([1, 2, 5]), torch.tensor([1.0, 2.0, 3.0]))},
        "base",
        {"bias": torch.arange(3.0), "head": torch.ones(2)},
    )
    moved = remap(delta, piece_map, ["w", "bias", "absent"])
    assert moved.parts["w"].indices.tolist() == [1, 3]
    assert moved.parts["w"].values.tolist() == [1, 3]
    assert moved.parts["w"].shape == (2, 2)
    assert moved.dense["bias"].tolist() == [0, 2] and moved.dense["head"].tolist() == [1, 1]
    assert moved.base == ""
    with pytest.raises(ModelError, match=r"head: the piece map does not fit; found \[2\]"):
        remap(delta, piece_map, ["head"])
    with pytest.raises(ModelError, match=r"w: .*found \[3, 2\]; expected 4 rows"):
        remap(delta, PieceMap(np.array([0]), 4), ["w"])


def test_density_is_the_share_of_each_tensor():
    delta = SparseDelta({"w": Part((2, 4), torch.tensor([1, 2]), torch.ones(2))})
    assert density(delta, {"w": 8, "v": 5, "none": 0}) == {"w": 0.25, "v": 0.0, "none": 0.0}
    with pytest.raises(ModelError, match="w: the totals do not name"):
        density(delta, {"v": 5})
