"""Scores of answers to questions: exact match and F1 over words, as SQuAD and MLQA count them.

Answers are compared after case, punctuation, articles and spaces are taken away, in the way of
the context's language. Statistics are summable over any sample of questions.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from limbeck.errors import DataError
from limbeck.tasks import scores
from limbeck.tasks.reading import Question, Span
from limbeck.tasks.scores import LabelScore

MILLION = 1_000_000
"""What one right answer counts in `statistics`: shares are kept as whole millionths."""

_ARTICLE_LISTS = {
    "es": "un una unos unas el la los las",
    "de": "ein eine einen einem eines einer der die das den dem des",
    "vi": "của là cái chiếc những",
    "fr": "le la les un une des",
}
ARTICLES = {code: frozenset(words.split()) for code, words in _ARTICLE_LISTS.items()}
"""Words that do not count. *Source*: MLQA's evaluation; French (and its elided l') is ours."""

_SHORT = {
    "eng": "en", "spa": "es", "deu": "de", "ger": "de", "ara": "ar", "arb": "ar", "vie": "vi",
    "fra": "fr", "fre": "fr",
}  # fmt: skip
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_SENTENCE = re.compile(r"[^\s].*?(?:[.!?؟]+(?=\s|$)|[。！？।॥]+|$)", re.MULTILINE)


def answer_words(text: str, language: str) -> list[str]:
    """Gives the words of an answer that count.

    English is SQuAD's own way: lower case, without ASCII punctuation, without a, an, the. Every
    other language is MLQA's: without all Unicode punctuation (categories P*) and its articles,
    and scripts without spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese,
    Tibetan) by character, each with its marks. Ours differs from MLQA's in this: text is read in
    NFKC (English in NFC), the Arabic article is taken from the start of words only, and every
    script without spaces is read by character, not only Chinese.

    Args:
        text: An answer.
        language: ISO 639 code, with or without a script or region after it.

    *Source*: SQuAD evaluate-v2.0.py, normalize_answer; MLQA mlqa_evaluation_v1.py.
    """
    code = re.split("[-_]", language.lower())[0]
    code = _SHORT.get(code, code)
    if code == "en":
        return _english_words(text)
    text = unicodedata.normalize("NFKC", text).lower()
    if code == "fr":
        text = re.sub(r"\bl['’]", " ", text)
    words = "".join(c for c in text if not _is_punctuation(c)).split()
    words = [word for word in words if word not in ARTICLES.get(code, ())]
    if code == "ar":
        words = [word[2:] if word.startswith("ال") else word for word in words]
    return [part for word in words for part in _parts(word) if part]


def exact_match(prediction: str, golds: Sequence[str], language: str) -> float:
    """Gives 1 where the prediction has the words of one of the answers, else 0.

    Args:
        prediction: "" for "no answer".
        golds: The answers that count as right; none where there is no answer.
        language: Of the context.
    """
    words = answer_words(prediction, language)
    return float(any(words == gold for gold in _gold_words(golds, language)))


def word_f1(prediction: str, golds: Sequence[str], language: str) -> float:
    """Gives the F1 over words with the answer that is nearest, 0 to 1.

    Where one side has no words, it is 1 if the other has none either, else 0.
    """
    words = answer_words(prediction, language)
    return max(_f1(words, gold) for gold in _gold_words(golds, language))


def statistics(questions: Sequence[Question], predictions: Sequence[Span]) -> np.ndarray:
    """Gives what the scores are made of.

    Returns:
        F1 in millionths, exact match in millionths, and 1: int64 [N, 3].

    Raises:
        DataError: the predictions do not fit the questions, or one has no gold.
    """
    if len(questions) != len(predictions):
        raise DataError(
            "there must be one prediction per question",
            found=f"{len(predictions)} for {len(questions)} questions",
        )
    rows = np.ones((len(questions), 3), dtype=np.int64)
    for row, (question, prediction) in enumerate(zip(questions, predictions, strict=True)):
        _need_gold(question)
        golds = [answer.text for answer in question.answers]
        rows[row, 0] = round(MILLION * word_f1(prediction.text, golds, question.language))
        rows[row, 1] = MILLION * exact_match(prediction.text, golds, question.language)
    return rows


def metrics(totals: np.ndarray) -> dict[str, np.ndarray]:
    """Gives mean F1 and exact match.

    Args:
        totals: Sums of `statistics`, [..., 3].

    Returns:
        Arrays [...] with values from 0 to 1; 0 where there is no question.
    """
    totals = np.asarray(totals, dtype=float)
    count = totals[..., 2]
    whole = np.where(count > 0, MILLION * count, 1.0)
    return {"f1": totals[..., 0] / whole, "em": totals[..., 1] / whole}


def per_label(questions: Sequence[Question], predictions: Sequence[Span]) -> tuple[LabelScore, ...]:
    """Gives nothing: answers have no labels."""
    return ()


def check(questions: Sequence[Question]) -> None:
    """Makes sure that a score over these questions can mean something.

    Raises:
        DataError: a question has no gold, or none has an answer.
    """
    for question in questions:
        _need_gold(question)
    if not any(question.answers for question in questions):
        raise DataError(
            "no question here has an answer",
            where=questions[0].where if questions else "",
            found=f"{len(questions)} questions",
            do="choose another split",
        )


def agreement(a: Sequence[Span], b: Sequence[Span]) -> float:
    """Gives the share of questions with the same text for answer in both predictions, 0 to 1.

    Raises:
        DataError: they are not predictions for the same examples, or there is none.
    """
    return scores.agreement([[one.text] for one in a], [[one.text] for one in b])


def majority(train: Sequence[Question], questions: Sequence[Question]) -> list[Span]:
    """Gives the sentence of the context that shares most words with the question.

    The first of equals; "" for all where most questions of `train` have no answer. This knows no
    word, and is the floor of every reader.
    """
    refuses = 2 * sum(not question.answerable for question in train) > len(train)
    return [Span("", 0, 0, 0.0, 0.0) if refuses else _nearest(question) for question in questions]


def choose_threshold(questions: Sequence[Question], predictions: Sequence[Span]) -> float:
    """Gives the threshold for `reading.decode` with the best mean F1 over these questions.

    *Source*: SQuAD evaluate-v2.0.py, find_best_thresh. Ours differs in two things: questions with
    the same score are refused together, as they will be; and refusing all is a threshold below
    every score, for scores here may be negative.

    Args:
        questions: Labelled, of the source's dev split.
        predictions: What `decode` gives for them without a threshold.

    Raises:
        DataError: there is no question, or the predictions do not fit.
    """
    if not questions:
        raise DataError("there is no question to choose a threshold by")
    answered = statistics(questions, predictions)[:, 0]
    refused = np.array([0 if question.answers else MILLION for question in questions])
    doubt = np.array([-prediction.score for prediction in predictions])
    order = np.argsort(doubt, kind="stable")
    doubt = doubt[order]
    totals = np.concatenate([[0], (answered - refused)[order].cumsum()])
    last_of_equals = np.append(True, np.append(doubt[1:] != doubt[:-1], True))
    best = int(np.where(last_of_equals, totals, -np.inf).argmax())
    return float(doubt[best - 1]) if best else float(np.nextafter(doubt[0], -np.inf))


def calibrate(questions: Sequence[Question], predictions: Sequence[Span]) -> dict[str, float]:
    """Gives the threshold of "no answer", or nothing where every question has one."""
    if all(question.answerable for question in questions):
        return {}
    return {"threshold": choose_threshold(questions, predictions)}


def is_unspaced(character: str) -> bool:
    """Whether the character is of a script that is written without spaces between words."""
    return bool(_UNSPACED.match(character))


def _need_gold(question: Question) -> None:
    if not question.labelled:
        raise DataError("a question has no gold answer", where=question.where)


def _english_words(text: str) -> list[str]:
    text = unicodedata.normalize("NFC", text).lower()
    text = "".join(c for c in text if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


@lru_cache(maxsize=1 << 16)
def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character)[0] == "P"


def _parts(word: str) -> list[str]:
    if not _UNSPACED.search(word):
        return [word]
    parts: list[str] = []
    alone = True
    for character in word:
        unspaced = is_unspaced(character)
        if parts and unicodedata.category(character)[0] == "M":
            parts[-1] += character
        elif unspaced or alone:
            parts.append(character)
            alone = unspaced
        else:
            parts[-1] += character
    return parts


def _gold_words(golds: Sequence[str], language: str) -> list[list[str]]:
    """Gives the words of each answer that has any; one empty list where none has."""
    return [words for words in (answer_words(gold, language) for gold in golds) if words] or [[]]


def _f1(predicted: list[str], gold: list[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    same = sum((Counter(predicted) & Counter(gold)).values())
    # Precision and recall first: the published script's order, so its last digit too.
    precision, recall = same / len(predicted), same / len(gold)
    return 2 * precision * recall / (precision + recall) if same else 0.0


def _nearest(question: Question) -> Span:
    asked = Counter(answer_words(question.question, question.language))
    best: Span | None = None
    for match in _SENTENCE.finditer(question.context):
        words = Counter(answer_words(match.group(), question.language))
        score = float(sum((asked & words).values()))
        if best is None or score > best.score:
            best = Span(match.group(), match.start(), match.end(), score, 0.0)
    return best or Span(question.context, 0, len(question.context), 0.0, 0.0)
