"""The commands that ship a model: `limbeck export` writes a bundle, `limbeck bench` times it."""

from pathlib import Path
from typing import Annotated

import typer

from limbeck.options import JsonOption, print_json, print_table
from limbeck.speed_table import speed_table


def export(
    model: Annotated[str, typer.Argument(help="A task model's folder or hub id.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A new folder, or a new file NAME.limbeck.")
    ],
    no_int8: Annotated[bool, typer.Option("--no-int8", help="Stay in 32 bits.")] = False,
    text: Annotated[
        Path | None, typer.Option(help="Lines as `limbeck predict` reads them, to compare on.")
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="A labelled file by which 8 bits are judged.")
    ] = None,
    language: Annotated[str, typer.Option(help="Its language.")] = "und",
    tolerance: Annotated[
        float, typer.Option(help="Points that the score may fall in 8 bits.", min=0)
    ] = 0.5,
    backend: Annotated[
        str, typer.Option(help="onnxruntime, openvino, or auto: the fastest here that passes.")
    ] = "onnxruntime",
    quantization: Annotated[
        str, typer.Option(help="Of activations: dynamic, static, or auto: as the backend likes.")
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Write a task model as a bundle, which answers without torch.

    It must answer as torch does on real sentences, and in 8 bits as well as in 32. Without --text
    it is tried on the held-out text of the store that MODEL lies in.
    """
    from limbeck.bundle import bytes_on_disk, trial
    from limbeck.shipping import ship

    found = ship(
        model,
        output,
        int8=not no_int8,
        tolerance=tolerance / 100,
        backend=backend,
        quantization=quantization,
        text=text,
        dev=dev,
        language=language,
    )
    if as_json:
        print_json({"bundle": str(output), **found})
        return
    print(
        f"{output}  {bytes_on_disk(output) / 1e6:.1f} MB, {found['precision']}, "
        f"run by {found['backend']}"
    )
    print(
        f"agrees with torch in {100 * found['agreement']:.2f} % on {found['sentences']} sentences; "
        f"scores differ by at most {found['largest_difference']:.2g}"
    )
    if "int8" in found:
        told = found["int8"]
        print(f"{told['metric']}: {100 * told['int8']:.2f}, in 32 bits {100 * told['fp32']:.2f}")
        if told["kept"]:
            print(f"kept in 32 bits: {', '.join(told['kept'])}")
    for row in found.get("tried", ()):
        print(f"tried: {trial(row)}")


def bench(
    model: Annotated[str, typer.Argument(help="A task model's folder or hub id, or a bundle.")],
    vs: Annotated[
        list[str] | None, typer.Option("--vs", help="What it is compared with; repeat it.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="Lines: text, or as `limbeck predict` reads them.")
    ] = None,
    sentences: Annotated[int, typer.Option(help="Most lines that are asked.", min=1)] = 200,
    threads: Annotated[
        list[int] | None,
        typer.Option(help="Threads; repeat it. All cores, then 1, if not given.", min=1),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="onnxruntime or openvino; repeat it: each bundle is timed by each. What it was "
            "made for, if not given."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Time models and bundles side by side: latency, throughput, start, size, memory.

    Each in a process of its own, one sentence at a time, in turn. Without --text they are asked
    the held-out text of the store that a student or its bundle among them lies in.
    """
    from limbeck.race import bench as run_bench

    told = run_bench(
        [model, *(vs or [])],
        text,
        sentences=sentences,
        threads=threads or (),
        backends=backend or (),
    )
    if as_json:
        print_json(told)
        return
    print_table(speed_table(told))
    for name, figures in told["ratio"].items():
        some = ("p50_ms", "ms_per_word", "disk_bytes", "peak_memory_bytes", "cold_start_s")
        print(f"{name}: " + ", ".join(f"{one} {figures[one]:.2f}" for one in some))
    for name, one in told.get("faster", {}).items():
        print(f"{name}: {one} answers soonest" if one else f"{name}: no backend is faster", end="")
        print(f" here (threads: {told['threads']})")
