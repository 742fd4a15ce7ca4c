"""Do languages share their states? Sentence retrieval on parallel text, at every layer."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from limbeck.encoder import layer_states

_BATCH_PIECES = 8192


def pooled_states(
    model: PreTrainedModel, tokenizer: Tokenizer, texts: Sequence[str], *, most_pieces: int
) -> np.ndarray:
    """Give each text's mean state at every layer; the begin and end pieces are not counted.

    Args:
        model: An encoder, with or without a head; it is read in eval mode and left in its own.
        tokenizer: Its truncation and padding are ignored.
        texts: N texts; one without any piece has states of zero.
        most_pieces: Longer texts are cut, the begin and end pieces kept.

    Returns:
        float32 [L + 1, N, D]: the embedding output, then each layer's.
    """
    limited = Tokenizer.from_str(tokenizer.to_str())
    limited.no_padding()
    limited.enable_truncation(most_pieces)
    encoded = limited.encode_batch_fast(list(texts))
    ids = [one.ids for one in encoded]
    inner = [[1 - mask for mask in one.special_tokens_mask] for one in encoded]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    was_training = model.training
    model.eval()
    found: dict[int, np.ndarray] = {}
    for some in _batches(order, [len(one) for one in ids]):
        for row, states in zip(
            some, _pooled(model, [ids[i] for i in some], [inner[i] for i in some]), strict=True
        ):
            found[row] = states
    model.train(was_training)
    return np.stack([found[i] for i in range(len(ids))], axis=1)


def _batches(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    batches: list[list[int]] = []
    for i in order:
        if not batches or (len(batches[-1]) + 1) * lengths[i] > _BATCH_PIECES:
            batches.append([])
        batches[-1].append(i)
    return batches


def _pooled(
    model: PreTrainedModel, ids: Sequence[Sequence[int]], inner: Sequence[Sequence[int]]
) -> np.ndarray:
    """Give float32 [N, L + 1, D] of texts of like length."""
    width = max(map(len, ids))
    padded = torch.zeros(3, len(ids), width, dtype=torch.int64)
    for row, (pieces, counted) in enumerate(zip(ids, inner, strict=True)):
        length = len(pieces)
        padded[0, row, :length] = torch.tensor(pieces)
        padded[1, row, :length] = 1
        padded[2, row, :length] = torch.tensor(counted)
    padded = padded.to(model.device)
    with torch.no_grad():
        states = layer_states(model, padded[0], padded[1], attention=False).hidden
    weights = padded[2].float()
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1.0)
    means = [torch.einsum("btd,bt->bd", one.float(), weights) for one in states]
    return torch.stack(means, dim=1).cpu().numpy()  # type: ignore[no-any-return]


def retrieval(states: Mapping[str, np.ndarray]) -> dict[str, dict[str, list[float]]]:
    """Give precision at one of finding each text's translation, at every layer.

    Args:
        states: Language → [L + 1, N, D], row n of each the same text.

    Returns:
        Language → other language → L + 1 shares of the former's texts whose most similar text
        (cosine) of the latter is their translation; ties go to the earlier line.

    Source: Dufter and Schütze 2020 (arXiv 2005.00396), their sentence retrieval.
    """
    found: dict[str, dict[str, list[float]]] = {language: {} for language in states}
    for one, other in combinations(states, 2):
        similar = [
            _normed(a) @ _normed(b).T for a, b in zip(states[one], states[other], strict=True)
        ]
        found[one][other] = [_hits(layer) for layer in similar]
        found[other][one] = [_hits(layer.T) for layer in similar]
    return found


def _normed(states: np.ndarray) -> np.ndarray:
    return states / np.maximum(np.linalg.norm(states, axis=-1, keepdims=True), 1e-12)


def _hits(similar: np.ndarray) -> float:
    return float((similar.argmax(1) == np.arange(len(similar))).mean())
