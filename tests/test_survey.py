"""Retrieval is what a double loop finds, on states that are means over real pieces."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from limbeck import survey
from limbeck.encoder import layer_states
from limbeck.survey import pooled_states, retrieval
from test_encoder import DEPTH, WIDTH, tiny_model


def a_tokenizer() -> Tokenizer:
    names = ["<x>", "<s>", "</s>", "<pad>", "<mask>", *(f"w{i}" for i in range(40))]
    tokenizer = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<x>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


TEXTS = ["w3 w4 w5", "w7", "w1 w2 w3 w4 w5 w6", "w9 w8 w9", ""]


@pytest.mark.parametrize("model_type", ["bert", "modernbert"])
def test_pooled_states_are_means_over_the_text_s_own_pieces(model_type, monkeypatch):
    model = tiny_model(model_type).train()
    found = pooled_states(model, a_tokenizer(), TEXTS, most_pieces=20)
    assert found.shape == (DEPTH + 1, len(TEXTS), WIDTH) and found.dtype == np.float32
    assert model.training
    model.eval()
    for row, text in enumerate(TEXTS[:-1]):
        ids = torch.tensor([a_tokenizer().encode(text).ids])
        with torch.no_grad():
            states = layer_states(model, ids, torch.ones_like(ids), attention=False).hidden
        for layer, one in enumerate(states):
            expected = one[0, 1:-1].mean(0).numpy()
            assert np.allclose(found[layer, row], expected, atol=1e-5), (layer, text)
    assert not found[:, -1].any(), "no piece, no state"
    monkeypatch.setattr(survey, "_BATCH_PIECES", 6)
    again = pooled_states(model, a_tokenizer(), TEXTS, most_pieces=20)
    assert np.allclose(again, found, atol=1e-5), "batches change nothing"


def test_long_texts_are_cut_before_their_end_piece():
    model, tokenizer = tiny_model("bert"), a_tokenizer()
    whole = pooled_states(model, tokenizer, ["w1 w2 w3"], most_pieces=20)
    cut = pooled_states(model, tokenizer, ["w1 w2 w3 w4 w5 w6"], most_pieces=5)
    assert np.allclose(whole, cut, atol=1e-6)
    assert tokenizer.truncation is None


def brute_force(one: np.ndarray, other: np.ndarray) -> float:
    hits = 0
    for i, a in enumerate(one):
        best, place = -np.inf, -1
        for j, b in enumerate(other):
            cosine = float(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))
            if cosine > best + 1e-9:
                best, place = cosine, j
        hits += place == i
    return hits / len(one)


def test_retrieval_is_precision_at_one_by_brute_force():
    draw = np.random.default_rng(0)
    eng = draw.normal(size=(3, 12, 5))
    yor = eng + draw.normal(size=eng.shape) * np.array([0.1, 0.8, 3.0])[:, None, None]
    hau = draw.normal(size=eng.shape)
    states = {"eng": eng, "yor": yor, "hau": hau}
    found = retrieval(states)
    assert {a: set(b) for a, b in found.items()} == {a: states.keys() - {a} for a in states}
    for a, others in found.items():
        for b, by_layer in others.items():
            expected = [brute_force(states[a][i], states[b][i]) for i in range(3)]
            assert by_layer == pytest.approx(expected), (a, b)
    assert found["eng"]["yor"][0] == 1.0 > found["eng"]["yor"][2]


def test_retrieval_knows_no_length_and_survives_states_of_zero():
    states = np.array([[[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]])
    found = retrieval({"a": states, "b": states * 7.0})
    assert found["a"]["b"] == found["b"]["a"] == [pytest.approx(2 / 3)]
