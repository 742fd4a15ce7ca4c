"""One teacher that speaks several languages in turn: each with its delta, and nothing drifts."""

from collections.abc import Mapping

import torch
from torch import Tensor

from limbeck.delta import SparseDelta, apply, check_fit, put, take
from limbeck.errors import ModelError


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
            check_fit(tensors, delta.parts, {})
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
        """Put a language's delta on, and take off whatever was on; None: no delta.

        Raises:
            ModelError: There is no delta of this language.
        """
        if language is not None and language not in self._with:
            raise ModelError(
                "there is no delta of this language",
                found=repr(language),
                expected=", ".join(self._with),
            )
        if language == self.now:
            return
        off = self._without[self.now] if self.now is not None else {}
        on = self._with[language] if language is not None else {}
        for name, (at, values) in (*off.items(), *on.items()):
            put(self._tensors[name], at, values)
        self.now = language

    def speaks(self, language: str) -> bool:
        """Whether there is a delta of this language."""
        return language in self._with
