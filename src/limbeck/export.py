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

from limbeck.answering import TaskModel, outputs_by, settled, side_by_side
from limbeck.artifact import check_new_folder
from limbeck.backends import USUAL, read_of, session
from limbeck.bench import Cost, Latency, latency
from limbeck.bundle import CARD, MODEL, TOKENIZER, Bundle, card, write_bundle
from limbeck.candidates import Candidate, candidates
from limbeck.errors import ArtifactError, ExportError
from limbeck.evaluate import loyalty, score
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
)
from limbeck.smoothing import smoothed
from limbeck.tasks import Task
from limbeck.tasks.windows import Window
from limbeck.tracing import inputs_of, to_onnx

log = logging.getLogger(__name__)

PARITY = 0.995
"""Least share of answers in which the graph and torch must agree."""
TOLERANCE = 0.005
"""Most that a score may fall in 8 bits, unless another is given."""
ONE_EXAMPLE = 0.05
"""Most that is let through where a single labelled example makes it."""
_MOST_KEPT = 8
"""Matrices kept in 32 bits before it is given up."""
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
class Gate:
    """What a graph is tried on.

    Args:
        examples: Sentences of the task, real ones.
        labelled: Labelled examples by which 8 bits are judged; without them the answers of 32
            bits are taken for gold.
    """

    examples: Sequence[Any]
    labelled: Sequence[Any] = ()


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
        run = session(graph.SerializeToString(), self.inputs, backend=backend)
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
    found = _parity(traced.asked, whole, gate)
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
    expected = _answers(made.model, gate)
    while True:
        kept = way.crude + more
        small = quantized(made.graph, keep=kept, rounding=way.rounding)
        model = ask(small)
        told = _fall(model.task, expected, _answers(model, gate), gate)
        most = max(tolerance, ONE_EXAMPLE)
        if told["fall"] <= most and told["but_for_one"] <= tolerance:
            told |= {"kept": kept, "quantization": made.made_as.quantization}
            return replace(made, graph=small, model=model, found={**made.found, "int8": told})
        ranked = ranked or _by_damage(made, ask, windows, way)
        if len(more) >= min(_MOST_KEPT, len(ranked)):
            raise ExportError(
                "in 8 bits the model loses too much",
                where=told["metric"],
                found=f"{100 * told['int8']:.2f} against {100 * told['fp32']:.2f} in 32 bits, "
                f"with {len(kept)} matrices kept in 32 bits",
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


def _parity(asked: TaskModel, whole: TaskModel, gate: Gate) -> dict[str, Any]:
    """Compare a graph with torch.

    Raises:
        ExportError: They disagree in more answers than allowed.
    """
    windows = asked.task.encode(gate.examples, asked.tokenizer, None, max_pieces=asked.max_pieces)
    scores = [one.outputs(windows) for one in (whole, asked)]
    apart = max(float(np.abs(a - b).max(initial=0)) for a, b in zip(*scores, strict=True))
    answers = [asked.task.decode(gate.examples, windows, one, asked.labels) for one in scores]
    agree = loyalty(asked.task, *(settled(asked.task, one, asked.settings) for one in answers))
    if agree < PARITY or not np.isfinite(apart):
        raise ExportError(
            "the exported graph does not answer as torch does",
            found=f"{100 * agree:.2f} % of the answers agree, scores differ by up to {apart:.3g}",
            expected=f"at least {100 * PARITY:.1f} %",
        )
    return {"sentences": len(gate.examples), "agreement": agree, "largest_difference": apart}


def _answers(asked: TaskModel, gate: Gate) -> list[Any]:
    return asked.answer(gate.labelled or gate.examples)


def _fall(task: Task, before: list[Any], after: list[Any], gate: Gate) -> dict[str, Any]:
    """Score 8 bits beside 32: on gold labels, or on the answers of 32 bits where there are none."""
    if gate.labelled:
        first, second = (
            score(task, gate.labelled, one, language="dev", resamples=1).metrics[task.primary]
            for one in (before, after)
        )
        told: dict[str, Any] = {"metric": task.primary, "n": len(gate.labelled)}
    else:
        first, second = 1.0, loyalty(task, after, before)
        told = {"metric": "agreement with 32 bits", "n": len(gate.examples)}
    told |= {"fp32": first, "int8": second, "fall": first - second}
    alone = len(gate.labelled) < 2
    least = told["fall"] if alone else _fall_but_for_one(task, before, after, gate.labelled)
    return told | {"but_for_one": least}


def _fall_but_for_one(
    task: Task, before: list[Any], after: list[Any], examples: Sequence[Any]
) -> float:
    """Give the least fall of the score with one example left out, or with none.

    In a few dozen examples a single answer is a point or two: what it alone makes is no evidence.
    """
    counts = (task.statistics(examples, one) for one in (before, after))
    sums = (np.vstack([one.sum(axis=0), one.sum(axis=0) - one]) for one in counts)
    first, second = (task.metrics(one)[task.primary] for one in sums)
    return float(np.min(first - second))


def _by_damage(
    made: Exported,
    ask: Callable[[onnx.ModelProto], TaskModel],
    windows: Sequence[Window],
    way: _Way,
) -> list[str]:
    """Rank matrices by how far the scores move if that one alone is rounded, most first."""
    exact, moved = made.model.outputs(windows), {}
    for name in matrices(made.graph):
        if name in way.crude:
            continue
        found = ask(way.rounding(made.graph, [name])).outputs(windows)
        apart = [np.abs(a - b).ravel() for a, b in zip(exact, found, strict=True)]
        moved[name] = float(np.concatenate(apart).mean())
    return sorted(moved, key=lambda name: -moved[name])
