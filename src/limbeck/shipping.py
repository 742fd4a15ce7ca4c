"""`limbeck export`: a task model's folder as a bundle, tried on the text and labels at hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck.asking import decoded, read_line
from limbeck.backends import USUAL
from limbeck.benchmarks import load_file
from limbeck.bundle import is_bundle, read_bundle
from limbeck.candidates import candidates
from limbeck.errors import DataError, RecipeError
from limbeck.hub import model_folder
from limbeck.judge import load_tuned
from limbeck.race import texts_beside
from limbeck.stages.export import LABELLED, SENTENCES, held_out, sample


def ship(
    model: str,
    output: Path,
    *,
    int8: bool = True,
    tolerance: float | None = None,
    backend: str = USUAL,
    quantization: str = "auto",
    text: Path | None = None,
    dev: Path | None = None,
    language: str = "und",
) -> dict[str, Any]:
    """Write a task model as a bundle.

    Args:
        model: A task model's folder, or a hub id.
        output: A new folder, or a new file that ends with `.limbeck`.
        int8: Whether 8 bits are wanted.
        tolerance: Most that the score may fall in 8 bits, as a share; None: the usual half point.
        backend: As `candidates` takes it.
        quantization: As `candidates` takes it.
        text: Lines as `limbeck predict` reads them, on which the graph is compared with torch;
            None: the held-out text of the store that the model lies in, else the labelled file.
        dev: A labelled file by which 8 bits are judged.
        language: Its language.

    Raises:
        LimbeckError: There is nothing to try it on, it cannot be exported, or a gate does not open.
    """
    from limbeck.export import make_bundle
    from limbeck.gates import TOLERANCE, Gate

    if is_bundle(Path(model)):
        read_bundle(Path(model))  # tells what stands for one and is none
        raise RecipeError("this is a bundle already", where=model)
    candidates(int8=int8, backend=backend, quantization=quantization)
    folder = model_folder(model)
    loaded, asked = load_tuned(folder)
    labelled: Sequence[Any] = ()
    if dev is not None:
        if not dev.is_file():
            raise DataError("no such file", where=str(dev))
        read = load_file(dev, task=asked.task.name, labels=asked.labels, language=language)
        labelled = sample(read.examples, LABELLED, seed=0)
    if text is None:
        examples = held_out(texts_beside(folder), asked.task) or list(labelled[:SENTENCES])
    else:
        examples = _lines(text, asked.task.name)
    if not examples:
        raise DataError(
            "there is no text to try the bundle on",
            where=model,
            do="name a file of it with --text, or of labelled examples with --dev",
        )
    return make_bundle(
        loaded,
        asked,
        Gate(examples, labelled),
        folder=folder,
        output=output,
        int8=int8,
        tolerance=TOLERANCE if tolerance is None else tolerance,
        backend=backend,
        quantization=quantization,
        languages=() if language == "und" else (language,),
    )


def _lines(path: Path, task: str) -> list[Any]:
    if not path.is_file():
        raise DataError("no such file", where=str(path))
    with path.open("rb") as lines:
        places = ((line, f"{path}:{n}") for n, line in enumerate(lines, start=1))
        read = [read_line(task, decoded(line, where), where) for line, where in places]
    found = [one.example for one in read if one.example is not None]
    return sample(found, SENTENCES, seed=0)
