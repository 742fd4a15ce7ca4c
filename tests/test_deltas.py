"""Deltas on model folders: put on and taken off again to the bit, by the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import Told
from limbeck.delta import between
from limbeck.encoder import load_encoder
from limbeck.sparse import choose
from test_encoder import tiny_model

Call = Callable[..., Told]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tiny_model("modernbert").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def make_delta(model: Path, path: Path, seed: int, count: int = 40) -> Path:
    before = load_file(model / "model.safetensors")
    generator = torch.Generator().manual_seed(seed)
    after = {
        name: one + torch.randn(one.shape, generator=generator) for name, one in before.items()
    }
    chosen = choose(before, after, count)
    between(before, after, chosen, provenance={"language": f"l{seed}"}).save(path)
    return path


def same(a: Path, b: Path) -> bool:
    one, other = (load_file(folder / "model.safetensors") for folder in (a, b))
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_deltas_are_put_on_and_taken_off_to_the_bit(model: Path, tmp_path: Path, limbeck: Call):
    language, task = (make_delta(model, tmp_path / f"{i}.delta", i) for i in (1, 2))
    on, off = tmp_path / "on", tmp_path / "off"
    told = limbeck("delta", "apply", model, language, task, "-o", on)
    assert told.code == 0, told.err
    assert not same(model, on) and load_encoder(on).config.model_type == "modernbert"
    told = limbeck("delta", "revert", on, task, language, "-o", off)
    assert told.code == 0, told.err
    assert same(model, off)
    assert {path.name for path in off.iterdir()} == {path.name for path in model.iterdir()}


def test_the_sum_of_deltas_is_a_delta(model: Path, tmp_path: Path, limbeck: Call):
    pair = [make_delta(model, tmp_path / f"{i}.delta", i) for i in (1, 2)]
    total = tmp_path / "sum.delta"
    assert limbeck("delta", "add", *pair, "-o", total).code == 0
    limbeck("delta", "apply", model, total, "-o", tmp_path / "a")
    limbeck("delta", "apply", model, *pair, "-o", tmp_path / "b")
    assert same(tmp_path / "a", tmp_path / "b")


def test_show_tells_what_a_delta_holds(model: Path, tmp_path: Path, limbeck: Call):
    path = make_delta(model, tmp_path / "d.delta", 1)
    found = json.loads(limbeck("delta", "show", path, "--json").out)
    assert found["entries"] == 40 and found["bytes"] == path.stat().st_size
    assert found["provenance"] == {"language": "l1"} and max(found["density"].values()) > 0
    lines = limbeck("delta", "show", path).out
    assert "40 entries" in lines and "language: l1" in lines and " %  " in lines


def test_what_cannot_be_done_is_one_line(model: Path, tmp_path: Path, limbeck: Call):
    delta, other = (make_delta(model, tmp_path / f"{i}.delta", i) for i in (1, 2))
    tiny_model("modernbert", num_hidden_layers=3).save_pretrained(tmp_path / "foreign")
    on = tmp_path / "on"
    assert limbeck("delta", "apply", tmp_path / "foreign", delta, "-o", on).code == 2
    assert not on.exists() and not list(tmp_path.glob(".*part"))
    assert (
        "no delta was put on this model" in limbeck("delta", "revert", model, delta, "-o", on).err
    )
    limbeck("delta", "apply", model, delta, "-o", on)
    found = limbeck("delta", "revert", on, other, "-o", tmp_path / "off").err
    assert "these deltas are not all on this model" in found
    found = limbeck("delta", "apply", on, other, "-o", tmp_path / "off").err
    assert "deltas are on this model already" in found
    (model / "model.safetensors").write_bytes(b"broken")
    found = limbeck("delta", "apply", model, delta, "-o", tmp_path / "off").err
    assert "the weights cannot be read" in found
    (model / "model.safetensors").rename(model / "model-00001.safetensors")
    found = limbeck("delta", "apply", model, delta, "-o", tmp_path / "off").err
    assert "does not hold its weights in one file" in found
