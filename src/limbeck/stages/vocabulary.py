"""Stage vocabulary: the pieces kept, the trimmed tokenizer, and the corpora packed with it."""

from pathlib import Path

from limbeck import vocabulary
from limbeck.artifact import file_hash
from limbeck.corpus import read_texts
from limbeck.hub import content_hashes, model_folder, read_config, width
from limbeck.recipe import Recipe
from limbeck.stages.record import Job, Outcome, Stage, languages_of
from limbeck.stages.text import pack_corpora
from limbeck.tokenizer import load_tokenizer, trim_tokenizer


def _section(recipe: Recipe) -> dict[str, object]:
    return recipe.vocabulary.model_dump(exclude={"keep"})


def _outside(recipe: Recipe) -> dict[str, str]:
    hashes = content_hashes(model_folder(recipe.teacher.model))
    # Every file that trim_tokenizer rewrites or copies; the weights decide nothing here.
    found = {name: one for name, one in hashes.items() if name.endswith(".json")}
    if recipe.vocabulary.keep:
        found["keep"] = file_hash(Path(recipe.vocabulary.keep))
    return found


def _run(job: Job) -> Outcome:
    recipe, texts = job.recipe, job.inputs["corpus"]
    folder = model_folder(recipe.teacher.model)
    tokenizer = load_tokenizer(folder)
    counts = {
        one: vocabulary.count(tokenizer, read_texts(texts.path(f"{one}.train.txt")))
        for one in languages_of(recipe)
    }
    keep = recipe.vocabulary.keep
    kept = vocabulary.choose(
        counts,
        tokenizer,
        min_probability=recipe.vocabulary.min_probability,
        max_pieces=recipe.vocabulary.max_pieces,
        keep=vocabulary.read_keep_list(Path(keep)) if keep else (),
    )
    piece_map = trim_tokenizer(folder, kept, job.folder / "tokenizer")
    piece_map.save(job.folder / "pieces.npz")
    trimmed = load_tokenizer(job.folder / "tokenizer")
    packed = pack_corpora(job, trimmed, job.folder / "blocks", languages_of(recipe))
    report = vocabulary.report(
        tokenizer,
        trimmed,
        piece_map=piece_map,
        texts={one: read_texts(texts.path(f"{one}.heldout.txt")) for one in languages_of(recipe)},
        width=width(read_config(folder)),
    )
    sizes = {"pieces_before": piece_map.old_size, "pieces_kept": len(piece_map)}
    return Outcome(counts={**sizes, "packed_pieces": packed}, metrics={"report": report.as_dict()})


STAGE = Stage("vocabulary", 2, ("corpus",), _section, _outside, _run)
