"""A task model as a bundle: one ONNX graph, its matrices in 8 bits, behind two gates.

The first gate compares the graph with torch on real sentences. The second scores the 8-bit graph
beside the 32-bit one on labelled data, for multilingual models are known to lose almost all in 8
bits. What its matrices read is evened out for it; those whose own products are far off nevertheless
stay in 32 bits from the start, and where the score falls for all that, so do those whose rounding
changes the outputs most.
Of several candidates, the fastest of those that pass is written.
"""

import logging
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from transformers import PreTrainedModel

from limbeck.answering import TaskModel, outputs_by, side_by_side
from limbeck.artifact import check_new_folder
from limbeck.backends import USUAL, Reader, read_of
from limbeck.bench import Cost, Latency, latency
from limbeck.bundle import CARD, MODEL, TOKENIZER, Bundle, card, write_bundle
from limbeck.candidates import Candidate, candidates
from limbeck.errors import ArtifactError, ExportError
from limbeck.gates import TOLERANCE, Gate, fall, is_open, judged_answers, parity
from limbeck.last_rows import products_on_one_row
from limbeck.parameters import base_prefix, cost_of
from limbeck.rounding import (
    Rounding,
    dynamic,
    errors_of,
    matrices,
    quantized,
    ranges_of,
    static,
    tables,
)
from limbeck.smoothing import smoothed
from limbeck.tasks.windows import Window
from limbeck.tracing import inputs_of, to_onnx

log = logging.getLogger(__name__)

_MOST_KEPT = 8
"""Matrices and tables kept in 32 bits before it is given up."""
CRUDE = 0.05
"""Share of its own size by which a product may be off in 8 bits; more, and the matrix stays in 32.
What it gains stands in results/bundles.md.
"""
CRUDE_IN_HEAD = 0.01
"""The same of a head's matrix: nothing after it takes the error away."""
SMALL_IN_HEAD = 1 << 14
"""Entries up to which a head's matrix always stays in 32 bits: there is nothing to save."""
_CALIBRATING = 64
"""Sentences that give the ranges of activations and rank matrices."""
_TIMED = 100
"""Sentences by which the fastest candidate is found."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A graph and what was found of it.

    Args:
        graph: The model.
        inputs: Its inputs' names.
        made_as: How it is stored and run.
        model: What answers the task by it.
        cost: Of a sentence.
        found: Agreement, differences, scores, what was kept in 32 bits; ready for JSON.
    """

    graph: onnx.ModelProto
    inputs: tuple[str, ...]
    made_as: Candidate
    model: TaskModel
    cost: Cost
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def precision(self) -> str:
        """Give "fp32" or "int8"."""
        return "fp32" if self.made_as.quantization == "none" else "int8"


@dataclass(frozen=True, slots=True)
class _Way:
    rounding: Rounding
    crude: list[str]


@dataclass(frozen=True, slots=True)
class _Traced:
    """A graph in 32 bits, and what it needs to answer.

    Args:
        graph: It is never changed.
        inputs: Its inputs' names.
        asked: What answers the task by torch.
        windows: Some sentences.
        pad_id: The padding piece.
        cost: Of a sentence.
        body: What the names of the encoder's modules begin with; the others are the head's.
    """

    graph: onnx.ModelProto
    inputs: tuple[str, ...]
    asked: TaskModel
    windows: Sequence[Window]
    pad_id: int
    cost: Cost
    body: str

    def by(self, backend: str, graph: onnx.ModelProto) -> TaskModel:
        """Give what answers the task by a graph with the same inputs."""
        products = self.cost.products_per_piece
        run = Reader(
            graph.SerializeToString(), self.inputs, products_per_piece=products, backend=backend
        )
        outputs = partial(
            outputs_by, run, head=self.asked.task.head, pad_id=self.pad_id, batch_pieces=1
        )
        return replace(self.asked, outputs=outputs)

    def batches(self) -> list[dict[str, np.ndarray]]:
        """Give the sentences as the graph reads them, one by one."""
        padded = (side_by_side([one], self.pad_id) for one in self.windows)
        return [read_of(one, self.inputs) for one in padded]

    def smoothed(self) -> "_Traced":
        """Give the graph with what its matrices read evened out for 8 bits."""
        small = [name for name, entries in self._sizes().items() if not self._bears(name, entries)]
        return replace(self, graph=smoothed(self.graph, self.batches(), keep=small))

    def _sizes(self) -> dict[str, int]:
        """Give the entries of each of `matrices`."""
        entries = {one.name: math.prod(one.dims) for one in self.graph.graph.initializer}
        reads = {node.name: node.input[1:] for node in self.graph.graph.node}
        return {name: entries[reads[name][0]] for name in matrices(self.graph)}

    def _bears(self, name: str, entries: int) -> float:
        """Give by how much a matrix's product may be off in 8 bits."""
        if name.startswith((self.body, "node_")):  # the latter: no module is known of it
            return CRUDE
        return 0.0 if entries <= SMALL_IN_HEAD else CRUDE_IN_HEAD

    def rounding(self, quantization: str) -> _Way:
        """Give how matrices are rounded, and those that do not bear it."""
        read = self.batches()
        ranges = None if quantization == "dynamic" else ranges_of(self.graph, read)
        errors = errors_of(self.graph, read, ranges=ranges)
        crude = [
            name
            for name, entries in self._sizes().items()
            if errors[name] > self._bears(name, entries)
        ]
        return _Way(dynamic if ranges is None else partial(static, ranges=ranges), crude)


def export(
    model: PreTrainedModel,
    asked: TaskModel,
    gate: Gate,
    *,
    int8: bool,
    tolerance: float = TOLERANCE,
    backend: str = USUAL,
    quantization: str = "auto",
) -> Exported:
    """Export a task model and try it; of several candidates, give the fastest that passes.

    Args:
        model: A torch model.
        asked: The same, as what answers its task.
        gate: What it is tried on.
        int8: Whether 8 bits are wanted.
        tolerance: Most that the score may fall in 8 bits, as a share (0.005 is half a point).
        backend: As in `candidates`; "auto" times them, each on the same sentences, one at a time.
        quantization: As in `candidates`.

    Raises:
        RecipeError: There is no such candidate.
        ExportError: The architecture cannot be exported, or a gate does not open to any candidate.
    """
    wanted = candidates(int8=int8, backend=backend, quantization=quantization)
    some = gate.examples[:: max(1, -(-len(gate.examples) // _CALIBRATING))]
    windows = asked.task.encode(some, asked.tokenizer, None, max_pieces=asked.max_pieces)
    by_length = sorted(windows, key=lambda one: len(one.pieces))
    shown = by_length[:: max(1, len(windows) - 1)][:2]
    graph = to_onnx(model, head=asked.task.head, windows=shown)
    inputs = inputs_of(model, asked.task.head)
    cost = cost_of(model, on_one_row=products_on_one_row(graph))
    body = base_prefix(model)
    traced = _Traced(graph, inputs, asked, windows, model.config.pad_token_id or 0, cost, body)
    if int8:
        traced = traced.smoothed()
    if backend != "auto":
        whole = _in_32_bits(traced, wanted[0].backend, gate)
        return _tried(traced, wanted[0], whole, gate, tolerance=tolerance)
    return _fastest(traced, wanted, gate, tolerance=tolerance)


def _in_32_bits(traced: _Traced, backend: str, gate: Gate) -> Exported:
    """Put the graph in 32 bits through the first gate.

    Raises:
        ExportError: It does not open.
    """
    whole, made_as = traced.by(backend, traced.graph), Candidate(backend, "none")
    found = parity(traced.asked, whole, gate)
    return Exported(traced.graph, traced.inputs, made_as, whole, traced.cost, found)


def _tried(
    traced: _Traced, made_as: Candidate, whole: Exported, gate: Gate, *, tolerance: float
) -> Exported:
    """Put one candidate through the second gate, where it is in 8 bits.

    Args:
        traced: The graph.
        made_as: The candidate.
        whole: The graph in 32 bits, by the candidate's backend.
        gate: What it is tried on.
        tolerance: As in `export`.

    Raises:
        ExportError: It does not open.
    """
    if made_as.quantization == "none":
        return whole
    made, ask = replace(whole, made_as=made_as), partial(traced.by, made_as.backend)
    way = traced.rounding(made_as.quantization)
    return _in_8_bits(made, ask, gate, windows=traced.windows, way=way, tolerance=tolerance)


def _fastest(
    traced: _Traced, wanted: Sequence[Candidate], gate: Gate, *, tolerance: float
) -> Exported:
    """Try every candidate, time those that pass, and give the fastest.

    Raises:
        ExportError: None passes.
    """
    passed: dict[str, Exported] = {}
    refused: dict[str, str] = {}
    wholes: dict[str, Exported] = {}
    for one in wanted:
        try:
            if one.backend not in wholes:
                wholes[one.backend] = _in_32_bits(traced, one.backend, gate)
            whole = wholes[one.backend]
            passed[str(one)] = _tried(traced, one, whole, gate, tolerance=tolerance)
        except (ArtifactError, ExportError) as error:
            log.warning("%s: %s", one, error)
            refused[str(one)] = str(error)
    if not passed:
        raise ExportError(
            "no candidate passes its gates",
            found="; ".join(f"{name}: {why}" for name, why in refused.items()),
        )
    asked = {name: partial(_answer_one, one.model) for name, one in passed.items()}
    # Each answers all once before the clock starts: OpenVINO prepares itself for every new length.
    timed = latency(asked, gate.examples[:_TIMED], warmup=_TIMED)
    first = min(passed, key=lambda name: timed[name].p50_ms)
    tried = [
        {"backend": one.backend, "quantization": one.quantization}
        | ({"refused": refused[name]} if name in refused else _row(passed[name], timed[name]))
        for one, name in ((one, str(one)) for one in wanted)
    ]
    return replace(passed[first], found={**passed[first].found, "tried": tried})


def _row(made: Exported, timed: Latency) -> dict[str, Any]:
    told = made.found.get("int8")
    scored = {"metric": told["metric"], "score": told["int8"]} if told else {}
    return {"p50_ms": timed.p50_ms, "n": timed.n, **scored}


def _answer_one(model: TaskModel, example: Any) -> Any:
    return model.answer([example])


def _in_8_bits(
    made: Exported,
    ask: Callable[[onnx.ModelProto], TaskModel],
    gate: Gate,
    *,
    windows: Sequence[Window],
    way: _Way,
    tolerance: float,
) -> Exported:
    """Round a graph but for what is crude in 8 bits; where it loses too much, keep more.

    Raises:
        ExportError: It loses too much nevertheless.
    """
    more: list[str] = []
    ranked: list[str] = []
    expected = judged_answers(made.model, gate)
    while True:
        kept = way.crude + more
        small = quantized(made.graph, keep=kept, rounding=way.rounding)
        model = ask(small)
        told = fall(model.task, expected, judged_answers(model, gate), gate)
        if is_open(told, tolerance):
            quantization = made.made_as.quantization
            told |= {"kept": kept, "quantization": quantization, "tolerance": tolerance}
            return replace(made, graph=small, model=model, found={**made.found, "int8": told})
        ranked = ranked or _by_damage(made, ask, windows, way)
        if len(more) >= min(_MOST_KEPT, len(ranked)):
            raise ExportError(
                "in 8 bits the model loses too much",
                where=told["metric"],
                found=f"{100 * told['int8']:.2f} against {100 * told['fp32']:.2f} in 32 bits, "
                f"with {len(kept)} matrices and tables kept in 32 bits",
                expected=f"a fall of at most {100 * tolerance:.2f} points",
                do="export with --no-int8, or allow more with --tolerance",
            )
        more = ranked[: max(1, 2 * len(more))]
        log.warning(
            "in 8 bits %s falls by %.2f points; kept in 32 bits: %s",
            told["metric"],
            100 * told["fall"],
            ", ".join(way.crude + more),
        )


def make_bundle(
    model: PreTrainedModel,
    asked: TaskModel,
    gate: Gate,
    *,
    folder: Path,
    output: Path,
    int8: bool = True,
    tolerance: float = TOLERANCE,
    backend: str = USUAL,
    quantization: str = "auto",
    languages: Sequence[str] = (),
) -> dict[str, Any]:
    """Export a task model behind its gates, and write it as a bundle.

    Args:
        folder: The model's, for its tokenizer.
        output: A new folder, or a new file that ends with `.limbeck`.
        int8: As `export` takes it, and so the next three.
        languages: The source and the targets, for the record.

    Returns:
        What was found, ready for JSON.

    Raises:
        LimbeckError: It cannot be exported, a gate does not open, or the output is there.
    """
    check_new_folder(output)
    made = export(
        model,
        asked,
        gate,
        int8=int8,
        tolerance=tolerance,
        backend=backend,
        quantization=quantization,
    )
    runs = made.made_as.backend
    about = Bundle(
        task=asked.task.name,
        labels=asked.labels,
        max_pieces=asked.max_pieces,
        pad_id=model.config.pad_token_id or 0,
        inputs=made.inputs,
        precision=made.precision,
        settings=dict(asked.settings),
        languages=tuple(languages),
        scores=made.found,
        cost=asdict(made.cost),
        versions={one: metadata.version(one) for one in ("limbeck", "torch", runs)},
        backend=runs,
    )
    with tempfile.TemporaryDirectory() as name:
        files = Path(name)
        onnx.save(made.graph, files / MODEL)
        shutil.copyfile(folder / TOKENIZER, files / TOKENIZER)
        (files / CARD).write_text(card(about), encoding="utf-8")
        write_bundle(files, about, output)
    return {
        "precision": made.precision,
        "backend": runs,
        "bytes": made.graph.ByteSize(),
        **made.found,
    }


def _by_damage(
    made: Exported,
    ask: Callable[[onnx.ModelProto], TaskModel],
    windows: Sequence[Window],
    way: _Way,
) -> list[str]:
    """Rank matrices and tables by how far the scores move if one alone is rounded, most first."""
    exact, moved = made.model.outputs(windows), {}
    suspects = [*matrices(made.graph), *tables(made.graph)]
    for name in suspects:
        if name in way.crude:
            continue
        others = [one for one in suspects if one != name]
        alone = quantized(made.graph, keep=others, rounding=way.rounding)
        found = ask(alone).outputs(windows)
        apart = [np.abs(a - b).ravel() for a, b in zip(exact, found, strict=True)]
        moved[name] = float(np.concatenate(apart).mean())
    return sorted(moved, key=lambda name: -moved[name])
