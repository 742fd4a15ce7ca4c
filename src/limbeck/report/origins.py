"""What a run was made from: pieces kept, text kept, recipe, packages, artifacts."""

from collections.abc import Iterator, Mapping
from typing import Any

from limbeck.report.gather import Facts
from limbeck.report.view import Table, place_name
from limbeck.report.words import count, duration, megabytes, name_of, percent, toml

_PIECES = {
    "texts": lambda one: count(one["lines"]),
    "words": lambda one: count(one["words"]),
    "pieces used, before": lambda one: count(one["used_before"]),
    "of them kept": lambda one: count(one["used_kept"]),
    "occurrences covered": lambda one: percent(one["coverage"], 2),
    "pieces a word, before": lambda one: f"{one['fertility_before']:.3f}",
    "pieces a word, after": lambda one: f"{one['fertility_after']:.3f}",
    "unknown pieces, before": lambda one: percent(one["unknown_before"], 2),
    "unknown pieces, after": lambda one: percent(one["unknown_after"], 2),
    "bytes for characters, before": lambda one: percent(one["bytes_before"], 2),
    "bytes for characters, after": lambda one: percent(one["bytes_after"], 2),
    "texts cut into the same pieces": lambda one: percent(one["same_lines"] / max(one["lines"], 1)),
}
_TEXTS = {
    "texts read": lambda one: count(one["read"]),
    "texts kept": lambda one: count(one["kept"]),
    "of them held out": lambda one: count(one["heldout"]),
    "words kept": lambda one: count(one["words"]),
    "characters kept": lambda one: count(one["characters"]),
    "size kept": lambda one: megabytes(one["bytes"]),
}


def vocabulary_table(facts: Facts) -> Table | None:
    """Give what trimming does to held-out text, a column a language."""
    report = facts.metrics("vocabulary").get("report")
    if not report:
        return None
    languages = report["languages"]
    return Table(
        "Held-out text under the teacher’s vocabulary and under the kept one",
        ("", *map(name_of, languages)),
        tuple(
            (name, *(tell(told) for told in languages.values())) for name, tell in _PIECES.items()
        ),
    )


def lost_table(facts: Facts) -> Table | None:
    """Give the characters that the kept vocabulary cannot write; nothing where it can write all."""
    report = facts.metrics("vocabulary").get("report", {"languages": {}})
    rows = [
        (
            one["character"],
            one["name"].capitalize(),
            name_of(language),
            "tone or other mark" if one["is_mark"] else "letter or sign",
            {"bytes": "spelled in bytes"}.get(one["fate"], one["fate"]),
            count(one["occurrences"]),
        )
        for language, told in report["languages"].items()
        for one in told["lost"]
    ]
    columns = ("Character", "Name", "Language", "Kind", "Becomes", "Times")
    return Table("Characters lost", columns, tuple(rows), words=5) if rows else None


def corpus_table(facts: Facts) -> Table | None:
    """Give how many texts were kept, and why the others were not, a column a language."""
    counts = facts.counts("corpus")
    if not counts:
        return None
    reasons = dict.fromkeys(reason for told in counts.values() for reason in told["dropped"])
    dropped = (
        (f"dropped: {reason}", *(count(told["dropped"].get(reason, 0)) for told in counts.values()))
        for reason in reasons
    )
    kept = ((name, *(tell(told) for told in counts.values())) for name, tell in _TEXTS.items())
    return Table("Unlabelled text, by language", ("", *map(name_of, counts)), (*kept, *dropped))


def notes_table(facts: Facts) -> Table | None:
    """Give what the readers of labelled data noticed or mended; nothing where nothing was."""
    rows = [
        (where, reason, ", ".join(map(_sample, note["samples"][:3])), count(note["count"]))
        for where, notes in _notes(facts)
        for reason, note in notes.items()
    ]
    columns = ("Data", "Note", "Samples", "Times")
    return Table("Notes on the labelled data", columns, tuple(rows), words=3) if rows else None


def _sample(sample: object) -> str:
    """Give a sample as it stands; of a file and line, the folder is left out."""
    return str(sample).replace("\\", "/").rpartition("/")[2] or str(sample)


def _notes(facts: Facts) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "labels to learn from", facts.counts("teacher").get("notes", {})
    told = facts.counts("evaluate").get("notes", {})
    for place in facts.places:
        yield f"test set, {place_name(place)}", told.get(place.key, {})


def recipe_text(facts: Facts) -> str:
    """Give the resolved recipe as TOML."""
    return toml(facts.recipe)


def artifact_table(facts: Facts) -> Table:
    """Give every stage's artifact, its seed and what it took."""
    rows = []
    for stage, key in facts.keys.items():
        found = facts.artifacts.get(stage)
        told = found.manifest if found else None
        seconds = duration(told.seconds) if told else "gone from the store"
        rows.append((stage, f"{stage}-{key[:12]}", seconds, str(told.seed) if told else "–"))
    total = sum(one.manifest.seconds for one in facts.artifacts.values())
    rows.append(("all", "", duration(total), ""))
    return Table(
        "Artifacts in the store", ("Stage", "Folder", "Took", "Seed"), tuple(rows), words=2
    )


def version_table(facts: Facts) -> Table | None:
    """Give the packages' versions; several where stages were made with different ones."""
    found: dict[str, dict[str, None]] = {}
    for one in facts.artifacts.values():
        for package, version in one.manifest.versions.items():
            found.setdefault(package, {})[version] = None
    if not found:
        return None
    rows = tuple((package, ", ".join(versions)) for package, versions in found.items())
    return Table("Packages", ("Package", "Version"), rows, words=2)
