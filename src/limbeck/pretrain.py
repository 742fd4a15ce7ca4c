"""Masked language modelling: a model drawn at random, and trained on text of several languages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel

from limbeck.architectures import ARCHITECTURES
from limbeck.blocks import MaskedBatch, PackedText
from limbeck.encoder import masked_logits, quiet
from limbeck.errors import ModelError
from limbeck.losses import mlm
from limbeck.mixture import mixture, sampling_shares, turns
from limbeck.pretrain_recipe import Model, Training
from limbeck.sections import Machine
from limbeck.tasks.windows import special_pieces
from limbeck.training import Batch, Budget, Terms, choose_device, fit

_MOST_HELD_OUT = 64
"""Blocks of a language that its held-out loss is measured on."""


def build_model(
    model: Model, tokenizer: Tokenizer, *, pad: str, dropout: float, seed: int
) -> PreTrainedModel:
    """Draw a masked language model for a tokenizer; its decoder is tied to its embeddings.

    Args:
        model: What kind and how large.
        tokenizer: Gives the number of pieces and the ids of the begin and end pieces.
        pad: The padding piece.
        dropout: Of states and attention; classifiers drop nothing.
        seed: Seed of the weights.

    Raises:
        ModelError: The tokenizer has no such padding piece.
    """
    pad_id, special = tokenizer.token_to_id(pad), special_pieces(tokenizer)
    if pad_id is None:
        raise ModelError("the tokenizer has no padding piece", found=pad)
    begin, end = special.begin[0], special.end[-1]
    entries = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": model.width,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "pad_token_id": pad_id,
        "bos_token_id": begin,
        "cls_token_id": begin,
        "eos_token_id": end,
        "sep_token_id": end,
        **_ENTRIES[model.architecture](model, pad_id),
    }
    for name in ARCHITECTURES[model.architecture].dropouts:
        entries[name] = 0.0 if name.startswith("classifier") else dropout
    config = AutoConfig.for_model(model.architecture, **entries)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        built = AutoModelForMaskedLM.from_config(config, attn_implementation="sdpa")
    return built.float()  # type: ignore[no-any-return]


def _bert(model: Model, pad_id: int) -> dict[str, Any]:
    return {
        "intermediate_size": model.feed_forward or 4 * model.width,
        "max_position_embeddings": model.positions,
    }


def _xlm_roberta(model: Model, pad_id: int) -> dict[str, Any]:
    return {
        "intermediate_size": model.feed_forward or 4 * model.width,
        # Its positions start after the padding id.
        "max_position_embeddings": model.positions + pad_id + 1,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
    }


def _modernbert(model: Model, pad_id: int) -> dict[str, Any]:
    rotary = {"rope_type": "default", "rope_theta": 10_000.0}
    return {
        "intermediate_size": model.feed_forward or 3 * model.width // 2,
        "max_position_embeddings": model.positions,
        "global_attn_every_n_layers": model.global_every,
        "local_attention": model.window,
        # ModernBERT raises the global base to 160,000 only to extend its context past 1,024.
        "rope_parameters": {"full_attention": rotary, "sliding_attention": dict(rotary)},
        "classifier_pooling": "mean",
    }


_ENTRIES: dict[str, Callable[[Model, int], dict[str, Any]]] = {
    "bert": _bert,
    "xlm-roberta": _xlm_roberta,
    "modernbert": _modernbert,
}


def mlm_batch(masked: MaskedBatch) -> Batch:
    """Give masked blocks as a batch: `input_ids`, `attention_mask`, `labels`, int64 [B, T]."""
    ids = torch.from_numpy(masked.ids)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.from_numpy(masked.labels),
    }


def masked_batches(
    ids_at: Callable[[int], np.ndarray], text: PackedText, *, masking: float, seed: int
) -> Callable[[int], Batch]:
    """Give a pure function of the step: masked blocks.

    Args:
        ids_at: Step to blocks, int64 [B, T].
        text: Knows the mask piece and what is never masked.
        masking: Share of pieces masked.
        seed: Of the places, with the step.
    """

    def at(step: int) -> Batch:
        draw = np.random.default_rng([seed, step, 1])
        return mlm_batch(text.mask(ids_at(step), rng=draw, probability=masking))

    return at


def mlm_terms(model: PreTrainedModel, batch: Batch) -> Terms:
    """Masked language modelling: the cross-entropy at the masked pieces."""
    labels = batch["labels"]
    logits = masked_logits(model, batch["input_ids"], batch["attention_mask"], labels >= 0)
    return {"mlm": mlm(logits, labels)}


def held_out_mlm(
    model: PreTrainedModel, text: PackedText, *, batch: int, masking: float, device: torch.device
) -> dict[str, float]:
    """Give the mean loss of each language's masked pieces, in nats.

    The first blocks of the held-out text are read, always masked at the same places.

    Args:
        text: Held-out blocks by language.
        batch: Blocks read at once; changes nothing.
        masking: Share of pieces masked.
        device: Where the model is.
    """
    found = {}
    for language, blocks in sorted(text.held_out.items()):
        masked = [
            text.mask(blocks.block(i)[None], rng=np.random.default_rng([i, 2]), probability=masking)
            for i in range(min(len(blocks), _MOST_HELD_OUT))
        ]
        total, count = 0.0, 0
        for start in range(0, len(masked), batch):
            some = masked[start : start + batch]
            together = MaskedBatch(
                np.concatenate([one.ids for one in some]),
                np.concatenate([one.labels for one in some]),
            )
            pieces = int((together.labels >= 0).sum())
            with torch.no_grad():
                moved = {name: one.to(device) for name, one in mlm_batch(together).items()}
                total += pieces * float(mlm_terms(model, moved)["mlm"])
            count += pieces
        found[language] = total / count
    return found


def mean_held_out(
    model: PreTrainedModel, text: PackedText, *, batch: int, masking: float, device: torch.device
) -> float:
    """Give the mean of `held_out_mlm` over languages, each counted alike."""
    losses = held_out_mlm(model, text, batch=batch, masking=masking, device=device)
    return sum(losses.values()) / len(losses)


def pretrain(
    model: PreTrainedModel,
    *,
    text: PackedText,
    training: Training,
    seed: int,
    work: Path,
    machine: Machine,
) -> list[dict[str, float]]:
    """Train a masked language model in place; its best weights by held-out loss are kept.

    Args:
        text: Blocks of `training.block_pieces`.

    Returns:
        The history, as `training.fit` gives it.
    """
    batch = max(1, training.batch_pieces // training.block_pieces)
    blocks = {language: len(one) for language, one in text.train.items()}
    order = turns(sampling_shares(blocks, training.sampling_exponent))
    device = choose_device(machine.device)

    batches = masked_batches(
        lambda step: mixture(text.train, order, batch=batch, step=step, seed=seed),
        text,
        masking=training.masking,
        seed=seed,
    )

    def judge(model: PreTrainedModel) -> float:
        masking = training.masking
        return -mean_held_out(model, text, batch=batch, masking=masking, device=device)

    budget = Budget(
        steps=training.steps,
        learning_rate=training.learning_rate,
        warmup=training.warmup,
        weight_decay=training.weight_decay,
        seed=seed,
        evaluations=training.evaluations,
    )
    return fit(
        model,
        batches,
        terms=mlm_terms,
        budget=budget,
        work=work,
        machine=machine,
        judge=judge,
        counts=lambda batch: {"mlm": int((batch["labels"] >= 0).sum())},
        name="pretrain",
    )
