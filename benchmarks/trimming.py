"""How long trimming takes: counting a million lines, and rewriting 250,000 pieces.

    python benchmarks/trimming.py --teacher $TEACHER --corpus $DATA/corpora/eng.txt

The lines are real ones, repeated. The large vocabulary is generated: a Unigram tokenizer of random
pieces and an XLM-R model of two layers, both written to a temporary folder. Prints one JSON object.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from limbeck.encoder import quiet
from limbeck.student import trim_model
from limbeck.tokenizer import load_tokenizer, trim_tokenizer
from limbeck.vocabulary import choose, count

ROUNDS = 3


def repeated(corpus: Path, lines: int) -> Iterator[str]:
    """Give so many lines of a file, from its start again when it ends."""
    return islice(cycle(corpus.read_text(encoding="utf-8").splitlines()), lines)


def seconds_of(action: Callable[[], Any]) -> float:
    """Give the seconds of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def spread(seconds: list[float]) -> dict[str, float]:
    """Give median, least and most."""
    return {
        "median": round(median(seconds), 3),
        "least": round(min(seconds), 3),
        "most": round(max(seconds), 3),
    }


def write_large(folder: Path, pieces: int) -> None:
    """Write a Unigram tokenizer and an XLM-R model of so many pieces."""
    chance = random.Random(0)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    letters = "abcdefghijklmnopqrstuvwxyzàáèéẹìíòóọùúṣńǹ"
    made = dict.fromkeys([*special, "▁", *letters])
    while len(made) < pieces - 1:
        start = "▁" if chance.random() < 0.5 else ""
        made[start + "".join(chance.choices(letters, k=chance.randint(2, 9)))] = None
    made["<mask>"] = None
    vocabulary = [(piece, -8 - 10 * chance.random()) for piece in made]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([*special, "<mask>"])
    ids = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=ids)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "XLMRobertaTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def large_model(pieces: int) -> transformers.PreTrainedModel:
    """Give an XLM-R model of two layers and width 384."""
    config = transformers.XLMRobertaConfig(
        vocab_size=pieces,
        hidden_size=384,
        num_hidden_layers=2,
        num_attention_heads=12,
        intermediate_size=1536,
        max_position_embeddings=514,
    )
    return transformers.XLMRobertaForMaskedLM(config)


def measure(teacher: Path, corpus: Path, lines: int, pieces: int) -> dict[str, Any]:
    """Measure counting, choosing and rewriting."""
    found: dict[str, Any] = {"lines": lines, "pieces": pieces, "rounds": ROUNDS}
    tokenizer = load_tokenizer(teacher)
    texts = list(repeated(corpus, lines))
    found["characters"] = sum(map(len, texts))
    start = time.perf_counter()
    counts = count(tokenizer, texts)
    found["count_seconds"] = round(time.perf_counter() - start, 1)
    found["counted_pieces"] = int(counts.pieces.sum())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_large(folder, pieces)
        large = load_tokenizer(folder)
        counted = {"und": count(large, repeated(corpus, 10_000))}
        chosen = [seconds_of(lambda: choose(counted, large)) for _ in range(ROUNDS)]
        kept = np.random.default_rng(0).choice(pieces, pieces // 8, replace=False)
        rewritten = [
            seconds_of(lambda n=n: trim_tokenizer(folder, kept, folder / str(n)))
            for n in range(ROUNDS)
        ]
        final = trim_tokenizer(folder, kept, folder / "last").kept
        with quiet():
            model = large_model(pieces)
        cut = [seconds_of(lambda: trim_model(model, np.asarray(final))) for _ in range(ROUNDS)]
        saved = [seconds_of(lambda: save(model, final, folder / "model"))]
    found |= {
        "pieces_kept": len(final),
        "choose_seconds": spread(chosen),
        "rewrite_tokenizer_seconds": spread(rewritten),
        "trim_model_seconds": spread(cut),
        "trim_and_save_model_seconds": spread(saved),
    }
    return found


def save(model: transformers.PreTrainedModel, kept: np.ndarray, folder: Path) -> None:
    """Trim a model and write it."""
    with quiet():
        trim_model(model, kept).save_pretrained(folder)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=Path, required=True, help="folder with the tokenizer")
    parser.add_argument("--corpus", type=Path, required=True, help="a text file of real lines")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--pieces", type=int, default=250_000)
    given = parser.parse_args()
    print(json.dumps(measure(given.teacher, given.corpus, given.lines, given.pieces), indent=1))


if __name__ == "__main__":
    main()
