"""A generated miniature multilingual world whose labels are exact, in the published file formats.

Languages that share meanings but differ as languages do, from one seed:

    corpora/<language>.txt                   running text, a paragraph a line
    parallel/<language>.txt                  a sentence a line, the same in every language
    pos|ner/<language>/<split>.txt           a word and its tag a line
    ud/<language>/<split>.conllu             dependency trees
    nli|news/<language>/<split>.tsv          entailment pairs; topics
    xquad/xquad.<language>.json              questions; the article's title starts with its split
    world.json                               what it is, how much of it, and how far baselines get

The sets are parallel (the n-th sentence of a split means the same in every language), the corpora
are not. Equal seeds, sizes and languages give equal bytes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from limbeck.errors import DataError, RecipeError
from limbeck.world import files, floors, questions, sets
from limbeck.world.chorus import Chorus
from limbeck.world.floors import Floor
from limbeck.world.languages import DEFAULT_LANGUAGES, LANGUAGES
from limbeck.world.lexicon import make_lexicon, make_vocabulary
from limbeck.world.render import Speaker
from limbeck.world.words import Voice, join

__all__ = ["SETS", "SIZES", "Floor", "LanguageFacts", "Size", "World", "facts", "make_world"]

SETS = ("pos", "ner", "ud", "nli", "news", "xquad")

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything.

    Args:
        scale: Of the lexicon; 1 is about 600 content words.
        lines: Of each corpus, about four sentences each.
        tagged: Sentences of the pos and the ner set: train, dev, test.
        trees: Sentences of the ud set.
        pairs: Entailment pairs.
        news: News items.
        contexts: Paragraphs with one or two questions.
    """

    scale: float
    lines: int
    tagged: tuple[int, int, int]
    trees: tuple[int, int, int]
    pairs: tuple[int, int, int]
    news: tuple[int, int, int]
    contexts: tuple[int, int, int]


SIZES: dict[str, Size] = {
    "tiny": Size(
        scale=0.5,
        lines=200,
        tagged=(120, 30, 60),
        trees=(120, 30, 60),
        pairs=(120, 30, 60),
        news=(70, 21, 42),
        contexts=(40, 10, 30),
    ),
    "small": Size(
        scale=1.0,
        lines=6_000,
        tagged=(1_000, 200, 400),
        trees=(1_000, 200, 400),
        pairs=(2_400, 300, 600),
        news=(700, 140, 350),
        contexts=(600, 60, 200),
    ),
    "base": Size(
        scale=4.0,
        lines=60_000,
        tagged=(5_000, 500, 1_000),
        trees=(5_000, 500, 1_000),
        pairs=(15_000, 1_500, 3_000),
        news=(3_500, 350, 1_050),
        contexts=(5_000, 500, 1_000),
    ),
}
"""tiny: for tests; small: a teacher in minutes; base: a study."""


@dataclass(frozen=True, slots=True)
class LanguageFacts:
    """A language of a world.

    Args:
        code: ISO 639-3 code for local use.
        name: What it is called.
        order: "SVO", "SOV" or "VSO".
        script: ISO 15924 code.
        cognates: Share of the words that come from the proto-word by sound laws, as counted.
    """

    code: str
    name: str
    order: str
    script: str
    cognates: float


@dataclass(frozen=True, slots=True)
class World:
    """What was made; `world.json` holds the same.

    Args:
        seed: What it was made from.
        size: A key of `SIZES`.
        languages: The languages, the source first.
        counts: Set → how many of it in each language: "corpora" lines, "parallel" sentences,
            "<set>/<split>" sentences, pairs, items or questions.
        floors: Set → language → what baselines score on its test split.
    """

    seed: int
    size: str
    languages: tuple[LanguageFacts, ...]
    counts: Mapping[str, int]
    floors: Mapping[str, Mapping[str, Floor]]


def make_world(
    folder: Path,
    *,
    seed: int = 0,
    size: str = "small",
    languages: Sequence[str] | None = None,
    only: Sequence[str] = SETS,
) -> World:
    """Writes a world into a folder; files of the same names are replaced.

    Args:
        folder: Where to write; made if need be.
        seed: Another seed gives other words, meanings and names.
        size: "tiny", "small" or "base".
        languages: Codes, the source first; None for `qaa`, `qab`, `qac`, `qad`.
        only: The sets to make beside the corpora and the parallel text.

    Raises:
        RecipeError: No such size, language or set, or a language twice.
        ArtifactError: The disk is full, or the folder cannot be written.
    """
    codes = tuple(languages or DEFAULT_LANGUAGES)
    _check(codes, size, only)
    amount = SIZES[size]
    vocabulary = make_vocabulary(seed, amount.scale)
    speakers = {
        code: Speaker(Voice(make_lexicon(seed, vocabulary, LANGUAGES[code]))) for code in codes
    }
    chorus = Chorus(seed, vocabulary, speakers)
    counts: dict[str, int] = {}
    found: dict[str, dict[str, Floor]] = {}
    for name in only:
        data = _draw(chorus, name, amount, counts)
        _write(folder, name, data)
        found[name] = {code: _floor(name, data, code, codes[0]) for code in codes}
    for code, sentences in sets.tagged(chorus, "parallel", "dev", amount.tagged[1]).items():
        text = "".join(f"{join([words]).text}\n" for words in sentences)
        files.write(folder / "parallel" / f"{code}.txt", text)
    counts["parallel"] = amount.tagged[1]
    for code in codes:
        text = "".join(f"{line}\n" for line in sets.corpus(chorus, code, amount.lines))
        files.write(folder / "corpora" / f"{code}.txt", text)
    counts["corpora"] = amount.lines
    about = tuple(_facts_of(speakers[code]) for code in codes)
    world = World(seed, size, about, counts, found)
    page = {"format": _FORMAT, **asdict(world)}
    files.write(folder / "world.json", json.dumps(page, indent=1, ensure_ascii=False) + "\n")
    return world


def facts(folder: Path) -> World:
    """Gives what `make_world` told about the world in a folder.

    Raises:
        DataError: There is none, or `world.json` is not what was written.
    """
    path = folder / "world.json"
    try:
        page = json.loads(path.read_text(encoding="utf-8"))
        if page["format"] != _FORMAT:
            raise ValueError(f"format {page['format']}")
        return World(
            page["seed"],
            page["size"],
            tuple(LanguageFacts(**one) for one in page["languages"]),
            page["counts"],
            {
                name: {code: Floor(**floor) for code, floor in row.items()}
                for name, row in page["floors"].items()
            },
        )
    except FileNotFoundError as error:
        raise DataError(
            "no world in this folder", where=str(path), do="make one with make_world"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            "not the facts of a world",
            where=str(path),
            found=str(error),
            expected=f"a world.json of format {_FORMAT}",
            do="make the world again",
        ) from error


def _check(codes: Sequence[str], size: str, only: Sequence[str]) -> None:
    if size not in SIZES:
        raise RecipeError(
            "no such size of world", found=repr(size), expected="one of " + ", ".join(SIZES)
        )
    strange = [name for name in only if name not in SETS]
    if strange:
        raise RecipeError(
            "the world has no such set",
            found=repr(strange[0]),
            expected="one of " + ", ".join(SETS),
        )
    unknown = [code for code in codes if code not in LANGUAGES]
    if unknown:
        raise RecipeError(
            "the world has no such language",
            found=repr(unknown[0]),
            expected="one of " + ", ".join(LANGUAGES),
        )
    if len(set(codes)) < len(codes):
        raise RecipeError("a language of the world is named twice", found=", ".join(codes))


def _facts_of(speaker: Speaker) -> LanguageFacts:
    language, share = speaker.language, round(speaker.voice.lexicon.cognates, 4)
    return LanguageFacts(language.code, language.name, language.order, language.script, share)


Data = dict[str, dict[str, Any]]
"""Split → language → what there is of a set."""


def _draw(chorus: Chorus, name: str, amount: Size, counts: dict[str, int]) -> Data:
    draw: dict[str, tuple[tuple[int, int, int], Callable[[str, int], dict[str, Any]]]] = {
        "nli": (amount.pairs, lambda split, n: sets.pairs(chorus, split, n)),
        "news": (amount.news, lambda split, n: sets.news(chorus, split, n)),
        "xquad": (amount.contexts, lambda split, n: questions.contexts(chorus, split, n)),
    }
    if name in draw:
        sizes, make = draw[name]
    else:
        sizes = amount.trees if name == "ud" else amount.tagged

        def make(split: str, n: int) -> dict[str, Any]:
            return dict(sets.tagged(chorus, name, split, n))

    data = {split: make(split, count) for split, count in zip(sets.SPLITS, sizes, strict=True)}
    for split, found in data.items():
        items = next(iter(found.values()))
        asked = [len(item.questions) for item in items] if name == "xquad" else [1] * len(items)
        counts[f"{name}/{split}"] = sum(asked)
    return data


def _write(folder: Path, name: str, data: Data) -> None:
    if name == "xquad":
        for code in data["train"]:
            titled = [
                (f"{split} {number}", context)
                for split, found in data.items()
                for number, context in enumerate(found[code], start=1)
            ]
            files.write(folder / "xquad" / f"xquad.{code}.json", files.squad(titled))
        return
    for split, found in data.items():
        for code, items in found.items():
            prefix = f"{name}-{code}-{split}"
            if name == "ud":
                text, suffix = files.conllu(items, prefix=prefix), "conllu"
            elif name == "nli":
                text, suffix = files.pair_table(items), "tsv"
            elif name == "news":
                text, suffix = files.news_table(items, prefix=f"{code}/{split}"), "tsv"
            else:
                text, suffix = files.conll(items, entity=name == "ner"), "txt"
            files.write(folder / name / code / f"{split}.{suffix}", text)


def _floor(name: str, data: Data, code: str, source: str) -> Floor:
    mine = {split: found[code] for split, found in data.items()}
    theirs = {split: found[source] for split, found in data.items()}
    if name == "xquad":
        return floors.question_floor(mine["test"])
    if name == "nli":
        return floors.pair_floor(mine, theirs)
    if name == "news":
        return floors.news_floor(mine, theirs)
    if name == "ud":
        return floors.tree_floor(mine, theirs)
    return floors.tag_floor(mine, theirs, entity=name == "ner")
