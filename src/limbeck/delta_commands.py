"""The commands on sparse deltas: `limbeck adapt` makes a language's, `limbeck delta …` the rest."""

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.errors import ArtifactError
from limbeck.options import (
    DEFAULT_STORE,
    JsonOption,
    SetOption,
    StoreOption,
    print_json,
)

delta_app = typer.Typer(help="Sparse deltas: what tuning changed in a model, and no more.")
DeltasArgument = Annotated[
    list[Path], typer.Argument(help="Deltas of one base: files or SFT folders.")
]
ModelArgument = Annotated[Path, typer.Argument(help="A model folder.")]
NewFolderOption = Annotated[Path, typer.Option("-o", "--output", help="A new folder.")]


@delta_app.command("show")
def delta_show(
    delta: Annotated[Path, typer.Argument(help="A delta's file.")], as_json: JsonOption = False
) -> None:
    """Tell what a delta holds: entries, bytes, base, provenance, density of each tensor."""
    from limbeck.deltas import show

    told = show(delta)
    if as_json:
        print_json(told)
        return
    print(f"{told['entries']} entries, {told['bytes'] / 1e6:.2f} MB, base {told['base'][:12]}")
    for name, value in told["provenance"].items():
        print(f"{name}: {value}")
    for name, share in told["density"].items():
        print(f"{100 * share:6.2f} %  {name}")


@delta_app.command("apply")
def delta_apply(
    model: ModelArgument,
    deltas: DeltasArgument,
    output: NewFolderOption,
    foreign: Annotated[bool, typer.Option("--foreign", help="Allow another base.")] = False,
) -> None:
    """Write a model with the sum of deltas added to its weights."""
    from limbeck.deltas import put_on

    put_on(model, deltas, output, foreign=foreign)
    print(output)


@delta_app.command("revert")
def delta_revert(model: ModelArgument, deltas: DeltasArgument, output: NewFolderOption) -> None:
    """Write a model without some of the deltas that were put on it.

    Without any of them: the first weights, to the bit.
    """
    from limbeck.deltas import take_off

    take_off(model, deltas, output)
    print(output)


@delta_app.command("add")
def delta_add(
    deltas: DeltasArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="The sum's file.")],
    foreign: Annotated[bool, typer.Option("--foreign", help="Allow other bases.")] = False,
) -> None:
    """Write the sum of deltas of one base."""
    from limbeck.deltas import add_up

    print(f"{output}  {add_up(deltas, output, foreign=foreign)} entries")


def adapt(
    model: Annotated[str, typer.Argument(help="A masked language model: a folder or a hub id.")],
    language: Annotated[str, typer.Option(help="The language's code, such as yor.")],
    corpus: Annotated[str, typer.Option(help="Its text: a file or glob, as in a recipe.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The delta's file.")],
    steps: Annotated[
        int | None, typer.Option(help="Steps of each of the two trainings; 1000 if not given.")
    ] = None,
    assign: SetOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Learn a language's sparse delta from its text, by masked language modelling.

    Killed, it goes on where it was. Fields: `limbeck explain adapt`, such as `--set
    adapt.tuning.density=0.08`.
    """
    from limbeck import pipeline
    from limbeck.adapt_recipe import ADAPTING
    from limbeck.artifact import Store
    from limbeck.recipe import assign as put
    from limbeck.recipe import check_as
    from limbeck.stages.models import delta_file

    if output.exists():
        raise ArtifactError("exists already", where=str(output), do="name another file")
    values: dict[str, Any] = {
        "name": f"adapt-{language}",
        "model": model,
        "corpus": {language: corpus},
        "adapt": {} if steps is None else {"steps": steps},
    }
    for one in assign or ():
        put(values, one)
    finished = pipeline.run(check_as(ADAPTING, values, where="adapt"), Store(store))
    made = finished.artifacts["adapt"]
    output.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(made.path(delta_file(language)), output)
    losses = made.manifest.metrics["held_out_loss"][language]
    told = {
        "language": language,
        "delta": str(output),
        "entries": made.manifest.counts["entries"][language],
        "bytes": output.stat().st_size,
        "held_out_loss": losses,
        "artifact": str(made.folder),
        "seconds": made.manifest.seconds,
    }
    if as_json:
        print_json(told)
        return
    print(f"{output}  {told['entries']} entries, {told['bytes'] / 1e6:.2f} MB")
    print(f"held-out loss: {losses['before']:.3f} nats before, {losses['after']:.3f} after")
