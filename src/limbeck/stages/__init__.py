"""The stages, each a file; `STAGES`, `PRETRAIN_STAGES`, `ADAPT_STAGES` are their orders.

A body imports its torch modules when it runs, so that planning needs none of them.
"""

from limbeck.adapt_recipe import AdaptRecipe
from limbeck.pretrain_recipe import PretrainRecipe
from limbeck.recipe import Recipe
from limbeck.stages import (
    adapt,
    corpus,
    evaluate,
    export,
    general,
    pretrain,
    student,
    survey,
    task,
    teacher,
    tokenizer,
    vocabulary,
)
from limbeck.stages.record import Job, Outcome, Stage, layer_plan_of

STAGES: tuple[Stage[Recipe], ...] = (
    corpus.STAGE,
    vocabulary.STAGE,
    adapt.STAGE,
    teacher.STAGE,
    student.STAGE,
    general.STAGE,
    task.STAGE,
    export.STAGE,
    evaluate.STAGE,
)

PRETRAIN_STAGES: tuple[Stage[PretrainRecipe], ...] = (
    corpus.STAGE,
    tokenizer.STAGE,
    pretrain.STAGE,
    survey.STAGE,
)
"""From corpora to a teacher."""

ADAPT_STAGES: tuple[Stage[AdaptRecipe], ...] = (corpus.STAGE, adapt.STAGE)
"""From a language's text to its delta."""

__all__ = ["ADAPT_STAGES", "PRETRAIN_STAGES", "STAGES", "Job", "Outcome", "Stage", "layer_plan_of"]
