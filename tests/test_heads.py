"""Heads: what they score, and that a model with one comes back from disk as it was."""

from pathlib import Path

import pytest
import torch

from limbeck.architectures import most_pieces
from limbeck.encoder import load_encoder
from limbeck.heads import HEADS, NEVER, Biaffine, head_logits
from limbeck.student import copy_head
from test_distil import make_batch
from test_encoder import tiny_model

SOME = pytest.mark.parametrize("model_type", ["bert", "xlm-roberta", "modernbert", "deberta-v2"])
EVERY_HEAD = pytest.mark.parametrize("name", HEADS)


def scores_of(model, name, batch):
    with torch.no_grad():
        return HEADS[name].scores(model, head_logits(model, batch), batch)


@SOME
@EVERY_HEAD
def test_a_model_comes_back_from_disk_with_its_head(name: str, model_type: str, tmp_path: Path):
    model = tiny_model(model_type, name, num_labels=2)
    model.save_pretrained(tmp_path)
    again = load_encoder(tmp_path, head=name)
    assert type(again).__name__.endswith(HEADS[name].ending)
    batch = make_batch(name)
    assert torch.equal(scores_of(model, name, batch), scores_of(again, name, batch))


def test_an_architecture_without_a_model_for_questions_gets_one(tmp_path: Path):
    model = tiny_model("eurobert", "span", num_labels=2)
    assert type(model).__name__ == "EuroBertForQuestionAnswering"
    assert scores_of(model, "span", make_batch("span")).shape == (2, 7, 2)


def test_the_root_is_the_begin_piece_and_a_word_the_mean_of_its_pieces():
    torch.manual_seed(0)
    head, states = Biaffine(8, 3, pooling="mean"), torch.randn(1, 6, 8)
    firsts, lasts = torch.tensor([[1, 4]]), torch.tensor([[3, 4]])
    found = head.pairs(head(states), firsts, lasts)
    pieces = head(states)
    words = torch.stack([pieces[0, 1:4].mean(0), pieces[0, 4]])
    dependent, _, relation_dependent, _ = words.split(head.sizes, dim=-1)
    both = torch.cat([pieces[0, :1], words]).split(head.sizes, dim=-1)
    arcs = head.arc(dependent) @ both[1].T
    assert torch.allclose(found[0, :, :, 0], arcs, atol=1e-5)
    mixed = head.relation(relation_dependent).view(2, 3, -1)
    relations = torch.einsum("wrq,hq->whr", mixed, both[3])
    relations = relations + head.of_dependent(relation_dependent)[:, None] + head.of_head(both[3])
    assert torch.allclose(found[0, :, :, 1:], relations, atol=1e-5)


def test_no_word_is_its_own_head_nor_hangs_on_padding():
    batch = make_batch("tree")
    scores = torch.randn(2, 3, 4, 4)
    rows = HEADS["tree"].answers(scores, batch, None)["heads"]
    assert rows.shape == (4, 4), "four owned words"
    itself = [1, 2, 1, 2]
    assert (rows[torch.arange(4), torch.tensor(itself)] == NEVER).all()
    assert (rows[2:, 3] == NEVER).all(), "the second window has two words"


def test_relations_are_read_at_the_gold_head_or_else_at_the_guides():
    batch = make_batch("tree")
    scores, guide = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    found = HEADS["tree"].answers(scores, batch, guide)["relations"]
    assert torch.equal(found[0], scores[0, 0, 2, 1:])
    unknown = {**batch, "heads": torch.full_like(batch["heads"], -100)}
    best = HEADS["tree"].answers(guide, unknown, None)["heads"][0].argmax()
    found = HEADS["tree"].answers(scores, unknown, guide)["relations"]
    assert torch.equal(found[0], scores[0, 0, best, 1:])


def test_answers_to_questions_are_the_contexts_pieces_or_the_begin_piece():
    batch = make_batch("span")
    rows = HEADS["span"].answers(torch.randn(2, 7, 2), batch, None)["start"]
    assert ((rows > NEVER) == torch.tensor([[1, 0, 0, 1, 1, 1, 1], [1, 0, 0, 1, 1, 0, 0]])).all()


def test_windows_in_which_no_word_begins_have_no_pairs():
    head = Biaffine(8, 3, pooling="mean")
    none = torch.empty((2, 0), dtype=torch.int64)
    assert head.pairs(head(torch.randn(2, 5, 8)), none, none).shape == (2, 0, 1, 4)


def test_a_pooler_is_part_of_the_head():
    teacher, student = (tiny_model("bert", "text", num_labels=3) for _ in range(2))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(0.5)
    copied = copy_head(teacher, student)
    assert {"bert.pooler.dense.weight", "classifier.weight"} <= set(copied)
    assert not any("encoder.layer" in name or "embeddings" in name for name in copied)


def test_positions_say_how_long_a_text_may_be():
    assert most_pieces(tiny_model("modernbert").config) is None
    bert, xlmr = tiny_model("bert").config, tiny_model("xlm-roberta").config
    assert most_pieces(bert) == bert.max_position_embeddings
    assert most_pieces(xlmr) == xlmr.max_position_embeddings - xlmr.pad_token_id - 1
