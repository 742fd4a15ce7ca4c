"""What `limbeck adapt` carries out: languages' deltas of one model, from their text."""

from pydantic import model_validator

from limbeck.recipe import Kind
from limbeck.sections import Adaptation, Corpus, Machine, Name, Section, knob


class AdaptRecipe(Section):
    """Language adaptation alone, without a task."""

    name: Name = knob(..., "The run's name: letters, digits, dot, dash, underscore.")
    seed: int = knob(0, "Seed of everything that is drawn.", reason="any", ge=0)
    model: str = knob(..., "A hub id or a folder with config, safetensors and tokenizer.json.")
    corpus: Corpus
    adapt: Adaptation = Adaptation()
    machine: Machine = Machine()

    @model_validator(mode="after")
    def _something_to_read(self) -> "AdaptRecipe":
        if not self.corpus.texts:
            raise ValueError("[corpus] names no text; add a language, such as yor = 'yor.txt'")
        return self


ADAPTING = Kind(AdaptRecipe, "adapting")
"""The recipe that `limbeck adapt` makes of its options."""
