"""A torch model as an ONNX graph whose batch and lengths are free."""

import ast
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from transformers import PreTrainedModel

from limbeck.answering import side_by_side
from limbeck.errors import ExportError
from limbeck.heads import HEADS, head_logits, reads_types
from limbeck.last_rows import drop_unread_rows
from limbeck.tasks.windows import Window

OPSET = 23
"""The first that has attention and rotary embeddings as one operator each."""
_SHAPE = "rotary.shape"
_SCOPES = "pkg.torch.onnx.name_scopes"
"""Where the exporter notes the modules that a node is in."""


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
    _rotate_each_text(graph.graph)
    drop_unread_rows(graph)
    # Shapes noted before constants were folded would contradict those after.
    del graph.graph.value_info[:]
    _name_products(graph)
    _forget_making(graph)
    return graph


def _rotate_each_text(graph: Any) -> None:
    """Give `RotaryEmbedding` angles of every text: the exporter hands over one text's for all.

    The operator wants them [B, S, D/2] (ONNX, opset 23), and onnxruntime refuses what is shorter.
    """
    shapes = {one.name: one.type.tensor_type.shape.dim for one in graph.value_info}
    makers = {name: node for node in graph.node for name in node.output}
    there: dict[tuple[str, ...], str] = {}
    made: list[Any] = []
    for node in graph.node:
        if node.op_type == "RotaryEmbedding" and len(node.input) == 3:
            for place in (1, 2):
                one_text = node.input[place]
                maker = makers.get(one_text)
                same: tuple[str, ...] = (one_text,)
                if maker is not None and maker.op_type in ("Cos", "Sin"):
                    same = (maker.op_type, *maker.input)
                if same not in there:
                    there[same] = angles = f"{one_text}.of.each"
                    made.append(helper.make_node("Expand", [one_text, _SHAPE], [angles], angles))
                    _note_angles(graph, angles, shapes.get(node.output[0]))
                node.input[place] = there[same]
        made.append(node)
    if there:
        ones = numpy_helper.from_array(np.array([1, 1], dtype=np.int64), "rotary.ones")
        graph.initializer.append(ones)
        texts = ["rotary.texts"]
        shape = helper.make_node("Concat", [*texts, ones.name], [_SHAPE], _SHAPE, axis=0)
        count = helper.make_node("Shape", [graph.input[0].name], texts, *texts, start=0, end=1)
        del graph.node[:]
        graph.node.extend([count, shape, *made])


def _note_angles(graph: Any, name: str, rotated: Any) -> None:
    """Note the shape of angles [B, S, ?] of what is rotated [B, H, S, D], if that is known."""
    if rotated is not None and len(rotated) == 4:
        lengths = [one.dim_param or one.dim_value or None for one in (rotated[0], rotated[2])]
        kind = TensorProto.FLOAT
        graph.value_info.append(helper.make_tensor_value_info(name, kind, [*lengths, None]))


def _name_products(graph: onnx.ModelProto) -> None:
    """Name each product after its module, as `model.layers.0.mlp.Wo`; a second one `…:2`.

    A matrix is then told of by the name that it has in torch.
    """
    seen: Counter[str] = Counter()
    for node in graph.graph.node:
        noted = {one.key: one.value for one in node.metadata_props}.get(_SCOPES)
        if node.op_type == "MatMul" and noted is not None:
            # From the graph's own, "", over the model to the operator.
            module = "".join(ast.literal_eval(noted)[-2:-1]).removeprefix("model.")
            if module:
                seen[module] += 1
                node.name = module if seen[module] == 1 else f"{module}:{seen[module]}"


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
