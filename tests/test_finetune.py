"""Windows into batches, logits back in the windows' order, and a task that is learnt."""

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedModel

from limbeck import answering
from limbeck.errors import DataError
from limbeck.finetune import (
    ENTRY,
    Lesson,
    Pace,
    calibrate,
    exact_share,
    judge_of,
    label_terms,
    outputs_of,
    pad,
    predict,
    tune,
    window_batches,
)
from limbeck.sections import Machine
from limbeck.tasks import TASKS
from limbeck.tasks.reading import Answer, Question
from limbeck.tasks.tagging import TaggedSentence
from limbeck.tasks.windows import Window
from limbeck.training import Batch
from test_encoder import tiny_model

PAD, CLASSES = 3, 3
LABELS = ("NOUN", "VERB", "DET")
LEXICON = {
    "NOUN": [f"n{i}" for i in range(12)],
    "VERB": [f"v{i}" for i in range(8)],
    "DET": ["d0", "d1"],
}
POS = TASKS["pos"]
HERE = Machine(device="cpu", precision="fp32")


def window(length: int, seed: int = 0, example: int = 0) -> Window:
    draw = np.random.default_rng([seed, length])
    words = np.full(length, -100, dtype=np.int64)
    firsts = np.arange(1, length - 1, 2)
    words[firsts] = np.arange(len(firsts))
    labels = np.where(words >= 0, draw.integers(0, CLASSES, length), -100)
    return Window(example, draw.integers(5, 53, length), {"words": words, "labels": labels})


def real_lengths(count: int) -> np.ndarray:
    """Lengths as tagged sentences have them: mean 28 pieces, standard deviation 17, at most 128."""
    drawn = np.random.default_rng(1).gamma(2.6, 10.0, count)
    return np.clip(drawn.astype(int) + 3, 3, 128)


def same_batch(a: Batch, b: Batch) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_pad_puts_windows_side_by_side() -> None:
    windows = [window(4), window(7), window(3)]
    batch = pad(windows, PAD)
    assert {tuple(tensor.shape) for tensor in batch.values()} == {(3, 7)}
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())
    for row, one in enumerate(windows):
        length = len(one.pieces)
        assert batch["input_ids"][row, :length].tolist() == one.pieces.tolist()
        assert batch["labels"][row, :length].tolist() == one.marks["labels"].tolist()
        assert batch["words"][row, :length].tolist() == one.marks["words"].tolist()
        assert batch["attention_mask"][row].tolist() == [1] * length + [0] * (7 - length)
        assert set(batch["input_ids"][row, length:].tolist()) <= {PAD}
        assert set(batch["labels"][row, length:].tolist()) <= {-100}
        assert set(batch["words"][row, length:].tolist()) <= {-100}


@pytest.mark.parametrize(("count", "batch"), [(1, 4), (7, 3), (64, 8), (1000, 8), (257, 1)])
def test_every_epoch_visits_each_window_once(count: int, batch: int) -> None:
    windows = [window(int(n), seed=i, example=i) for i, n in enumerate(real_lengths(count))]
    for one, i in zip(windows, range(count), strict=True):
        one.pieces[0] = 1000 + i
    at = window_batches(windows, batch=batch, seed=0, pad_id=PAD)
    per_epoch = -(-count // batch)
    for epoch in range(3):
        rows = [at(epoch * per_epoch + i)["input_ids"][:, 0].tolist() for i in range(per_epoch)]
        assert sorted(itertools.chain.from_iterable(rows)) == [1000 + i for i in range(count)]
        assert all(len(row) <= batch for row in rows)
        assert sum(len(row) < batch for row in rows) <= 1


def test_batches_are_a_pure_function_of_the_step() -> None:
    windows = [window(int(n), seed=i, example=i) for i, n in enumerate(real_lengths(100))]
    steps = list(range(60))
    shuffled = random.Random(0).sample(steps, len(steps))
    forward = window_batches(windows, batch=8, seed=4, pad_id=PAD)
    backward = window_batches(windows, batch=8, seed=4, pad_id=PAD)
    expected = {step: forward(step) for step in steps}
    assert all(same_batch(backward(step), expected[step]) for step in shuffled)
    other = window_batches(windows, batch=8, seed=5, pad_id=PAD)
    assert not all(same_batch(other(step), expected[step]) for step in steps)


def test_epochs_differ_in_batches_and_in_their_order() -> None:
    windows = [window(int(n), seed=i, example=i) for i, n in enumerate(real_lengths(512))]
    at = window_batches(windows, batch=8, seed=0, pad_id=PAD)
    first, second = (
        [tuple(map(tuple, at(e * 64 + i)["input_ids"].tolist())) for i in range(64)] for e in (0, 1)
    )
    assert len(set(first) & set(second)) < 4
    widths = [at(i)["input_ids"].shape[1] for i in range(64)]
    assert widths != sorted(widths) and max(widths[:8]) - min(widths[:8]) > 10


@pytest.mark.parametrize(("batch", "most"), [(8, 0.06), (32, 0.08)])
def test_little_of_a_batch_is_padding(batch: int, most: float) -> None:
    windows = [window(int(n)) for n in real_lengths(4096)]
    at = window_batches(windows, batch=batch, seed=0, pad_id=PAD)
    masks = [at(step)["attention_mask"] for step in range(len(windows) // batch)]
    wasted = 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)
    assert wasted < most
    unsorted = [pad(windows[i : i + batch], PAD)["attention_mask"] for i in range(0, 2048, batch)]
    assert 1 - sum(int(m.sum()) for m in unsorted) / sum(m.numel() for m in unsorted) > 0.4


def test_there_must_be_something_to_learn_from() -> None:
    with pytest.raises(DataError, match="nothing to learn from; found no sentence"):
        window_batches([], batch=8, seed=0, pad_id=PAD)


def test_label_terms_count_labelled_pieces_alone() -> None:
    model = tiny_model("bert", "tagging", num_labels=CLASSES)
    windows = [window(9), window(5)]
    batch = pad(windows, PAD)
    with torch.no_grad():
        found = label_terms("tagging")(model, batch)["gold"].item()
        losses = []
        for one in windows:
            logits = model(input_ids=torch.from_numpy(one.pieces)[None]).logits[0].double()
            chosen = logits.log_softmax(-1)
            losses += [
                -float(chosen[t, k]) for t, k in enumerate(one.marks["labels"].tolist()) if k >= 0
            ]
    assert found == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta", "modernbert", "deberta-v2"])
def test_logits_do_not_depend_on_the_batch_and_keep_the_order(model_type: str) -> None:
    model = tiny_model(model_type, "tagging", num_labels=CLASSES)
    windows = [window(n, example=i) for i, n in enumerate((5, 17, 3, 17, 9, 4, 12, 3, 20))]
    alone = outputs_of(model, windows, batch_pieces=1, head="tagging")
    together = outputs_of(model, windows, batch_pieces=10_000, head="tagging")
    some = outputs_of(model, windows, batch_pieces=40, head="tagging")
    for one, a, b, c in zip(windows, alone, together, some, strict=True):
        assert a.shape == (len(one.pieces), CLASSES) and a.dtype == np.float32
        assert np.abs(a - b).max() < 1e-5 and np.abs(a - c).max() < 1e-5
        with torch.no_grad():
            expected = model(input_ids=torch.from_numpy(one.pieces)[None]).logits[0].numpy()
        assert np.abs(a - expected).max() < 1e-5


def test_a_batch_holds_no_more_pieces_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = tiny_model("bert", "tagging"), []
    model.register_forward_pre_hook(
        lambda module, inputs, named: seen.append(named["input_ids"].numel()), with_kwargs=True
    )
    outputs_of(
        model, [window(n) for n in (20, 3, 3, 3, 3, 9, 10, 11)], batch_pieces=24, head="tagging"
    )
    assert max(seen) <= 24 and len(seen) < 8


@pytest.mark.parametrize("training", [True, False])
def test_logits_leave_the_mode_and_the_gradients_of_the_model(training: bool) -> None:
    model = tiny_model("bert", "tagging", hidden_dropout_prob=0.5).train(training)
    first, second = (outputs_of(model, [window(6)], head="tagging")[0] for _ in range(2))
    assert np.array_equal(first, second)
    assert model.training is training and model.device.type == "cpu"
    label_terms("tagging")(model, pad([window(6)], PAD))["gold"].backward()
    assert outputs_of(model, [], head="tagging") == []


# a toy task


def sentences(count: int, seed: int) -> list[TaggedSentence]:
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        labels = tuple(draw.choice((("DET", "NOUN", "VERB"), ("NOUN", "VERB"), ("DET", "NOUN"))))
        words = tuple(draw.choice(LEXICON[label]) for label in labels)
        found.append(TaggedSentence(words, labels))
    return found


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    names = ["<pad>", "<s>", "</s>", "<unk>", *"abcdefghij", *itertools.chain(*LEXICON.values())]
    vocabulary = {name: i for i, name in enumerate(dict.fromkeys(names))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return made


def tagger(tokenizer: Tokenizer) -> PreTrainedModel:
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=48,
        pad_token_id=0,
        id2label=dict(enumerate(LABELS)),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.BertForTokenClassification(config).eval()


def lesson(train: list[TaggedSentence]) -> Lesson:
    return Lesson(POS, train=train, dev=sentences(32, 2), labels=LABELS, max_pieces=40)


def tuned(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    work: Path,
    *,
    examples: int = 128,
    epochs: float = 3,
    **distillation: Any,
) -> Any:
    pace = Pace(epochs, batch_sentences=16, learning_rate=1e-2, evaluations=3, seed=0)
    return tune(
        model,
        tokenizer,
        lesson=lesson(sentences(examples, 1)),
        pace=pace,
        work=work,
        machine=HERE,
        **distillation,
    )


def accuracy(model: PreTrainedModel, tokenizer: Tokenizer, examples: list[TaggedSentence]) -> float:
    found = predict(model, tokenizer, task=POS, examples=examples, labels=LABELS, max_pieces=40)
    right = [
        a == b
        for one, guess in zip(examples, found, strict=True)
        for a, b in zip(one.labels, guess, strict=True)
    ]
    return float(np.mean(right))


def test_tune_learns_a_toy_task_and_its_judge_counts_as_predict_does(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model, test = tagger(tokenizer), sentences(64, 3)
    before = accuracy(model, tokenizer, test)
    history = tuned(model, tokenizer, tmp_path)
    assert before < 0.7 and accuracy(model, tokenizer, test) > 0.95
    judged = [row["judged"] for row in history if "judged" in row]
    assert len(judged) == 3
    assert accuracy(model, tokenizer, sentences(32, 2)) == pytest.approx(max(judged))
    judge = judge_of(lesson([]), tokenizer, device=torch.device("cpu"))
    assert judge(model) == pytest.approx(max(judged))


def test_predictions_are_one_label_a_word_in_the_order_of_the_sentences(
    tokenizer: Tokenizer,
) -> None:
    examples = [*sentences(20, 4), TaggedSentence(("n1", "zzz", "v1") * 18)]
    model = tagger(tokenizer)
    found = predict(model, tokenizer, task=POS, examples=examples, labels=LABELS, max_pieces=40)
    assert [len(labels) for labels in found] == [len(one.words) for one in examples]
    assert {label for labels in found for label in labels} <= set(LABELS)
    one_by_one = [
        predict(model, tokenizer, task=POS, examples=[one], labels=LABELS, max_pieces=40)[0]
        for one in examples
    ]
    assert found == one_by_one


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.29, 0.9])
@pytest.mark.parametrize("epochs", [0.5, 1.0, 2.0])
def test_text_steps_come_on_top_of_the_labelled_ones(
    tokenizer: Tokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    epochs: float,
) -> None:
    import limbeck.finetune
    from limbeck.distil import weave_text

    steps: list[int] = []
    monkeypatch.setattr(
        limbeck.finetune,
        "fit",
        lambda model, batches, *, budget, **_: steps.extend(
            1 if batches(step) is text else 0 for step in range(budget.steps)
        ),
    )
    text: Batch = {}
    tuned(
        tagger(tokenizer),
        tokenizer,
        tmp_path,
        mix=lambda labelled, windows: weave_text(labelled, lambda step: text, share),
        text_share=share,
        epochs=epochs,
        examples=11 * 16,
    )
    assert steps.count(0) == round(epochs * 11)
    assert steps.count(1) == int(len(steps) * exact_share(share))


def test_an_exact_share_is_what_was_written() -> None:
    assert [str(exact_share(share)) for share in (0.1, 0.29, 1 / 3)] == ["1/10", "29/100", "1/3"]


def test_a_threshold_is_chosen_on_dev_kept_in_the_config_and_used(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B </s>",
        special_tokens=[("<s>", 1), ("</s>", 2)],
    )
    model = tiny_model("bert", "span", num_labels=2)
    asked = [
        Question("n1", "n2 n3 n4", (Answer("n3", 3),)),
        Question("n2", "n5 n6", answerable=False),
    ]
    lesson = Lesson(TASKS["qa"], asked, asked, ("start", "end"), max_pieces=32)
    calibrate(model, tokenizer, lesson=lesson, device=torch.device("cpu"))
    (threshold,) = getattr(model.config, ENTRY)["settings"].values()
    options: Any = {"task": TASKS["qa"], "examples": asked, "labels": (), "max_pieces": 32}
    found = predict(model, tokenizer, **options)
    assert [one.text == "" for one in found] == [-one.score > threshold for one in found]
    lesson = Lesson(TASKS["qa"], asked[:1], asked[:1], ("start", "end"), max_pieces=32)
    calibrate(model, tokenizer, lesson=lesson, device=torch.device("cpu"))
    assert getattr(model.config, ENTRY)["settings"] == {}, "nothing of the old one is left"
    assert all(one.text for one in predict(model, tokenizer, **options))


def test_parts_of_a_set_are_answered_as_the_whole(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("bert", "tagging", num_labels=CLASSES)
    examples = [TaggedSentence((f"n{i}", "d0", f"v{i % 8}")) for i in range(7)]
    options: Any = {"task": POS, "examples": examples, "labels": LABELS, "max_pieces": 40}
    whole = predict(model, tokenizer, **options)
    monkeypatch.setattr(answering, "_PART", 2)
    assert predict(model, tokenizer, **options) == whole
