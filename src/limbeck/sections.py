"""The sections of recipes: each field with its meaning, its unit, its default and the reason.

`recipe` puts them together, reads them and explains them.
"""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError


def knob(default: Any, text: str, *, unit: str = "", reason: str = "", **bounds: Any) -> Any:
    """Give a pydantic field that carries its unit and the reason of its default."""
    extra: Any = {"unit": unit, "reason": reason}
    return Field(default, description=text, json_schema_extra=extra, **bounds)


_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(pattern=_NAME)]
"""A word that may stand in the name of a file."""


def is_name(text: str) -> bool:
    """Whether a text may name a run or a language, and so stand in the name of a file."""
    return re.fullmatch(_NAME, text) is not None


class Section(BaseModel):
    """One table of a recipe: unknown keys are refused, and no value is bent into another kind."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what pydantic would bend: "5" or true for a number, 1 for true."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        wanted = set(get_args(annotation) or (annotation,)) - {type(None)}
        words = {bool: "true or false", int: "a whole number", float: "a number"}
        is_scalar = isinstance(value, bool | str | int | float) and wanted
        is_bent = isinstance(value, str) or isinstance(value, bool) != (bool in wanted)
        if is_scalar and wanted <= words.keys() and is_bent:
            expected = " or ".join(words[one] for one in words if one in wanted)
            raise PydanticCustomError("kind", "Input should be {expected}", {"expected": expected})
        return value


class Languages(Section):
    """The pair: one language with labels, one or several without."""

    source: Name = knob(..., "The language whose labels are used, as named in `corpus`.")
    targets: list[Name] = knob(
        ..., "The languages served zero-shot; their labels are only read to score.", min_length=1
    )

    @field_validator("targets")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        twice = [one for one in value if value.count(one) > 1]
        if twice:
            raise ValueError(f"'{twice[0]}' is named twice; leave one of the two out")
        return value


class Tuning(Section):
    """Which parameters a training may move, and how freely."""

    kind: Literal["full", "lt-sft", "lora"] = knob(
        "full",
        "full: all of them. lt-sft: the entries that a full tuning moves most, tuned again from "
        "the start with all others held. lora: low-rank differences of the layers' matrices, "
        "added to the weights at the end.",
        reason="the papers' baseline",
    )
    density: float = knob(
        0.08,
        "lt-sft only: share of the encoder's entries that may move; a new head always may.",
        unit="of the entries",
        reason="S2: 8 %",
        gt=0,
        le=1,
    )
    entries: int | None = knob(
        None, "lt-sft only: so many entries instead of a share.", unit="entries", gt=0
    )
    l1: float = knob(
        0.0,
        "full and lt-sft: weight of the mean distance of the encoder's entries from their start.",
        reason="S2 has it for languages alone",
        ge=0,
    )
    freeze: list[str] = knob(
        [],
        "full and lt-sft: patterns of the encoder's tensors that do not move, such as `*norm*`.",
        reason="S2 freezes norms for languages alone",
    )
    rank: int = knob(
        8, "lora only: rank of each difference.", unit="columns", reason="peft's default", gt=0
    )
    scale: float = knob(
        2.0, "lora only: what the differences are multiplied by.", reason="usual", gt=0
    )


TUNING_FIELDS = {
    "full": {"kind", "l1", "freeze"},
    "lt-sft": {"kind", "density", "entries", "l1", "freeze"},
    "lora": {"kind", "rank", "scale"},
}
"""Kind of tuning to the fields that it reads; the others change nothing."""

_LANGUAGE_TUNING = {"kind": "lt-sft", "density": 0.04, "l1": 0.1, "freeze": ["*norm*"]}


class Adaptation(Section):
    """Language adaptation: a sparse delta of the teacher for each language of the recipe.

    It is learned by masked language modelling with the head held.
    """

    deltas: dict[Name, str] = knob(
        {},
        "Language to the file of a delta that is at hand; the others' are made.",
        reason="made, unless somebody has published one",
    )
    steps: int = knob(
        1000,
        "Optimiser steps of each of the two trainings of a language.",
        unit="steps",
        reason="minutes on two cores; S2's deltas took 100,000",
        gt=0,
    )
    batch_pieces: int = knob(2048, "Pieces a step.", unit="pieces", reason="S2: 8 x 256", gt=0)
    block_pieces: int = knob(
        128, "Pieces a packed block.", unit="pieces", reason="sentences are shorter", gt=8
    )
    learning_rate: float = knob(
        3e-4,
        "Peak rate of AdamW, linear decay.",
        reason="as the tasks'; use 5e-5 (S2) from 100 M parameters on",
        gt=0,
    )
    masking: float = knob(0.15, "Share of pieces masked 80/10/10.", reason="S2", gt=0, lt=1)
    tuning: Tuning = knob(
        Tuning(**_LANGUAGE_TUNING),  # type: ignore[arg-type]
        "Which entries may move; what is left out of it is as here.",
        reason="S2: 7.67 M of mBERT's 178 M, norms frozen, L1 0.1",
    )

    @model_validator(mode="before")
    @classmethod
    def _rest_of_tuning(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("tuning"), dict):
            return {**value, "tuning": {**_LANGUAGE_TUNING, **value["tuning"]}}
        return value

    @model_validator(mode="after")
    def _sparse(self) -> "Adaptation":
        if self.tuning.kind != "lt-sft":
            raise ValueError("a language's delta is sparse: adapt.tuning.kind must be lt-sft")
        return self


class Teacher(Section):
    """The multilingual encoder, and how it is tuned on the task."""

    model: str = knob(..., "A hub id or a folder with config, safetensors and tokenizer.json.")
    allow_remote_code: bool = knob(
        False,
        "Accept a folder whose config names code of its own; transformers' class is used instead.",
        reason="code from a model folder can do anything, so it is never run",
    )
    epochs: float = knob(
        2.0,
        "Times that the task's labels are gone through.",
        unit="passes",
        reason="enough for 12,544 sentences; S2 tunes 3-10 on less",
        gt=0,
    )
    learning_rate: float = knob(
        3e-4,
        "Peak rate of AdamW, linear decay.",
        reason="right for encoders of a few million parameters, lt-sft wants up to ten times as "
        "much (results/tunings.md); use 2e-5 to 5e-5 from 100 M on",
        gt=0,
    )
    batch_sentences: int = knob(
        32, "Sentences (windows) a step.", unit="sentences", reason="S2: 8 to 32", gt=0
    )
    tuning: Tuning = knob(Tuning(), "Which parameters move.")
    delta: str | None = knob(
        None, "The file of a task's delta that is at hand: it is put on, and nothing is tuned."
    )
    foreign: bool = knob(
        False,
        "Accept deltas, this one and those of [adapt], of another base or one not known.",
        reason="a delta on a foreign base is noise",
    )


class CorpusText(Section):
    """Where one language's unlabelled text lies."""

    path: str | None = knob(None, "A file or glob: .txt, .jsonl, .parquet, each may be .gz.")
    hub: str | None = knob(None, "A hub data set, or a folder laid out like one; streamed.")
    name: str | None = knob(None, "The hub data set's configuration.")
    split: str = knob("train", "The hub data set's split.", reason="the usual name")
    column: str = knob("text", "The column that holds the text.", reason="the usual name")

    @model_validator(mode="after")
    def _one_place(self) -> "CorpusText":
        if (self.path is None) == (self.hub is None):
            raise ValueError("give either `path` or `hub`")
        return self


class Filters(Section):
    """What is not worth learning from; each dropped text is counted under its reason."""

    min_characters: int = knob(
        10,
        "Shorter texts are dropped.",
        unit="characters",
        reason="shorter lines are headings, numbers and debris",
        ge=0,
    )
    scripts: dict[str, str] = knob(
        {},
        "Language to ISO 15924 code: texts mostly in another script are dropped.",
        reason="real corpora mix scripts, so only where asked",
    )
    held_out: float = knob(
        0.01,
        "Share of texts never trained on, by hash of the text.",
        reason="enough for a held-out loss, too little to be missed",
        gt=0,
        lt=0.5,
    )


class Corpus(BaseModel):
    """Unlabelled text: one entry a language (`yor = "yor.txt"`), and `filter`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, CorpusText] = Field(init=False)
    filter: Filters = knob(Filters(), "What is dropped, and what is held out.")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            one: {"path": place} if isinstance(place, str) and one != "filter" else place
            for one, place in value.items()
        }

    @property
    def texts(self) -> dict[str, CorpusText]:
        """Language to the place of its text, in the recipe's order."""
        return dict(self.__pydantic_extra__ or {})


class Vocabulary(Section):
    """Which pieces are kept: the likely ones in any of the corpora's languages."""

    min_probability: float = knob(
        1e-6,
        "A piece is kept if its unigram probability reaches this in some language.",
        reason="S2 section 3",
        ge=0,
        lt=1,
    )
    max_pieces: int | None = knob(
        None, "At most so many pieces, the likeliest first.", unit="pieces", gt=0
    )
    keep: str | None = knob(
        None, "A file of words (one a line) whose pieces and characters are kept whatever happens."
    )


PlanName = Literal["every", "bottom", "top", "spread"]


SIZES: dict[str, tuple[int, float]] = {"base": (2, 1.0), "small": (2, 0.25), "tiny": (4, 0.25)}
"""Size to what the teacher's layers are divided by, and the share of a block's neurons that stay.
Each multiplies half as much as the one before it, in a teacher of XLM-R's proportions."""


class Student(Section):
    """The student's depth and where its weights come from."""

    size: Literal["tiny", "small", "base"] = knob(
        "base",
        "One dial: base is half of the teacher's layers; small the same with a quarter of each "
        "block's neurons, for a CPU; tiny a quarter of the layers with a quarter of the neurons.",
        reason="half the layers cost nothing measurable at our scale (results/tagging.md); deep "
        "and narrow students beat as large shallow and full ones (results/narrow.md)",
    )
    layers: int | None = knob(None, "Layers; overrides `size`.", unit="layers", gt=0)
    plan: PlanName | list[int] = knob(
        "every",
        "Which teacher layer (from 1) each student layer copies, by rule or by number.",
        reason="S2: every r-th layer, the last included",
    )
    init: Literal["teacher", "random"] = knob(
        "teacher",
        "Copy the teacher's weights, or draw them.",
        reason="copying matters more than the loss (The Privileged Students, 2024)",
    )
    feed_forward: float | None = knob(
        None,
        "Share of each feed-forward block's neurons that stay: those that add most on the corpora. "
        "If not given, what `size` says: all, or a quarter.",
        unit="share",
        reason="S1 and S2 keep all; a quarter cost at most 0.4 points on four tasks, half a point "
        "of POS with another teacher (results/narrow.md)",
        gt=0,
        le=1,
    )

    @property
    def neurons_share(self) -> float:
        """Give the share of each block's neurons that stay, the dial resolved."""
        return SIZES[self.size][1] if self.feed_forward is None else self.feed_forward


class GeneralObjective(Section):
    """What phase 1 minimises."""

    kind: Literal["bistil", "mlm"] = knob(
        "bistil",
        "bistil: hidden states and attention maps. mlm: masked language modelling, no teacher.",
        reason="S2",
    )
    hidden: float = knob(1.0, "Weight of the hidden states' term.", reason="S2", ge=0)
    attention: float = knob(
        0.0,
        "Weight of the attention maps' term; S2: 1.",
        reason="the states alone keep the score (results/tagging.md); maps not ablated yet",
        ge=0,
    )
    scale: Literal["relative", "plain"] = knob(
        "relative",
        "Divide each layer's error by the teacher's mean square (relative), or not (plain, as S2).",
        reason="plain MSE is ruled by the layers with the largest states; not ablated yet",
    )
    masking: float = knob(
        0.0,
        "Share of pieces masked 80/10/10 before both models read them; for mlm 0.15 if not given.",
        reason="the task never sees masks; S2 masks 0.15; not ablated yet",
        ge=0,
        lt=1,
    )

    @model_validator(mode="before")
    @classmethod
    def _mlm_masks(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("kind") == "mlm":
            return {"masking": 0.15, **value}
        return value

    @model_validator(mode="after")
    def _something_is_predicted(self) -> "GeneralObjective":
        if self.kind == "mlm" and not self.masking:
            raise ValueError("kind mlm predicts what is masked, and masking is 0; set it to 0.15")
        return self


GENERAL_FIELDS = {
    "bistil": {"kind", "hidden", "attention", "scale", "masking"},
    "mlm": {"kind", "masking"},
}
"""Phase-1 objective to the fields that it reads; the others change nothing."""


class General(Section):
    """Phase 1: general distillation on unlabelled text of every language of the recipe."""

    objective: GeneralObjective = knob(GeneralObjective(), "What is minimised.")
    steps: int = knob(
        800,
        "Optimiser steps; 0 leaves phase 1 out.",
        unit="steps",
        reason="minutes on two cores; S2 takes 200,000",
        ge=0,
    )
    batch_pieces: int = knob(
        1024,
        "Pieces a step.",
        unit="pieces",
        reason="at a fixed number of pieces, more and smaller steps win; S2 takes 8 x 256",
        gt=0,
    )
    block_pieces: int = knob(
        128, "Pieces a packed block.", unit="pieces", reason="sentences are shorter", gt=8
    )
    learning_rate: float = knob(
        1e-3,
        "Peak rate of AdamW, linear decay.",
        reason="right for widths below 384; S2 takes 1e-4 at 768",
        gt=0,
    )
    warmup: float = knob(0.05, "Share of the steps that warm up.", reason="usual", ge=0, lt=1)

    @model_validator(mode="after")
    def _something_is_minimised(self) -> "General":
        one = self.objective
        if self.steps and one.kind == "bistil" and not (one.hidden or one.attention):
            raise ValueError(
                "phase 1 has nothing to minimise: objective.hidden and objective.attention are 0; "
                "give one of them a weight, or leave phase 1 out with steps = 0"
            )
        return self


class Export(Section):
    """The student as a bundle that answers without torch."""

    int8: bool = knob(
        True, "Matrices and embeddings in 8 bits.", reason="half the time, a quarter of the size"
    )
    tolerance: float = knob(
        0.005,
        "Most that the dev score may fall in 8 bits, as a share; else matrices stay in 32 bits.",
        unit="of 1",
        reason="half a point",
        ge=0,
    )
    backend: Literal["onnxruntime", "openvino", "auto"] = knob(
        "onnxruntime",
        "What runs the bundle. openvino: `pip install 'limbeck[openvino]'`. auto: of what is "
        "installed here, what answers a sentence fastest here and passes its gates.",
        reason="the base install has it, and the same recipe gives the same bundle",
    )
    quantization: Literal["auto", "dynamic", "static"] = knob(
        "auto",
        "Of activations in 8 bits. dynamic: by their own range as they come. static: by ranges "
        "found on held-out text. auto: dynamic by onnxruntime, static by OpenVINO; where the "
        "backend is auto too, all that there are.",
        reason="what each backend runs fast",
    )

    @model_validator(mode="after")
    def _there_is_one(self) -> "Export":
        if self.int8 and (self.backend, self.quantization) == ("openvino", "dynamic"):
            raise ValueError("OpenVINO runs static 8 bits: export.quantization must be static")
        return self


class Machine(Section):
    """How the work is carried out; nothing here changes a result's key."""

    device: str = knob(
        "auto",
        "auto, cpu, cuda or mps; of several GPUs the first (CUDA_VISIBLE_DEVICES chooses).",
        reason="the fastest there is",
    )
    precision: Literal["auto", "fp32", "bf16"] = knob(
        "auto",
        "auto: bf16 autocast where it has its own units and the architecture bears it.",
        reason="bf16: up to 10x faster with AMX, 100x slower on a CPU without (results/machine.md)",
    )
    compile: Literal["auto", "yes", "no"] = knob(
        "auto",
        "torch.compile; auto: on an accelerator or with AMX, for runs of 1,000 steps and more.",
        reason="without AMX it gains 6-12 % and costs half a minute (results/machine.md)",
    )
    checkpoint_seconds: float = knob(
        60.0, "A killed run loses at most about so much.", unit="seconds", reason="cheap", gt=0
    )
