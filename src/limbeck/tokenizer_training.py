"""Train a fast tokenizer on several languages: the same text gives the same bytes.

The `tokenizers` library learns the pieces. Where its result depends on the order of a hash table
(version 0.23: WordPiece's ids and ties, Unigram's order and the scores of rare characters), what
it is given or what it gives is put in one order.
"""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from limbeck.artifact import write_json
from limbeck.errors import DataError, RecipeError
from limbeck.mixture import sampling_shares

Texts = Callable[[], Iterable[str]]
"""A function that reads one language's texts from the start."""

# GPT-2's pattern with marks and joiners among the letters: it would cut "ẹ̀" after "ẹ".
_WORDS = r" ?[\p{L}\p{M}\u200c\u200d]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}\u200c\u200d]+|\s+(?!\S)|\s+"
_SEEN_OFTEN = 2
"""A pair of pieces seen less often is not merged: what occurs once is no piece."""
_TIE = 1e-4
"""By so much tokenizers 0.23 lowers each next rare character's score, in any order."""


@dataclass(frozen=True, slots=True)
class Specials:
    """The special pieces, in the order of their ids from 0."""

    pieces: tuple[str, ...]
    begin: str
    end: str
    pad: str
    unknown: str
    mask: str

    def roles(self) -> dict[str, str]:
        """Give tokenizer_config.json's names of them."""
        begin, end = ("bos_token", "cls_token"), ("eos_token", "sep_token")
        named = dict.fromkeys(begin, self.begin) | dict.fromkeys(end, self.end)
        return named | {
            "pad_token": self.pad,
            "unk_token": self.unknown,
            "mask_token": self.mask,
        }


_ROBERTA = Specials(
    ("<s>", "<pad>", "</s>", "<unk>", "<mask>"), "<s>", "</s>", "<pad>", "<unk>", "<mask>"
)
_BERT = Specials(
    ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"
)


@dataclass(frozen=True, slots=True)
class Spelling:
    """What kind of tokenizer is trained, and how text is written before it is split.

    Args:
        kind: Unigram with metaspace (as XLM-R), byte-level BPE, or WordPiece (as BERT).
        pieces: V, the special pieces included.
        normaliser: Unicode form.
        lowercase: Whether capitals are folded.
        coverage: Share of a language's characters that must have a piece; the rarest beyond it
            are unknown. Byte-level BPE knows every character.
    """

    kind: Literal["unigram", "bpe", "wordpiece"]
    pieces: int
    normaliser: Literal["nfc", "nfkc"] = "nfc"
    lowercase: bool = False
    coverage: float = 0.9999

    @property
    def specials(self) -> Specials:
        """The special pieces of this kind."""
        return _BERT if self.kind == "wordpiece" else _ROBERTA


def train_tokenizer(
    texts: Mapping[str, Texts], spelling: Spelling, *, exponent: float, most_characters: int
) -> Tokenizer:
    """Train a tokenizer; its post-processor puts the begin and the end piece around a text.

    Args:
        texts: Language → its texts, which are read twice.
        spelling: What is trained.
        exponent: Evens out the languages: see `mixture.sampling_shares`, of characters here.
        most_characters: Characters that the trainer reads, at most.

    Raises:
        DataError: There is no text, or it yields fewer pieces than asked for.
        RecipeError: The characters alone need more pieces than asked for.
    """
    normaliser = _normaliser(spelling)
    characters = {language: _count(read(), normaliser) for language, read in sorted(texts.items())}
    for language, counted in characters.items():
        if not counted:
            raise DataError("no text to learn pieces from", where=f"corpus.{language}")
    known = sorted(set().union(*(_covered(one, spelling.coverage) for one in characters.values())))
    stream = _balanced(
        texts,
        {language: counted.total() for language, counted in characters.items()},
        exponent=exponent,
        most_characters=most_characters,
    )
    _check_room(len(known), spelling)
    if spelling.kind == "bpe":
        return _assembled(_byte_pieces(stream, spelling), normaliser, spelling)
    stream = _without(stream, set(known), normaliser)
    if spelling.kind == "unigram":
        return _assembled(_unigram(stream, spelling), normaliser, spelling)
    return _assembled(_word_pieces(stream, known, spelling), normaliser, spelling)


def save_tokenizer(tokenizer: Tokenizer, spelling: Spelling, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, as `AutoTokenizer` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **spelling.specials.roles(),
    }
    write_json(folder / "tokenizer_config.json", config)


def _normaliser(spelling: Spelling) -> normalizers.Normalizer:
    form = normalizers.NFC() if spelling.normaliser == "nfc" else normalizers.NFKC()
    if spelling.kind == "wordpiece":
        # Accents are letters of their own in most orthographies; BERT's default strips them.
        bert = normalizers.BertNormalizer(strip_accents=False, lowercase=spelling.lowercase)
        return normalizers.Sequence([form, bert])
    return normalizers.Sequence([form, normalizers.Lowercase()] if spelling.lowercase else [form])


def _splitter(spelling: Spelling) -> pre_tokenizers.PreTokenizer:
    if spelling.kind == "bpe":
        words = pre_tokenizers.Split(Regex(_WORDS), "isolated")
        bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([words, bytes_of])
    if spelling.kind == "wordpiece":
        return pre_tokenizers.BertPreTokenizer()
    return pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])


def _count(texts: Iterable[str], normaliser: normalizers.Normalizer) -> Counter[str]:
    counted: Counter[str] = Counter()
    for text in texts:
        counted.update(normaliser.normalize_str(text))
    return counted


def _covered(counted: Counter[str], coverage: float) -> set[str]:
    """Give the most frequent characters that make up a share of all; no spaces."""
    letters = {one: count for one, count in counted.items() if not one.isspace()}
    wanted, seen = coverage * sum(letters.values()), 0
    kept: set[str] = set()
    for character, count in sorted(letters.items(), key=lambda item: (-item[1], item[0])):
        if seen >= wanted:
            break
        kept.add(character)
        seen += count
    return kept


def _check_room(characters: int, spelling: Spelling) -> None:
    forms, what = {
        "unigram": (characters + 1, f"{characters} characters and the space"),
        "bpe": (256, "the bytes"),
        # At the start of a word and inside of it.
        "wordpiece": (2 * characters, f"two forms of {characters} characters"),
    }[spelling.kind]
    needed = forms + len(spelling.specials.pieces)
    if spelling.pieces < needed:
        raise RecipeError(
            "too few pieces to spell the text",
            where="tokenizer.pieces",
            found=str(spelling.pieces),
            expected=f"at least {needed}: {what}, and the special pieces",
            do="raise it" if spelling.kind == "bpe" else "raise it, or lower tokenizer.coverage",
        )


def _balanced(
    texts: Mapping[str, Texts],
    characters: Mapping[str, int],
    *,
    exponent: float,
    most_characters: int,
) -> Iterator[str]:
    """Give texts of all languages in their shares, spread evenly over each corpus.

    A text is repeated where its language needs more than there is.
    """
    total = min(most_characters, sum(characters.values()))
    shares = sampling_shares(characters, exponent)
    for language in sorted(texts):
        rate = shares[language] * total / characters[language]
        for number, text in enumerate(texts[language]()):
            for _ in range(int((number + 1) * rate) - int(number * rate)):
                yield text


def _without(
    texts: Iterable[str], known: set[str], normaliser: normalizers.Normalizer
) -> Iterator[str]:
    """Give normalised texts with a space for each character that is not known."""
    fate: dict[str, str] = {}
    for text in texts:
        written = normaliser.normalize_str(text)
        for one in set(written) - fate.keys():
            fate[one] = one if one in known else " "
        yield "".join(map(fate.__getitem__, written))


def _learn(empty: models.Model, trainer: Any, texts: Iterable[str], spelling: Spelling) -> Any:
    """Give the trained model as tokenizer.json tells it."""
    tokenizer = Tokenizer(empty)
    tokenizer.normalizer = _normaliser(spelling)
    tokenizer.pre_tokenizer = _splitter(spelling)
    tokenizer.train_from_iterator(texts, trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    if len(learnt["vocab"]) != spelling.pieces:
        raise DataError(
            "the text does not yield so many pieces",
            where="tokenizer.pieces",
            found=f"{len(learnt['vocab'])} pieces",
            expected=str(spelling.pieces),
            do="ask for fewer, or give more text",
        )
    return learnt


def _byte_pieces(texts: Iterable[str], spelling: Spelling) -> models.Model:
    trainer = trainers.BpeTrainer(
        vocab_size=spelling.pieces,
        min_frequency=_SEEN_OFTEN,
        special_tokens=list(spelling.specials.pieces),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learnt = _learn(models.BPE(), trainer, texts, spelling)
    return models.BPE(learnt["vocab"], [tuple(pair) for pair in learnt["merges"]])


def _word_pieces(texts: Iterable[str], known: list[str], spelling: Spelling) -> models.Model:
    specials = spelling.specials
    trainer = trainers.WordPieceTrainer(
        vocab_size=spelling.pieces,
        min_frequency=_SEEN_OFTEN,
        # The trainer numbers "##a" when it first meets it, in the order of a hash table, and
        # ties are broken by number: told beforehand, they are the same every time.
        special_tokens=[*specials.pieces, *(f"##{one}" for one in known)],
        show_progress=False,
    )
    empty = models.WordPiece(unk_token=specials.unknown)
    learnt = _learn(empty, trainer, texts, spelling)
    return models.WordPiece(learnt["vocab"], unk_token=specials.unknown)


def _unigram(texts: Iterable[str], spelling: Spelling) -> models.Model:
    specials = spelling.specials
    trainer = trainers.UnigramTrainer(
        vocab_size=spelling.pieces,
        special_tokens=list(specials.pieces),
        unk_token=specials.unknown,
        show_progress=False,
    )
    learnt = _learn(models.Unigram(), trainer, texts, spelling)
    first = len(specials.pieces)
    scores = [(piece, score) for piece, score in learnt["vocab"][first:]]
    ordered = [(piece, 0.0) for piece in specials.pieces] + _in_one_order(scores)
    return models.Unigram(ordered, specials.pieces.index(specials.unknown), byte_fallback=False)


def _in_one_order(scores: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Undo what the order of a hash table did to the scores of a Unigram model.

    Characters that the training dropped come back with the lowest score, each a bit above the
    one before, in any order: they are put in the order of their code points. Sums of the same
    numbers differ in the last digits: they are rounded.
    """
    lowest = min(score for _, score in scores)
    steps = {piece: (score - lowest) / _TIE for piece, score in scores if len(piece) == 1}
    at: dict[int, list[str]] = {}
    for piece, step in steps.items():
        if abs(step - round(step)) < 1e-6:
            at.setdefault(round(step), []).append(piece)
    ladder = list(itertools.takewhile(lambda step: step in at, itertools.count()))
    climbed = sorted(step for step in ladder for _ in at[step])
    pieces = sorted(piece for step in ladder for piece in at[step])
    fixed = {piece: lowest + _TIE * step for piece, step in zip(pieces, climbed, strict=True)}
    rounded = [(piece, round(fixed.get(piece, score), 4)) for piece, score in scores]
    return sorted(rounded, key=lambda item: (-item[1], item[0]))


def _assembled(
    model: models.Model, normaliser: normalizers.Normalizer, spelling: Spelling
) -> Tokenizer:
    specials = spelling.specials
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normaliser
    tokenizer.pre_tokenizer = _splitter(spelling)
    tokenizer.decoder = {
        "unigram": decoders.Metaspace,
        "bpe": decoders.ByteLevel,
        "wordpiece": decoders.WordPiece,
    }[spelling.kind]()
    tokenizer.add_special_tokens(
        [
            # It takes the space before it along, as in RoBERTa: "a <mask>" masks " b".
            AddedToken(one, lstrip=one == "<mask>", special=True, normalized=False)
            for one in specials.pieces
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{specials.begin} $A {specials.end}",
        pair=f"{specials.begin} $A {specials.end} $B {specials.end}",
        special_tokens=[
            (one, specials.pieces.index(one)) for one in (specials.begin, specials.end)
        ],
    )
    return tokenizer
