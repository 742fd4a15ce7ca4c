"""The commands that ship a model: `limbeck export` writes a bundle."""

from pathlib import Path
from typing import Annotated

import typer

from limbeck.options import JsonOption, print_json


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
    from limbeck.bundle import trial
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
    size = sum(p.stat().st_size for p in ([output] if output.is_file() else output.iterdir()))
    print(f"{output}  {size / 1e6:.1f} MB, {found['precision']}, run by {found['backend']}")
    print(
        f"agrees with torch in {100 * found['agreement']:.2f} % on {found['sentences']} sentences; "
        f"scores differ by at most {found['largest_difference']:.2g}"
    )
    if "int8" in found:
        told = found["int8"]
        print(f"{told['metric']}: {100 * told['int8']:.2f}, in 32 bits {100 * told['fp32']:.2f}")
    for row in found.get("tried", ()):
        print(f"tried: {trial(row)}")
