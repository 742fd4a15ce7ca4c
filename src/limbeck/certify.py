"""Trim a model's vocabulary to some languages, and certify the result as it lies on disk."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from limbeck import audit, corpus, vocabulary
from limbeck.anatomy import anatomy, load_tokenizer
from limbeck.architectures import special_ids
from limbeck.artifact import check_new_folder, let_read, write_json
from limbeck.audit import LanguageReport, VocabularyReport
from limbeck.checkpoint import load_checkpoint
from limbeck.checks import Check, run_checks
from limbeck.companions import copy_companions
from limbeck.encoder import quiet
from limbeck.errors import DataError, RecipeError
from limbeck.hub import model_folder, read_config, width
from limbeck.pair import LINES, Side, Texts, read_pair
from limbeck.parameters import count_parameters, model_bytes
from limbeck.piece_map import PieceMap
from limbeck.student import trim_model
from limbeck.tokenizer import trim_tokenizer
from limbeck.vocabulary import Counts

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Size:
    """How large a model is.

    Args:
        pieces: Size of the tokenizer.
        parameters: Parameters, tied tensors once.
        embedding_parameters: Those of the embedding module.
        parameter_bytes: Bytes of the parameters in memory, in the dtype they were saved in.
        tokenizer_bytes: Bytes of tokenizer.json.
    """

    pieces: int
    parameters: int
    embedding_parameters: int
    parameter_bytes: int
    tokenizer_bytes: int


@dataclass(frozen=True, slots=True)
class Use:
    """Different pieces that occur in the training text of a language, and those kept."""

    used: int
    kept: int


@dataclass(frozen=True, slots=True)
class Scope:
    """The held-out lines of a language that were checked, and those with only kept pieces."""

    lines: int
    in_scope: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """What trimming did to a model, and what was checked after reading it back.

    Args:
        model: The original, as it was named.
        architecture: Class of the model.
        checks: Every check.
        before: Size of the original.
        after: Size of the trimmed model.
        vocabulary: Tokenizers compared on the held-out text.
        use: Per language, on the training text.
        scope: Per language, on the held-out text.
        corpora: Per language, what became of the corpus.
        left_behind: Files and tensors of the original that are not in the trimmed folder.
    """

    model: str
    architecture: str
    checks: tuple[Check, ...]
    before: Size
    after: Size
    vocabulary: VocabularyReport
    use: dict[str, Use]
    scope: dict[str, Scope]
    corpora: dict[str, corpus.CorpusCounts]
    left_behind: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"holds": self.holds, **asdict(self)}

    def lines(self) -> list[str]:
        """Give the report for people, line by line."""
        verdict = "certified" if self.holds else "NOT CERTIFIED"
        told = [
            f"{self.model} ({self.architecture}): {verdict}",
            *(_change(name, before, getattr(self.after, name)) for name, before in self._sizes()),
        ]
        for language in self.use:
            told += self._language_lines(language, self.vocabulary.languages[language])
        for check in self.checks:
            mark = "ok  " if check.holds else "FAIL"
            wanted = "" if check.holds else f"; expected {check.expected}"
            told.append(f"{mark} {check.name}: {check.found}{wanted}")
        if self.left_behind:
            told.append(f"left behind: {', '.join(self.left_behind)}")
        return told

    def _sizes(self) -> list[tuple[str, int]]:
        return list(asdict(self.before).items())

    def _language_lines(self, language: str, found: LanguageReport) -> list[str]:
        use, scope = self.use[language], self.scope[language]
        marks = sum(one.occurrences for one in found.lost if one.is_mark)
        occurrences = sum(one.occurrences for one in found.lost)
        named = ", ".join(f"{one.name} ({one.occurrences})" for one in found.lost[:3])
        return [
            f"{language}: {use.kept:,} of {use.used:,} pieces used in training text kept; "
            f"coverage {100 * found.coverage:.2f} % of held-out pieces; "
            f"{scope.in_scope:,} of {scope.lines:,} held-out lines untouched",
            f"{language}: unknown {100 * found.unknown_before:.3f} → "
            f"{100 * found.unknown_after:.3f} %, bytes {100 * found.bytes_before:.3f} → "
            f"{100 * found.bytes_after:.3f} %, pieces a word "
            f"{found.fertility_before:.3f} → {found.fertility_after:.3f}, a character "
            f"{found.pieces_before / max(found.characters, 1):.3f} → "
            f"{found.pieces_after / max(found.characters, 1):.3f}",
            f"{language}: {len(found.lost)} characters lost, {occurrences} times "
            f"({marks} times a combining mark)" + (f": {named}" if named else ""),
        ]


def _change(name: str, before: int, after: int) -> str:
    return f"{name.replace('_', ' ')}: {before:,} → {after:,} ({100 * after / before:.1f} %)"


def trim_and_certify(
    model: str,
    output: Path,
    *,
    corpora: Mapping[str, str],
    min_probability: float = 1e-6,
    max_pieces: int | None = None,
    keep: Path | None = None,
    held_out_fraction: float = 0.01,
) -> Certificate:
    """Trim a model to the pieces of some languages, write it, read it back and check it.

    The folder appears whole or not at all: model, tokenizer, `pieces.npz` (old and new ids) and
    `certificate.json`. It is written also if a check fails; ask `Certificate.holds`.

    Args:
        model: A model folder or hub id; any head stays.
        output: The folder to make; it may be there if it is empty.
        corpora: Language → text file or glob, filtered as the corpus stage does.
        min_probability: See `vocabulary.choose`.
        max_pieces: See `vocabulary.choose`; the special pieces are counted in.
        keep: A file of words to keep, one a line.
        held_out_fraction: Share of texts that only the checks see, 0 < fraction < 1.

    Raises:
        RecipeError: The output is not empty, or an option is impossible.
        DataError: A corpus or the keep-list cannot be read, or is too small to hold text out.
        ModelError: The model cannot be read or trimmed.
        ArtifactError: The disk is full, or the folder cannot be written.
    """
    output = Path(output)
    _check_options(output, corpora, held_out_fraction)
    words = vocabulary.read_keep_list(keep) if keep else []
    folder = model_folder(model)
    with tempfile.TemporaryDirectory(prefix="limbeck-") as name, _publishing(output) as partial:
        texts = Path(name)
        sources = {one: corpus.CorpusSource(path=path) for one, path in corpora.items()}
        prepared = corpus.prepare(sources, texts, held_out_fraction=held_out_fraction)
        heldout = {one: texts / f"{one}.heldout.txt" for one in corpora}
        lines = {one: list(islice(corpus.read_texts(heldout[one]), LINES)) for one in corpora}
        _check_held_out(lines)
        tokenizer = load_tokenizer(folder)
        counts = {
            one: vocabulary.count(tokenizer, corpus.read_texts(texts / f"{one}.train.txt"))
            for one in corpora
        }
        checkpoint = load_checkpoint(folder)
        special = special_ids(checkpoint.model.config)
        beyond = set(special) - set(anatomy(tokenizer).always.tolist())
        chosen = vocabulary.choose(
            counts,
            tokenizer,
            min_probability=min_probability,
            max_pieces=max_pieces and max(max_pieces - len(beyond), 1),
            keep=words,
        )
        logger.info("trim: %d of %d pieces chosen", len(chosen), tokenizer.get_vocab_size())
        piece_map = trim_tokenizer(folder, np.union1d(chosen, special).astype(np.int64), partial)
        piece_map.save(partial / "pieces.npz")
        with quiet(), corpus.writing(partial):
            trim_model(checkpoint.model, piece_map.kept).save_pretrained(partial)
            left = [*copy_companions(folder, partial), *checkpoint.unread]
        del checkpoint
        certificate = certify(folder, partial, heldout=heldout)
        certificate = replace(
            certificate,
            model=model,
            checks=(*certificate.checks, *_budget(certificate.after.pieces, max_pieces)),
            use=_use(counts, piece_map),
            corpora=prepared,
            left_behind=tuple(left),
        )
        write_json(partial / "certificate.json", certificate.to_dict())
    return certificate


def certify(original: Path, trimmed: Path, *, heldout: Mapping[str, Path]) -> Certificate:
    """Check a trimmed model's folder against the original's, on texts that neither was fitted to.

    Args:
        original: Folder of the original.
        trimmed: Folder of the trimmed model, with its `pieces.npz`.
        heldout: Language → file of clean texts, one a line.

    Raises:
        ModelError: A folder cannot be read.
        ArtifactError: The piece map cannot be read.
        DataError: A file cannot be read, or the piece map belongs to other tokenizers.
    """
    lines = {one: list(islice(corpus.read_texts(path), LINES)) for one, path in heldout.items()}
    pair = read_pair(original, trimmed, lines)
    # Before the checks, which compute in float32.
    before, after = _size(pair.old, original), _size(pair.new, trimmed)
    told = audit.report(
        load_tokenizer(original),
        load_tokenizer(trimmed),
        piece_map=pair.piece_map,
        texts={one: corpus.read_texts(path) for one, path in heldout.items()},
        width=width(read_config(original)),
    )
    return Certificate(
        model=str(original),
        architecture=type(pair.old.model).__name__,
        checks=run_checks(pair),
        before=before,
        after=after,
        vocabulary=told,
        use={},
        scope={one: _scope(texts) for one, texts in pair.texts.items()},
        corpora={},
        left_behind=(),
    )


def _scope(texts: Texts) -> Scope:
    return Scope(len(texts.lines), texts.in_scope)


def _size(side: Side, folder: Path) -> Size:
    counted = count_parameters(side.model)
    return Size(
        pieces=len(side.raw.get_vocab(with_added_tokens=True)),
        parameters=counted["total"],
        embedding_parameters=counted["embedding"],
        parameter_bytes=model_bytes(side.model),
        tokenizer_bytes=(folder / "tokenizer.json").stat().st_size,
    )


def _use(counts: Mapping[str, Counts], piece_map: PieceMap) -> dict[str, Use]:
    return {
        one: Use(
            int(np.count_nonzero(counted.pieces)),
            int(np.count_nonzero(counted.pieces[piece_map.kept])),
        )
        for one, counted in counts.items()
    }


def _budget(pieces: int, max_pieces: int | None) -> list[Check]:
    if max_pieces is None:
        return []
    return [Check("budget", pieces <= max_pieces, f"{pieces:,}", f"at most {max_pieces:,} pieces")]


def _check_options(output: Path, corpora: Mapping[str, str], fraction: float) -> None:
    check_new_folder(output)
    if not corpora:
        raise RecipeError("no corpus is named", where="corpora", expected="one per language")
    for language in corpora:
        if not language or "/" in language or language.startswith("."):
            raise RecipeError("no name of a language", where="corpora", found=repr(language))
    if not 0 < fraction < 1:
        expected = "0 < fraction < 1: the checks need text"
        raise RecipeError("bad held-out fraction", found=str(fraction), expected=expected)


def _check_held_out(lines: Mapping[str, list[str]]) -> None:
    for language, some in lines.items():
        if not some:
            raise DataError(
                "no text is left to certify on",
                where=f"corpus.{language}",
                found="one text",
                expected="at least two different ones",
            )


@contextmanager
def _publishing(output: Path) -> Iterator[Path]:
    """Give a sibling folder that takes the output's name at the end, or goes at an error."""
    partial = output.absolute().with_name(f".{output.name}.{os.getpid()}.part")
    with corpus.writing(partial):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    try:
        yield partial
        with corpus.writing(output):
            let_read(partial.rglob("*"))
            partial.replace(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
