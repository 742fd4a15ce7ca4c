"""One label per text, or per pair of texts: topics, sentiment, inference, paraphrase.

A text is read through one window. What is too long for it is cut at the end, of a pair from the
longer text first; `count_cut` says how many texts that met.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tokenizers import Encoding, Tokenizer

from limbeck.anatomy import unlimited
from limbeck.errors import DataError, ModelError, RecipeError
from limbeck.tasks.windows import IGNORED, Window, check_scores, with_scores

_BATCH_EXAMPLES = 512
_BREAK = re.compile(r"(?<=[.!?؟।॥])\s+(?=\S)|(?<=[。！？])(?=\S)")


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text, or a pair of texts, with a label or without.

    Args:
        text: The text; the premise, or the first sentence, of a pair.
        pair: The second text (the hypothesis) of a pair; None where there is one text.
        label: Empty where there is none.
        where: `file:line`, for messages.

    Raises:
        DataError: a text has no visible character.
    """

    text: str
    pair: str | None = None
    label: str = ""
    where: str = ""

    def __post_init__(self) -> None:
        for name, text in (("text", self.text), ("second text", self.pair)):
            if text is not None and is_blank(text):
                raise DataError(
                    f"the {name} is empty",
                    where=self.where,
                    found=repr(text),
                    do="complete or delete the line",
                )


def is_blank(text: str) -> bool:
    """Whether a text has no visible character: spaces, control and zero-width ones only."""
    return not any(character.isprintable() and character != " " for character in text)


def encode(
    examples: Sequence[LabelledText],
    tokenizer: Tokenizer,
    labels: Sequence[str] | None,
    *,
    max_pieces: int = 256,
    stride: int = 0,
) -> list[Window]:
    """Gives one window per example, in order.

    Marks: `labels` [1], the label's number. Token types are those of the tokenizer's own
    post-processor, which also puts the special pieces.

    Args:
        examples: With labels, or without for prediction.
        tokenizer: Its truncation and padding are ignored. Texts are read in NFC.
        labels: The label set in the order of the model's classes; None leaves all labels ignored.
        max_pieces: Length of the longest window, special pieces included.
        stride: Of no effect: one window has no neighbour.

    Raises:
        DataError: an example has a label outside `labels`.
        RecipeError: `max_pieces` leaves no room for a piece of each text.
        ModelError: the tokenizer finds no piece in a text and puts no special ones.
    """
    label_ids = None if labels is None else {label: i for i, label in enumerate(labels)}
    windows = []
    for number, read in enumerate(_read(examples, tokenizer, max_pieces)):
        example = examples[number]
        if not read.encoding.ids:
            raise ModelError("the tokenizer finds no piece in a text", where=example.where)
        types = np.array(read.encoding.type_ids, dtype=np.int64)
        target = _label_id(example, label_ids)
        windows.append(
            Window(
                example=number,
                pieces=np.array(read.encoding.ids, dtype=np.int64),
                marks={"labels": np.array([target], dtype=np.int64)},
                types=types if example.pair is not None and types.any() else None,
            )
        )
    return windows


def decode(
    examples: Sequence[LabelledText],
    windows: Sequence[Window],
    logits: Sequence[np.ndarray],
    labels: Sequence[str],
) -> list[str]:
    """Gives the likeliest label of every example.

    Args:
        examples: What was encoded.
        windows: What `encode` gave for them.
        logits: One float array [C] per window, in the same order.
        labels: The label set, C long.

    Raises:
        ModelError: the logits do not fit the windows and labels, or are not finite.
    """
    pairs = list(with_scores(windows, logits))
    if [window.example for window in windows] != list(range(len(examples))):
        raise ModelError(
            "there must be one window per text: these are not the windows of these texts",
            found=f"{len(windows)} windows for {len(examples)} texts",
        )
    answers = []
    for example, (_, scores) in zip(examples, pairs, strict=True):
        check_scores(scores, (len(labels),), where=example.where)
        answers.append(labels[int(scores.argmax())])
    return answers


def count_cut(examples: Sequence[LabelledText], tokenizer: Tokenizer, *, max_pieces: int) -> int:
    """Gives the number of examples of which `encode` leaves something out.

    Raises:
        RecipeError: `max_pieces` leaves no room for a piece of each text.
    """
    return sum(read.is_cut for read in _read(examples, tokenizer, max_pieces))


def count_units(examples: Sequence[LabelledText]) -> int:
    """Gives the number of labels asked for: one per example."""
    return len(examples)


def majority(train: Sequence[LabelledText], examples: Sequence[LabelledText]) -> list[str]:
    """Gives every example the commonest label of a training set; of equals the first by name.

    Raises:
        DataError: no example of the training set has a label.
    """
    counts = Counter(example.label for example in train if example.label)
    if not counts:
        raise DataError(
            "no label to take the commonest of",
            where=train[0].where if train else "",
            found=f"{len(train)} texts without labels",
        )
    commonest = min(counts, key=lambda label: (-counts[label], label))
    return [commonest] * len(examples)


def from_text(text: str, where: str) -> LabelledText | None:
    """Gives running text as an example without a label; None where nothing of it can be seen."""
    return None if is_blank(text) else LabelledText(text, where=where)


def pair_from_text(text: str, where: str) -> LabelledText | None:
    """Gives the first and the second half of running text as a pair, cut between sentences.

    None where there is but one sentence. Most such pairs say neither the same nor the contrary,
    but a student can learn from them what its teacher makes of a language's pairs.
    """
    breaks = [found.end() for found in _BREAK.finditer(text)]
    if not breaks:
        return None
    middle = min(breaks, key=lambda place: abs(2 * place - len(text)))
    first, second = text[:middle].strip(), text[middle:].strip()
    return None if is_blank(first) or is_blank(second) else LabelledText(first, second, where=where)


def relabelled(example: LabelledText, prediction: str) -> LabelledText:
    """Gives the example with the prediction taken for gold."""
    return replace(example, label=prediction)


def describe(example: LabelledText) -> dict[str, str | None]:
    """Gives what a file of predictions tells of an example: where, text, pair (of two), gold."""
    told: dict[str, str | None] = {"where": example.where, "text": example.text}
    if example.pair is not None:
        told["pair"] = example.pair
    return told | {"gold": example.label or None}


def identify(example: LabelledText) -> tuple[str, ...]:
    """Gives what must not be divided: the text, of a pair the first one."""
    return (example.text,)


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    encoding: Encoding
    is_cut: bool


def _read(
    examples: Sequence[LabelledText], tokenizer: Tokenizer, max_pieces: int
) -> Iterator[_Read]:
    """Gives every example with its special pieces, no longer than `max_pieces`.

    Texts are cut before the post-processor runs, which spares a copy of the tokenizer: to copy
    one with a large vocabulary takes longer than to read a text.
    """
    tokenizer = unlimited(tokenizer)
    for is_pair in sorted({example.pair is not None for example in examples}):
        _room(tokenizer, max_pieces, is_pair=is_pair)
    for start in range(0, len(examples), _BATCH_EXAMPLES):
        batch = examples[start : start + _BATCH_EXAMPLES]
        firsts = _pieces([example.text for example in batch], tokenizer)
        seconds = _pieces([example.pair or "" for example in batch], tokenizer)
        for example, first, second in zip(batch, firsts, seconds, strict=True):
            is_pair = example.pair is not None
            room = _room(tokenizer, max_pieces, is_pair=is_pair)
            before = len(first) + len(second)
            keep = _kept(len(first), len(second), room=room)
            first.truncate(keep[0])
            second.truncate(keep[1])
            read = tokenizer.post_process(first, second if is_pair else None)
            yield _Read(read, before > room)


def _pieces(texts: Sequence[str], tokenizer: Tokenizer) -> list[Encoding]:
    batch = [unicodedata.normalize("NFC", text) for text in texts]
    found: list[Encoding] = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
    return found


def _room(tokenizer: Tokenizer, max_pieces: int, *, is_pair: bool) -> int:
    special = tokenizer.num_special_tokens_to_add(is_pair)
    if max_pieces - special < 1 + is_pair:
        raise RecipeError(
            "windows have no room for text",
            found=f"max_pieces = {max_pieces}, of which {special} are special pieces",
            expected=f"at least {special + 1 + is_pair}",
            do="raise max_pieces",
        )
    return max_pieces - special


def _kept(first: int, second: int, *, room: int) -> tuple[int, int]:
    """Gives how many pieces of each text to keep, the longer one cut first.

    *Source*: `longest_first` of the library tokenizers, with which a test compares it.
    """
    if first + second <= room:
        return first, second
    shorter = min(first, second, room // 2)
    longer = room - shorter
    return (shorter, longer) if first <= second else (longer, shorter)


def _label_id(example: LabelledText, label_ids: dict[str, int] | None) -> int:
    if label_ids is None or not example.label:
        return IGNORED
    if example.label not in label_ids:
        raise DataError(
            "a text has a label that the model does not know",
            where=example.where,
            found=example.label,
            expected="one of " + " ".join(label_ids),
            do="load the examples with the model's labels",
        )
    return label_ids[example.label]
