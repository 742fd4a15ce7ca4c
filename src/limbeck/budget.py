"""What a budget buys: students by depth, neurons, pieces and precision, priced by what parts cost.

Arithmetic only. `costs` measures the parts, `offer` puts both together for a recipe.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

from limbeck.errors import RecipeError
from limbeck.plan import neurons_kept

PRECISIONS = ("int8", "fp32")
SHARES = (1.0, 0.5, 0.25)
"""Of each block's neurons: `student.feed_forward`."""
RECORD_BYTES = 1_500
"""Of a bundle's record and card, which hardly vary."""
_SMALLEST_LADDER_PIECES = 2_000
_AMOUNT = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(ms|s|kB|MB)")
_UNITS = {"ms": 1.0, "s": 1e3, "kB": 1e3, "MB": 1e6}
_EXPECTED = "a time, a size or both, such as '20ms 30MB' (units ms, s, kB, MB)"


@dataclass(frozen=True, slots=True)
class Configuration:
    """One student and what it would cost.

    Args:
        layers: Its depth.
        feed_forward: Share of each block's neurons that it keeps.
        pieces: Its vocabulary.
        precision: Of its bundle, "int8" or "fp32".
        p50_ms: Median time of one sentence, milliseconds; without the tokenizer's.
        disk_bytes: Its bundle as a folder.
    """

    layers: int
    feed_forward: float
    pieces: int
    precision: str
    p50_ms: float
    disk_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Give the fields, ready for JSON."""
        return {**asdict(self), "p50_ms": round(self.p50_ms, 3)}


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that an answer may take and that a bundle may weigh.

    Args:
        latency_ms: Milliseconds for one sentence; None: any.
        disk_bytes: Bytes of the bundle; None: any.

    Raises:
        RecipeError: Neither is given, or one is not positive.
    """

    latency_ms: float | None = None
    disk_bytes: int | None = None

    def __post_init__(self) -> None:
        """Check that there is something to keep to."""
        given = [one for one in (self.latency_ms, self.disk_bytes) if one is not None]
        if not given or min(given) <= 0:
            raise RecipeError(
                "a budget of nothing", where="--budget", found=repr(str(self)), expected=_EXPECTED
            )

    def __str__(self) -> str:
        """Give it as it is written on the command line."""
        time = "" if self.latency_ms is None else f"{self.latency_ms:.12g}ms"
        size = "" if self.disk_bytes is None else f"{self.disk_bytes / 1e6:.12g}MB"
        return f"{time} {size}".strip()

    def excess(self, one: Configuration) -> float:
        """Give what a student costs as a multiple of the budget, the worse of time and size."""
        time = 0.0 if self.latency_ms is None else one.p50_ms / self.latency_ms
        size = 0.0 if self.disk_bytes is None else one.disk_bytes / self.disk_bytes
        return max(time, size)

    def fits(self, one: Configuration) -> bool:
        """Whether a student costs no more."""
        return self.excess(one) <= 1

    def raised_for(self, one: Configuration) -> "Budget":
        """Give the least budget, in tenths, no smaller than this one, that a student fits."""
        time, size = self.latency_ms, self.disk_bytes
        if time is not None:
            time = max(time, math.ceil(10 * one.p50_ms) / 10)
        if size is not None:
            size = max(size, 100_000 * math.ceil(one.disk_bytes / 100_000))
        return Budget(time, size)

    def to_dict(self) -> dict[str, float | int | None]:
        """Give the fields, ready for JSON."""
        return asdict(self)


def parse_budget(text: str) -> Budget:
    """Read a budget such as `20ms 30MB`: a time, a size or both, in any order.

    Args:
        text: Amounts with spaces or commas between; ms, s, kB (1,000 bytes) or MB (1,000,000).

    Raises:
        RecipeError: A part is no amount, is nothing, or there are two of one kind.
    """
    time_ms: float | None = None
    size_bytes: int | None = None
    for part in text.replace(",", " ").split():
        found = _AMOUNT.fullmatch(part)
        if found is None:
            raise _not_a_budget("this is no amount", part)
        number, unit = found.groups()
        amount = float(number) * _UNITS[unit]
        if amount == 0:
            raise _not_a_budget("nothing fits into nothing", part)
        is_time = unit in ("ms", "s")
        if (time_ms if is_time else size_bytes) is not None:
            raise _not_a_budget(f"two {'times' if is_time else 'sizes'}", text)
        if is_time:
            time_ms = amount
        else:
            size_bytes = max(1, round(amount))
    return Budget(time_ms, size_bytes)


def _not_a_budget(what: str, found: str) -> RecipeError:
    return RecipeError(
        what,
        where="--budget",
        found=repr(found),
        expected=_EXPECTED,
        do="write number and unit together",
    )


@dataclass(frozen=True, slots=True)
class Rate:
    """What the parts of a student cost in one precision.

    Args:
        fixed_ms: Of an answer, whatever the depth, less what the last layer costs less than the
            others; milliseconds.
        layer_ms: Of each layer.
        fixed_bytes: Of the graph without layers and pieces: head, positions, norms.
        layer_bytes: Of each layer.
    """

    fixed_ms: float
    layer_ms: float
    fixed_bytes: float
    layer_bytes: float


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates with all neurons and with fewer, and by these two with any share.

    Args:
        whole: With all neurons.
        narrow: With fewer.
        narrow_share: Share of the neurons that the narrow one has.
    """

    whole: Rate
    narrow: Rate
    narrow_share: float

    def at(self, share: float) -> Rate:
        """Give the rate of students with a share of the neurons: what neurons cost is linear."""
        if self.narrow_share == 1:
            return self.whole
        weight = (share - self.narrow_share) / (1 - self.narrow_share)
        pairs = zip(astuple(self.narrow), astuple(self.whole), strict=True)
        return Rate(*(few + weight * (many - few) for few, many in pairs))


@dataclass(frozen=True, slots=True)
class TokenizerSize:
    """What a tokenizer.json weighs.

    Args:
        fixed_bytes: Of everything but the pieces and their merges.
        piece_bytes: Of each piece, on average.
        source: Where both are from, in words.
    """

    fixed_bytes: float
    piece_bytes: float
    source: str


@dataclass(frozen=True, slots=True)
class Costs:
    """What students of a teacher are made of, and what each part costs.

    Args:
        layers: The teacher's, the most that a student can have.
        pieces: The teacher's.
        neurons: Of each of its feed-forward blocks.
        width: The states', which a student keeps.
        embedding_width: Of a row of the table of pieces.
        rounded_from_entries: A smaller table of pieces stays in 32 bits.
        rates: By precision.
        tokenizer: Its size.
    """

    layers: int
    pieces: int
    neurons: int
    width: int
    embedding_width: int
    rounded_from_entries: int
    rates: Mapping[str, Rates]
    tokenizer: TokenizerSize

    def configuration(
        self, layers: int, pieces: int, precision: str, *, feed_forward: float = 1.0
    ) -> Configuration:
        """Price one student."""
        rate = self.rates[precision].at(neurons_kept(self.neurons, feed_forward) / self.neurons)
        graph = rate.fixed_bytes + layers * rate.layer_bytes
        table = table_bytes(
            pieces, self.embedding_width, precision, rounded_from_entries=self.rounded_from_entries
        )
        words = self.tokenizer.fixed_bytes + pieces * self.tokenizer.piece_bytes
        return Configuration(
            layers,
            feed_forward,
            pieces,
            precision,
            rate.fixed_ms + layers * rate.layer_ms,
            round(graph + table + words) + RECORD_BYTES,
        )

    def most_pieces(
        self, layers: int, precision: str, budget: Budget, *, feed_forward: float = 1.0
    ) -> int:
        """Give how many pieces fit beside so many layers, at most the teacher's; 0: none."""

        def excess(pieces: int) -> float:
            one = self.configuration(layers, pieces, precision, feed_forward=feed_forward)
            return budget.excess(one)

        return bisect_right(range(1, self.pieces + 1), 1.0, key=excess)

    def to_dict(self) -> dict[str, Any]:
        """Give the fields, ready for JSON."""
        return asdict(self)


def table_bytes(pieces: int, width: int, precision: str, *, rounded_from_entries: int) -> int:
    """Give the size of a table of pieces: in 8 bits, each row has a scale of 4 bytes."""
    is_rounded = precision == "int8" and pieces * width >= rounded_from_entries
    return pieces * (width + 4 if is_rounded else 4 * width)


def vocabulary_sizes(teacher_pieces: int, wanted: int | None = None) -> tuple[int, ...]:
    """Give the vocabularies on offer, ascending: 2,000 doubled up to the teacher's, and `wanted`.

    Args:
        teacher_pieces: The teacher's vocabulary.
        wanted: The recipe's `vocabulary.max_pieces`.
    """
    found = {teacher_pieces, min(wanted or teacher_pieces, teacher_pieces)}
    size = _SMALLEST_LADDER_PIECES
    while size < teacher_pieces:
        found.add(size)
        size *= 2
    return tuple(sorted(found))


def configurations(
    costs: Costs, sizes: Sequence[int], shares: Sequence[float] = SHARES
) -> tuple[Configuration, ...]:
    """Price every student of these vocabularies and shares of neurons: each depth, each precision.

    The deepest come first, then those with the most neurons, then those with the most pieces.
    """
    return tuple(
        costs.configuration(layers, pieces, precision, feed_forward=share)
        for layers in range(costs.layers, 0, -1)
        for share in sorted(shares, reverse=True)
        for pieces in sorted(sizes, reverse=True)
        for precision in PRECISIONS
    )


def pareto(offered: Sequence[Configuration]) -> tuple[Configuration, ...]:
    """Give those that no other beats by being as good in all ways and better in one.

    Depth, neurons and pieces stand for quality, for more of each is never worse; 8 bits are taken
    to be as good as 32, which the gate of `limbeck export` sees to.
    """
    return tuple(one for one in offered if not any(_beats(other, one) for other in offered))


def _beats(one: Configuration, other: Configuration) -> bool:
    gains = (
        one.layers - other.layers,
        one.feed_forward - other.feed_forward,
        one.pieces - other.pieces,
        other.p50_ms - one.p50_ms,
        other.disk_bytes - one.disk_bytes,
    )
    return min(gains) >= 0 and max(gains) > 0


def fullest(offered: Sequence[Configuration]) -> tuple[Configuration, ...]:
    """Give of each depth, share of neurons and precision the one with the most pieces.

    They stay in the order given. Fewer pieces make a student smaller, and no faster.
    """
    most: dict[tuple[int, float, str], Configuration] = {}
    for one in offered:
        place = (one.layers, one.feed_forward, one.precision)
        if one.pieces > most.setdefault(place, one).pieces:
            most[place] = one
    return tuple(most.values())


def nearest(offered: Sequence[Configuration], budget: Budget) -> Configuration:
    """Give the one that misses a budget by the smallest factor; of several the first.

    Args:
        offered: At least one.
        budget: What none of them fits.
    """
    return min(offered, key=budget.excess)
