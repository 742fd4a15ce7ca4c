"""Stage student: the trimmed, shallower model as it is before any training."""

from typing import Any

from limbeck.artifact import write_json
from limbeck.hub import content_hashes, model_folder
from limbeck.recipe import Recipe
from limbeck.stages.models import save_model, trimmed_teacher
from limbeck.stages.record import Job, Outcome, Stage, layer_plan_of


def _section(recipe: Recipe) -> dict[str, Any]:
    random = recipe.student.init == "random"
    return {
        "plan": list(layer_plan_of(recipe)),
        "init": recipe.student.init,
        **({"seed": recipe.seed} if random else {}),
    }


def _outside(recipe: Recipe) -> dict[str, str]:
    return content_hashes(model_folder(recipe.teacher.model))


def _run(job: Job) -> Outcome:
    from limbeck.parameters import count_parameters
    from limbeck.student import build_student

    recipe = job.recipe
    teacher = trimmed_teacher(job, attention="sdpa")
    plan = layer_plan_of(recipe)
    student = build_student(teacher, plan, init=recipe.student.init, seed=recipe.seed)
    tokenizer = job.inputs["vocabulary"].path("tokenizer")
    save_model(student.model, job.folder / "model", tokenizer_from=tokenizer)
    write_json(job.folder / "origin.json", student.origin)
    return Outcome(
        counts={
            "plan": list(plan),
            "trimmed_teacher": count_parameters(teacher),
            "student": count_parameters(student.model),
        }
    )


STAGE = Stage("student", 1, ("vocabulary",), _section, _outside, _run)
