"""What a bench tells, as a table for a terminal."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

Figures = Mapping[str, Any]

_ROWS: dict[str, Callable[[Figures], str]] = {
    "runs on": lambda one: f"{one['backend']} {one['precision']}",
    "p50, ms": lambda one: f"{one['p50_ms']:.2f}",
    "p90, ms": lambda one: f"{one['p90_ms']:.2f}",
    "p99, ms": lambda one: f"{one['p99_ms']:.2f}",
    "p50 of the rounds, ms": lambda one: (
        f"{min(one['p50_rounds_ms']):.2f} to {max(one['p50_rounds_ms']):.2f}"
    ),
    "a word, ms": lambda one: f"{one['ms_per_word']:.3f}",
    "pieces a word": lambda one: f"{one['pieces_per_word']:.2f}",
    "sentences a second": lambda one: (
        f"{one['sentences_per_second']:.1f} (batch {one['best_batch']})"
    ),
    "cold start, s": lambda one: f"{one['cold_start_s']:.2f}",
    "disk, MB": lambda one: f"{one['disk_bytes'] / 1e6:.1f}",
    "peak memory, MB": lambda one: (
        f"{one['peak_memory_bytes'] / 1e6:.0f}" if one["peak_memory_bytes"] else "unknown"
    ),
    "parameters, M": lambda one: _millions(one, "parameters"),
    "operations a word, M": lambda one: _millions(one, "flops_per_word"),
    "energy a sentence, J": lambda one: (
        "unknown" if one["joules_per_sentence"] is None else f"{one['joules_per_sentence']:.3f}"
    ),
    "of the compute ceiling": lambda one: _share(one, "compute"),
    "of the memory ceiling": lambda one: _share(one, "memory"),
}


def speed_table(told: Mapping[str, Any]) -> Table:
    """Give the figures, a row each, the systems side by side.

    Args:
        told: What `limbeck bench --json` prints.
    """
    systems = told["systems"]
    title = f"{told['sentences']} sentences, one at a time, {told['threads']} threads"
    table = Table("", title=title, caption=_caption(told))
    for name in systems:
        table.add_column(escape(name), justify="right")
    for head, cell in _ROWS.items():
        table.add_row(head, *map(cell, systems.values()))
    for head, cells in _more(list(systems.values())):
        table.add_row(head, *cells)
    return table


def _more(systems: list[Figures]) -> Iterator[tuple[str, list[str]]]:
    """Give the rows whose number hangs on what was timed: classes of length, counts of threads."""
    for words, first in systems[0]["by_words"].items():
        cells = [f"{one['by_words'][words]['p50_ms']:.2f}" for one in systems]
        yield f"p50 of {words} words (n={first['n']}), ms", cells
    for count in systems[0]["threads"]:
        some = [one["threads"][count] for one in systems]
        yield f"p50 with threads: {count}, ms", [f"{one['p50_ms']:.2f}" for one in some]
        rates = [f"{one['sentences_per_second']:.1f}" for one in some]
        yield f"sentences a second, threads: {count}", rates


def _millions(one: Figures, name: str) -> str:
    return f"{one[name] / 1e6:.2f}" if one.get(name) else ""


def _share(one: Figures, name: str) -> str:
    return f"{100 * one['share'][name]:.0f} %" if one["share"] else ""


def _caption(told: Mapping[str, Any]) -> str:
    limits = told["machine"]["ceilings"][told["threads"]]
    if not limits:
        return escape("ceilings: not measured, which takes what limbeck[train] installs")
    flops = ", ".join(
        f"{name} {limits[f'{name}_flops'] / 1e9:.0f}" for name in ("fp32", "bf16", "int8")
    )
    return f"ceilings: {flops} GFLOP/s; memory {limits['memory_bytes'] / 1e9:.0f} GB/s"
