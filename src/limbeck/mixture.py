"""Languages mixed in every batch at fixed shares, which an exponent evens out."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from limbeck.blocks import Blocks, visit


def sampling_shares(pieces: Mapping[str, int], exponent: float) -> dict[str, float]:
    """Give each language's share of a training's text: n to the power of the exponent, over all.

    Args:
        pieces: Language → n, its pieces of training text.
        exponent: 1 keeps the corpora's proportions, 0 gives every language the same.

    Source: Conneau and Lample 2019 (XLM), section 3.1; XLM-R takes 0.3.
    """
    powers = {language: float(count) ** exponent for language, count in pieces.items()}
    return {language: power / sum(powers.values()) for language, power in powers.items()}


@dataclass(frozen=True, slots=True)
class Turns:
    """In which order languages take turns, block by block, at fixed shares.

    One round of turns is laid out once, each language spread evenly over it, and repeated.

    Args:
        languages: Their codes, in the order of the shares.
        order: Language number of each turn of the round, int64 [R].
        before: How often each language had its turn earlier in the round, int64 [R].
        in_round: Turns of each language in a round, int64 [number of languages].
    """

    languages: tuple[str, ...]
    order: np.ndarray
    before: np.ndarray
    in_round: np.ndarray

    def at(self, turn: int) -> tuple[str, int]:
        """Give the language of a turn, from 0, and how often it had one before."""
        rounds, place = divmod(turn, len(self.order))
        number = int(self.order[place])
        return self.languages[number], int(rounds * self.in_round[number] + self.before[place])


def turns(shares: Mapping[str, float], *, round_turns: int = 4096) -> Turns:
    """Lay out a round of turns, in which every language has one at least.

    Args:
        shares: Language → its share; they sum to 1.
        round_turns: About how many turns a round has; a share is kept to one in so many.
    """
    languages = tuple(sorted(shares))
    in_round = np.array([max(1, round(shares[one] * round_turns)) for one in languages])
    places = [
        ((k + 0.5) / count, number) for number, count in enumerate(in_round) for k in range(count)
    ]
    order = np.array([number for _, number in sorted(places)])
    before = np.empty_like(order)
    for number, count in enumerate(in_round):
        before[order == number] = np.arange(count)
    return Turns(languages, order, before, in_round)


def mixture(
    blocks_by_language: Mapping[str, Blocks], order: Turns, *, batch: int, step: int, seed: int
) -> np.ndarray:
    """Give one step's batch of several languages: a pure function of (seed, step).

    A language visits all its blocks in a fresh order each epoch.

    Args:
        blocks_by_language: Language → its blocks, all of one length.
        order: Whose turn it is.
        batch: B, blocks in a batch.
        step: Step counted from 0.
        seed: Seed of the orders.

    Returns:
        Pieces, int64 [B, T].
    """
    rows = []
    for turn in range(step * batch, (step + 1) * batch):
        language, number = order.at(turn)
        rows.append(visit(blocks_by_language[language], language, number, seed=seed))
    return np.stack(rows)
