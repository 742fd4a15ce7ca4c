"""Language adaptation: a sparse delta by masked language modelling on one language's text.

Source: Ansell et al. 2022, Composable Sparse Fine-Tuning (ACL), section 4; Ansell et al. 2023.
"""

from pathlib import Path

from transformers import PreTrainedModel

from limbeck.blocks import PackedText, schedule
from limbeck.pretrain import masked_batches, mean_held_out, mlm_terms
from limbeck.sections import Adaptation, Machine
from limbeck.sparse import Hold
from limbeck.sparse_tuning import History, TermsOf, both, tune_with
from limbeck.training import Budget, choose_device, fit


def adapt(
    model: PreTrainedModel,
    *,
    text: PackedText,
    adaptation: Adaptation,
    seed: int,
    work: Path,
    machine: Machine,
) -> tuple[float, float]:
    """Tune a masked language model in place on one language; its head is held.

    Args:
        model: As it is loaded, with its masked language head.
        text: One language's blocks of `adaptation.block_pieces`.
        work: Folder of the trainings; ends with `sparse_tuning.DELTA`.

    Returns:
        The held-out loss before and after, in nats a masked piece.
    """
    batch = max(1, adaptation.batch_pieces // adaptation.block_pieces)
    device = choose_device(machine.device)

    def held_out(model: PreTrainedModel) -> float:
        return mean_held_out(model, text, batch=batch, masking=adaptation.masking, device=device)

    batches = masked_batches(
        lambda step: schedule(text.train, batch=batch, step=step, seed=seed).ids,
        text,
        masking=adaptation.masking,
        seed=seed,
    )
    budget = Budget(
        steps=adaptation.steps, learning_rate=adaptation.learning_rate, seed=seed, evaluations=5
    )

    def run(folder: Path, hold: Hold | None, more: TermsOf | None) -> History:
        return fit(
            model,
            batches,
            terms=both(mlm_terms, more),
            budget=budget,
            work=folder,
            machine=machine,
            judge=lambda model: -held_out(model),
            hold=hold,
            name="adapt",
        )

    before = held_out(model.eval().to(device))  # type: ignore[arg-type]
    tune_with(model, run, tuning=adaptation.tuning, work=work, seed=seed, head=False)
    return before, held_out(model)
