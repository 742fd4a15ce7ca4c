"""Language deltas in zero-shot transfer: LT-SFT's swap beside no language delta, three tasks.

    python -m benchmarks.language_deltas run --data DATA --teacher TEACHER --out FOLDER
    python -m benchmarks.language_deltas table --out FOLDER > results/language_deltas.md

`run` learns the delta of the source and of each target by masked language modelling on
DATA/corpora, then of each task and seed two deltas at 8 %, on the plain teacher and on the teacher
with the source's delta. Both are scored as they were tuned, and with each language's own delta on
the plain teacher beside them. Languages, and tasks and seeds, that are in FOLDER are not done
again; several processes may share the work (`--tasks`, `--seeds`), and one of them alone learns a
language (`--only-deltas`: no task). No target's label is read but for the scores.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from benchmarks.tunings import (
    ATTENTION,
    LANGUAGES,
    MAX_PIECES,
    RATE_OF,
    SETTINGS,
    Data,
    Pupil,
    common_parser,
    counts_on,
    interval,
    keep_to,
    pace_of,
    part,
    read,
    seeds_of,
    settled,
    teacher_of,
    told,
)
from benchmarks.zero_shot import machine_line
from limbeck.overlap import standing_in
from limbeck.tasks import TASKS, Task

SOURCE, *TARGETS = LANGUAGES
RATE = 3e-4
DENSITY = 0.08
"""Of a task's delta; a language's is the package's default."""
STEPS = 100
"""Of each of a language's two trainings, 2,048 pieces a step: four minutes of a thread in bf16."""
WITHOUT, SWAPPED = "without", "target's in"
LEFT, ALONE = "source's left in", "language delta alone at test"
LEARNED = "learned.safetensors"


def languages_of(given: argparse.Namespace) -> list[str]:
    """Give the source and the targets."""
    return [SOURCE, *given.targets]


def make_deltas(given: argparse.Namespace) -> None:
    """Learn the languages that are not there yet; those of another process are waited for last."""
    for patience in (0, -1):
        for language in languages_of(given):
            folder = given.out / f"delta.{language}"
            folder.mkdir(parents=True, exist_ok=True)
            try:
                with FileLock(folder / "lock", timeout=patience):
                    if not (folder / LEARNED).exists():
                        learn(language, folder, given)
            except Timeout:
                continue


def learn(language: str, folder: Path, given: argparse.Namespace) -> None:
    """Learn a language's delta; killed, it goes on where it was. The file is there last."""
    from limbeck.adapt import adapt
    from limbeck.delta import SparseDelta
    from limbeck.encoder import load_encoder
    from limbeck.sections import Adaptation, Machine
    from limbeck.sparse_tuning import DELTA

    started = time.monotonic()
    adaptation = Adaptation(steps=given.steps, learning_rate=given.rate)
    work = folder / f"work.{given.steps}"
    text, lines = pack_text(language, work, given, block_pieces=adaptation.block_pieces)
    before, after = adapt(
        load_encoder(given.teacher, head="mlm", attention=ATTENTION, whole=True),
        text=text,
        adaptation=adaptation,
        seed=0,
        work=work,
        machine=Machine(precision=given.precision),
    )
    about = {
        "language": language,
        "steps": given.steps,
        "held_out_loss": {"before": before, "after": after},
        "lines": lines,
        "seconds": time.monotonic() - started,
    }
    replace(SparseDelta.load(work / DELTA), provenance=about).save(folder / LEARNED)
    shutil.rmtree(work)


def pack_text(
    language: str, work: Path, given: argparse.Namespace, *, block_pieces: int
) -> tuple[Any, dict[str, int]]:
    """Give a language's text in blocks, and counts of its lines.

    A hundredth of the lines is held out by their hash, as `limbeck adapt` does: duplicates are
    dropped first, so that no line is on both sides.
    """
    from limbeck.blocks import pack
    from limbeck.corpus import CorpusSource, prepare, read_texts
    from limbeck.stages.text import ends_of, open_corpora
    from limbeck.tokenizer import load_tokenizer

    work.mkdir(exist_ok=True)
    text, tokenizer = work / f"{language}.txt", load_tokenizer(given.teacher)
    lines = {"of tests": drop_tests(language, given.data, text)}
    counts = prepare({language: CorpusSource(path=str(text))}, work)[language]
    begin, end = ends_of(tokenizer)
    for name in ("train", "heldout"):
        texts = read_texts(work / f"{language}.{name}.txt")
        pack(texts, tokenizer, work / f"{language}.{name}", begin=begin, end=end)
    packed = open_corpora(work, given.teacher, languages=[language], block_pieces=block_pieces)
    return packed, lines | {"kept": counts.kept, "heldout": counts.heldout}


def drop_tests(language: str, root: Path, target: Path) -> int:
    """Copy a corpus without the lines that hold a sentence of a test set; give their number.

    Of the first 300 of Hausa's pos and ner more than half stand in it, of Naija's two fifths.
    """
    tests = (part(task, root, language, "test").examples for task in SETTINGS)
    wanted = ["".join(example.words) for example in chain.from_iterable(tests)]
    lines = (root / "corpora" / f"{language}.txt").read_text(encoding="utf-8").split("\n")
    dropped = {number for number, _ in standing_in(wanted, lines)}
    kept = [line for number, line in enumerate(lines) if number not in dropped]
    target.write_text("\n".join(kept), encoding="utf-8")
    return len(dropped)


def read_deltas(given: argparse.Namespace) -> dict[str, Any]:
    """Read every language's delta."""
    from limbeck.delta import SparseDelta

    return {
        language: SparseDelta.load(given.out / f"delta.{language}" / LEARNED)
        for language in languages_of(given)
    }


def tuned(
    task: Task, data: Data, pupil: Pupil, *, speaks: Any, seed: int, precision: Any
) -> tuple[Any, Any, dict[str, float]]:
    """Tune the teacher on a task by LT-SFT; give it, the task's delta, and what that cost.

    Args:
        task: The record.
        data: What is learned.
        pupil: The teacher.
        speaks: The language's delta that is put on before; None: none. The task's delta goes on
            the plain teacher beside it.
        seed: Of the order of the sentences.
        precision: Of the training; answers are given in fp32.
    """
    from limbeck.delta import SparseDelta, apply
    from limbeck.delta_file import base_hash
    from limbeck.finetune import Lesson, tune
    from limbeck.parameters import encoder_tensors
    from limbeck.sections import Machine, Tuning
    from limbeck.sparse_tuning import DELTA

    model = pupil.load()
    plain = base_hash(encoder_tensors(model))
    if speaks is not None:
        apply(encoder_tensors(model), speaks)
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        history = tune(
            model,
            pupil.tokenizer,
            lesson=Lesson(task, data.train, data.dev, data.labels, MAX_PIECES),
            pace=pace_of(task, rate=RATE_OF["lt-sft"], seed=seed),
            work=Path(folder),
            machine=Machine(precision=precision),
            tuning=Tuning(kind="lt-sft", density=DENSITY),
        )
        delta = SparseDelta.load(Path(folder) / DELTA)
    cost = {
        "seconds": time.process_time() - started,
        "dev": max(row["judged"] for row in history if "judged" in row),
    }
    return model, replace(delta, base=plain, dense={}), cost


def run(given: argparse.Namespace) -> None:
    """Carry out what is not there yet."""
    names = ("precision", "steps", "rate", "sentences", "targets")
    asked = {one: getattr(given, one) for one in names}
    keep_to(given.out, **asked, rates=RATE_OF)
    make_deltas(given)
    deltas = read_deltas(given)
    for seed in [] if given.only_deltas else given.seeds:
        for name in given.tasks:
            place = given.out / f"{name}.{seed}"
            if not Path(f"{place}.json").exists():
                data = first(read(name, given.data, languages_of(given)), given.sentences)
                measure(TASKS[name], data, deltas, given, seed=seed, place=place)


def first(data: Data, sentences: int | None) -> Data:
    """Give the first sentences of every part, to try the path out; None: all."""
    tests = {language: examples[:sentences] for language, examples in data.tests.items()}
    return replace(data, train=data.train[:sentences], dev=data.dev[:sentences], tests=tests)


def measure(
    task: Task,
    data: Data,
    deltas: dict[str, Any],
    given: argparse.Namespace,
    *,
    seed: int,
    place: Path,
) -> None:
    """Write what the two task deltas of a seed cost, and how all four systems answer."""
    pupil = teacher_of(given, task, data, seed=seed)
    costs: dict[str, Any] = {}
    counted: dict[str, np.ndarray] = {}

    def answer(model: Any, system: str, language: str) -> None:
        found = counts_on(language, task, data, model, pupil.tokenizer)
        counted[f"{system}|{language}"] = found

    ways = ((WITHOUT, ALONE, None), (LEFT, SWAPPED, deltas[SOURCE]))
    for as_tuned, swapped, speaks in ways:
        how = {"speaks": speaks, "seed": seed, "precision": given.precision}
        model, delta, costs[as_tuned] = tuned(task, data, pupil, **how)
        for language in data.tests:
            answer(model, as_tuned, language)
        switch = switch_of(model, pupil, delta, deltas)
        for language in data.tests:
            switch.to(language)
            answer(model, swapped, language)
    np.savez_compressed(f"{place}.npz", **counted)  # type: ignore[arg-type]
    Path(f"{place}.json").write_text(json.dumps(costs, indent=1) + "\n")


def switch_of(model: Any, pupil: Pupil, delta: Any, deltas: dict[str, Any]) -> Any:
    """Make a tuned model's encoder plain, and give what puts both deltas on, by language.

    The head stays. Each sum is one addition to the plain weights; its base is checked.
    """
    import torch

    from limbeck.delta_arithmetic import add
    from limbeck.language_switch import LanguageSwitch
    from limbeck.parameters import encoder_tensors

    tensors, plain = encoder_tensors(model), encoder_tensors(pupil.load())
    with torch.no_grad():
        for name, one in tensors.items():
            one.copy_(plain[name])
    return LanguageSwitch(tensors, {one: add(own, delta) for one, own in deltas.items()})


def table(given: argparse.Namespace) -> None:
    """Print what is there as Markdown."""
    about = {"machine": machine_line(), "settled": settled(given.out)}
    print(HEAD.format(**about, rate=RATE_OF["lt-sft"]))
    print_deltas(given.out)
    for name in SETTINGS:
        places = sorted(given.out.glob(f"{name}.*.json"))
        if places:
            print_task(TASKS[name], places)


def print_deltas(folder: Path) -> None:
    """Print what each language's delta cost and gained, the source's first."""
    from limbeck.delta import SparseDelta

    heads = ["delta of", "lines", "of tests", "held out", "before", "after", "steps", "MB", "s"]
    print("| " + " | ".join(heads) + " |\n|---|" + "---:|" * (len(heads) - 1))
    paths = {one.parent.suffix[1:]: one for one in folder.glob(f"delta.*/{LEARNED}")}
    for language in sorted(paths, key=lambda one: (one != SOURCE, one)):
        about = SparseDelta.load(paths[language]).provenance
        lines, loss = about["lines"], about["held_out_loss"]
        cells = [language, f"{lines['kept']:,}", f"{lines['of tests']:,}", f"{lines['heldout']:,}"]
        cells += [f"{loss['before']:.3f}", f"{loss['after']:.3f}", f"{about['steps']:,}"]
        cells += [f"{paths[language].stat().st_size / 1e6:.2f}", f"{about['seconds']:.0f}"]
        print("| " + " | ".join(cells) + " |")
    print()


def print_task(task: Task, places: Sequence[Path]) -> None:
    """Print a task's four systems, and what the swap alone is worth."""
    costs = [json.loads(one.read_text()) for one in places]
    counts = [dict(np.load(one.with_suffix(".npz"))) for one in places]
    named = [key.partition("|")[2] for key in counts[0] if key.startswith(f"{WITHOUT}|")]
    languages = [one for one in named if all(f"{WITHOUT}|{one}" in each for each in counts)]

    def runs(system: str, language: str) -> list[np.ndarray]:
        return [one[f"{system}|{language}"] for one in counts]

    print(f"### {task.name}: {task.primary}, {seeds_of(places)}\n")
    print("| system | " + " | ".join(languages) + " |\n|---|" + "---:|" * len(languages))
    for system in (WITHOUT, SWAPPED, LEFT, ALONE):
        against = (None if system == WITHOUT else runs(WITHOUT, one) for one in languages)
        pairs = zip(languages, against, strict=True)
        cells = [told(task, runs(system, one), other) for one, other in pairs]
        print("| " + " | ".join([system, *cells]) + " |")
    swaps = []
    for language in languages[1:]:
        both = runs(SWAPPED, language), runs(LEFT, language)
        gained, low, high = (100 * one for one in interval(task, *both))
        swaps.append(f"{language} {gained:+.1f} [{low:+.1f}, {high:+.1f}]")
    dev, seconds = (
        [np.mean([one[system][what] for one in costs]) for system in (WITHOUT, LEFT)]
        for what in ("dev", "seconds")
    )
    print(f"\nThe target's against the source's left in: {', '.join(swaps)}. English dev without")
    print(f"{100 * dev[0]:.1f}, on the source's delta {100 * dev[1]:.1f}; a task's delta took")
    print(f"{seconds[0]:.0f} and {seconds[1]:.0f} s.\n")


HEAD = """# Language deltas in zero-shot transfer

Made by `python -m benchmarks.language_deltas run …` and `table`; machine: {machine}; {settled};
one thread a process. A language's delta: LT-SFT by masked language modelling (4 % of the
encoder's entries, norms and head held, L1 0.1), one seed. Lines that hold a sentence of a test
set are taken out of the text first (*of tests*); of the *lines* that are left, a hundredth is
held out by hash: never trained on, it chooses among five states of the weights. *Before* and
*after*: its masked pieces' loss in nats, on at most 64 blocks of 128 pieces. The teacher may have
read all of the text before, test sentences and held-out lines included. *s*: seconds of both
trainings, text and all.

Tasks as in `benchmarks/tunings.py`: the first English sentences (pos 3,000 × 2 passes, ner 1,800 ×
5, parsing 2,000 × 2), selected on up to 300 of English dev, scored on the first 300 test sentences
of each language, in percent; LT-SFT at 8 % and a rate of {rate:g}.

- *without*: the task's delta on the plain teacher, no language's anywhere.
- *target's in*: the task's delta that was tuned on the source's language delta, and the scored
  language's delta in its stead (in English: its own).
- *source's left in*: the same as it was tuned.
- *language delta alone at test*: the task's delta of *without*, and the scored language's.

First the mean over seeds, for *without* with a 95 % interval; for the others the difference to
*without* with its interval, in which seeds and sentences are resampled.
"""


def main() -> None:
    """Run or print."""
    parser = common_parser(__doc__, "run", "table")
    parser.add_argument("--targets", nargs="*", default=TARGETS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rate", type=float, default=RATE, help="peak, of a language's trainings")
    parser.add_argument("--sentences", type=int, help="of every part: to try the path out")
    parser.add_argument("--only-deltas", action="store_true")
    given = parser.parse_args()
    (run if given.what == "run" else table)(given)


if __name__ == "__main__":
    main()
