"""The command line: parse, call, print. Nothing here imports torch."""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from limbeck import __version__
from limbeck.bundle_commands import bench, export
from limbeck.delta_commands import adapt, delta_app
from limbeck.errors import ArtifactError, DataError, LimbeckError, ModelError, RecipeError
from limbeck.options import (
    DEFAULT_STORE,
    JsonOption,
    RecipeArgument,
    SetOption,
    StoreOption,
    print_json,
    print_table,
)
from limbeck.plan_commands import plan
from limbeck.tables import (
    confusion_table,
    fidelity_text,
    losses_table,
    retrieval_table,
    scores_table,
)

app = typer.Typer(
    help="Distil a multilingual encoder into a small, fast model for one language and task.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

TASK_NAMES = "ner, pos, parsing, nli, paraphrase, topics, sentiment or qa."


@app.command()
def quickstart(
    store: StoreOption = DEFAULT_STORE,
    output: Annotated[Path, typer.Option("-o", "--output", help="The HTML report.")] = Path(
        "quickstart.html"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the world and of every training.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show the whole path on a generated world: offline, minutes on two cores."""
    from limbeck import quickstart as shown
    from limbeck.report import check_output, write_report

    check_output(output)
    done = shown.quickstart(store, seed=seed)
    write_report(done.run.name, store, output)
    told = {
        **done.run.to_dict(),
        "baselines": {row: one.to_dict() for row, one in done.baselines.items()},
    }
    told |= {"seconds_now": round(done.seconds, 1), "report": str(output)}
    if as_json:
        print_json(told)
        return
    print_table(scores_table(told, also=told["baselines"]))
    print("fidelity, answers on unlabelled text beside the teacher's:")
    for row, one in {"student": told, **told["baselines"]}.items():
        print(f"  {row}: {fidelity_text(one)}")
    if done.made == 0:
        print("Everything was done already; nothing ran.")
    print(f"{done.seconds:.0f} seconds; report: {output}")


@app.command()
def run(
    recipe: RecipeArgument,
    assign: SetOption = None,
    store: StoreOption = DEFAULT_STORE,
    name: Annotated[str | None, typer.Option("--name", help="The run's name.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Carry out a recipe; whatever is done already is not done again."""
    from limbeck import pipeline
    from limbeck.artifact import Store
    from limbeck.recipe import read_recipe

    finished = pipeline.run(read_recipe(recipe, assign or ()), Store(store), name=name)
    if as_json:
        print_json(finished.to_dict())
        return
    print_table(scores_table(finished.to_dict()))
    fidelity = fidelity_text(finished.to_dict())
    if fidelity:
        print(f"fidelity (student against teacher on unlabelled text): {fidelity}")
    if finished.made == 0:
        print("Everything was done already; nothing ran.")


@app.command()
def pretrain(
    recipe: Annotated[
        str, typer.Argument(help="A recipe of pretraining: a file, or a shipped one's name.")
    ],
    assign: SetOption = None,
    store: StoreOption = DEFAULT_STORE,
    name: Annotated[str | None, typer.Option("--name", help="The run's name.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to copy the model to.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a masked language model on corpora: a teacher of your own languages."""
    from limbeck import pipeline, processes
    from limbeck.artifact import Store, check_new_folder, copy_folder
    from limbeck.pretrain_recipe import read_pretrain_recipe

    wanted = read_pretrain_recipe(recipe, assign or ())
    if output is not None and processes.rank() == 0:
        check_new_folder(output)
    finished = pipeline.run(wanted, Store(store), name=name)
    if processes.rank() > 0:
        return
    model = finished.artifacts["pretrain"].path("model")
    if output is not None:
        copy_folder(model, output)
    told = {**finished.to_dict(), "model": str(output or model)}
    if as_json:
        print_json(told)
        return
    millions = told["size"]["total"] / 1e6
    print(f"{told['run']}: {millions:.2f} M parameters, held-out loss in nats")
    print_table(losses_table(told))
    retrieval = retrieval_table(told)
    if retrieval is not None:
        print("translations found by cosine, %, mean of both directions")
        print_table(retrieval)
    print(f"model: {told['model']}")
    if finished.made == 0:
        print("Everything was done already; nothing ran.")


app.command()(plan)


@app.command()
def status(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List the runs and artifacts of a store."""
    from limbeck.artifact import Store

    if not (store / "store.json").exists():
        raise ArtifactError("no such store", where=str(store), do="name one with --store")
    artifacts: list[dict[str, Any]] = [
        {
            "folder": one.folder.name,
            "stage": one.stage,
            "done": one.manifest is not None,
            "problem": one.problem or None,
            "seconds": one.manifest.seconds if one.manifest else None,
            "bytes": sum(p.stat().st_size for p in one.folder.rglob("*") if p.is_file()),
        }
        for one in Store(store).artifacts()
    ]
    runs = sorted(path.stem for path in (store / "runs").glob("*.json"))
    if as_json:
        print_json({"runs": runs, "artifacts": artifacts})
        return
    for one in artifacts:
        state = "damaged" if one["problem"] else "unfinished"
        took = f"{one['seconds']:.0f} s" if one["done"] else state
        print(f"{one['folder']:<28} {took:>10} {one['bytes'] / 1e6:>9.1f} MB")
    print("runs: " + (", ".join(runs) or "none"))


@app.command()
def explain(
    field: Annotated[
        str,
        typer.Argument(help="A dotted field, a section, `recipe`, `pretrain`, `benchmarks`."),
    ],
) -> None:
    """Tell what a recipe's field means, its unit, its default and why."""
    if field == "benchmarks":
        from limbeck.benchmarks import BENCHMARKS

        for one in BENCHMARKS.values():
            print(f"{one.name}: {one.citation}. Licence {one.licence}. {' '.join(one.languages)}")
        return
    from limbeck.pretrain_recipe import PRETRAINING
    from limbeck.recipe import DISTILLATION
    from limbeck.recipe import explain as explain_field

    is_pretraining = field.partition(".")[0] == PRETRAINING.name
    for line in explain_field(field, PRETRAINING if is_pretraining else DISTILLATION):
        print(line)


@app.command()
def recipes() -> None:
    """List the recipes that come with limbeck, and after them those of `limbeck pretrain`."""
    from limbeck.pretrain_recipe import PRETRAINING
    from limbeck.recipe import shipped_recipes

    for name in shipped_recipes():
        print(name)
    for name in shipped_recipes(PRETRAINING):
        print(f"{name}  (limbeck pretrain)")


@app.command()
def trim(
    model: Annotated[str, typer.Argument(help="A model folder or hub id.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the trimmed model.")],
    corpus: Annotated[
        list[str],
        typer.Option("--corpus", metavar="LANG=FILE", help="Text of a language; repeat it."),
    ],
    min_probability: Annotated[float, typer.Option(help="Keep pieces at least so likely.")] = 1e-6,
    max_pieces: Annotated[int | None, typer.Option(help="Keep at most so many pieces.")] = None,
    keep: Annotated[Path | None, typer.Option(help="File of words to keep, one a line.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Trim a model's vocabulary to some languages, and certify the result after reload.

    Exit code 1 if a check fails.
    """
    from limbeck.certify import trim_and_certify

    certificate = trim_and_certify(
        model,
        output,
        corpora=_corpora(corpus),
        min_probability=min_probability,
        max_pieces=max_pieces,
        keep=keep,
    )
    if as_json:
        print_json(certificate.to_dict())
    else:
        for line in certificate.lines():
            print(line)
    if not certificate.holds:
        raise typer.Exit(1)


def _corpora(given: list[str]) -> dict[str, str]:
    found = {}
    for one in given:
        language, sign, file = one.partition("=")
        if not sign or not language or not file:
            raise RecipeError("not LANG=FILE", where=f"--corpus {one}", expected="yor=yor.txt")
        found[language] = file
    return found


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A task model's folder, a hub id or a bundle.")],
    task: Annotated[str, typer.Option(help=TASK_NAMES)],
    file: Annotated[Path, typer.Option(help="A labelled file, as the task's benchmarks have it.")],
    language: Annotated[str, typer.Option(help="Its language, for the record.")] = "und",
    as_json: JsonOption = False,
) -> None:
    """Score a task model on one labelled file, with a 95 % interval."""
    from limbeck.judge import evaluate_file

    scores = evaluate_file(model, task=task, file=file, language=language)
    if as_json:
        print_json(scores.to_dict())
        return
    for metric, value in scores.metrics.items():
        low, high = scores.interval[metric]
        print(f"{metric:<12} {100 * value:6.2f}  [{100 * low:.2f}, {100 * high:.2f}]")
    if scores.confusion:
        print_table(confusion_table(scores.confusion))
    print(f"n = {scores.n}")


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="A task model's folder, a hub id or a bundle.")],
    file: Annotated[Path, typer.Argument(help="Lines of text or JSON; - for stdin.")] = Path("-"),
    task: Annotated[
        str | None, typer.Option(help="Its task, where the model does not say.")
    ] = None,
    conllu: Annotated[
        bool, typer.Option("--conllu", help="Print a parser's trees as CoNLL-U.")
    ] = False,
    n_best: Annotated[
        int, typer.Option(min=0, help="Tell so many answers to a question, best first.")
    ] = 0,
) -> None:
    """Answer lines: one line of JSON for each. Of stdin each at once, of a file many together.

    Text, `{"text": …}` or `{"words": […]}`; pairs of texts with a tab between, or `{"text": …,
    "pair": …}`; questions as `{"question": …, "context": …}`.
    """
    from limbeck.asking import as_conllu
    from limbeck.judge import answer_lines, load_task_model

    loaded = load_task_model(model, task=task)
    if conllu and loaded.task.head != "tree":
        raise ModelError(
            "only a parser's answers are trees", where="--conllu", found=loaded.task.name
        )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # data, whatever the terminal's locale
    with _lines(file) as lines:
        batch = 1 if str(file) == "-" else 64
        answers = answer_lines(loaded, lines, source=str(file), batch=batch, n_best=n_best)
        for number, answer in enumerate(answers, start=1):
            print(as_conllu(answer, number) if conllu else answer, flush=True)


@contextmanager
def _lines(file: Path) -> Iterator[Iterator[str]]:
    """Give the lines of a file or of stdin; only a line feed ends one."""
    from limbeck.asking import decoded

    if str(file) != "-" and not file.is_file():
        raise DataError("no such file", where=str(file))
    with contextlib.ExitStack() as stack:
        binary = sys.stdin.buffer if str(file) == "-" else stack.enter_context(file.open("rb"))
        yield (decoded(line, f"{file}:{n}") for n, line in enumerate(binary, start=1))


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="A run's name, from `limbeck status`.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The HTML file.")] = Path(
        "report.html"
    ),
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write a finished run as one HTML page: scores, sizes, curves, mistakes, recipe."""
    from limbeck.report import write_report

    write_report(run, store, output)
    print(f"{output}  {output.stat().st_size / 1e3:.0f} kB")


app.command()(export)
app.command()(bench)
app.command()(adapt)
app.add_typer(delta_app, name="delta")


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Tell what this machine has: packages, cores, memory, devices, number formats."""
    from limbeck.doctor import facts

    found = facts()
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{one} {told}" for one, told in value.items()) or "none"
        print(f"{name:<14} {value}")


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Run the command line: exit 0 done, 2 a mistake of the user's, 1 anything else.

    A mistake is one line, `limbeck: …`, and the last on stderr; the lines before it, of what was
    under way, start with the time.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    logging.basicConfig(
        level=logging.WARNING,
        stream=sys.stderr,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
    )
    # Of several processes the first alone tells what is under way.
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING
    logging.getLogger("limbeck").setLevel(level)
    try:
        code = app(prog_name="limbeck", standalone_mode=False)
    except LimbeckError as error:
        _end(str(error))
    except _UsageError as error:
        where = error.ctx.command_path if error.ctx else "limbeck"
        _end(f"{error.format_message().rstrip('.')}; see `{where} --help`")
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in _TRAIN_PACKAGES:
            raise
        _end(f"this needs {package}; pip install 'limbeck[train]'")
    sys.exit(code if isinstance(code, int) else 0)


def _end(message: str) -> NoReturn:
    print("limbeck: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)


# The parser's own word for a mistake on the command line, whichever click typer brings.
_UsageError: Any = typer.BadParameter.__bases__[0]
_TRAIN_PACKAGES = (
    "torch", "transformers", "accelerate", "datasets", "safetensors", "pyarrow", "peft",
    "onnx", "onnxscript",
    "matplotlib", "jinja2",
)  # fmt: skip


if __name__ == "__main__":
    main()
