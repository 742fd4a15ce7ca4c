"""Stage survey: what the teacher knows of each language, and which states languages share."""

from itertools import islice
from pathlib import Path
from typing import Any

from limbeck.artifact import file_hash
from limbeck.corpus import normalise, read_texts
from limbeck.errors import DataError
from limbeck.pretrain_recipe import PretrainRecipe
from limbeck.stages.record import Job, Outcome, Stage, languages_of
from limbeck.stages.text import open_corpora
from limbeck.tokenizer import load_tokenizer


def read_parallel(recipe: PretrainRecipe) -> dict[str, list[str]]:
    """Read the recipe's parallel text, at most as many lines as it says.

    Raises:
        DataError: A file cannot be read, has no line, or another number of lines than the first.
    """
    found: dict[str, list[str]] = {}
    first, expected = "", 0
    for language, name in recipe.survey.parallel.items():
        count = sum(1 for _ in read_texts(Path(name).expanduser()))
        first, expected = first or language, expected or count
        if count != expected or not count:
            raise DataError(
                "parallel text must say the same in the same line",
                where=f"survey.parallel.{language}: {name}",
                found=f"{count} lines",
                expected=f"{expected} lines, as {first} has" if expected else "some",
            )
        lines = islice(read_texts(Path(name).expanduser()), recipe.survey.lines)
        found[language] = [normalise(line) for line in lines]
    return found


def _section(recipe: PretrainRecipe) -> dict[str, Any]:
    return {
        "lines": recipe.survey.lines,
        "languages": sorted(recipe.survey.parallel),
        "block_pieces": recipe.training.block_pieces,
        "masking": recipe.training.masking,
    }


def _outside(recipe: PretrainRecipe) -> dict[str, str]:
    return {one: file_hash(Path(name).expanduser()) for one, name in recipe.survey.parallel.items()}


def _run(job: Job[PretrainRecipe]) -> Outcome:
    from limbeck.encoder import load_encoder
    from limbeck.parameters import count_parameters
    from limbeck.pretrain import held_out_mlm
    from limbeck.survey import pooled_states, retrieval
    from limbeck.training import choose_device

    recipe, folder = job.recipe, job.inputs["pretrain"].path("model")
    device = choose_device(recipe.machine.device)
    model = load_encoder(folder, head="mlm", attention="sdpa").to(device)  # type: ignore[arg-type]
    text = open_corpora(
        job.inputs["tokenizer"].path("blocks"),
        folder,
        languages=languages_of(recipe),
        block_pieces=recipe.training.block_pieces,
    )
    batch = max(1, recipe.training.batch_pieces // recipe.training.block_pieces)
    losses = held_out_mlm(model, text, batch=batch, masking=recipe.training.masking, device=device)
    tokenizer = load_tokenizer(folder)
    states = {
        one: pooled_states(model, tokenizer, lines, most_pieces=recipe.model.positions)
        for one, lines in sorted(read_parallel(recipe).items())
    }
    return Outcome(
        metrics={
            "held_out_loss": losses,
            "retrieval": retrieval(states),
            "size": count_parameters(model),
        }
    )


STAGE = Stage("survey", 1, ("tokenizer", "pretrain"), _section, _outside, _run)
