"""What a recipe may ask for within a budget: its teacher's students, priced before training."""

import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from limbeck import doctor
from limbeck.anatomy import unlimited
from limbeck.asking import PAIRS
from limbeck.budget import (
    SHARES,
    Budget,
    Configuration,
    Costs,
    TokenizerSize,
    configurations,
    nearest,
    pareto,
    vocabulary_sizes,
)
from limbeck.errors import DataError, RecipeError
from limbeck.hub import config_folder
from limbeck.reading import CorpusSource, find_files, read
from limbeck.recipe import Recipe
from limbeck.stages.record import languages_of, layer_plan_in
from limbeck.tasks import find_task
from limbeck.tokenizer import load_tokenizer

SENTENCE_PIECES = 32
"""Of the sentence timed, where neither the corpora nor the user says."""
LEAST_PIECES = 3
"""A begin, a word, an end."""
LINES = 300
"""Lines of each corpus whose pieces are counted."""
PIECE_BYTES = 40.0
"""Of a piece in tokenizer.json, where there is none to weigh."""

CLASSES = {
    "ner": 9, "pos": 17, "parsing": 37, "nli": 3, "paraphrase": 2, "topics": 7, "sentiment": 3,
    "qa": 2,
}  # fmt: skip
"""Of each task's head, before any label is read."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """The sentence timed.

    Args:
        pieces: Its length, special pieces included.
        source: Where the length is from, in words.
    """

    pieces: int
    source: str


@dataclass(frozen=True, slots=True)
class Standing:
    """The recipe as it stands.

    Args:
        layers: Of its student.
        feed_forward: Share of each block's neurons that its student keeps.
        precision: Of its bundle.
        pieces: Its vocabulary; None: as many as its corpora need, which nobody has counted yet.
        p50_ms: Median time of one sentence, milliseconds.
        disk_bytes: Of its bundle; None where `pieces` is.
        most_pieces: As many fit beside its layers; 0: none.
        fits: Whether it keeps to the budget; None where that hangs on its vocabulary.
        exports: Whether the recipe makes a bundle; one without is priced as if it did.
        plan_is_listed: Whether it names its layers one by one, which another depth contradicts.
    """

    layers: int
    feed_forward: float
    precision: str
    pieces: int | None
    p50_ms: float
    disk_bytes: int | None
    most_pieces: int
    fits: bool | None
    exports: bool
    plan_is_listed: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """What a budget buys.

    Args:
        teacher: Hub id or folder.
        budget: What may be spent.
        machine: Where it was measured.
        sentence: What was timed.
        classes: Of the head that was timed.
        costs: Of a student's parts.
        configurations: Every student on offer, largest first.
        best: Those of them that fit and that no other that fits beats.
        nearest: Where none fits, the one that misses by the smallest factor.
        standing: The recipe as it is.
    """

    teacher: str
    budget: Budget
    machine: dict[str, Any]
    sentence: Sentence
    classes: int
    costs: Costs
    configurations: tuple[Configuration, ...]
    best: tuple[Configuration, ...]
    nearest: Configuration | None
    standing: Standing

    def to_dict(self) -> dict[str, Any]:
        """Give what `limbeck plan --budget --json` prints."""
        missed = self.nearest
        return {
            "budget": self.budget.to_dict(),
            "machine": self.machine,
            "teacher": self.teacher,
            "sentence_pieces": self.sentence.pieces,
            "sentence_pieces_from": self.sentence.source,
            "classes": self.classes,
            "costs": self.costs.to_dict(),
            "configurations": [
                {**one.to_dict(), "fits": self.budget.fits(one), "pareto": one in self.best}
                for one in self.configurations
            ],
            "pareto": [one.to_dict() for one in self.best],
            "recipe": asdict(self.standing),
            "nearest": missed
            and {**missed.to_dict(), "needs": self.budget.raised_for(missed).to_dict()},
        }


def offer(recipe: Recipe, budget: Budget, *, pieces: int | None = None) -> Offer:
    """Tell which students of a recipe's teacher fit a budget, by costs measured here and now.

    Of the teacher its config.json is read, and its tokenizer.json where there is one.

    Args:
        recipe: Nothing of it has to be made.
        budget: What may be spent.
        pieces: Length of the sentence timed; None: the corpora's median, or `SENTENCE_PIECES`.

    Raises:
        LimbeckError: The teacher cannot be read or exported, or has no positions for the sentence.
    """
    from limbeck.architectures import most_pieces
    from limbeck.costs import Shape, measure
    from limbeck.encoder import read_config

    folder = config_folder(recipe.teacher.model)
    config = read_config(str(folder), recipe.teacher.allow_remote_code)
    most = min(most_pieces(config) or recipe.task.window_pieces, recipe.task.window_pieces)
    sentence = _sentence(recipe, folder, asked=pieces, most=most)
    classes = _classes(recipe)
    shape = Shape(find_task(recipe.task.kind).head, classes, sentence.pieces)
    rates = measure(config, shape, where=recipe.teacher.model)
    costs = _costs(config, rates, tokenizer_size(folder))
    wanted = recipe.vocabulary.max_pieces
    shares = {*SHARES, recipe.student.neurons_share}
    offered = configurations(costs, vocabulary_sizes(costs.pieces, wanted), tuple(shares))
    fitting = [one for one in offered if budget.fits(one)]
    return Offer(
        teacher=recipe.teacher.model,
        budget=budget,
        machine=_machine(),
        sentence=sentence,
        classes=classes,
        costs=costs,
        configurations=offered,
        best=pareto(fitting),
        nearest=None if fitting else nearest(offered, budget),
        standing=_standing(recipe, costs, budget),
    )


def _costs(config: Any, rates: Any, tokenizer: TokenizerSize) -> Costs:
    from limbeck.architectures import architecture_of
    from limbeck.costs import embedding_width
    from limbeck.narrowing import neurons_in
    from limbeck.rounding import LARGE_ENTRIES

    architecture = architecture_of(config)
    return Costs(
        layers=int(getattr(config, architecture.depth)),
        pieces=int(config.vocab_size),
        neurons=neurons_in(config),
        width=int(getattr(config, architecture.width)),
        embedding_width=embedding_width(config),
        rounded_from_entries=LARGE_ENTRIES,
        rates=rates,
        tokenizer=tokenizer,
    )


def _classes(recipe: Recipe) -> int:
    kind, labels = recipe.task.kind, recipe.task.benchmark.labels
    return len(find_task(kind).expand_labels(labels)) if labels else CLASSES[kind]


def _sentence(recipe: Recipe, folder: Path, *, asked: int | None, most: int) -> Sentence:
    """Choose the sentence timed.

    Raises:
        RecipeError: The one asked for is too short, or longer than what is read at once.
    """
    if asked is not None:
        if not LEAST_PIECES <= asked <= most:
            raise RecipeError(
                "no sentence of this length is read at once",
                where="--pieces",
                found=str(asked),
                expected=f"{LEAST_PIECES} to {most}",
            )
        return Sentence(asked, "--pieces")
    if find_task(recipe.task.kind).head == "span":
        return Sentence(most, "a window, for a question is read with its text")
    lengths, languages = [], []
    if (folder / "tokenizer.json").is_file():
        tokenizer = unlimited(load_tokenizer(folder))
        for language in languages_of(recipe):
            lines = [one for one in islice(_lines(recipe, language), LINES) if one.strip()]
            lengths += [len(one.ids) for one in tokenizer.encode_batch_fast(lines)]
            languages += [language] if lines else []
    if not lengths:
        return Sentence(min(SENTENCE_PIECES, most), "the default, for no corpus is there to count")
    is_pair = recipe.task.kind in PAIRS
    middle = round((2 if is_pair else 1) * statistics.median(lengths))
    source = f"the median of {len(lengths)} lines of {', '.join(languages)}"
    return Sentence(
        max(LEAST_PIECES, min(most, middle)), f"twice {source}, for a pair" if is_pair else source
    )


def _lines(recipe: Recipe, language: str) -> Iterator[str]:
    """Give a language's text where it lies in files that are there; the hub's is not fetched."""
    place = recipe.corpus.texts[language]
    source = CorpusSource(**place.model_dump(exclude_none=True))
    if place.hub or not _is_there(source, language):
        return iter(())
    return (line.text for line in read(source, language=language))


def _is_there(source: CorpusSource, language: str) -> bool:
    try:
        return bool(find_files(source, language=language))
    except DataError:
        return False


def tokenizer_size(folder: Path) -> TokenizerSize:
    """Weigh a tokenizer.json as limbeck would write it, all of its pieces kept.

    Args:
        folder: The teacher's.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return TokenizerSize(0.0, PIECE_BYTES, "a guess, for the teacher has no tokenizer.json")
    pieces = load_tokenizer(folder).get_vocab_size()
    spec = json.loads(path.read_text(encoding="utf-8"))
    whole = _written_bytes(spec)
    spec["model"] |= {one: [] for one in ("vocab", "merges") if one in spec["model"]}
    fixed = _written_bytes(spec)
    return TokenizerSize(fixed, (whole - fixed) / pieces, "the teacher's tokenizer.json")


def _written_bytes(spec: dict[str, Any]) -> int:
    return len(json.dumps(spec, ensure_ascii=False).encode("utf-8"))


def _standing(recipe: Recipe, costs: Costs, budget: Budget) -> Standing:
    layers = len(layer_plan_in(recipe, costs.layers))
    precision = "fp32" if recipe.export is not None and not recipe.export.int8 else "int8"
    share = recipe.student.neurons_share
    most = costs.most_pieces(layers, precision, budget, feed_forward=share)
    wanted = recipe.vocabulary.max_pieces
    pieces = None if wanted is None else min(wanted, costs.pieces)
    priced = costs.configuration(layers, pieces or 1, precision, feed_forward=share)
    fits: bool | None = budget.fits(priced)
    if pieces is None and 0 < most < costs.pieces:
        fits = None
    return Standing(
        layers,
        share,
        precision,
        pieces,
        round(priced.p50_ms, 3),
        None if pieces is None else priced.disk_bytes,
        most,
        fits,
        exports=recipe.export is not None,
        plan_is_listed=not isinstance(recipe.student.plan, str),
    )


def _machine() -> dict[str, Any]:
    versions = {one: metadata.version(one) for one in ("limbeck", "onnxruntime")}
    return {**doctor.machine(), **versions}
