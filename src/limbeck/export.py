"""A task model as a bundle: one ONNX graph, its matrices in 8 bits, behind two gates.

The first gate compares the graph with torch on real sentences. The second scores the 8-bit graph
beside the 32-bit one on labelled data, for multilingual models are known to lose almost all in 8
bits: where the score falls, the matrices whose rounding changes the outputs most are kept in 32.
"""

import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from transformers import PreTrainedModel

from limbeck.answering import TaskModel, outputs_by, settled, side_by_side
from limbeck.artifact import check_new_folder
from limbeck.bundle import CARD, MODEL, TOKENIZER, Bundle, write_bundle
from limbeck.errors import ExportError
from limbeck.evaluate import loyalty, score
from limbeck.heads import HEADS, head_logits, reads_types
from limbeck.runtime import session
from limbeck.tasks import Task
from limbeck.tasks.windows import Window

log = logging.getLogger(__name__)

OPSET = 20
PARITY = 0.995
"""Least share of answers in which the graph and torch must agree."""
TOLERANCE = 0.005
"""Most that a score may fall in 8 bits, unless another is given."""
_MOST_KEPT = 8
"""Matrices kept in 32 bits before it is given up."""
LARGE_ENTRIES = 1 << 16
"""Entries from which a table of embeddings is worth 8 bits."""


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
        precision: "fp32" or "int8".
        found: Agreement, differences, scores, what was kept in 32 bits; ready for JSON.
    """

    graph: onnx.ModelProto
    inputs: tuple[str, ...]
    precision: str
    found: dict[str, Any] = field(default_factory=dict)


class _Graph(nn.Module):
    """A model as a function from a batch's tables, in order, to scores."""

    def __init__(self, model: PreTrainedModel, head: str, inputs: Sequence[str]):
        super().__init__()
        self.model, self.head, self.inputs = model, head, tuple(inputs)

    def forward(self, *tables: Tensor) -> Tensor:
        batch = dict(zip(self.inputs, tables, strict=True))
        return HEADS[self.head].scores(self.model, head_logits(self.model, batch), batch)


def inputs_of(model: PreTrainedModel, head: str) -> tuple[str, ...]:
    """Give the names of what a model with a head reads of a batch."""
    names = ["input_ids", "attention_mask"]
    names += ["token_type_ids"] if reads_types(model.config) else []
    return (*names, "firsts", "lasts") if head == "tree" else tuple(names)


def to_onnx(model: PreTrainedModel, *, head: str, windows: Sequence[Window]) -> onnx.ModelProto:
    """Give a model as a graph whose batch and lengths are free.

    Args:
        model: With the head.
        head: A key of `HEADS`.
        windows: Two of the task, of different lengths if possible: what is traced.

    Raises:
        ExportError: torch cannot export this architecture.
    """
    inputs = inputs_of(model, head)
    batch = side_by_side(windows, model.config.pad_token_id or 0)
    none = np.zeros_like(batch["input_ids"])
    tables = tuple(torch.from_numpy(_several(batch.get(name, none))) for name in inputs)
    free = torch.export.Dim.DYNAMIC
    try:
        with _quiet():
            program = torch.onnx.export(
                _Graph(model.eval(), head, inputs),
                tables,
                dynamo=True,
                input_names=list(inputs),
                output_names=["scores"],
                dynamic_shapes={"tables": tuple({0: free, 1: free} for _ in tables)},
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:  # the exporter raises classes of many libraries
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ExportError(
            f"a {model.config.model_type} with this head cannot be exported by torch",
            where=head,
            found=first[:200],
        ) from None
    assert program is not None
    graph = program.model_proto
    # Shapes noted before constants were folded would contradict those after.
    del graph.graph.value_info[:]
    _forget_making(graph)
    return graph


def _forget_making(graph: onnx.ModelProto) -> None:
    """Take out what the exporter notes of each node: paths of this machine's files, by the kB."""
    for one in (graph.graph, *graph.graph.node, *graph.graph.input, *graph.graph.output):
        one.ClearField("metadata_props")


def _several(table: np.ndarray) -> np.ndarray:
    """Repeat what there is once: the exporter takes an axis of length 1 for a constant."""
    for axis, length in enumerate(table.shape):
        if length == 1:
            table = np.repeat(table, 2, axis=axis)
    return table


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


def quantized(graph: onnx.ModelProto, *, keep: Sequence[str] = ()) -> onnx.ModelProto:
    """Give a graph with its matrices and its embeddings in 8 bits.

    Matrices by onnxruntime: a scale for each column, activations rounded as they come. Tables of
    embeddings a scale for each row, which loses next to nothing.

    Args:
        graph: In 32 bits; it is not touched.
        keep: Names of nodes that stay as they are.
    """
    chosen = [one for one in matrices(graph) if one not in keep]
    small = _copy(graph)
    if chosen:  # onnxruntime takes an empty list for all
        small = _rounded(small, chosen)
    _shorten_tables(small)
    return small


def _rounded(graph: onnx.ModelProto, nodes: Sequence[str]) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # it recommends a preparation that the exporter has done
        try:
            quantize_dynamic(
                graph,
                path,
                op_types_to_quantize=["MatMul", "Gemm"],
                nodes_to_quantize=list(nodes),
                per_channel=True,
                weight_type=QuantType.QInt8,
            )
        finally:
            root.setLevel(level)
        return onnx.load(path)


def _copy(graph: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    return copy


def _shorten_tables(graph: onnx.ModelProto) -> None:
    """Store tables that are looked up in by row as int8 with a scale a row."""
    tables = {one.name: one for one in graph.graph.initializer}
    nodes = list(graph.graph.node)
    users: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            users.setdefault(name, []).append(node)
    made: list[Any] = []
    for node in nodes:
        table = tables.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or not _is_table(node, table) or len(users[table.name]) > 1:
            made.append(node)
            continue
        rows = numpy_helper.to_array(table)
        scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-12) / 127
        short = np.rint(rows / scale).astype(np.int8)
        name = table.name
        graph.graph.initializer.remove(table)
        graph.graph.initializer.append(numpy_helper.from_array(short, f"{name}.int8"))
        scales = numpy_helper.from_array(scale.astype(np.float32), f"{name}.scale")
        graph.graph.initializer.append(scales)
        index, out = node.input[1], node.output[0]
        made += [
            helper.make_node("Gather", [f"{name}.int8", index], [f"{out}.int8"]),
            helper.make_node("Cast", [f"{out}.int8"], [f"{out}.wide"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{name}.scale", index], [f"{out}.scale"]),
            helper.make_node("Mul", [f"{out}.wide", f"{out}.scale"], [out]),
        ]
    del graph.graph.node[:]
    graph.graph.node.extend(made)


def _is_table(node: Any, table: Any) -> bool:
    axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
    is_float = table.data_type == TensorProto.FLOAT
    return axis == 0 and is_float and len(table.dims) == 2 and np.prod(table.dims) >= LARGE_ENTRIES


def matrices(graph: onnx.ModelProto) -> list[str]:
    """Give the names of the nodes that multiply by a constant matrix of two axes."""
    constants = {
        one.name
        for one in graph.graph.initializer
        if len(one.dims) == 2 and min(one.dims) > 1 and one.data_type == TensorProto.FLOAT
    }
    return [
        node.name
        for node in graph.graph.node
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in constants
    ]


def export(
    model: PreTrainedModel,
    asked: TaskModel,
    gate: Gate,
    *,
    int8: bool,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Export a task model and try it.

    Args:
        model: A torch model.
        asked: The same, as what answers its task.
        gate: What it is tried on.
        int8: Whether 8 bits are wanted.
        tolerance: Most that the score may fall in 8 bits, as a share (0.005 is half a point).

    Raises:
        ExportError: The architecture cannot be exported, or a gate does not open.
    """
    head = asked.task.head
    windows = asked.task.encode(
        gate.examples[:64], asked.tokenizer, None, max_pieces=asked.max_pieces
    )
    traced = sorted(windows, key=lambda one: len(one.pieces))[:: max(1, len(windows) - 1)][:2]
    graph, inputs = to_onnx(model, head=head, windows=traced), inputs_of(model, head)
    ask = partial(_on, inputs=inputs, asked=asked, pad_id=model.config.pad_token_id or 0)
    whole = ask(graph)
    found = _parity(asked, whole, gate)
    if not int8:
        return Exported(graph, inputs, "fp32", found)
    small, told = _in_8_bits(graph, whole, ask, gate, windows=windows, tolerance=tolerance)
    return Exported(small, inputs, "int8", {**found, "int8": told})


def _in_8_bits(
    graph: onnx.ModelProto,
    whole: TaskModel,
    ask: Callable[[onnx.ModelProto], TaskModel],
    gate: Gate,
    *,
    windows: Sequence[Window],
    tolerance: float,
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Round a graph; where it loses too much, keep its most sensitive matrices as they are.

    Raises:
        ExportError: It loses too much nevertheless.
    """
    kept: list[str] = []
    ranked: list[str] = []
    expected = _answers(whole, gate)
    while True:
        small = quantized(graph, keep=kept)
        told = _fall(whole.task, expected, _answers(ask(small), gate), gate)
        if told["fall"] <= tolerance:
            return small, {**told, "kept": kept}
        ranked = ranked or _by_damage(graph, whole.outputs(windows), ask, windows)
        if len(kept) >= min(_MOST_KEPT, len(ranked)):
            raise ExportError(
                "in 8 bits the model loses too much",
                where=told["metric"],
                found=f"{100 * told['int8']:.2f} against {100 * told['fp32']:.2f} in 32 bits, "
                f"with {len(kept)} matrices kept in 32 bits",
                expected=f"a fall of at most {100 * tolerance:.2f} points",
                do="export with --no-int8, or allow more with --tolerance",
            )
        kept = ranked[: max(1, 2 * len(kept))]
        log.warning(
            "in 8 bits %s falls by %.2f points; kept in 32 bits: %s",
            told["metric"],
            100 * told["fall"],
            ", ".join(kept),
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
    languages: Sequence[str] = (),
) -> dict[str, Any]:
    """Export a task model behind its gates, and write it as a bundle.

    Args:
        folder: The model's, for its tokenizer.
        output: A new folder, or a new file that ends with `.limbeck`.
        languages: The source and the targets, for the record.

    Returns:
        What was found, ready for JSON.

    Raises:
        LimbeckError: It cannot be exported, a gate does not open, or the output is there.
    """
    check_new_folder(output)
    made = export(model, asked, gate, int8=int8, tolerance=tolerance)
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
        versions={one: metadata.version(one) for one in ("limbeck", "torch", "onnxruntime")},
    )
    with tempfile.TemporaryDirectory() as name:
        files = Path(name)
        onnx.save(made.graph, files / MODEL)
        shutil.copyfile(folder / TOKENIZER, files / TOKENIZER)
        (files / CARD).write_text(card(about), encoding="utf-8")
        write_bundle(files, about, output)
    return {"precision": made.precision, "bytes": made.graph.ByteSize(), **made.found}


def card(about: Bundle) -> str:
    """Give a bundle's card, in Markdown."""
    found = about.scores
    lines = [
        f"# A bundle of limbeck: {about.task}",
        "",
        f"- Languages: {', '.join(about.languages) or 'not recorded'}",
        f"- Labels: {', '.join(about.labels)}",
        f"- Precision: {about.precision}; windows of at most {about.max_pieces} pieces",
        f"- In 32 bits it agrees with torch in {100 * found['agreement']:.2f} % of the answers on "
        f"{found['sentences']} sentences; scores differ by "
        f"at most {found['largest_difference']:.2g}",
    ]
    if "int8" in found:
        told = found["int8"]
        kept = f"; kept in 32 bits: {', '.join(told['kept'])}" if told["kept"] else ""
        lines.append(
            f"- In 8 bits {told['metric']} is {100 * told['int8']:.2f}, in 32 bits "
            f"{100 * told['fp32']:.2f} (n = {told['n']}){kept}"
        )
    return "\n".join(
        [
            *lines,
            "",
            "`limbeck predict BUNDLE FILE` answers; so does",
            "",
            "```python",
            "import limbeck",
            "",
            'limbeck.load("BUNDLE").predict(["…"])',
            "```",
            "",
        ]
    )


def _on(
    graph: onnx.ModelProto, inputs: Sequence[str], asked: TaskModel, *, pad_id: int
) -> TaskModel:
    """Give a task model that asks a graph."""
    run = session(graph.SerializeToString(), inputs)
    outputs = partial(outputs_by, run, head=asked.task.head, pad_id=pad_id, batch_pieces=1)
    return replace(asked, outputs=outputs)


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
    return {**told, "fp32": first, "int8": second, "fall": first - second}


def _by_damage(
    graph: onnx.ModelProto,
    exact: Sequence[np.ndarray],
    ask: Callable[[onnx.ModelProto], TaskModel],
    windows: Sequence[Window],
) -> list[str]:
    """Rank matrices by how far the scores move if that one alone is rounded, most first."""
    moved = {}
    for name in matrices(graph):
        found = ask(_rounded(_copy(graph), [name])).outputs(windows)
        apart = [np.abs(a - b).ravel() for a, b in zip(exact, found, strict=True)]
        moved[name] = float(np.concatenate(apart).mean())
    return sorted(moved, key=lambda name: -moved[name])
