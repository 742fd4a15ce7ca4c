"""One teacher that speaks several languages in turn: each with its delta, and nothing drifts."""

from collections.abc import Mapping

import torch
from torch import Tensor

from limbeck.delta import SparseDelta, apply, put, take


class LanguageSwitch:
    """Puts the delta of one language at a time on a model, in place, from saved values.

    Adding and subtracting deltas would drift, since (x + d) - d is not always x in floats. Here
    the entries as they are with and without each delta are kept: a switch copies two sets of them.

    Args:
        tensors: The model's tensors by name, without any delta; on their device.
        deltas: Language to its delta.
        foreign: Allow another base than the deltas' own, such as the trimmed model.

    Raises:
        LimbeckError: A delta does not fit the model.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        deltas: Mapping[str, SparseDelta],
        *,
        foreign: bool = False,
    ):
        self._tensors = tensors
        self._with: dict[str, dict[str, tuple[Tensor, Tensor]]] = {}
        self._without: dict[str, dict[str, tuple[Tensor, Tensor]]] = {}
        self.now: str | None = None
        for language, delta in deltas.items():
            places = {
                name: part.indices.to(tensors[name].device)
                for name, part in delta.parts.items()
                if len(part)
            }
            self._without[language] = self._values(places)
            undo = apply(tensors, delta, foreign=foreign, dense=False)
            self._with[language] = self._values(places)
            undo.revert(tensors)

    def _values(self, places: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        return {name: (at, take(self._tensors[name], at)) for name, at in places.items()}

    @torch.no_grad()
    def to(self, language: str | None) -> None:
        """Put a language's delta on, and take off whatever was on; None, or one without: none."""
        wanted = language if language in self._with else None
        if wanted == self.now:
            return
        for state in (self._without.get(self.now or ""), self._with.get(wanted or "")):
            for name, (at, values) in (state or {}).items():
                put(self._tensors[name], at, values)
        self.now = wanted
