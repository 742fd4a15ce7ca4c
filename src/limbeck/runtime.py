"""Answers without torch: a bundle, run by onnxruntime or OpenVINO.

    model = limbeck.load("yor-ner.limbeck")
    model.predict(["Wọ́n pàdé ní Ìbàdàn."])

A `Predictor` may be shared by threads. The same input gives the same answer whatever stands beside
it: each window is read by itself, for activations in 8 bits are rounded by the largest of a batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from limbeck.answering import TaskModel, outputs_by
from limbeck.asking import Asked, read_fields, read_text, told
from limbeck.backends import BACKENDS, Reader, check_known
from limbeck.bundle import MODEL, TOKENIZER, Bundle, read_bundle
from limbeck.errors import ArtifactError, DataError, LimbeckError, RecipeError
from limbeck.tasks import find_task


@dataclass(frozen=True, slots=True)
class Predictor:
    """A bundle, ready to be asked.

    Args:
        about: What its record says.
        model: What answers the task.
        reader: What runs the graph for it.
    """

    about: Bundle
    model: TaskModel
    reader: Reader

    def predict(self, inputs: Sequence[str | Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answer texts, or objects as the lines of `limbeck predict` are.

        Args:
            inputs: Each a text, as it is, or such as `{"words": […]}`, `{"question": …,
                "context": …}`.

        Returns:
            One answer an input, as `limbeck predict` prints them.

        Raises:
            DataError: An input is not what the task is asked of.
        """
        if isinstance(inputs, str | Mapping):
            kind = "text" if isinstance(inputs, str) else "object"
            shown = inputs[:40] if isinstance(inputs, str) else ", ".join(map(str, inputs))
            raise DataError(f"is one {kind}", found=repr(shown), expected=f"a list of {kind}s")
        task = self.model.task.name
        asked = [_read(task, one, f"input {number}") for number, one in enumerate(inputs)]
        found = iter(self.model.answer([one.example for one in asked if one.example is not None]))
        return [told(one, None if one.example is None else next(found)) for one in asked]


def _read(task: str, one: Any, where: str) -> Asked:
    if isinstance(one, str):
        return read_text(task, one, where)
    if isinstance(one, Mapping):
        return read_fields(task, one, where)
    raise DataError(
        "is neither a text nor an object",
        where=where,
        found=type(one).__name__,
        expected='such as "…" or {"words": […]}',
    )


def load(path: str | Path, *, threads: int = 0, backend: str | None = None) -> Predictor:
    """Load a bundle.

    Args:
        path: A folder, or a `.limbeck` file.
        threads: That answers use; 0: as many as there are cores. See `backends.Reader` for which of
            them read a text together.
        backend: What runs it, "onnxruntime" or "openvino"; None: what it was made for.

    Raises:
        RecipeError: There is no such backend, or no such number of threads.
        ArtifactError: It is missing, damaged or a newer limbeck's, or what runs it is not
            installed.
    """
    if backend is not None:
        check_known(backend)
    if threads < 0:
        raise RecipeError("no number of threads", found=str(threads), expected="0 or more")
    about, files = read_bundle(Path(path))
    if about.backend not in BACKENDS:
        raise ArtifactError(
            "the bundle is run by what this limbeck does not know",
            where=str(path),
            found=about.backend,
            expected=f"one of: {', '.join(BACKENDS)}",
            do="upgrade limbeck",
        )
    try:
        tokenizer = Tokenizer.from_str(files[TOKENIZER].decode("utf-8"))
    except Exception as error:  # the library raises nothing narrower
        raise ArtifactError(
            "the bundle's tokenizer cannot be read", where=str(path), found=str(error)[:200]
        ) from None
    try:
        task = find_task(about.task)
    except LimbeckError as error:
        raise ArtifactError(
            "the bundle is of a task that this limbeck does not know",
            where=str(path),
            found=about.task,
            do="upgrade limbeck",
        ) from error
    reader = Reader(
        files[MODEL],
        about.inputs,
        products_per_piece=about.cost.get("products_per_piece"),
        backend=backend or about.backend,
        threads=threads,
        where=str(path),
    )
    outputs = partial(
        outputs_by,
        reader,
        head=task.head,
        pad_id=about.pad_id,
        batch_pieces=1,
        at_once=reader.at_once,
    )
    model = TaskModel(
        task, tokenizer, about.labels, about.max_pieces, outputs, dict(about.settings)
    )
    return Predictor(about, model, reader)
