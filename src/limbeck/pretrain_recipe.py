"""The recipe of `limbeck pretrain`: a masked language model from corpora of any languages."""

import contextlib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from limbeck.recipe import Kind, Recipe, read_as, read_recipe, shipped_recipes
from limbeck.sections import Corpus, Machine, Name, Section, knob


class Tokenizer(Section):
    """The tokenizer, trained on the corpora."""

    kind: Literal["unigram", "bpe", "wordpiece"] = knob(
        "unigram",
        "unigram: SentencePiece's, with metaspace; bpe: byte-level; wordpiece: as BERT's.",
        reason="as XLM-R and mmBERT; its pieces follow morphemes better than merges do",
    )
    pieces: int = knob(
        32_000,
        "Pieces, special ones included.",
        unit="pieces",
        reason="some 3,000 a language for ten languages; XLM-R has 250,000 for a hundred",
        gt=8,
    )
    normaliser: Literal["nfc", "nfkc"] = knob(
        "nfc",
        "Unicode form of text; nfkc also folds what looks alike, as XLM-R does.",
        reason="corpora are NFC already, and folding is for good",
    )
    lowercase: bool = knob(
        False, "Fold capitals.", reason="names are told by them, and the teacher serves NER"
    )
    coverage: float = knob(
        0.9999,
        "Share of a language's characters that must have a piece; the rarest are unknown.",
        reason="emoji and stray scripts eat no pieces; SentencePiece takes 0.9995 of all languages",
        gt=0,
        le=1,
    )
    sampling_exponent: float = knob(
        0.5,
        "Evens out the languages that pieces are learned from: n characters count as n^a.",
        reason="as the model's batches",
        ge=0,
        le=1,
    )
    characters: int = knob(
        20_000_000,
        "At most so many characters are learned from.",
        unit="characters",
        reason="eleven languages, 24,000 unigram pieces: 4 minutes; 60 M took twice that",
        gt=0,
    )


class Model(Section):
    """The encoder."""

    architecture: Literal["xlm-roberta", "bert", "modernbert"] = knob(
        "modernbert",
        "modernbert: rotary positions, gated layers, norms first, no biases, as mmBERT.",
        reason="reads longer texts than it was trained on, and learns well when small",
    )
    layers: int = knob(
        8, "Layers.", unit="layers", reason="a student of half the depth is still deep", gt=0
    )
    width: int = knob(
        256,
        "Width of the states.",
        unit="dimensions",
        reason="hours on two cores; from 384 on, use a GPU",
        gt=0,
    )
    heads: int = knob(
        4, "Attention heads.", unit="heads", reason="64 dimensions a head, as usual", gt=0
    )
    feed_forward: int | None = knob(
        None,
        "Inner width of a layer; if not given 4 x width (BERT's), modernbert 1.5 x width, gated.",
        unit="dimensions",
        gt=0,
    )
    positions: int = knob(
        512,
        "Longest text in pieces.",
        unit="pieces",
        reason="sentences and paragraphs; rotary positions cost nothing",
        gt=8,
    )
    global_every: int = knob(
        1,
        "modernbert only: every n-th layer sees the whole text, the others a window.",
        unit="layers",
        reason="blocks are no longer than the window; from 512 pieces on take 3, as ModernBERT",
        gt=0,
    )
    window: int = knob(
        128,
        "modernbert only: pieces that the other layers see.",
        unit="pieces",
        reason="ModernBERT's",
        gt=1,
    )

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "Model":
        if self.width % self.heads:
            raise ValueError(
                f"width {self.width} is not divisible by heads {self.heads}; "
                "change model.width or model.heads"
            )
        if self.architecture == "modernbert" and self.width // self.heads % 2:
            raise ValueError(
                f"rotary positions need an even number of dimensions a head, "
                f"{self.width} / {self.heads} is odd; change model.width or model.heads"
            )
        return self


MODEL_FIELDS = {
    "xlm-roberta": {"architecture", "layers", "width", "heads", "feed_forward", "positions"},
    "bert": {"architecture", "layers", "width", "heads", "feed_forward", "positions"},
    "modernbert": set(Model.model_fields),
}
"""Architecture to the fields that it reads; the others change nothing."""


class Training(Section):
    """Masked language modelling."""

    steps: int = knob(
        6000,
        "Optimiser steps.",
        unit="steps",
        reason="49 M pieces: three passes over 16 M",
        gt=0,
    )
    batch_pieces: int = knob(
        8192, "Pieces a step.", unit="pieces", reason="64 blocks; XLM-R took 4 million", gt=0
    )
    block_pieces: int = knob(
        128, "Pieces a packed block.", unit="pieces", reason="sentences are shorter", gt=8
    )
    learning_rate: float = knob(
        1.5e-3,
        "Peak rate of AdamW, linear decay.",
        reason="right for widths below 384; 5e-4 at 768",
        gt=0,
    )
    warmup: float = knob(
        0.06, "Share of the steps that warm up.", reason="RoBERTa's 6 %", ge=0, lt=1
    )
    weight_decay: float = knob(0.01, "Decay of AdamW.", reason="RoBERTa's", ge=0)
    masking: float = knob(
        0.15,
        "Share of pieces predicted: 80 % masked, 10 % replaced by any piece, 10 % as they are.",
        reason="BERT's; ModernBERT takes 0.3, for larger models",
        gt=0,
        lt=1,
    )
    sampling_exponent: float = knob(
        0.5,
        "Evens out the languages of each batch: n pieces count as n^a.",
        reason="XLM-R takes 0.3 with a thousandfold span of sizes; corpora here span tenfold",
        ge=0,
        le=1,
    )
    dropout: float = knob(
        0.0,
        "Dropout of states and attention.",
        reason="few passes over the text: it underfits; ModernBERT has none either",
        ge=0,
        lt=1,
    )
    evaluations: int = knob(
        10,
        "How often the held-out text is scored to select the weights.",
        unit="times",
        reason="a curve, at 1 % of the time",
        gt=0,
    )


class Survey(Section):
    """What is asked of the teacher at the end."""

    parallel: dict[Name, str] = knob(
        {},
        "Language to a text file; line i of each says the same. Retrieval is scored on them.",
        reason="held-out loss does not tell whether languages share their states",
    )
    lines: int = knob(
        1000,
        "At most so many lines are read.",
        unit="lines",
        reason="a thousand candidates; 95 % intervals of 3 points",
        gt=1,
    )

    @model_validator(mode="after")
    def _two_or_none(self) -> "Survey":
        if len(self.parallel) == 1:
            raise ValueError("parallel text needs two languages or more; name another file")
        return self


class PretrainRecipe(Section):
    """A teacher, from corpora to a multilingual masked language model."""

    name: Name = knob(..., "The run's name: letters, digits, dot, dash, underscore.")
    seed: int = knob(0, "Seed of everything that is drawn.", reason="any", ge=0)
    corpus: Corpus
    tokenizer: Tokenizer = Tokenizer()
    model: Model = Model()
    training: Training = Training()
    survey: Survey = Survey()
    machine: Machine = Machine()

    @model_validator(mode="after")
    def _sections_meet(self) -> "PretrainRecipe":
        if not self.corpus.texts:
            raise ValueError("[corpus] names no text; add a language, such as yor = 'yor.txt'")
        stray = [one for one in self.corpus.filter.scripts if one not in self.corpus.texts]
        if stray:
            raise ValueError(
                f"corpus.filter.scripts names '{stray[0]}', which has no text in [corpus] "
                f"(it has: {', '.join(self.corpus.texts)})"
            )
        if self.training.block_pieces > self.model.positions:
            raise ValueError(
                f"a block of training.block_pieces = {self.training.block_pieces} does not fit "
                f"into model.positions = {self.model.positions}; lower the one or raise the other"
            )
        return self


PRETRAINING = Kind(PretrainRecipe, "pretrain", prefix="pretrain.", folder="pretrain")
"""The recipe that `limbeck pretrain` carries out."""


def read_pretrain_recipe(path: str | Path, overrides: Sequence[str] = ()) -> PretrainRecipe:
    """Read a recipe of pretraining, or a shipped one by name; as `recipe.read_recipe`.

    Raises:
        RecipeError: The file is missing or not TOML, or a field is unknown, missing or wrong.
    """
    return read_as(PRETRAINING, path, overrides)


def read_any_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe | PretrainRecipe:
    """Read a recipe of either kind; that of `limbeck run` names languages, a teacher and a task.

    Raises:
        RecipeError: As `read_pretrain_recipe`.
    """
    file, is_pretraining = Path(path), False
    if file.is_file():
        with contextlib.suppress(OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            values = tomllib.loads(file.read_text(encoding="utf-8"))
            is_pretraining = values.keys().isdisjoint({"languages", "teacher", "task"})
    else:
        is_pretraining = str(path) in shipped_recipes(PRETRAINING)
    if is_pretraining:
        return read_pretrain_recipe(path, overrides)
    return read_recipe(path, overrides)
