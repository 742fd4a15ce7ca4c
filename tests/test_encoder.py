"""Encoders are loaded, read and counted alike, whatever their architecture."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from limbeck import encoder
from limbeck.architectures import ARCHITECTURES, architecture_of, special_ids
from limbeck.encoder import (
    base_encoder,
    final_norm,
    layer_states,
    load_encoder,
    masked_logits,
    model_class,
    states_and_logits,
)
from limbeck.errors import ModelError
from limbeck.heads import HEADS
from limbeck.parameters import base_prefix, count_parameters, model_bytes

PIECES, WIDTH, DEPTH, ATTENTION_HEADS = 53, 8, 4, 2
_COMMON = {
    "vocab_size": PIECES,
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": ATTENTION_HEADS,
    "intermediate_size": 12,
    "max_position_embeddings": 24,
    "pad_token_id": 3,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_DEBERTA = {
    "relative_attention": True,
    "position_buckets": 4,
    "norm_rel_ebd": "layer_norm",
    "pos_att_type": ["p2c", "c2p"],
    "conv_kernel_size": 3,
    "position_biased_input": False,
}
TINY: dict[str, dict[str, Any]] = {
    "bert": _COMMON,
    "roberta": _COMMON,
    "xlm-roberta": _COMMON,
    "distilbert": {
        **{key: _COMMON[key] for key in ("vocab_size", "max_position_embeddings", "pad_token_id")},
        "dim": WIDTH,
        "n_layers": DEPTH,
        "n_heads": ATTENTION_HEADS,
        "hidden_dim": 12,
    },
    "deberta-v2": _COMMON | _DEBERTA,
    "modernbert": _COMMON
    | {"local_attention": 4, "cls_token_id": 1, "sep_token_id": 2, "embedding_dropout": 0.1},
    "eurobert": _COMMON | {"num_key_value_heads": 1, "mask_token_id": 4},
    "gte": _COMMON,
    "electra": _COMMON | {"embedding_size": 6},
    "nomic_bert": {
        **{key: value for key, value in _COMMON.items() if key != "intermediate_size"},
        "n_inner": 12,
        "intermediate_size": 12,
    },
}
EVERY_ARCHITECTURE = pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
EVERY_HEAD = pytest.mark.parametrize("head", ["mlm", "none", *HEADS])


def tiny_model(model_type: str, head: str = "mlm", **changes: Any) -> PreTrainedModel:
    """A model of the architecture with every parameter drawn, norms and padding row too."""
    config = transformers.AutoConfig.for_model(model_type, **(TINY[model_type] | changes))
    config._attn_implementation = "eager"
    options = {"add_pooling_layer": False} if _has_pooler(model_type, head) else {}
    kind = model_class(head, config)
    # The auto classes build by `from_config`, those of one architecture by themselves.
    model = getattr(kind, "from_config", kind)(config, **options).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return model


def shallow_model(model_type: str, head: str, **changes: Any) -> PreTrainedModel:
    """A tiny model of two layers, for what takes its time by the layer."""
    return tiny_model(model_type, head, **{ARCHITECTURES[model_type].depth: 2}, **changes)


def _has_pooler(model_type: str, head: str) -> bool:
    return head == "none" and ARCHITECTURES[model_type].has_pooler


def tiny_batch(pad: int = 3) -> dict[str, torch.Tensor]:
    """Two texts of 7 and 5 pieces, the second padded."""
    generator = torch.Generator().manual_seed(3)
    input_ids = torch.randint(5, PIECES, (2, 7), generator=generator)
    attention_mask = torch.ones_like(input_ids)
    input_ids[1, 5:], attention_mask[1, 5:] = pad, 0
    return {"input_ids": input_ids, "attention_mask": attention_mask}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model("modernbert").save_pretrained(tmp_path)
    return tmp_path


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@EVERY_HEAD
@EVERY_ARCHITECTURE
def test_every_architecture_gives_all_its_states(model_type: str, head: str, tmp_path: Path):
    tiny_model(model_type).save_pretrained(tmp_path)
    model = load_encoder(tmp_path, head=head)
    batch = tiny_batch()
    with torch.no_grad():
        states = layer_states(model, **batch, attention=True)
        last = base_encoder(model)(**batch).last_hidden_state
    assert not model.training and model.dtype == torch.float32
    assert [state.shape for state in states.hidden] == [(2, 7, WIDTH)] * (DEPTH + 1)
    assert [rows.shape for rows in states.attention] == [(2, ATTENTION_HEADS, 7, 7)] * DEPTH
    assert torch.equal(states.hidden[-1], last)
    for rows in states.attention:
        assert torch.allclose(rows.sum(-1), torch.ones(()))
        assert float(rows[1, :, :5, 5:].max()) < 1e-6


@EVERY_ARCHITECTURE
def test_loaded_tensors_are_the_saved_ones(model_type: str, tmp_path: Path):
    model = tiny_model(model_type)
    model.save_pretrained(tmp_path)
    loaded = load_encoder(str(tmp_path)).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())


@EVERY_ARCHITECTURE
def test_the_table_names_what_the_model_has(model_type: str):
    model, architecture = tiny_model(model_type), ARCHITECTURES[model_type]
    base, tensors = base_encoder(model), model.state_dict()
    assert len(base.get_submodule(architecture.layers)) == DEPTH
    assert base.get_submodule(architecture.embeddings) is not None
    keys = (architecture.depth, architecture.width, architecture.heads)
    assert [getattr(model.config, key) for key in keys] == [DEPTH, WIDTH, ATTENTION_HEADS]
    assert all(len(getattr(model.config, key)) == DEPTH for key in architecture.layer_lists)
    with_vocabulary = {name for name, tensor in tensors.items() if tensor.shape[0] == PIECES}
    named = {base_prefix(model) + architecture.pieces, *architecture.vocabulary_outputs}
    assert with_vocabulary == named & set(tensors)
    for shared in architecture.shared:
        assert any(name.startswith(base_prefix(model) + shared) for name in tensors)
    dropouts = {key for key in model.config.to_dict() if "drop" in key}
    assert dropouts <= set(architecture.dropouts)


def test_a_newer_deberta_head_has_one_tensor_with_a_vocabulary_axis():
    model = tiny_model("deberta-v2", legacy=False)
    wide = {name for name, tensor in model.state_dict().items() if tensor.shape[0] == PIECES}
    assert wide == {"deberta.embeddings.word_embeddings.weight", "lm_predictions.lm_head.bias"}


@EVERY_ARCHITECTURE
def test_padding_does_not_change_the_states_of_real_pieces(model_type: str):
    model, batch = tiny_model(model_type), tiny_batch()
    short = {name: tensor[1:, :5] for name, tensor in batch.items()}
    with torch.no_grad():
        padded = layer_states(model, **batch, attention=False).hidden
        alone = layer_states(model, **short, attention=False).hidden
    for with_padding, without in zip(padded, alone, strict=True):
        assert torch.allclose(with_padding[1:, :5], without, atol=1e-5)


@EVERY_ARCHITECTURE
def test_gradients_flow_through_states_and_attention(model_type: str):
    model = tiny_model(model_type).train()
    states = layer_states(model, **tiny_batch(), attention=True)
    (states.hidden[-1].pow(2).sum() + states.attention[0].pow(2).sum()).backward()
    pieces = model.get_parameter(base_prefix(model) + ARCHITECTURES[model_type].pieces)
    assert pieces.grad is not None and float(pieces.grad.abs().sum()) > 0


@EVERY_ARCHITECTURE
def test_one_forward_gives_states_and_logits(model_type: str):
    model, batch = tiny_model(model_type, "tagging"), tiny_batch()
    with torch.no_grad():
        both = states_and_logits(model, **batch, attention=True)
        states = layer_states(model, **batch, attention=True)
        logits = model(**batch).logits
    assert torch.equal(both.logits, logits)
    found, expected = (all_of.hidden + all_of.attention for all_of in (both.states, states))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("model_type", ["modernbert", "eurobert"])
def test_the_last_state_is_the_last_layer_after_the_final_norm(model_type: str):
    model, seen = tiny_model(model_type), []
    last = base_encoder(model).get_submodule(f"{ARCHITECTURES[model_type].layers}.{DEPTH - 1}")
    last.register_forward_hook(lambda module, inputs, output: seen.append(output))
    norm = final_norm(model)
    with torch.no_grad():
        states = layer_states(model, **tiny_batch(), attention=False)
        assert norm is not None and torch.equal(norm(seen[0]), states.hidden[-1])


def test_most_architectures_have_no_final_norm():
    assert final_norm(tiny_model("bert")) is None


def test_types_are_passed_on_only_where_they_are_read():
    batch = tiny_batch()
    types = torch.zeros_like(batch["input_ids"])
    types[:, 3:] = 1
    for model_type, is_read in (("bert", True), ("modernbert", False)):
        model = tiny_model(model_type)
        with torch.no_grad():
            plain = layer_states(model, **batch, attention=False).hidden[0]
            typed = layer_states(model, **batch, attention=False, token_type_ids=types).hidden[0]
        assert torch.equal(plain, typed) is not is_read


def test_faster_attention_gives_the_same_states_but_no_probabilities(folder: Path):
    fast, eager = load_encoder(folder, attention="sdpa"), load_encoder(folder)
    batch = tiny_batch()
    with torch.no_grad():
        states = [layer_states(model, **batch, attention=False) for model in (fast, eager)]
    assert states[0].attention == ()
    for one, other in zip(states[0].hidden, states[1].hidden, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    with pytest.raises(ModelError, match="found attention 'sdpa'; expected .*eager"):
        layer_states(fast, **batch, attention=True)


def test_deberta_has_eager_attention_only(tmp_path: Path):
    tiny_model("deberta-v2").save_pretrained(tmp_path)
    model = load_encoder(tmp_path, attention="sdpa")
    assert len(layer_states(model, **tiny_batch(), attention=True).attention) == DEPTH


def test_a_wrapped_bare_encoder_is_run_through_its_wrapper():
    class Wrapper(torch.nn.Module):
        def __init__(self, module: torch.nn.Module):
            super().__init__()
            self.module, self.runs = module, 0

        def forward(self, **inputs: Any) -> Any:
            self.runs += 1
            return self.module(**inputs)

    wrapped = Wrapper(tiny_model("bert", "none"))
    assert len(layer_states(wrapped, **tiny_batch(), attention=True).hidden) == DEPTH + 1
    assert wrapped.runs == 1


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [*((one, {}) for one in sorted(ARCHITECTURES)), ("deberta-v2", {"legacy": False})],
)
def test_logits_of_chosen_places_equal_the_dense_ones(model_type: str, changes: dict[str, Any]):
    model, batch = tiny_model(model_type, **changes), tiny_batch()
    chosen = batch["attention_mask"].bool() & (torch.arange(7) % 3 == 1)
    found = masked_logits(model, **batch, chosen=chosen)
    dense = model(**batch).logits[chosen]
    assert found.shape == (int(chosen.sum()), PIECES)
    assert torch.allclose(found, dense, atol=1e-5)
    (sparse_grad,) = torch.autograd.grad(found.square().sum(), model.get_input_embeddings().weight)
    (dense_grad,) = torch.autograd.grad(dense.square().sum(), model.get_input_embeddings().weight)
    assert torch.allclose(sparse_grad, dense_grad, rtol=1e-3, atol=1e-3)


@EVERY_ARCHITECTURE
def test_the_head_scores_no_place_that_was_not_chosen(model_type: str):
    model, batch = tiny_model(model_type), tiny_batch()
    chosen = torch.zeros(2, 7, dtype=torch.bool)
    chosen[0, 2] = chosen[1, 4] = True
    seen: list[torch.Size] = []
    output = model.get_output_embeddings()
    output.register_forward_hook(lambda module, inputs, result: seen.append(result.shape))
    masked_logits(model, **batch, chosen=chosen)
    assert seen == [torch.Size([2, PIECES])]


@EVERY_ARCHITECTURE
def test_parameters_are_counted_once_and_all(model_type: str):
    model = tiny_model(model_type)
    counts = count_parameters(model)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert counts["total"] == total == counts["embedding"] + counts["layers"] + counts["other"]
    assert model_bytes(model) == 4 * total
    base, architecture = base_encoder(model), ARCHITECTURES[model_type]
    for part, name in (("layers", architecture.layers), ("embedding", architecture.embeddings)):
        assert counts[part] == sum(p.numel() for p in base.get_submodule(name).parameters())


def test_special_ids_are_those_of_the_vocabulary():
    config = tiny_model("eurobert").config
    assert special_ids(config) == (1, 2, 3, 4)
    config.eos_token_id = [2, 9]
    config.mask_token_id = 128_002
    assert special_ids(config) == (1, 2, 3, 9)


def test_labels_name_the_classes_of_a_tagging_head(folder: Path):
    model = load_encoder(folder, head="tagging", labels=["O", "B-PER", "I-PER"])
    assert model.config.id2label == {0: "O", 1: "B-PER", 2: "I-PER"}
    assert model.config.label2id["I-PER"] == 2
    assert states_and_logits(model, **tiny_batch(), attention=False).logits.shape == (2, 7, 3)


def test_labels_that_do_not_fit_a_trained_head_are_refused(tmp_path: Path):
    tiny_model("bert", "tagging").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"classifier\.bias: .*found shape \(2,\); expected .*3"):
        load_encoder(tmp_path, head="tagging", labels=["a", "b", "c"])


def test_a_new_head_depends_on_the_seed_alone(folder: Path):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = load_encoder(folder, head="tagging").classifier.weight
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, load_encoder(folder, head="tagging").classifier.weight)
    assert not torch.equal(first, load_encoder(folder, head="tagging", seed=1).classifier.weight)


def test_loading_is_silent_and_leaves_the_settings_of_transformers(
    folder: Path, capfd: pytest.CaptureFixture[str]
):
    transformers_logging.set_verbosity_info()
    transformers_logging.enable_progress_bar()
    try:
        load_encoder(folder, head="tagging")
        assert transformers_logging.get_verbosity() == logging.INFO
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        transformers_logging.set_verbosity_warning()
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_a_missing_masked_language_head_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    tiny_model("bert", "none").save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, logger="limbeck.encoder"):
        load_encoder(tmp_path)
    assert "no masked language head" in caplog.text and "cls.predictions.bias" in caplog.text


def test_missing_encoder_tensors_are_refused(folder: Path):
    change_config(folder, num_hidden_layers=5, layer_types=["full_attention"] * 5)
    with pytest.raises(ModelError, match=r"lacks \d tensors of the encoder.*layers\.4\.attn"):
        load_encoder(folder)


def test_weights_that_are_no_safetensors_are_refused(folder: Path):
    (folder / "model.safetensors").write_bytes(b"not a tensor file")
    with pytest.raises(ModelError, match="weights cannot be loaded into modernbert"):
        load_encoder(folder)


@pytest.mark.parametrize("missing", ["./no/such", "/no/such/folder", "a/b/c", Path("no")])
def test_a_missing_folder_is_told(missing: str | Path):
    with pytest.raises(ModelError, match="model folder does not exist"):
        load_encoder(missing)


def test_a_folder_without_config_is_told(folder: Path):
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        load_encoder(folder)


def test_a_folder_without_weights_is_told(folder: Path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights; .*convert them once"):
        load_encoder(folder)


def test_pickled_weights_are_refused(folder: Path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickle can run code.*found pytorch_model\.bin"):
        load_encoder(folder)


def test_remote_code_is_refused_and_never_run(folder: Path):
    change_config(folder, auto_map={"AutoModelForMaskedLM": "evil.Evil"})
    (folder / "evil.py").write_text("raise SystemExit('was run')")
    with pytest.raises(ModelError, match="remote code.*found auto_map"):
        load_encoder(folder)
    model = load_encoder(folder, allow_remote_code=True)
    assert type(model) is transformers.ModernBertForMaskedLM


def test_an_unknown_architecture_is_told_with_the_known_ones(folder: Path):
    change_config(folder, model_type="gpt2")
    with pytest.raises(ModelError, match="found model_type 'gpt2'; expected one of bert, deberta"):
        load_encoder(folder)
    with pytest.raises(ModelError, match="does not know this architecture"):
        architecture_of(transformers.GPT2Config())


def test_a_broken_config_is_told_in_one_line(folder: Path):
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="no model can be read there") as caught:
        load_encoder(folder)
    assert "\n" not in str(caught.value)


def test_a_config_of_the_wrong_type_is_told(folder: Path):
    change_config(folder, hidden_size="wide")
    with pytest.raises(ModelError, match="config cannot be read"):
        load_encoder(folder)


def test_a_hub_id_that_cannot_be_reached_is_told(monkeypatch: pytest.MonkeyPatch):
    def unreachable(name: str) -> None:
        raise OSError(f"{name} is not on the hub")

    monkeypatch.setattr(encoder.PreTrainedConfig, "get_config_dict", unreachable)
    with pytest.raises(ModelError, match="nobody/nothing: no model can be read there"):
        load_encoder("nobody/nothing")
