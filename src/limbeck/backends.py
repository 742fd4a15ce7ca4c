"""What runs a bundle's graph: onnxruntime, which the base install has, or OpenVINO, an extra."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from limbeck.errors import ArtifactError, RecipeError
from limbeck.processes import cores

Batch = dict[str, np.ndarray]
Run = Callable[[Batch], np.ndarray]
"""A batch, as `answering.side_by_side` gives it, to its scores, float32 [B, …]."""

USUAL = "onnxruntime"
"""The backend of the base install."""

SMALL = 8_000_000
"""Multiplications a piece below which a model is small: those of a student of 4 layers of 256 are 2
to 3 M, of XLM-R's of 6 layers 42 M."""
TOGETHER = 250_000_000
"""Multiplications from which a small model's text is read sooner by several threads than by one:
some 100 pieces of a student of 4 layers of 256 (results/inference.md)."""

_SLOWER = ["SkipLayerNormFusion"]
"""Fusions that cost time on a CPU: this one some 4 % of an answer (results/inference.md)."""


def is_installed(backend: str) -> bool:
    """Whether a backend's package is there; it is not imported."""
    return find_spec(backend) is not None


def check_known(backend: str) -> None:
    """Refuse a name that is no backend's.

    Raises:
        RecipeError: It is not in `BACKENDS`.
    """
    if backend not in BACKENDS:
        raise RecipeError(
            "no such backend", found=repr(backend), expected=f"one of: {', '.join(BACKENDS)}"
        )


def not_installed(backend: str) -> RecipeError:
    """Give the error of who asks for a backend that is not there."""
    return RecipeError(
        "the bundle's backend is not installed",
        found=f"no {backend}",
        do=f"pip install 'limbeck[{backend}]'",
    )


def session(
    graph: bytes, inputs: Sequence[str], *, backend: str = USUAL, threads: int = 0, where: str = ""
) -> Run:
    """Give a function that runs a graph on a batch, and that threads may share.

    Args:
        graph: An ONNX model.
        inputs: What of a batch it reads.
        backend: A key of `BACKENDS`.
        threads: That one run uses; 0: as many as there are cores.
        where: The bundle, for messages.

    Raises:
        ArtifactError: The graph cannot be run here, or the backend is not installed.
    """
    run = BACKENDS[backend](graph, threads, where)
    return lambda batch: run(read_of(batch, inputs)).astype(np.float32, copy=False)


class Reader:
    """What runs a graph on a batch with the threads that it is worth; threads may share it.

    A large model's threads read a text together. A small one's do so where the text is long; of a
    short one waking a second thread takes as long as it saves, so each reads a text of its own.
    """

    def __init__(
        self,
        graph: bytes,
        inputs: Sequence[str],
        *,
        products_per_piece: int | None = None,
        backend: str = USUAL,
        threads: int = 0,
        where: str = "",
    ):
        """Prepare to read.

        Args:
            graph: An ONNX model.
            inputs: What of a batch it reads.
            products_per_piece: The model's multiplications; None: they are not known.
            backend: A key of `BACKENDS`; OpenVINO reads one text after the other.
            threads: All that there are; 0: as many as there are cores.
            where: The bundle, for messages.

        Raises:
            ArtifactError: As `session`.
        """
        self._products, self._all = products_per_piece or SMALL, threads
        self._apart = self._products < SMALL and backend == USUAL and (threads or cores()) > 1
        start = partial(session, graph, inputs, backend=backend, where=where)
        first = self.threads_of(0)
        self._ready: dict[int, Run] = {first: start(threads=first)}
        # A large model needs no other session, and its graph no memory.
        self._start = start if self._apart else None

    def threads_of(self, pieces: int) -> int:
        """Give the threads that read one text of so many pieces; 0: as many as there are cores."""
        return 1 if self._apart and pieces * self._products < TOGETHER else self._all

    def __call__(self, batch: Batch) -> np.ndarray:
        """Give a batch's scores."""
        return self._with(self.threads_of(batch["input_ids"].size))(batch)

    def at_once(self, run: Run, batches: Iterable[Batch]) -> Iterable[np.ndarray]:
        """Give the scores of each of several batches: a small model's side by side, as `map`."""
        if not self._apart:
            return map(run, batches)
        read, one = list(batches), self._with(1)
        count = min(self._all or cores(), len(read))
        try:
            # Threads that ended again are no care of a process that forks or ends.
            with ThreadPoolExecutor(count) as pool:
                return list(pool.map(one, read))
        except RuntimeError:  # the interpreter is about to end, and starts no thread any more
            return map(run, read)

    def _with(self, threads: int) -> Run:
        if threads not in self._ready and self._start is not None:
            self._ready[threads] = self._start(threads=threads)
        return self._ready[threads]


def read_of(batch: Batch, inputs: Sequence[str]) -> Batch:
    """Give what a graph reads of a batch; one without a second text has no token types."""
    none = np.zeros_like(batch["input_ids"])
    return {name: batch.get(name, none) for name in inputs}


def _by_onnxruntime(graph: bytes, threads: int, where: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Between two answers its threads would spin, and slow whatever else runs here.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        ready = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER
        )
    except Exception as error:  # onnxruntime raises classes of its own that share no base
        raise _unusable(error, where) from None

    def run(batch: Batch) -> np.ndarray:
        found: np.ndarray = ready.run(None, batch)[0]
        return found

    return run


def _by_openvino(graph: bytes, threads: int, where: str) -> Run:
    if not is_installed("openvino"):
        raise ArtifactError(
            "OpenVINO, which is to run this bundle, is not installed",
            where=where,
            do="pip install 'limbeck[openvino]', or load it with backend=\"onnxruntime\"",
        )
    with _untold():
        import openvino

    # Left to itself it takes bfloat16 where the CPU has it, and answers otherwise there.
    wanted: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    wanted |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
    core = openvino.Core()
    try:
        ready = core.compile_model(core.read_model(graph), "CPU", wanted)
    except RuntimeError as error:
        raise _unusable(error, where) from None
    idle: deque[Any] = deque()

    def run(batch: Batch) -> np.ndarray:
        # A request holds the memory of one run: each thread takes one that no other has.
        try:
            request = idle.pop()
        except IndexError:
            request = ready.create_infer_request()
        try:
            found: np.ndarray = request.infer(batch)[0]
        finally:
            idle.append(request)
        return found

    return run


@contextmanager
def _untold() -> Iterator[None]:
    """Keep OpenVINO from telling its makers, at import, that it was imported.

    Without its telemetry package it uses a stub that does nothing (`openvino.tools.ovc`, 2026.4).
    """
    name = "openvino_telemetry"
    if "openvino" in sys.modules or name in sys.modules:
        yield
        return
    hidden: Any = None
    sys.modules[name] = hidden
    try:
        yield
    finally:
        del sys.modules[name]


def _unusable(error: Exception, where: str) -> ArtifactError:
    return ArtifactError("the bundle's graph cannot be run", where=where, found=str(error)[:200])


BACKENDS: dict[str, Callable[[bytes, int, str], Run]] = {
    USUAL: _by_onnxruntime,
    "openvino": _by_openvino,
}
"""Name, which is its package's, to a function from a graph, threads and a place to what runs it."""
