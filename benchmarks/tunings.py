"""Full tuning, LT-SFT at four densities and LoRA: teacher and student, three tasks, three targets.

    python -m benchmarks.tunings rates --data DATA --teacher TEACHER --out FOLDER
    python -m benchmarks.tunings run --data DATA --teacher TEACHER --store STORE --out FOLDER
    python -m benchmarks.tunings table --out FOLDER > results/tunings.md

`rates` tries learning rates on the teacher, with a seed that `run` does not take, and scores
English dev alone. `run` tunes on the first English sentences of a task and scores the first test
sentences of each language. Each task and seed leaves files in FOLDER and is not done again, so
several processes may share the work (`--tasks`, `--seeds`). The first training of LT-SFT, a full
one, is carried out once for all densities. The student is phase 1's of the shipped recipe `parsing`
(English and the three targets); its phase 2 is distilled from the teacher that was tuned in full,
without unlabelled text. No target's label is read but for the scores.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.zero_shot import machine_line
from limbeck.tasks import TASKS, Task

LANGUAGES = ("eng", "yor", "hau", "pcm")
DENSITIES = (0.01, 0.04, 0.08, 0.16)
RANK = 40
"""Of LoRA: as many numbers as LT-SFT moves at 8 % of afro-mini (1.02 M)."""
RATE_OF = {"full": 1e-3, "lt-sft": 3e-3, "lora": 1e-3}
"""Of each kind the best of `rates`, by the mean of pos and ner."""
RATES, RATES_SEED, RATES_DENSITY = (3e-4, 1e-3, 3e-3), 9, 0.08
"""What `rates` tries."""
SETTLED = "settled.json"
ATTENTION: Any = "eager"
"""Sentences are short: faster than SDPA in bf16 (results/machine.md)."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is learned of a task.

    Args:
        benchmark: A name of `BENCHMARKS`, and its folder in DATA.
        sentences: English ones that are learned from.
        epochs: Passes over them.
    """

    benchmark: tuple[str, str]
    sentences: int
    epochs: float


SETTINGS = {
    "pos": Setting(("masakhapos", "pos"), 3000, 2.0),
    "ner": Setting(("masakhaner", "ner"), 1800, 5.0),
    "parsing": Setting(("ud", "ud"), 2000, 2.0),
}
DEV = TEST = 300
"""Sentences that select weights, and that are scored."""
MAX_PIECES = 128


@dataclass(frozen=True, slots=True)
class Data:
    """A task's English sentences to learn from and select by, and the test sets."""

    labels: tuple[str, ...]
    train: tuple[Any, ...]
    dev: tuple[Any, ...]
    tests: dict[str, tuple[Any, ...]]


def part(task: str, root: Path, language: str, name: str) -> Any:
    """Load one part of one language's data."""
    from limbeck.benchmarks import find_benchmark, load

    benchmark, folder = SETTINGS[task].benchmark
    record = find_benchmark(benchmark)
    kinds = ("PER", "ORG", "LOC") if task == "ner" else None
    return load(record, root=root / folder, language=language, split=name, labels=kinds, task=task)


def read(task: str, root: Path, languages: Sequence[str] = LANGUAGES) -> Data:
    """Read what a setting names; Universal NER's English has no train file, so dev is divided."""
    from limbeck.benchmarks import divide

    if task == "ner":
        whole = part(task, root, "eng", "dev")
        train, dev = divide(whole.examples, task=task, fraction=0.1)
    else:
        whole = part(task, root, "eng", "train")
        train, dev = whole.examples, part(task, root, "eng", "dev").examples
    tests = {one: part(task, root, one, "test").examples[:TEST] for one in languages}
    learned = tuple(train[: SETTINGS[task].sentences])
    return Data(whole.labels, learned, tuple(dev[:DEV]), tests)


def ways_of(
    densities: Sequence[float] = DENSITIES, rates: Mapping[str, float] = RATE_OF
) -> dict[str, tuple[Any, float]]:
    """Give each way of tuning and its learning rate by its row."""
    from limbeck.sections import Tuning

    sparse = {
        f"LT-SFT {100 * share:g} %": Tuning(kind="lt-sft", density=share) for share in densities
    }
    lora = {f"LoRA, rank {RANK}": Tuning(kind="lora", rank=RANK)}
    every = {"full": Tuning(), **sparse, **lora}
    return {row: (tuning, rates[tuning.kind]) for row, tuning in every.items()}


@dataclass(frozen=True, slots=True)
class Pupil:
    """What is tuned: how it is loaded, its tokenizer, and its loss, None for plain tuning."""

    load: Callable[[], Any]
    tokenizer: Any
    terms: Any = None


def tunings_of(
    task: Task,
    data: Data,
    pupil: Pupil,
    *,
    ways: Mapping[str, tuple[Any, float]],
    seed: int,
    precision: Any,
) -> Iterator[tuple[str, Any, dict[str, float]]]:
    """Tune a pupil in every way; give each row, its model, and what it cost.

    Args:
        task: The record.
        data: What is learned.
        pupil: What is tuned.
        ways: Row to its tuning and learning rate; in full comes first.
        seed: Of the order of the sentences.
        precision: Of the training; answers are given in fp32.
    """
    from limbeck.parameters import encoder_tensors, head_tensors
    from limbeck.sparse import choose
    from limbeck.sparse_tuning import DELTA, entries_of, keep_chosen

    before = {n: one.detach().clone() for n, one in encoder_tensors(pupil.load()).items()}
    wholes: dict[float, Any] = {}
    how = {"seed": seed, "precision": precision}
    for row, (tuning, rate) in ways.items():
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            if tuning.kind == "lt-sft":
                if rate not in wholes:
                    first = work / "first"
                    wholes[rate], _ = learned(task, data, pupil, work=first, rate=rate, **how)
                after = {n: one.detach() for n, one in encoder_tensors(wholes[rate]).items()}
                keep_chosen(choose(before, after, entries_of(before, tuning)), work)
            model, cost = learned(task, data, pupil, work=work, rate=rate, tuning=tuning, **how)
            heads = sum(one.numel() for one in head_tensors(model).values())
            cost["bytes"] = _bytes(tuning, work / DELTA, before, heads)
        if tuning.kind == "full":
            wholes[rate] = model
        yield row, model, cost


def learned(
    task: Task,
    data: Data,
    pupil: Pupil,
    *,
    work: Path,
    rate: float,
    seed: int,
    precision: Any,
    tuning: Any = None,
) -> tuple[Any, dict[str, float]]:
    """Tune a pupil one way, in full unless told otherwise; give its model, and what it cost."""
    from limbeck.finetune import Lesson, tune
    from limbeck.sections import Machine, Tuning

    model = pupil.load()
    started = time.process_time()
    history = tune(
        model,
        pupil.tokenizer,
        lesson=Lesson(task, data.train, data.dev, data.labels, MAX_PIECES),
        pace=pace_of(task, rate=rate, seed=seed),
        work=work,
        machine=Machine(precision=precision),
        terms=pupil.terms,
        tuning=tuning or Tuning(),
    )
    return model, {
        "thread_seconds": time.process_time() - started,
        "pieces_per_second": float(np.median(rates_in(history))),
        "dev": max(row["judged"] for row in history if "judged" in row),
    }


def pace_of(task: Task, *, rate: float, seed: int) -> Any:
    """Give how long and how fast a task is learned."""
    from limbeck.finetune import Pace

    return Pace(SETTINGS[task.name].epochs, 32, rate, evaluations=2, seed=seed)


def rates_in(history: list[dict[str, float]]) -> list[float]:
    """Give the rates of a training, in pieces a second."""
    return [row["pieces_per_second"] for row in history if "pieces_per_second" in row]


def _bytes(tuning: Any, delta: Path, before: dict[str, Any], heads: int) -> int:
    """Give what has to be published, in bytes: the head and whatever moved."""
    if tuning.kind == "lt-sft":
        return delta.stat().st_size
    total = sum(one.numel() for one in before.values())
    if tuning.kind == "lora":
        # A layer's matrix is [out, in]; its two low-rank factors are rank x (out + in).
        layers = [one for n, one in before.items() if one.ndim == 2 and ".layers." in n]
        total = sum(RANK * sum(one.shape) for one in layers)
    return 4 * (total + heads)


def teacher_of(given: argparse.Namespace, task: Task, data: Data, *, seed: int) -> Pupil:
    """Give the teacher, untuned."""
    from limbeck.encoder import load_encoder
    from limbeck.tokenizer import load_tokenizer

    def load() -> Any:
        return load_encoder(
            given.teacher, head=task.head, attention=ATTENTION, labels=data.labels, seed=seed
        )

    return Pupil(load, load_tokenizer(given.teacher))


def student_of(
    given: argparse.Namespace, task: Task, data: Data, *, tuned: Any, seed: int
) -> Pupil:
    """Give phase 1's student, distilled from a tuned teacher with its vocabulary trimmed."""
    from benchmarks.zero_shot import recipe_of
    from limbeck import pipeline
    from limbeck.artifact import Store
    from limbeck.distil import task_bistil
    from limbeck.encoder import load_encoder
    from limbeck.piece_map import PieceMap
    from limbeck.stages import layer_plan_of
    from limbeck.student import copy_head, trim_model
    from limbeck.task_section import TaskObjective
    from limbeck.tokenizer import load_tokenizer

    places = argparse.Namespace(**vars(given) | {"seed": 0})
    recipe = recipe_of("parsing", [], places)
    made = pipeline.run(recipe, Store(given.store), until="general").artifacts
    vocabulary, folder = made["vocabulary"], made["general"].path("model")
    trimmed = trim_model(tuned, PieceMap.load(vocabulary.path("pieces.npz")).kept)

    def load() -> Any:
        model = load_encoder(
            folder, head=task.head, attention=ATTENTION, labels=data.labels, seed=seed
        )
        copy_head(trimmed, model)
        return model

    terms = task_bistil(TaskObjective(text=0.0), trimmed, layer_plan_of(recipe), task.head)
    return Pupil(load, load_tokenizer(vocabulary.path("tokenizer")), terms)


def keep_to(folder: Path, **settings: Any) -> None:
    """Note what all results of a folder are made with; refuse to add others to it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SETTLED
    if not path.exists():
        path.write_text(json.dumps(settings) + "\n")
    found = json.loads(path.read_text())
    if found != settings:
        raise SystemExit(f"{path} says {found}, asked for {settings}; take another --out")


def settled(folder: Path) -> str:
    """Tell what `keep_to` noted."""
    path = folder / SETTLED
    found = json.loads(path.read_text()) if path.exists() else {}
    found.pop("rates", None)
    return ", ".join(f"{name} {value}" for name, value in found.items() if value is not None)


def run(given: argparse.Namespace) -> None:
    """Carry out what is not there yet."""
    keep_to(given.out, precision=given.precision, rates=RATE_OF)
    for seed in given.seeds:
        for name in given.tasks:
            if (given.out / f"{name}.student.{seed}.json").exists():
                continue
            task, data = TASKS[name], read(name, given.data)
            pupil = teacher_of(given, task, data, seed=seed)
            how = {"seed": seed, "precision": given.precision}
            place = given.out / f"{name}.teacher.{seed}"
            if place.with_name(f"{place.name}.json").exists():
                with tempfile.TemporaryDirectory() as folder:
                    work, rate = Path(folder), RATE_OF["full"]
                    tuned, _ = learned(task, data, pupil, work=work, rate=rate, **how)
            else:
                tuned = measure(task, data, pupil, place=place, **how)
            pupil = student_of(given, task, data, tuned=tuned, seed=seed)
            measure(task, data, pupil, place=given.out / f"{name}.student.{seed}", **how)


def try_rates(given: argparse.Namespace) -> None:
    """Write English dev's scores of each way at each rate; what is there is not done again."""
    keep_to(given.out, precision=given.precision, rates=RATE_OF)
    how = {"seed": RATES_SEED, "precision": given.precision}
    for name in given.tasks:
        place = given.out / f"rates.{name}.json"
        if place.exists():
            continue
        task, data = TASKS[name], read(name, given.data)
        pupil = teacher_of(given, task, data, seed=RATES_SEED)
        found: dict[str, dict[str, float]] = {}
        for rate in RATES:
            ways = ways_of([RATES_DENSITY], dict.fromkeys(RATE_OF, rate))
            for row, _, cost in tunings_of(task, data, pupil, ways=ways, **how):
                found.setdefault(row, {})[f"{rate:g}"] = cost["dev"]
        place.write_text(json.dumps(found, indent=1) + "\n")


def counts_on(language: str, task: Task, data: Data, model: Any, tokenizer: Any) -> np.ndarray:
    """Give what a model's answers on a test set count for the metrics, [N, K]."""
    from limbeck.finetune import predict

    examples = data.tests[language]
    found = predict(
        model, tokenizer, task=task, examples=examples, labels=data.labels, max_pieces=MAX_PIECES
    )
    return task.statistics(examples, found)


def measure(task: Task, data: Data, pupil: Pupil, *, place: Path, seed: int, precision: str) -> Any:
    """Write what each tuning of a pupil cost and how it answers; give the one tuned in full."""
    costs: dict[str, Any] = {}
    counted: dict[str, np.ndarray] = {}
    whole = None
    how = {"seed": seed, "precision": precision}
    for row, model, cost in tunings_of(task, data, pupil, ways=ways_of(), **how):
        whole = model if whole is None else whole
        costs[row] = cost
        for language in data.tests:
            counted[f"{row}|{language}"] = counts_on(language, task, data, model, pupil.tokenizer)
    np.savez_compressed(f"{place}.npz", **counted)  # type: ignore[arg-type]
    place.with_name(f"{place.name}.json").write_text(json.dumps(costs, indent=1) + "\n")
    return whole


def interval(
    task: Task, runs: list[np.ndarray], against: list[np.ndarray] | None, *, resamples: int = 1000
) -> tuple[float, float, float]:
    """Give the mean over seeds and its 95 % interval: seeds and sentences are both resampled.

    Args:
        task: Its metric.
        runs: Counts of each seed [N, K], of the same sentences.
        against: Counts of other runs of the same seeds: the difference to them is given.
    """
    draw = np.random.default_rng(0)

    def value(seeds: Any, rows: Any) -> float:
        def mean(of: list[np.ndarray]) -> float:
            # As many counts as labels that occur, so each seed has its own number of them.
            sums = (of[seed][rows].sum(axis=0) for seed in seeds)
            return float(np.mean([task.metrics(one)[task.primary] for one in sums]))

        return mean(runs) - (mean(against) if against else 0.0)

    count = len(runs[0])
    drawn = [
        value(draw.integers(len(runs), size=len(runs)), draw.integers(count, size=count))
        for _ in range(resamples)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return value(range(len(runs)), np.arange(count)), float(low), float(high)


def table(given: argparse.Namespace) -> None:
    """Print what is there as Markdown."""
    full, sparse, lora = (RATE_OF[kind] for kind in ("full", "lt-sft", "lora"))
    about = {"machine": machine_line(), "settled": settled(given.out)}
    print(HEAD.format(**about, full=full, sparse=sparse, lora=lora))
    for name in SETTINGS:
        task = TASKS[name]
        for system in ("teacher", "student"):
            places = sorted(given.out.glob(f"{name}.{system}.*.json"))
            if not places:
                continue
            costs = [json.loads(one.read_text()) for one in places]
            counts = [dict(np.load(one.with_suffix(".npz"))) for one in places]
            print(f"### {name}, {system}: {task.primary}, {seeds_of(places)}\n")
            heads = ["tuning", "MB", "s", "eng dev", *LANGUAGES]
            print("| " + " | ".join(heads) + " |\n|---|" + "---:|" * (len(heads) - 1))
            for row in ways_of():
                cells = [row]
                cells.append(f"{np.mean([one[row]['bytes'] for one in costs]) / 1e6:.2f}")
                spent = [
                    one[row]["thread_seconds"] for one in costs if "thread_seconds" in one[row]
                ]
                cells.append(f"{np.mean(spent):.0f}" if spent else "")
                cells.append(f"{100 * np.mean([one[row]['dev'] for one in costs]):.1f}")
                for language in LANGUAGES:
                    runs, full = (
                        [one[f"{which}|{language}"] for one in counts] for which in (row, "full")
                    )
                    cells.append(told(task, runs, None if row == "full" else full))
                print("| " + " | ".join(cells) + " |")
            print()
    print_rates(given.out)


def print_rates(folder: Path) -> None:
    """Print English dev's scores by way and learning rate."""
    tried = {
        name: json.loads((folder / f"rates.{name}.json").read_text())
        for name in SETTINGS
        if (folder / f"rates.{name}.json").exists()
    }
    if not tried:
        return
    heads = [f"{name}, {rate:g}" for name in tried for rate in RATES]
    print(f"### English dev by learning rate: teacher, seed {RATES_SEED}\n")
    print("| tuning | " + " | ".join(heads) + " |\n|---|" + "---:|" * len(heads))
    for row in ways_of([RATES_DENSITY]):
        cells = [
            f"{100 * found[row][f'{rate:g}']:.1f}" for found in tried.values() for rate in RATES
        ]
        print("| " + " | ".join([row, *cells]) + " |")


def seeds_of(places: Sequence[Path]) -> str:
    """Tell the seeds of files whose names end with one."""
    return f"seeds {', '.join(sorted(one.stem.rpartition('.')[2] for one in places))}"


def told(task: Task, runs: list[np.ndarray], against: list[np.ndarray] | None) -> str:
    """Give a mean in percent, and its interval or the difference to other runs and its."""
    value, low, high = (100 * one for one in interval(task, runs, None))
    if against is None:
        return f"{value:.1f} [{low:.1f}, {high:.1f}]"
    gained, low, high = (100 * one for one in interval(task, runs, against))
    return f"{value:.1f} ({gained:+.1f} [{low:+.1f}, {high:+.1f}])"


HEAD = """# Full tuning, LT-SFT and LoRA

Made by `python -m benchmarks.tunings run …` and `table`; machine: {machine}; {settled}; one
thread a process, two processes side by side. Learned from the first English sentences (pos 3,000
× 2 passes, ner 1,800 × 5, parsing 2,000 × 2; the shipped recipes read more), selected on up to
300 of English dev, scored on the first 300 test sentences of each language, in percent. LoRA: every
matrix of the layers, rank 40, as many numbers as 8 %. Each kind has the learning rate that was best
by the mean of the two tasks of the last table: full {full:g}, LT-SFT {sparse:g} (both trainings),
LoRA {lora:g}; the student has its teacher's. First the mean over seeds, for full tuning with a
95 % interval; for the others the difference to full tuning with its interval, in which seeds and
sentences are resampled. *MB*: what has to be published, the head included. *s*: seconds of a
thread that the training took, that of LT-SFT without its first one, which is a full one.
"""


def common_parser(about: str | None, *whats: str) -> argparse.ArgumentParser:
    """Give what every benchmark of tunings is asked, and have limbeck tell what it does."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("limbeck").setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("what", choices=whats)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=list(SETTINGS))
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    return parser


def main() -> None:
    """Run or print."""
    parser = common_parser(__doc__, "rates", "run", "table")
    parser.add_argument("--store", type=Path)
    given = parser.parse_args()
    {"rates": try_rates, "run": run, "table": table}[given.what](given)


if __name__ == "__main__":
    main()
