"""How many test sentences stand in the unlabelled text that teachers and students read.

    python -m benchmarks.overlap --data DATA [--languages eng yor hau pcm] > results/overlap.md

Letters and digits are compared, without case, marks and spaces; a sentence with fewer than
`SHORTEST` is passed over. No label is read.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.tunings import LANGUAGES, SETTINGS, TEST, part
from limbeck.errors import DataError
from limbeck.overlap import SHORTEST, bare, standing_in


def overlap(tests: Sequence[Any], lines: Sequence[str]) -> str:
    """Give how many of the longer sentences stand in a text."""
    texts = [" ".join(one.words) for one in tests]
    long = [one for one in texts if len(bare(one)) >= SHORTEST]
    found = len({place for _, place in standing_in(long, lines)})
    return f"{found} of {len(long)} ({100 * found / len(long):.1f} %)"


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--languages", nargs="+", default=list(LANGUAGES))
    given = parser.parse_args()
    print(HEAD.format(languages=" ".join(given.languages)))
    print("| language | " + " | ".join(SETTINGS) + " |\n|---|" + "---:|" * len(SETTINGS))
    for language in given.languages:
        text = (given.data / "corpora" / f"{language}.txt").read_text(encoding="utf-8").split("\n")
        cells = [language]
        for task in SETTINGS:
            try:
                tests = part(task, given.data, language, "test").examples
            except DataError:
                cells.append("no test set")
                continue
            shares = [overlap(some, text) for some in (tests, tests[:TEST])]
            cells.append(f"{shares[0]}; {shares[1]}")
        print("| " + " | ".join(cells) + " |")


HEAD = f"""# Test sentences in the corpora

Made by `python -m benchmarks.overlap --data $DATA --languages {{languages}}`: test sentences of
{SHORTEST} letters and digits and more whose letters stand in their language's corpus; no label is
read. First of the whole test set, then of its first {TEST} sentences.
"""


if __name__ == "__main__":
    main()
