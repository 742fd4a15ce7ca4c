"""What stands for a word in the parser: its first piece, or the mean of its pieces.

    python -m benchmarks.pooling --data DATA --teacher TEACHER --sentences 3000 --seeds 0 1

Tunes the teacher on the first English sentences with either, and scores English dev; no other
language is read. Prints a Markdown table.
"""

import argparse
import tempfile
from pathlib import Path

from limbeck import heads
from limbeck.benchmarks import BENCHMARKS, load
from limbeck.encoder import load_encoder
from limbeck.evaluate import score
from limbeck.finetune import Lesson, Pace, predict, tune
from limbeck.sections import Machine
from limbeck.tasks import TASKS
from limbeck.tokenizer import load_tokenizer

TASK = TASKS["parsing"]


def scores_of(pooling: str, seed: int, given: argparse.Namespace) -> dict[str, float]:
    """Tune with one pooling and give the metrics on English dev."""
    heads.POOLING = pooling
    found = {
        split: load(BENCHMARKS["ud"], root=given.data / "ud", language="eng", split=split)
        for split in ("train", "dev")
    }
    labels, dev = found["train"].labels, found["dev"].examples
    lesson = Lesson(
        TASK,
        train=found["train"].examples[: given.sentences],
        dev=dev[:300],
        labels=labels,
        max_pieces=128,
    )
    model = load_encoder(given.teacher, head="tree", attention="sdpa", labels=labels, seed=seed)
    tokenizer = load_tokenizer(given.teacher)
    pace = Pace(epochs=1, batch_sentences=32, learning_rate=3e-4, evaluations=1, seed=seed)
    machine = Machine()
    with tempfile.TemporaryDirectory() as work:
        tune(model, tokenizer, lesson=lesson, pace=pace, work=Path(work), machine=machine)
    told = predict(model, tokenizer, task=TASK, examples=dev, labels=labels, max_pieces=128)
    return score(TASK, dev, told, language="eng", resamples=1).metrics


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=3000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    given = parser.parse_args()
    print("| word | seed | UAS | LAS |\n|---|---:|---:|---:|")
    for seed in given.seeds:
        for pooling in ("first", "mean"):
            found = scores_of(pooling, seed, given)
            print(f"| {pooling} | {seed} | {100 * found['uas']:.2f} | {100 * found['las']:.2f} |")


if __name__ == "__main__":
    main()
