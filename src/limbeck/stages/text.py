"""What several stages do with text: pack it, and open what was packed."""

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from limbeck.artifact import Artifact
from limbeck.blocks import Blocks, PackedText, pack, read_counts
from limbeck.corpus import read_texts
from limbeck.errors import DataError
from limbeck.stages.record import AnyRecipe, Job
from limbeck.tasks.windows import special_pieces
from limbeck.tokenizer import load_tokenizer


def pack_corpora(
    job: Job[AnyRecipe], tokenizer: Tokenizer, folder: Path, languages: list[str]
) -> dict[str, int]:
    """Pack both parts of each language's corpus into a folder.

    Returns:
        Pieces of each `<language>.<part>`.
    """
    texts: Artifact = job.inputs["corpus"]
    begin, end = ends_of(tokenizer)
    packed = {}
    folder.mkdir(parents=True, exist_ok=True)
    for one in languages:
        for part in ("train", "heldout"):
            target = folder / f"{one}.{part}"
            lines = read_texts(texts.path(f"{one}.{part}.txt"))
            packed[f"{one}.{part}"] = pack(lines, tokenizer, target, begin=begin, end=end).pieces
    return packed


def open_corpora(
    packed: Path, tokenizer_folder: Path, *, languages: list[str], block_pieces: int
) -> PackedText:
    """Open what `pack_corpora` wrote, in blocks of one length.

    A held-out text shorter than a block is one short block rather than an error.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    begin, _ = ends_of(tokenizer)

    def part(name: str) -> dict[str, Blocks]:
        return {
            one: Blocks(
                packed / f"{one}.{name}",
                length=_length(packed / f"{one}.{name}", name, block_pieces),
                begin=begin,
            )
            for one in languages
        }

    return PackedText(
        train=part("train"),
        held_out=part("heldout"),
        mask_id=mask_id_of(tokenizer_folder, tokenizer),
        special=np.array(sorted(tokenizer.get_added_tokens_decoder())),
        vocabulary_size=tokenizer.get_vocab_size(),
    )


def _length(path: Path, part: str, block_pieces: int) -> int:
    return min(block_pieces, read_counts(path).pieces + 1) if part == "heldout" else block_pieces


def mask_id_of(folder: Path, tokenizer: Tokenizer) -> int:
    """Give the id of a model folder's mask piece, or -1 where it has none."""
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    mask = config.get("mask_token")
    name = mask.get("content") if isinstance(mask, dict) else mask
    found = tokenizer.token_to_id(name) if name else None
    return -1 if found is None else found


def ends_of(tokenizer: Tokenizer) -> tuple[int, int]:
    """Give the pieces that the tokenizer puts before and after a text."""
    special = special_pieces(tokenizer)
    if not special.begin or not special.end:
        raise DataError(
            "the teacher's tokenizer puts no piece before and after a text",
            where="teacher.model",
            found=str(special),
            do="give its tokenizer.json a TemplateProcessing with begin and end pieces",
        )
    return special.begin[0], special.end[-1]
