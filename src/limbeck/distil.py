"""Distillation: what each objective asks of student and teacher, in both phases.

The teacher is a signal: a function from a batch to its states and logits, without gradient.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from limbeck.blocks import Blocks, PackedText, schedule
from limbeck.encoder import LayerStates, final_norm, layer_states, states_and_logits
from limbeck.errors import RecipeError
from limbeck.finetune import exact_share, gold_term
from limbeck.heads import HEADS, Head, head_logits
from limbeck.losses import (
    Scale,
    attention_mse,
    hidden_mse,
    soft_cross_entropy,
    soft_kl,
)
from limbeck.pretrain import mean_held_out, mlm_batch, mlm_terms
from limbeck.sections import General, GeneralObjective, Machine
from limbeck.task_section import TaskObjective
from limbeck.training import Batch, Budget, Terms, choose_device, fit

TermsOf = Callable[[PreTrainedModel, Batch], Terms]


def state_terms(
    student: LayerStates,
    teacher: LayerStates,
    *,
    plan: Sequence[int],
    mask: Tensor,
    hidden: float,
    attention: float,
    scale: Scale,
    norm: torch.nn.Module | None = None,
) -> Terms:
    """Weigh the differences of states and attention maps, averaged over the student's layers.

    Args:
        student: The student's states; its embedding output is compared too.
        teacher: The teacher's states.
        plan: Teacher layer (from 1) of each student layer.
        mask: Real pieces, bool [B, T].
        hidden: Weight of the states' term; 0 leaves it out.
        attention: Weight of the maps' term; 0 leaves it out.
        norm: The teacher's final norm, applied to its target of the student's last layer where
            that is not the teacher's last.

    Source: Ansell et al. 2023, section 3.
    """
    terms: Terms = {}
    if hidden:
        targets = [teacher.hidden[layer] for layer in (0, *plan)]
        if norm is not None and plan[-1] != len(teacher.hidden) - 1:
            with torch.no_grad():
                targets[-1] = norm(targets[-1])
        errors = [
            hidden_mse(mine, target, mask, scale=scale)
            for mine, target in zip(student.hidden, targets, strict=True)
        ]
        terms["hidden"] = hidden * torch.stack(errors).mean()
    if attention:
        errors = [
            attention_mse(mine, teacher.attention[layer - 1], mask, scale=scale)
            for mine, layer in zip(student.attention, plan, strict=True)
        ]
        terms["attention"] = attention * torch.stack(errors).mean()
    return terms


def _weigh_states(
    objective: GeneralObjective | TaskObjective, teacher: PreTrainedModel, plan: Sequence[int]
) -> Callable[..., Terms]:
    """Give `state_terms` with what an objective and its teacher decide put in."""
    return partial(
        state_terms,
        plan=plan,
        hidden=objective.hidden,
        attention=objective.attention,
        scale=objective.scale,
        norm=final_norm(teacher),
    )


def general_bistil(
    objective: GeneralObjective, teacher: PreTrainedModel, plan: Sequence[int]
) -> TermsOf:
    """Phase 1 of S2: every state and attention map of the plan's layers.

    Raises:
        RecipeError: Neither term has a weight.
    """
    if not (objective.hidden or objective.attention):
        raise RecipeError(
            "phase 1 has nothing to minimise",
            where="general.objective",
            found="hidden = 0 and attention = 0",
            do="give one of them a weight, or leave phase 1 out with general.steps = 0",
        )
    weigh = _weigh_states(objective, teacher, plan)

    def terms(model: PreTrainedModel, batch: Batch) -> Terms:
        ids, mask = batch["input_ids"], batch["attention_mask"]
        maps = objective.attention > 0
        with torch.no_grad():
            target = layer_states(teacher, ids, mask, attention=maps)
        return weigh(layer_states(model, ids, mask, attention=maps), target, mask=mask.bool())

    return terms


def task_bistil(
    objective: TaskObjective, teacher: PreTrainedModel, plan: Sequence[int], head: str
) -> TermsOf:
    """Phase 2 of S2: soft labels of the tuned teacher, its states and its attention maps.

    Gold labels come in where `objective.gold` asks for them.
    """
    weigh = _weigh_states(objective, teacher, plan)

    def terms(model: PreTrainedModel, batch: Batch) -> Terms:
        ids, mask, types = (
            batch["input_ids"],
            batch["attention_mask"],
            batch.get("token_type_ids"),
        )
        maps = objective.attention > 0
        with torch.no_grad():
            target = states_and_logits(teacher, ids, mask, attention=maps, token_type_ids=types)
        found = states_and_logits(model, ids, mask, attention=maps, token_type_ids=types)
        told = _answer_terms(
            objective, HEADS[head], (model, found.logits), (teacher, target.logits), batch
        )
        return told | weigh(found.states, target.states, mask=mask.bool())

    return terms


def task_kd(
    objective: TaskObjective, teacher: PreTrainedModel, plan: Sequence[int], head: str
) -> TermsOf:
    """S1's fine-tuning distillation: softened KL to the teacher, and the gold labels."""

    def terms(model: PreTrainedModel, batch: Batch) -> Terms:
        with torch.no_grad():
            target = head_logits(teacher, batch)
        found = head_logits(model, batch)
        return _answer_terms(objective, HEADS[head], (model, found), (teacher, target), batch)

    return terms


_SOFT = {"bistil": soft_cross_entropy, "kd": soft_kl}


def _answer_terms(
    objective: TaskObjective,
    head: Head,
    student: tuple[PreTrainedModel, Tensor],
    teacher: tuple[PreTrainedModel, Tensor],
    batch: Batch,
) -> Terms:
    """Compare answers with the teacher's, each kind alike, and with the gold ones that are known.

    Args:
        head: How logits become answers.
        student: The model and its logits.
        teacher: The tuned teacher and its logits.
    """
    with torch.no_grad():
        target = head.scores(*teacher, batch)
        wanted = head.answers(target, batch, None)
    found = head.answers(head.scores(*student, batch), batch, target)
    soft = [
        _SOFT[objective.kind](found[name], wanted[name], temperature=objective.temperature)
        for name in wanted
    ]
    told = {"logits": objective.logits * torch.stack(soft).sum()}
    gold = head.gold(batch)
    if objective.gold_weight and any((one >= 0).any() for one in gold.values()):
        told["gold"] = objective.gold_weight * gold_term(found, gold)
    return told


def general_mlm(
    objective: GeneralObjective, teacher: PreTrainedModel | None, plan: Sequence[int]
) -> TermsOf:
    """Masked language modelling without a teacher: the baselines that distillation must beat.

    From scratch where the student was drawn at random, continued pretraining where it was copied.
    """
    return mlm_terms


LANGUAGE = "language"
"""Entry of a phase-1 batch: the place of its language among the sorted ones, int64 [1]."""


def _in_its_language(
    terms: TermsOf, speak: Callable[[str], None], languages: Sequence[str]
) -> TermsOf:
    """Turn the teacher to a batch's language before it is asked."""

    def turned(model: PreTrainedModel, batch: Batch) -> Terms:
        speak(languages[int(batch[LANGUAGE])])
        return terms(model, batch)

    return turned


GENERAL_OBJECTIVES: dict[str, Callable[..., TermsOf]] = {
    "bistil": general_bistil,
    "mlm": general_mlm,
}
TASK_OBJECTIVES = {"bistil": task_bistil, "kd": task_kd}
"""Kind to the function that gives its terms; `labels` needs no teacher and is not here."""


def distil_general(
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    *,
    plan: Sequence[int],
    text: PackedText,
    general: General,
    seed: int,
    work: Path,
    machine: Machine,
    speak: Callable[[str], None] | None = None,
) -> list[dict[str, float]]:
    """Phase 1: train the student in place; its best weights by held-out loss are kept.

    Args:
        teacher: Not needed by `mlm`.
        speak: Turns the teacher to the language of a batch, such as `LanguageSwitch.to`.

    Returns:
        The history, as `training.fit` gives it.
    """
    batch = max(1, general.batch_pieces // general.block_pieces)
    languages = sorted(text.train)
    terms = GENERAL_OBJECTIVES[general.objective.kind](general.objective, teacher, plan)
    if speak is not None:
        terms = _in_its_language(terms, speak, languages)
    device = choose_device(machine.device)
    if teacher is not None:
        torch.nn.Module.to(teacher, device)

    def batches(step: int) -> Batch:
        read = schedule(text.train, batch=batch, step=step, seed=seed)
        number = languages.index(read.language)
        if not general.objective.masking:
            return _batch(read.ids, number)
        draw = np.random.default_rng([seed, step, 1])
        masked = text.mask(read.ids, rng=draw, probability=general.objective.masking)
        return mlm_batch(masked) | {LANGUAGE: torch.tensor([number])}

    def judge(model: PreTrainedModel) -> float:
        if general.objective.kind == "mlm":
            masking = general.objective.masking
            return -mean_held_out(model, text, batch=batch, masking=masking, device=device)
        return -held_out_loss(model, terms, text.held_out, batch=batch, device=device)

    budget = Budget(
        steps=general.steps,
        learning_rate=general.learning_rate,
        warmup=general.warmup,
        seed=seed,
        evaluations=5,
    )
    return fit(
        student,
        batches,
        terms=terms,
        budget=budget,
        work=work,
        machine=machine,
        judge=judge,
        name="general",
    )


def _batch(ids: np.ndarray, language: int) -> Batch:
    tensor = torch.from_numpy(ids)
    return {
        "input_ids": tensor,
        "attention_mask": torch.ones_like(tensor),
        LANGUAGE: torch.tensor([language]),
    }


def held_out_loss(
    model: PreTrainedModel,
    terms: TermsOf,
    blocks: Mapping[str, Blocks],
    *,
    batch: int,
    device: torch.device,
    most: int = 64,
) -> float:
    """Give the mean loss over languages, each on its first `most` held-out blocks, unmasked."""
    losses = []
    for number, language in enumerate(sorted(blocks)):
        one = blocks[language]
        count = min(len(one), most)
        values = []
        for start in range(0, count, batch):
            ids = np.stack([one.block(i) for i in range(start, min(start + batch, count))])
            with torch.no_grad():
                found = terms(model, {k: v.to(device) for k, v in _batch(ids, number).items()})
            values.append(float(torch.stack(list(found.values())).sum()) * len(ids))
        losses.append(sum(values) / count)
    return sum(losses) / len(losses)


def weave_text(
    labelled: Callable[[int], Batch], text: Callable[[int], Batch], share: float
) -> Callable[[int], Batch]:
    """Weave unlabelled batches evenly between labelled ones, as a pure function of the step.

    Args:
        labelled: Labelled step to batch.
        text: Text step to batch.
        share: Share of text steps, from 0 to below 1; the first N steps
            hold floor(N x share) of them.
    """
    exact = exact_share(share)

    def at(step: int) -> Batch:
        before, after = int(step * exact), int((step + 1) * exact)
        return text(before) if after > before else labelled(step - before)

    return at
