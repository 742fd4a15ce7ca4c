"""Numbers and names as a reader wants them: rounded once, in one way, everywhere on the page."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from limbeck.recipe import toml_string

SPACE = "\u00a0"
MINUS = "\u2212"

TASKS = {
    "ner": ("named entities", "sentences", "words"),
    "pos": ("parts of speech", "sentences", "words"),
    "parsing": ("dependency trees", "sentences", "words"),
    "nli": ("entailment", "pairs of texts", "pairs"),
    "paraphrase": ("paraphrases", "pairs of texts", "pairs"),
    "topics": ("topics", "texts", "texts"),
    "sentiment": ("sentiment", "texts", "texts"),
    "qa": ("answers to questions", "questions", "questions"),
}
"""Task to what it finds, what it is asked of, and what is counted."""


def units_of(task: str) -> str:
    """Give what a task's answers are counted in."""
    return TASKS[task][2]


# BCP 47 tag → name and the ISO 639-3 code that corpora and benchmarks use.
# fmt: off
_LANGUAGES = {
    "af": "Afrikaans afr", "am": "Amharic amh", "ar": "Arabic ara", "bbj": "Ghomala bbj",
    "bm": "Bambara bam", "ceb": "Cebuano ceb", "da": "Danish dan", "de": "German deu",
    "ee": "Ewe ewe", "en": "English eng", "es": "Spanish spa", "fa": "Persian fas",
    "fi": "Finnish fin", "fon": "Fon fon", "fr": "French fra", "ha": "Hausa hau",
    "he": "Hebrew heb", "hi": "Hindi hin", "hr": "Croatian hrv", "id": "Indonesian ind",
    "ig": "Igbo ibo", "it": "Italian ita", "ja": "Japanese jpn", "ko": "Korean kor",
    "lg": "Luganda lug", "ln": "Lingala lin", "luo": "Luo luo", "mg": "Malagasy mlg",
    "mos": "Mossi mos", "nl": "Dutch nld", "ny": "Chichewa nya", "om": "Oromo orm",
    "pcm": "Nigerian Pidgin pcm", "pl": "Polish pol", "pt": "Portuguese por",
    "rn": "Kirundi run", "ru": "Russian rus", "rw": "Kinyarwanda kin", "sk": "Slovak slk",
    "sn": "Shona sna", "so": "Somali som", "sr": "Serbian srp", "st": "Sesotho sot",
    "sv": "Swedish swe", "sw": "Swahili swa", "ta": "Tamil tam", "th": "Thai tha",
    "ti": "Tigrinya tir", "tl": "Tagalog tgl", "tn": "Setswana tsn", "tr": "Turkish tur",
    "tw": "Twi twi", "uk": "Ukrainian ukr", "ur": "Urdu urd", "vi": "Vietnamese vie",
    "wo": "Wolof wol", "xh": "Xhosa xho", "yo": "Yoruba yor", "zh": "Chinese zho",
    "zu": "Zulu zul",
    "arq": "Algerian Arabic arq", "ary": "Moroccan Arabic ary", "ay": "Aymara aym",
    "bem": "Bemba bem", "bg": "Bulgarian bul", "bn": "Bengali ben", "bzd": "Bribri bzd",
    "cni": "Asháninka cni", "el": "Greek ell", "gn": "Guarani grn", "hch": "Wixárika hch",
    "nah": "Nahuatl nah", "oto": "Otomí oto", "qu": "Quechua quy", "ro": "Romanian ron",
    "shp": "Shipibo-Konibo shp", "tar": "Rarámuri tar", "te": "Telugu tel", "ts": "Tsonga tso",
}
# fmt: on
_TAGS = {told.rpartition(" ")[2]: tag for tag, told in _LANGUAGES.items()}


def tag_of(language: str) -> str:
    """Give the BCP 47 tag of a recipe's language; "und" where its name is no code.

    What follows an underscore names a treebank: `en_ewt` is English.
    """
    code = language.partition("_")[0].lower()
    tag = _TAGS.get(code, code)
    return tag if re.fullmatch("[a-z]{2,3}", tag) else "und"


def name_of(language: str) -> str:
    """Give a language's English name; as the recipe names it where it is not known."""
    known, treebank = _LANGUAGES.get(tag_of(language)), language.partition("_")[2]
    if not known:
        return language
    name = known.rpartition(" ")[0]
    return f"{name}-{treebank.upper()}" if treebank else name


def listed(names: Sequence[str]) -> str:
    """Give "a", "a and b" or "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def count(number: float) -> str:
    """Give a number of things: 12,207."""
    return f"{number:,.0f}"


def millions(number: float) -> str:
    """Give a number of parameters in three digits or so: 12.7 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            digits = 2 if number < 10 * size else 1 if number < 100 * size else 0
            return f"{number / size:.{digits}f}{SPACE}{unit}"
    return count(number)


def percent(share: float | None, digits: int = 1) -> str:
    """Give a share of 1 in per cent; a dash where there is none."""
    if share is None:
        return "–"
    return f"{100 * share:.{digits}f}{SPACE}%"


def points(value: float) -> str:
    """Give a score from 0 to 1 in points of 100."""
    return f"{100 * value:.1f}"


def signed(value: float) -> str:
    """Give a difference of scores in points, with its sign."""
    text = f"{100 * value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", MINUS)


def p_value(value: float) -> str:
    """Give a probability: p = 0.34, p < 0.001."""
    told = "< 0.001" if value < 0.001 else f"= {value:.{2 if value >= 0.01 else 3}f}"
    return f"p {told}".replace(" ", SPACE)


def significant(value: float) -> str:
    """Give a measured number in four digits, whatever its size."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.4g}".replace("-", MINUS)


def megabytes(number: float) -> str:
    """Give a number of bytes: 51.0 MB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.1f}{SPACE}{unit}"
    return f"{number:.0f}{SPACE}bytes"


def milliseconds(number: float) -> str:
    """Give a short time: 23.5 ms."""
    return f"{number:.1f}{SPACE}ms"


def duration(seconds: float) -> str:
    """Give a time: 7 min 30 s."""
    if seconds < 60:
        return f"{seconds:.1f}{SPACE}s"
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours}{SPACE}h {minutes}{SPACE}min"
    return f"{minutes}{SPACE}min {whole % 60}{SPACE}s"


def toml(values: Mapping[str, Any]) -> str:
    """Give a recipe's plain values as TOML; what is None is left out, as in a recipe."""
    return "\n".join(_toml(values, ())).strip() + "\n"


def _toml(values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    lines = [
        f"{_toml_key(name)} = {_toml_value(value)}"
        for name, value in values.items()
        if not isinstance(value, Mapping) and value is not None
    ]
    if path and lines:
        yield f"\n[{'.'.join(map(_toml_key, path))}]"
    yield from lines
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _toml(value, (*path, name))


def _toml_key(name: str) -> str:
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else _toml_value(name)


def _toml_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, str):
        return toml_string(value)
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)
