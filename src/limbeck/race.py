"""Models and bundles timed side by side, in turn, each in a process of its own."""

import json
import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from limbeck.asking import decoded
from limbeck.backends import check_known, is_installed, not_installed
from limbeck.bench import Cost, by_length, calm_environment, percentiles
from limbeck.bundle import bytes_on_disk, is_bundle
from limbeck.corpus import read_texts
from limbeck.doctor import machine
from limbeck.errors import DataError, ModelError, RecipeError
from limbeck.hub import model_folder
from limbeck.processes import cores
from limbeck.roofline import ceilings, share

log = logging.getLogger(__name__)

BATCHES = (1, 8, 32)
"""Sentences given at once, of which the best counts as throughput."""
_ROUNDS = 3
"""Times that every sentence is asked of every system."""
_STARTS = 3
"""Processes of which the median start counts."""


@dataclass(frozen=True, slots=True)
class Served:
    """A process that holds one model, and what it told of it.

    Args:
        name: The system's.
        process: Asked by `ask`.
        cold_start_s: From the process's start to its first answer, in seconds.
        told: Task, precision, cost, pieces of each text.
    """

    name: str
    process: "subprocess.Popen[str]"
    cold_start_s: float
    told: Mapping[str, Any]

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Ask for one thing.

        Raises:
            ModelError: The process could not answer.
        """
        return _ask(self.name, self.process, asked)


def _ask(name: str, process: "subprocess.Popen[str]", asked: Mapping[str, Any]) -> dict[str, Any]:
    assert process.stdin is not None and process.stdout is not None
    # What it could not do, a process tells before it ends.
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
    line = process.stdout.readline()
    reply: dict[str, Any] = json.loads(line) if line else {"error": _end_of(process)}
    if "error" in reply:
        raise ModelError("cannot be timed", where=name, found=reply["error"])
    return reply


def _end_of(process: "subprocess.Popen[str]") -> str:
    code = process.wait()
    killed = "; it was killed, perhaps for its memory" if code < 0 else ""
    return f"its process ended with {code}{killed}"


@contextmanager
def served(
    name: str, place: Path, texts: Sequence[str], *, threads: int, backend: str | None = None
) -> Iterator[Served]:
    """Start a process for a model, and end it.

    Args:
        name: For messages.
        place: A task model's folder, or a bundle.
        texts: What it will be asked.
        threads: That answers may use.
        backend: That runs a bundle; None: the one it was made for.

    Raises:
        ModelError: It cannot be loaded, or is not asked texts like these.
    """
    command = [sys.executable, "-m", "limbeck.bench_process", str(place), str(threads)]
    command += [backend] if backend else []
    started = time.perf_counter()
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=calm_environment(threads),
    ) as process:
        try:
            _ask(name, process, {"texts": texts[:1]})
            cold = time.perf_counter() - started
            yield Served(name, process, cold, _ask(name, process, {"texts": texts}))
        finally:
            process.kill()
            assert process.stdin is not None
            # What was not sent cannot be any more, and must not hide why.
            with suppress(BrokenPipeError):
                process.stdin.close()


def bench(
    models: Sequence[str],
    text: Path | None,
    *,
    sentences: int = 200,
    threads: Sequence[int] = (),
    backends: Sequence[str] = (),
) -> dict[str, Any]:
    """Time models and bundles: what `limbeck bench` tells.

    Args:
        models: Folders, hub ids or bundles; each is named by the end of its path.
        text: As `texts_for` takes it.
        sentences: Most lines that are asked.
        threads: As `race` takes them.
        backends: Keys of `backends.BACKENDS`: each bundle is timed by each; none: by the one it
            was made for.

    Returns:
        What `race` gives, with the `ceilings` of each count of threads in `machine`, and with each
        system's `share` of them; with several `backends`, of each bundle the one that is `faster`,
        or None where their rounds overlap. A system is then named `NAME, BACKEND`.

    Raises:
        LimbeckError: As `race`, there is no text, no such backend, or no bundle for backends.
    """
    for one in backends:
        check_known(one)
        if not is_installed(one):
            raise not_installed(one)
    places = [_place(one) for one in models]
    texts = texts_for(places, text, count=sentences)
    named = dict(zip(_names([Path(one) for one in models]), places, strict=True))
    run_by = _run_by(named, backends)
    systems = {
        f"{name}, {one}" if one else name: (place, one)
        for name, place in named.items()
        for one in run_by.get(name, [None])
    }
    told = with_shares(
        race(
            {name: place for name, (place, _) in systems.items()},
            texts,
            threads=threads,
            backends={name: one for name, (_, one) in systems.items() if one},
        )
    )
    return {**told, "faster": _faster(told["systems"], run_by)} if len(set(backends)) > 1 else told


def _run_by(named: Mapping[str, Path], backends: Sequence[str]) -> dict[str, list[str]]:
    """Give the backends that each bundle is timed by, by the bundle's name."""
    if not backends:
        return {}
    found = {name: [*dict.fromkeys(backends)] for name, place in named.items() if is_bundle(place)}
    if not found:
        raise RecipeError("a backend runs bundles, and none is among these", found=", ".join(named))
    return found


def _faster(
    systems: Mapping[str, Mapping[str, Any]], run_by: Mapping[str, Sequence[str]]
) -> dict[str, str | None]:
    """Give the backend whose median is lower in every round, of each bundle."""
    found: dict[str, str | None] = {}
    for name, some in run_by.items():
        rounds = {one: systems[f"{name}, {one}"]["p50_rounds_ms"] for one in some}
        first, second, *_ = sorted(some, key=lambda one: statistics.median(rounds[one]))
        found[name] = first if max(rounds[first]) < min(rounds[second]) else None
    return found


def with_shares(told: dict[str, Any]) -> dict[str, Any]:
    """Give what `race` gives with the machine's ceilings and each system's shares of them."""
    each = told["systems"].values()
    counts = {told["threads"], *(n for one in each for n in one["threads"])}
    counts |= {one["text_threads"] for one in each}
    limits = {count: ceilings(count) for count in sorted(counts)}
    systems = {}
    for name, figures in told["systems"].items():
        more = {
            count: {**one, "share": share(one, limits[one["text_threads"]])}
            for count, one in figures["threads"].items()
        }
        own = share(figures, limits[figures["text_threads"]])
        systems[name] = {**figures, "share": own, "threads": more}
    return {**told, "machine": {**told["machine"], "ceilings": limits}, "systems": systems}


def _place(model: str) -> Path:
    path = Path(model)
    return path if is_bundle(path) else model_folder(model)


def _names(models: Sequence[Path]) -> list[str]:
    """Give each as few of the last parts of its path as tell it from the others.

    An artifact is told by its own folder, for what lies in it is always `model` or `bundle`.
    """
    paths = [
        one.parts[:-1] if one.name in ("model", "bundle") and len(one.parts) > 1 else one.parts
        for one in models
    ]
    if len(set(paths)) < len(paths):
        raise RecipeError("a system is named twice", found=", ".join(map(str, models)))
    for count in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-count:]) for parts in paths]
        if len(set(names)) == len(names):
            break
    return names


def race(
    systems: Mapping[str, Path],
    texts: Sequence[str],
    *,
    threads: Sequence[int] = (),
    backends: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Time systems side by side on the same sentences.

    Args:
        systems: Name to a task model's folder or a bundle, all of one task.
        texts: Lines, as `limbeck predict` reads them, or running text.
        threads: Counts of threads, the first for the figures told first; none: all cores, then 1.
        backends: Name to what runs a bundle, where that is not the one it was made for.

    Returns:
        `machine`; `systems`: name to its figures, those of each further count of threads under
        `threads`; `ratio`: every other system's figure divided by the first's.

    Raises:
        LimbeckError: A system cannot be loaded, or they are not of one task.
    """
    counts = list(threads) or sorted({cores(), 1}, reverse=True)
    found: dict[str, dict[str, Any]] = {}
    run_by = backends or {}
    for count in counts:
        log.info("bench: %d systems, %d sentences, %d threads", len(systems), len(texts), count)
        told = _with_threads(systems, texts, count, run_by)
        for name, figures in told.items():
            if name in found:
                found[name]["threads"][count] = figures
            else:
                found[name] = {**figures, "threads": {}, "disk_bytes": bytes_on_disk(systems[name])}
    for name, place in systems.items():
        times = [found[name]["cold_start_s"]]
        for _ in range(_STARTS - 1):
            backend = run_by.get(name)
            with served(name, place, texts[:1], threads=counts[0], backend=backend) as one:
                times.append(one.cold_start_s)
        found[name]["cold_start_s"] = round(statistics.median(times), 3)
    return {
        "machine": machine(),
        "sentences": len(texts),
        "threads": counts[0],
        "systems": found,
        "ratio": _ratios(found),
    }


def _with_threads(
    systems: Mapping[str, Path], texts: Sequence[str], threads: int, backends: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    with ExitStack() as stack:
        ready = [
            stack.enter_context(
                served(name, place, texts, threads=threads, backend=backends.get(name))
            )
            for name, place in systems.items()
        ]
        _check_one_task(ready)
        times, rates = _in_turn(ready), _throughput(ready)
        return {one.name: _figures(one, times[one.name], rates[one.name]) for one in ready}


def _check_one_task(ready: Sequence[Served]) -> None:
    tasks = {one.name: one.told["task"] for one in ready}
    if len(set(tasks.values())) > 1:
        raise RecipeError(
            "systems of different tasks cannot be compared",
            found=", ".join(f"{name}: {task}" for name, task in tasks.items()),
        )


def _in_turn(ready: Sequence[Served]) -> dict[str, list[list[float]]]:
    """Ask every system every sentence, in turn; the order turns too.

    Returns:
        Name to the milliseconds of each sentence, a list a round.
    """
    sentences = range(len(ready[0].told["pieces"]))
    for one in ready:
        for sentence in sentences[:5]:
            one.ask(time=sentence)
    times: dict[str, list[list[float]]] = {one.name: [] for one in ready}
    for number in range(_ROUNDS):
        for one in ready:
            times[one.name].append([])
        for sentence in sentences:
            first = (number + sentence) % len(ready)
            for one in [*ready[first:], *ready[:first]]:
                times[one.name][-1].append(one.ask(time=sentence)["ms"])
    return times


def _throughput(ready: Sequence[Served]) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """Ask every system all sentences at once, so many at a time, in turn.

    Returns:
        Name to size of the batch to seconds and joules of each round.
    """
    found: dict[str, dict[int, list[dict[str, Any]]]] = {
        one.name: {size: [] for size in BATCHES} for one in ready
    }
    for _ in range(_ROUNDS):
        for size in BATCHES:
            for one in ready:
                found[one.name][size].append(one.ask(batch=size))
    return found


def _figures(
    one: Served, times: list[list[float]], rates: Mapping[int, list[dict[str, Any]]]
) -> dict[str, Any]:
    told, words, count = one.told, one.told["words"], len(one.told["words"])
    # The median of the rounds: a busy moment hits one of them.
    each = [statistics.median(some) for some in zip(*times, strict=True)]
    took = {n: statistics.median(one["seconds"] for one in some) for n, some in rates.items()}
    best = min(took, key=lambda size: took[size])
    joules = [one["joules"] for one in rates[best]]
    found: dict[str, Any] = {
        **percentiles([time for some in times for time in some]).to_dict(),
        "p50_rounds_ms": [percentiles(some).p50_ms for some in times],
        "by_words": {name: part.to_dict() for name, part in by_length(each, words).items()},
        "ms_per_word": sum(each) / sum(words),
        "pieces_per_word": sum(map(sum, told["pieces"])) / sum(words),
        "sentences_per_second": round(count / took[best], 2),
        "best_batch": best,
        "joules_per_sentence": None if None in joules else statistics.median(joules) / count,
        "cold_start_s": one.cold_start_s,
        "peak_memory_bytes": one.ask(memory=True)["peak_memory_bytes"],
        "backend": told["backend"],
        "text_threads": told["text_threads"],
        "precision": told["precision"],
        "parameters": None,
    }
    if told["cost"]:
        found |= _computed(Cost(**told["cost"]), told["pieces"], each, words)
    return found


def _computed(
    cost: Cost, pieces: Sequence[Sequence[int]], times: Sequence[float], words: Sequence[int]
) -> dict[str, Any]:
    flops = sum(cost.flops(one) for some in pieces for one in some)
    read = sum(map(len, pieces)) * cost.matrices
    return {
        "parameters": cost.parameters,
        "flops_per_word": round(flops / sum(words)),
        "flops_per_second": round(1000 * flops / sum(times)),
        "weights_per_second": round(1000 * read / sum(times)),
    }


_LESS_IS_BETTER = (
    "p50_ms", "p90_ms", "p99_ms", "ms_per_word", "cold_start_s", "disk_bytes", "peak_memory_bytes",
)  # fmt: skip


def _ratios(found: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    first, *others = found
    return {
        f"{name} / {first}": {
            figure: round(found[name][figure] / found[first][figure], 3)
            for figure in (*_LESS_IS_BETTER, "sentences_per_second")
            if found[name][figure] is not None
        }
        for name in others
    }


def texts_for(places: Sequence[Path], given: Path | None, *, count: int) -> list[str]:
    """Give what the systems are asked.

    Args:
        places: The systems'.
        given: A file of lines; None: the held-out text of the store that one of them lies in.
        count: At most so many lines, none of them blank.

    Raises:
        DataError: There is no text, no such file, or a line is not UTF-8.
    """
    if given is not None:
        if not given.is_file():
            raise DataError("no such file", where=str(given))
        with given.open("rb") as lines:
            read = (decoded(line, f"{given}:{n}").strip() for n, line in enumerate(lines, start=1))
            found = list(islice(filter(None, read), count))
    else:
        files = next(filter(None, map(texts_beside, places)), [])
        share = -(-count // max(1, len(files)))
        found = [text for file in files for text in islice(read_texts(file), share)][:count]
    if not found:
        where = str(given or ", ".join(map(str, places)))
        raise DataError("there is no text to ask", where=where, do="name a file with --text")
    return found


def texts_beside(place: Path) -> list[Path]:
    """Give the files of held-out text of the store in which a model or bundle lies, if any."""
    folder = place.absolute().parent
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        corpus = folder.parent / f"corpus-{manifest['inputs']['corpus'][:12]}"
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return sorted(corpus.glob("*.heldout.txt"))
