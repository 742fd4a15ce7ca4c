"""The stages from recipe to scores, each a file; `STAGES` is their order.

A body imports its torch modules when it runs, so that planning needs none of them.
"""

from limbeck.stages import corpus, evaluate, general, student, task, teacher, vocabulary
from limbeck.stages.record import Job, Outcome, Stage, layer_plan_of

STAGES: tuple[Stage, ...] = (
    corpus.STAGE,
    vocabulary.STAGE,
    teacher.STAGE,
    student.STAGE,
    general.STAGE,
    task.STAGE,
    evaluate.STAGE,
)
"""Later ones (export, bench, report) will stand after `evaluate`."""

__all__ = ["STAGES", "Job", "Outcome", "Stage", "layer_plan_of"]
