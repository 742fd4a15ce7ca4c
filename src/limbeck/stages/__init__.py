"""The stages, each a file; `STAGES` and `PRETRAIN_STAGES` are their orders.

A body imports its torch modules when it runs, so that planning needs none of them.
"""

from limbeck.pretrain_recipe import PretrainRecipe
from limbeck.recipe import Recipe
from limbeck.stages import (
    corpus,
    evaluate,
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
    teacher.STAGE,
    student.STAGE,
    general.STAGE,
    task.STAGE,
    evaluate.STAGE,
)
"""Later ones (export, bench, report) will stand after `evaluate`."""

PRETRAIN_STAGES: tuple[Stage[PretrainRecipe], ...] = (
    corpus.STAGE,
    tokenizer.STAGE,
    pretrain.STAGE,
    survey.STAGE,
)
"""From corpora to a teacher."""

__all__ = ["PRETRAIN_STAGES", "STAGES", "Job", "Outcome", "Stage", "layer_plan_of"]
