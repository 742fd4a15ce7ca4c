"""A model is a local folder in the end, and what is wrong with it is told in one line."""

import sys
from pathlib import Path

import pytest

from limbeck.errors import ModelError
from limbeck.hub import content_hashes, depth, model_folder, read_config, width


def test_a_folder_is_given_back_also_by_its_home(tiny_teacher: Path, monkeypatch):
    assert model_folder(str(tiny_teacher)) == tiny_teacher
    monkeypatch.setenv("HOME", str(tiny_teacher.parent))
    assert model_folder(f"~/{tiny_teacher.name}") == tiny_teacher


@pytest.mark.parametrize("name", ["./nothing", "/no/where", "a/b/c", "~/nothing-at-all"])
def test_a_path_that_is_no_folder_is_not_looked_for_on_the_hub(name: str, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match=r"no such folder; check teacher\.model") as told:
        model_folder(name)
    assert str(told.value).startswith(name)


def test_a_folder_without_a_config_is_told(tmp_path: Path):
    with pytest.raises(ModelError, match=r"no config\.json in the model's folder"):
        model_folder(str(tmp_path))


def test_a_hub_id_without_the_extra_says_the_line_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match=r"pip install 'limbeck\[train\]'"):
        model_folder("some/model")


def test_a_hub_id_gives_the_snapshot_without_pickles_and_code(tiny_teacher: Path, monkeypatch):
    import huggingface_hub

    asked = {}

    def download(model: str, *, allow_patterns: list[str]) -> str:
        asked.update(model=model, patterns=allow_patterns)
        return str(tiny_teacher)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert model_folder("some/model") == tiny_teacher
    assert asked["model"] == "some/model"
    assert not {"*.bin", "*.py", "*.pt", "*"} & set(asked["patterns"])


@pytest.mark.parametrize("message", ["gone away\nmore", ""])
def test_a_hub_that_cannot_be_reached_is_one_line(message: str, monkeypatch):
    import huggingface_hub

    def download(*_: object, **__: object) -> str:
        raise OSError(message)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ModelError, match="some/model: is neither a folder nor to be had") as told:
        model_folder("some/model")
    assert f"found {message.partition(chr(10))[0] or 'OSError'};" in str(told.value)


def test_a_name_that_no_hub_would_take_is_one_line():
    with pytest.raises(ModelError, match="is neither a folder nor to be had from the hub"):
        model_folder("what is this?")


def test_sizes_are_read_from_the_config(tiny_teacher: Path):
    config = read_config(tiny_teacher)
    assert (depth(config), width(config)) == (4, 16)
    assert depth({"n_layers": 6}) == 6
    assert width({"embedding_size": 128, "hidden_size": 768}) == 128
    with pytest.raises(ModelError, match="states no number of layers; found a"):
        depth({"a": 1})
    with pytest.raises(ModelError, match="states no width"):
        width({"hidden_size": "wide"})


@pytest.mark.parametrize(
    ("content", "expected"),
    [("{", "cannot be read as JSON"), ("[]", "is no model's config; found list")],
)
def test_a_config_that_is_none_is_told(tmp_path: Path, content: str, expected: str):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=rf"config\.json: {expected}"):
        read_config(tmp_path)


def test_a_models_content_is_its_json_and_its_tensors(tiny_teacher: Path, tmp_path: Path):
    for name in ("config.json", "a.safetensors", "README.md", "old.bin"):
        (tmp_path / name).write_text(name)
    first = content_hashes(tmp_path)
    assert list(first) == ["a.safetensors", "config.json"]
    (tmp_path / "a.safetensors").write_text("other weights")
    second = content_hashes(tmp_path)
    assert first["config.json"] == second["config.json"]
    assert first["a.safetensors"] != second["a.safetensors"]
