"""What runs tell, as tables for a terminal."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from limbeck.budget import Configuration
    from limbeck.evaluate import Confusion
    from limbeck.offer import Offer


def scores_table(told: Mapping[str, Any], also: Mapping[str, Mapping[str, Any]] = {}) -> Table:
    """Give a run's scores, sizes and latencies, a row each system.

    Args:
        told: What `limbeck run --json` prints.
        also: Row to another run of the same task, whose student is that row.
    """
    scores = told["scores"]
    places = list(scores["student"])
    first = scores["teacher"][places[0]]
    table = Table(title=f"{told['run']}: {first['task']} {first['primary']}, 95 % interval")
    table.add_column("system")
    for head in ("parameters", "MB", "ms"):
        table.add_column(head, justify="right")
    for place in places:
        table.add_column(f"{place} (n={scores['teacher'][place]['n']})", justify="right")
    rows = [(system, system, told) for system in scores]
    last = max(place for place, system in enumerate(scores) if system.startswith("student"))
    rows[last + 1 : last + 1] = [(name, "student", other) for name, other in also.items()]
    for name, system, run in rows:
        table.add_row(name, *_cost_cells(run, system), *_score_cells(run["scores"][system]))
    kept = [told["student_against_teacher"][place]["retention"] for place in places]
    shares = [f"{100 * share:.1f} %" if share is not None else "–" for share in kept]
    table.add_row("student keeps", "", "", "", *shares)
    return table


def fidelity_text(told: Mapping[str, Any]) -> str:
    """Give how the student answers held-out text beside its teacher, a language after the other.

    Nothing where the task cannot be asked of running text.
    """
    return ", ".join(
        f"{language} {100 * one['metrics'][one['primary']]:.1f}"
        for language, one in told["fidelity"].items()
    )


def confusion_table(found: "Confusion") -> Table:
    """Give how often each gold label (row) was taken for each label (column)."""
    table = Table("gold")
    for label in found.labels:
        table.add_column(label, justify="right")
    for label, row in zip(found.labels, found.counts, strict=True):
        table.add_row(label, *map(str, row))
    return table


def _cost_cells(told: Mapping[str, Any], system: str) -> Iterator[str]:
    size, speed = told["size"].get(system), told["speed"].get(system)
    yield f"{size['total'] / 1e6:.2f} M" if size else ""
    yield f"{size['bytes'] / 1e6:.1f}" if size else ""
    yield f"{speed['p50_ms']:.1f}" if speed else ""


def _score_cells(by_place: Mapping[str, Any]) -> Iterator[str]:
    for one in by_place.values():
        low, high = one["interval"][one["primary"]]
        value = one["metrics"][one["primary"]]
        yield f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def losses_table(told: Mapping[str, Any]) -> Table:
    """Give a pretrained model's held-out loss by language, in nats."""
    table = Table()
    for language in told["held_out_loss"]:
        table.add_column(language, justify="right")
    table.add_row(*(f"{loss:.2f}" for loss in told["held_out_loss"].values()))
    return table


def retrieval_table(told: Mapping[str, Any]) -> Table | None:
    """Give the share of translations found at every layer, or nothing where none was asked for."""
    found = told["retrieval"]
    pairs = [(a, b) for a, others in found.items() for b in others if a < b]
    if not pairs:
        return None
    table = Table()
    table.add_column("layer", justify="right")
    for a, b in pairs:
        table.add_column(f"{a}-{b}", justify="right")
    there, back = [found[a][b] for a, b in pairs], [found[b][a] for a, b in pairs]
    for layer in range(len(there[0])):
        means = (50 * (x[layer] + y[layer]) for x, y in zip(there, back, strict=True))
        table.add_row(str(layer) if layer else "pieces", *(f"{mean:.1f}" for mean in means))
    return table


def offer_table(found: "Offer") -> Table:
    """Give what fits a budget and nothing beats, of each depth the most pieces, largest first.

    Below stand what misses the budget by least, where nothing fits, and the recipe as it is.
    """
    from limbeck.budget import fullest

    table = Table(box=box.SIMPLE_HEAD, title=f"students for {found.budget}")
    for head in ("layers", "neurons", "pieces", "precision", "ms", "MB", "fits", "Pareto"):
        table.add_column(head, justify="left" if head == "precision" else "right")
    table.add_column("to have it", no_wrap=True)
    for one in fullest(found.best):
        table.add_row(*_priced_cells(one), "yes", "*", "\n".join(_fields_of(one, found)))
    if found.nearest is not None:
        more = f"--budget '{found.budget.raised_for(found.nearest)}'"
        fields = "\n".join([*_fields_of(found.nearest, found), more])
        table.add_row(*_priced_cells(found.nearest), "no", "", fields)
    table.add_section()
    table.add_row(*_standing_cells(found))
    return table


def _priced_cells(one: "Configuration") -> list[str]:
    time, size = f"{one.p50_ms:.1f}", f"{one.disk_bytes / 1e6:.1f}"
    neurons = f"{100 * one.feed_forward:g} %"
    return [str(one.layers), neurons, f"{one.pieces:,}", one.precision, time, size]


def _standing_cells(found: "Offer") -> Iterator[str]:
    one = found.standing
    yield from (str(one.layers), f"{100 * one.feed_forward:g} %")
    yield "?" if one.pieces is None else f"{one.pieces:,}"
    yield from (one.precision, f"{one.p50_ms:.1f}")
    yield "?" if one.disk_bytes is None else f"{one.disk_bytes / 1e6:.1f}"
    yield "?" if one.fits is None else "yes" if one.fits else "no"
    place = (one.layers, one.feed_forward, one.pieces, one.precision)
    best = [(x.layers, x.feed_forward, x.pieces, x.precision) for x in found.best]
    yield "*" if place in best else ""
    limit = f",\nfits with {one.most_pieces:,} pieces" if one.fits is None else ""
    yield f"the recipe as it is{limit}"


def _fields_of(one: "Configuration", found: "Offer") -> Iterator[str]:
    """Give what to put behind `limbeck run RECIPE` for a student."""
    if found.standing.plan_is_listed:
        yield "--set student.plan=every"
    yield f"--set student.layers={one.layers}"
    if one.feed_forward != found.standing.feed_forward:
        yield f"--set student.feed_forward={one.feed_forward:g}"
    yield f"--set vocabulary.max_pieces={one.pieces}"
    if one.precision != found.standing.precision or not found.standing.exports:
        yield f"--set export.int8={'true' if one.precision == 'int8' else 'false'}"


def offer_lines(found: "Offer") -> Iterator[str]:
    """Give what stands below the table of an offer: what is in it, and what it is made of."""
    costs, missed = found.costs, found.nearest
    if missed is None:
        yield (
            "Of each depth, share of neurons and precision the most pieces that fit; fewer make it "
            f"smaller, not faster. --json has all {len(found.configurations)}."
        )
        if len({one.feed_forward for one in found.best}) > 1:
            yield (
                "Of two that multiply as much, the deeper and narrower one kept more of its "
                "teacher (results/narrow.md)."
            )
    else:
        yield (
            f"Nothing fits {found.budget}; the nearest is shown, and the budget that it needs. "
            f"--json has all {len(found.configurations)}."
        )
    yield (
        f"Sentence: {found.sentence.pieces} pieces, {found.sentence.source}. "
        f"States have the teacher's width, {costs.width}; its blocks have {costs.neurons} neurons."
    )
    for precision, rates in costs.rates.items():
        rate, narrow = rates.whole, rates.narrow
        yield (
            f"{precision}: a layer {rate.layer_ms:.2f} ms and {rate.layer_bytes / 1e6:.2f} MB "
            f"(with {100 * rates.narrow_share:.0f} % of the neurons {narrow.layer_ms:.2f} and "
            f"{narrow.layer_bytes / 1e6:.2f}), "
            f"the rest {rate.fixed_ms:.2f} ms and {rate.fixed_bytes / 1e6:.2f} MB without pieces"
        )
