"""How long answers take: a tuned teacher and its student in torch, and the student's bundle.

    python -m benchmarks.inference --teacher MODEL --student MODEL --bundle BUNDLE --file LINES

One sentence at a time, from text to answer, the systems in turn in one process on the same lines;
then, in a process of its own, how long `limbeck.load` and the first answer take. Prints one JSON
object.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.zero_shot import machine_line
from limbeck.asking import read_line
from limbeck.bench import latency
from limbeck.judge import load_task_model

_COLD = """
import sys, time
started = time.perf_counter()
import limbeck
limbeck.load(sys.argv[1]).predict([sys.argv[2]])
print(time.perf_counter() - started)
"""


def disk(path: Path) -> int:
    """Give the bytes of a file, or of a folder's files."""
    return sum(one.stat().st_size for one in ([path] if path.is_file() else path.rglob("*")))


def cold_start(bundle: Path, text: str) -> float:
    """Give the seconds from importing limbeck to the first answer, the best of five processes."""
    command = [sys.executable, "-c", _COLD, str(bundle), text]
    return min(
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    )


def main() -> None:
    """Print the object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--file", type=Path, required=True, help="lines of text")
    parser.add_argument("--lines", type=int, default=300)
    given = parser.parse_args()
    places = {"teacher": given.teacher, "student": given.student, "bundle": given.bundle}
    models = {name: load_task_model(place) for name, place in places.items()}
    task = models["student"].task.name
    with given.file.open(encoding="utf-8") as lines:
        texts = [line.strip() for line, _ in zip(lines, range(given.lines), strict=False)]
    asked = [read_line(task, text, str(given.file)).example for text in texts]
    examples = [one for one in asked if one is not None]

    def ask(name: str) -> Any:
        return lambda example: models[name].answer([example])

    started = time.perf_counter()
    timed = latency({name: ask(name) for name in models}, examples)
    told: dict[str, Any] = {
        name: {**one.to_dict(), "disk_bytes": disk(places[name])} for name, one in timed.items()
    }
    told["bundle"]["cold_start_s"] = round(cold_start(given.bundle, texts[0]), 3)
    ratios = {
        "p50_teacher_torch_over_bundle": timed["teacher"].p50_ms / timed["bundle"].p50_ms,
        "p50_student_torch_over_bundle": timed["student"].p50_ms / timed["bundle"].p50_ms,
        "disk_teacher_over_bundle": disk(given.teacher) / disk(given.bundle),
    }
    machine = {"machine": machine_line(), "seconds": round(time.perf_counter() - started, 1)}
    print(json.dumps({**machine, "task": task, "systems": told, "ratios": ratios}))


if __name__ == "__main__":
    main()
