"""A model in a process of its own, asked over a pipe: what `limbeck bench` times.

    python -m limbeck.bench_process PLACE THREADS [BACKEND]

Reads a JSON object a line and answers each with one. A process each, for what one library leaves
spinning or allocated must not be counted against another.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from limbeck.answering import TaskModel
from limbeck.asking import PAIRS, read_line
from limbeck.bench import Cost
from limbeck.bundle import is_bundle
from limbeck.corpus import word_places
from limbeck.errors import DataError, LimbeckError

_QUESTION_WORDS = 6
"""Words of a text that are made a question, where a task is asked one."""

_STATUS = Path("/proc/self/status")
_ENERGY = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True)
class _Subject:
    model: TaskModel
    precision: str
    backend: str
    cost: Cost | None
    threads_of: Callable[[int], int]


def main() -> None:
    """Serve one model until the pipe closes."""
    # Whatever a library prints must not be taken for an answer.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        subject = _load(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
        examples: list[Any] = []
        for line in sys.stdin:
            asked = json.loads(line)
            if "texts" in asked:
                examples = examples_of(subject.model.task.name, asked["texts"])
                _send(replies, _facts(subject, examples))
            else:
                _send(replies, _answer(subject.model, examples, asked))
    except LimbeckError as error:
        _send(replies, {"error": str(error)})
    except ModuleNotFoundError as error:
        _send(replies, {"error": f"no {error.name}; pip install 'limbeck[train]'"})
    except Exception as error:  # of any library: the process that asks must tell it
        _send(replies, {"error": f"{type(error).__name__}: {error}"})
        raise


def examples_of(task: str, texts: Sequence[str]) -> list[Any]:
    """Give lines as examples: of `limbeck predict`'s kind, or running text made fit for the task.

    A question is asked of a text's first words; the second text of a pair is the next line.

    Args:
        task: A name of `TASKS`.
        texts: One a line.

    Raises:
        DataError: A line is not what the task is asked of, or none holds anything.
    """
    found = []
    for number, (text, after) in enumerate(
        zip(texts, [*texts[1:], *texts[:1]], strict=True), start=1
    ):
        line = text
        if not text.lstrip().startswith("{"):
            if task == "qa":
                question = " ".join(text.split()[:_QUESTION_WORDS])
                line = json.dumps({"question": question, "context": text})
            elif task in PAIRS and "\t" not in text:
                line = f"{text}\t{after}"
        example = read_line(task, line, f"text {number}").example
        if example is not None:
            found.append(example)
    if not found:
        raise DataError("there is nothing to time", where="the texts", expected="lines of text")
    return found


def _load(place: Path, threads: int, backend: str | None = None) -> _Subject:
    if is_bundle(place):
        from limbeck.runtime import load

        ready = load(place, threads=threads, backend=backend)
        about = ready.about
        cost, runs = Cost(**about.cost) if about.cost else None, backend or about.backend
        return _Subject(ready.model, about.precision, runs, cost, ready.reader.threads_of)
    import torch

    from limbeck.judge import load_tuned
    from limbeck.parameters import cost_of

    torch.set_num_threads(threads)
    model, asked = load_tuned(str(place))
    return _Subject(asked, "fp32", "torch", cost_of(model), lambda pieces: threads)


def _facts(subject: _Subject, examples: Sequence[Any]) -> dict[str, Any]:
    """Answer the first, and tell what there is to tell of the model and of each example."""
    model = subject.model
    model.answer(examples[:1])
    windows = model.task.encode(examples, model.tokenizer, None, max_pieces=model.max_pieces)
    pieces: list[list[int]] = [[] for _ in examples]
    for window in windows:
        pieces[window.example].append(len(window.pieces))
    return {
        "task": model.task.name,
        "backend": subject.backend,
        "text_threads": subject.threads_of(
            statistics.median_low([max(one, default=0) for one in pieces])
        ),
        "precision": subject.precision,
        "cost": asdict(subject.cost) if subject.cost else None,
        "pieces": pieces,
        "words": [_count_words(example) for example in examples],
    }


def _count_words(example: Any) -> int:
    """Give how many words an example holds: all of its texts', or those that it has already."""
    if hasattr(example, "words"):
        return len(example.words)
    parts = (getattr(example, name, None) for name in ("text", "pair", "question", "context"))
    return sum(len(word_places(part)) for part in parts if part)


def _answer(model: TaskModel, examples: Sequence[Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    if "time" in asked:
        one = examples[asked["time"]]
        return {"ms": 1000 * _seconds(model, [[one]])}
    if "batch" in asked:
        parts = list(_parts(examples, asked["batch"]))
        before = energy_joules()
        seconds = _seconds(model, parts)
        after = energy_joules()
        spent = None if before is None or after is None or after < before else after - before
        return {"seconds": seconds, "joules": spent}
    return {"peak_memory_bytes": peak_memory_bytes()}


def _parts(examples: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(examples), size):
        yield examples[start : start + size]


def _seconds(model: TaskModel, parts: Sequence[Sequence[Any]]) -> float:
    started = time.perf_counter()
    for part in parts:
        model.answer(part)
    return time.perf_counter() - started


def peak_memory_bytes() -> int | None:
    """Give the most memory that this process has held, libraries included; None if unknown."""
    # The kernel's other count, of `getrusage`, starts with what the process that forked it held.
    if _STATUS.exists():
        lines = (line.split() for line in _STATUS.read_text().splitlines())
        return next((1024 * int(line[1]) for line in lines if line[:1] == ["VmHWM:"]), None)
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def energy_joules() -> float | None:
    """Give what the processors' counters of energy stand at; None where none can be read."""
    found = []
    try:
        for zone in sorted(_ENERGY.glob("intel-rapl:?")):
            # Another zone, of the whole platform, holds the packages too.
            if (zone / "name").read_text().startswith("package"):
                found.append(int((zone / "energy_uj").read_text()) / 1e6)
    except (OSError, ValueError):
        return None
    return sum(found) if found else None


def _send(replies: TextIO, reply: Mapping[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
