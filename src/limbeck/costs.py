"""What a layer and its neurons cost on this machine: random students, exported, timed in turn.

No weights are read: how long an answer takes and what it weighs hang on shapes alone.
"""

import copy
import logging
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel

from limbeck.answering import side_by_side
from limbeck.architectures import architecture_of, special_entries
from limbeck.backends import Reader, Run
from limbeck.bench import latency
from limbeck.budget import PRECISIONS, Rate, Rates, table_bytes
from limbeck.encoder import class_for, quiet
from limbeck.narrowing import neurons_in, set_neurons
from limbeck.parameters import cost_of
from limbeck.plan import layer_plan, neurons_kept
from limbeck.rounding import LARGE_ENTRIES, quantized
from limbeck.smoothing import smoothed_by_rows
from limbeck.student import student_config
from limbeck.tasks.windows import Window
from limbeck.tracing import inputs_of, to_onnx

log = logging.getLogger(__name__)

DEPTHS = (1, 4)
"""Layers of the students: far enough apart that a busy moment does not pass for a layer."""
NARROW = 0.25
"""Share of the neurons that half of the students have."""
System = tuple[str, float, int]
"""A precision, a share of the neurons, and a depth."""
PIECES = 1000
"""Their vocabulary: looking a piece up takes as long in a small table as in a large one."""
ANSWERS = 20
"""Times that each is timed in turn before a median is taken."""
PASSES = (5, 200)
"""Fewest and most medians of each; the middle one counts, as it does where a bundle is timed."""
SECONDS = 15.0
"""What timing them may take, but for the fewest passes."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a student is asked, whatever its depth.

    Args:
        head: A key of `HEADS`.
        classes: Of its output layer.
        sentence_pieces: Of the sentence timed, special pieces included, at least 3.
    """

    head: str
    classes: int
    sentence_pieces: int


def measure(config: PreTrainedConfig, shape: Shape, *, where: str = "") -> dict[str, Rates]:
    """Time and weigh the parts of a teacher's students.

    Args:
        config: The teacher's.
        shape: The head, and the sentence.
        where: The teacher's name, for messages.

    Returns:
        Precision to rates. Times are those of the graph by onnxruntime with as many threads as
        `limbeck.load` has read one text, for the deepest of `DEPTHS`; making pieces of text is not
        counted.

    Raises:
        LimbeckError: The architecture has no such head, or cannot be exported.
    """
    log.info(
        "costs: timing students of %d and %d layers, wide and narrow, on %d pieces",
        *DEPTHS,
        shape.sentence_pieces,
    )
    systems: dict[System, Run] = {}
    sizes: dict[System, int] = {}
    width = embedding_width(config)
    models = {
        (share, layers): random_student(config, layers, shape, share=share, where=where)
        for share, layers in product((1.0, NARROW), DEPTHS)
    }
    # One count for all, so that what a layer takes can be told from the rest.
    products = cost_of(models[1.0, max(DEPTHS)]).products_per_piece
    for (share, layers), model in models.items():
        graph = to_onnx(model, head=shape.head, windows=[_window(5), _window(9)])
        # What evens a graph out takes time; it weighs something in the tiniest of graphs alone.
        even = quantized(smoothed_by_rows(graph))
        for precision, weighed, timed in (("fp32", graph, graph), ("int8", quantized(graph), even)):
            table = table_bytes(PIECES, width, precision, rounded_from_entries=LARGE_ENTRIES)
            sizes[precision, share, layers] = weighed.ByteSize() - table
            run = Reader(
                timed.SerializeToString(),
                inputs_of(model, shape.head),
                products_per_piece=products,
                where=where,
            )
            systems[precision, share, layers] = run
    batch = side_by_side([_window(shape.sentence_pieces)], config.pad_token_id or 0)
    times = _times_ms(systems, batch)
    total = neurons_in(config)
    left = neurons_kept(total, NARROW) / total
    return {
        one: Rates(
            _rate(times, sizes, one, share=1.0), _rate(times, sizes, one, share=NARROW), left
        )
        for one in PRECISIONS
    }


def _times_ms(systems: Mapping[System, Run], batch: dict[str, np.ndarray]) -> dict[System, float]:
    """Give the middle of several medians of each system, on a batch, milliseconds."""
    named = {str(system): one for system, one in systems.items()}
    first = latency(named, [batch] * ANSWERS)
    pass_seconds = ANSWERS * sum(one.p50_ms for one in first.values()) / 1000
    fewest, most = PASSES
    count = most if pass_seconds * most < SECONDS else max(fewest, int(SECONDS / pass_seconds))
    passes = [first, *(latency(named, [batch] * ANSWERS, warmup=0) for _ in range(1, count))]
    return {
        system: statistics.median(one[name].p50_ms for one in passes)
        for system, name in zip(systems, named, strict=True)
    }


def _rate(
    times_ms: Mapping[System, float],
    sizes_bytes: Mapping[System, int],
    precision: str,
    *,
    share: float,
) -> Rate:
    fixed_ms, layer_ms = _divided(*(times_ms[precision, share, one] for one in DEPTHS))
    fixed_bytes, layer_bytes = _divided(*(sizes_bytes[precision, share, one] for one in DEPTHS))
    return Rate(fixed_ms, layer_ms, fixed_bytes, layer_bytes)


def _divided(of_few: float, of_many: float) -> tuple[float, float]:
    """Divide what two depths cost into the rest and a layer, which is never negative.

    The rest is, where the last layer computes one row (`last_rows`) and that saves more than it is.
    """
    few, many = DEPTHS
    layer = (of_many - of_few) / (many - few)
    if layer < 0:
        return (of_few + of_many) / 2, 0.0
    return of_few - few * layer, layer


def random_student(
    config: PreTrainedConfig, layers: int, shape: Shape, *, share: float = 1.0, where: str = ""
) -> PreTrainedModel:
    """Give a student of so many layers and `PIECES` pieces with weights drawn at random.

    Args:
        config: The teacher's; it is not touched.
        layers: Any number; a teacher with fewer lends its layers more than once.
        shape: The head.
        share: Of each feed-forward block's neurons.
        where: The teacher's name, for messages.

    Raises:
        ModelError: transformers has no such head for this architecture.
    """
    architecture = architecture_of(config)
    depth = int(getattr(config, architecture.depth))
    chosen = layer_plan(depth, min(layers, depth))
    small = student_config(config, tuple(chosen[i % len(chosen)] for i in range(layers)))
    set_neurons(small, neurons_kept(neurons_in(config), share))
    small.vocab_size = PIECES
    for name, value in special_entries(config).items():
        setattr(small, name, _inside(value))
    small.id2label = {number: str(number) for number in range(shape.classes)}
    small.label2id = {label: number for number, label in small.id2label.items()}
    small._attn_implementation = "sdpa" if "sdpa" in architecture.attention else "eager"
    kind = class_for(shape.head, small, where=where)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model: PreTrainedModel = kind(copy.deepcopy(small))
        with torch.no_grad():
            # Fresh biases are all 0 and norms all 1: the exporter would store each only once.
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn(parameter.shape))
    return model.eval()


def _inside(value: int | list[int]) -> int | list[int]:
    """Give special pieces as ids of the small vocabulary; which they are changes no cost."""
    if isinstance(value, list):
        return [one if one < PIECES else 0 for one in value]
    return value if value < PIECES else 0


def embedding_width(config: PreTrainedConfig) -> int:
    """Give the width of a model's table of pieces, which may be narrower than its states."""
    width: int = getattr(config, architecture_of(config).width)
    return int(getattr(config, "embedding_size", None) or width)


def _window(pieces: int) -> Window:
    """Give a window of so many pieces, each but the ends a word of its own."""
    ids = np.random.default_rng(pieces).integers(PIECES // 2, PIECES, pieces)
    words = np.arange(1, pieces - 1)
    return Window(0, ids, {"firsts": words, "lasts": words})
