"""How much faster and smaller a bundle is: see inference.md beside this file.

    python -m benchmarks.inference --json [--work FOLDER] [--text FILE] [--teacher M --student M]

Two benches. One of shapes, with random weights: a teacher of XLM-R base's shape, the students that
limbeck makes of it, and two well-known small multilingual models' shapes. One of a real pair: task
models of any run, or those of `limbeck quickstart`, which is run where none are named.
"""

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import UnigramTrainer
from transformers import AutoModelForTokenClassification, DistilBertConfig, XLMRobertaConfig

from limbeck.answering import ENTRY
from limbeck.artifact import key
from limbeck.encoder import quiet
from limbeck.export import make_bundle
from limbeck.gates import Gate
from limbeck.judge import load_tuned
from limbeck.plan import neurons_kept
from limbeck.quickstart import quickstart
from limbeck.race import race, texts_for, with_shares
from limbeck.sections import SIZES
from limbeck.shipping import ship
from limbeck.speed_table import speed_table
from limbeck.world import make_world

TEXT_PIECES = 8000
"""Pieces learned from the text; the rest of a vocabulary stands for other languages'."""
LINES = 4000
"""Lines from which tokenizers are learned, the sentences that are asked the first of them."""
LABELS = 17
GATE = 16

_LIKE_XLM_R = {
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}
PIECES = 30_000
"""About what two languages keep of 250,002."""


def _student(size: str = "base", **fields: int) -> XLMRobertaConfig:
    """Give what limbeck makes of XLM-R base by `student.size`, but for some fields."""
    whole = XLMRobertaConfig()
    divisor, share = SIZES[size]
    made = {
        "vocab_size": PIECES,
        "num_hidden_layers": whole.num_hidden_layers // divisor,
        "intermediate_size": neurons_kept(whole.intermediate_size, share),
    }
    return XLMRobertaConfig(**{**made, **fields}, **_LIKE_XLM_R)


SHAPES: dict[str, Any] = {
    "teacher": XLMRobertaConfig(vocab_size=250_002, **_LIKE_XLM_R),
    "student": _student("small"),
    "student-base": _student("base"),
    "student-half": _student(intermediate_size=1536),
    "student-3": _student(num_hidden_layers=3),
    "student-tiny": _student("tiny"),
    "distilmbert": DistilBertConfig(vocab_size=119_547, pad_token_id=1),
    "minilm-l12": XLMRobertaConfig(
        vocab_size=250_002, hidden_size=384, intermediate_size=1536, **_LIKE_XLM_R
    ),
}
"""XLM-R base; limbeck's students of it: 6 layers with a quarter, all and half of the neurons,
3 layers with all and with a quarter; DistilmBERT; MiniLMv2-L12-H384."""
STUDENTS = tuple(name for name in SHAPES if name.startswith("student"))
"""Those of limbeck. The first is the one for a CPU, `student.size = "small"`; what sizes cost in
quality stands in results/narrow.md."""


def make_tokenizer(texts: Sequence[str], pieces: int) -> Tokenizer:
    """Give a Unigram tokenizer of the text's pieces, filled up with pieces that no text has.

    So all systems read a sentence as the same pieces, and a vocabulary costs what its size costs.
    """
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    learned = Tokenizer(models.Unigram())
    learned.normalizer = normalizers.NFC()
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = UnigramTrainer(
        vocab_size=TEXT_PIECES, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    learned.train_from_iterator(texts, trainer)
    state = json.loads(learned.to_str())
    vocabulary = state["model"]["vocab"]
    filler = [[f"\ue000{number}", -30.0] for number in range(pieces - len(vocabulary))]
    state["model"]["vocab"] = vocabulary + filler
    made = Tokenizer.from_str(json.dumps(state))
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return made


def make_model(name: str, folder: Path, texts: Sequence[str]) -> None:
    """Write a tagger of a shape with random weights, as a task artifact's model is written."""
    config = SHAPES[name]
    config.num_labels = LABELS
    setattr(config, ENTRY, {"task": "pos", "max_pieces": 256})
    torch.manual_seed(0)
    partial = folder.with_name(f"{folder.name}.part")
    with quiet():
        AutoModelForTokenClassification.from_config(config).save_pretrained(partial)
    make_tokenizer(texts, config.vocab_size).save(str(partial / "tokenizer.json"))
    partial.rename(folder)


def shape_systems(work: Path, texts: Sequence[str]) -> dict[str, Path]:
    """Make the models and bundles of the shapes; what lies there already is taken."""
    work.mkdir(parents=True, exist_ok=True)
    systems = {}
    for name in SHAPES:
        folder = work / name
        if not folder.exists():
            make_model(name, folder, texts)
        for kind in ("fp32", "int8") if name == "student" else ("int8",):
            bundle = work / f"{name}.{kind}"
            systems[f"{name}, bundle {kind}"] = bundle
            if bundle.exists():
                continue
            model, asked = load_tuned(str(folder))
            examples = [asked.task.from_text(text, "text") for text in texts[:GATE]]
            # Answers of random weights say nothing: any fall is let through.
            make_bundle(
                model, asked, Gate(examples), folder=folder, output=bundle,
                int8=kind == "int8", tolerance=1.0,
            )  # fmt: skip
    return {
        "teacher, torch": work / "teacher",
        "student, torch": work / "student",
        **systems,
    }


def small_systems(work: Path, folders: Mapping[str, Path], texts: Sequence[str]) -> dict[str, Path]:
    """Give a run's teacher and student, and bundles of both, tried on the text."""
    lines = work / "lines.txt"
    lines.write_text("\n".join(texts), encoding="utf-8")
    systems = {f"{name}, torch": folder for name, folder in folders.items()}
    for name, kind in (("teacher", "int8"), ("student", "fp32"), ("student", "int8")):
        bundle = work / f"small.{key(str(folders[name].absolute()))[:8]}.{name}.{kind}"
        if not bundle.exists():
            # What 8 bits cost is judged by the run's own stage; here a wide gate will do.
            ship(str(folders[name]), bundle, int8=kind == "int8", tolerance=0.1, text=lines)
        systems[f"{name}, bundle {kind}"] = bundle
    return systems


def world_texts(work: Path, count: int) -> list[str]:
    """Give stretches of a generated world's text, of 4 to 64 words, short ones more often."""
    folder = work / "world"
    if not (folder / "world.json").exists():
        make_world(folder, size="small", only=("pos",))
    words = (folder / "corpora/qaa.txt").read_text(encoding="utf-8").split()
    lengths = np.exp(np.random.default_rng(0).uniform(np.log(4), np.log(65), count)).astype(int)
    ends = np.cumsum(lengths)
    return [" ".join(words[end - length : end]) for end, length in zip(ends, lengths, strict=True)]


def ratios(told: Mapping[str, Any], student: str = "student") -> dict[str, float]:
    """Give what is asked of a student's bundle: how many times better it is than each other system.

    Args:
        told: A bench.
        student: Whose bundle in 8 bits.
    """
    systems = told["systems"]
    bundle = systems[f"{student}, bundle int8"]

    def times(name: str, figure: str) -> float:
        return round(systems[name][figure] / bundle[figure], 2)

    pairs = {
        "p50_teacher_torch_over_bundle": ("teacher, torch", "p50_ms"),
        "disk_teacher_over_bundle": ("teacher, torch", "disk_bytes"),
        "memory_teacher_over_bundle": ("teacher, torch", "peak_memory_bytes"),
        "p50_teacher_int8_over_bundle": ("teacher, bundle int8", "p50_ms"),
        "p50_student_torch_over_bundle": (f"{student}, torch", "p50_ms"),
        "p50_distilmbert_shape_over_bundle": ("distilmbert, bundle int8", "p50_ms"),
        "disk_distilmbert_shape_over_bundle": ("distilmbert, bundle int8", "disk_bytes"),
        "p50_minilm_l12_shape_over_bundle": ("minilm-l12, bundle int8", "p50_ms"),
        "disk_minilm_l12_shape_over_bundle": ("minilm-l12, bundle int8", "disk_bytes"),
    }
    return {name: times(*pair) for name, pair in pairs.items() if pair[0] in systems}


def main() -> None:
    """Print the object, or the tables."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("limbeck").setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    parser.add_argument("--work", type=Path, default=Path("store/inference"), help="kept between")
    parser.add_argument("--text", type=Path, help="lines of text; a generated world's if not given")
    parser.add_argument("--sentences", type=int, default=60)
    parser.add_argument("--teacher", type=Path, help="of a finished run; else the quickstart's")
    parser.add_argument("--student", type=Path)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    learned = (
        texts_for([given.work], given.text, count=LINES)
        if given.text
        else world_texts(given.work, LINES)
    )
    texts = learned[: given.sentences]
    pair = {"teacher": given.teacher, "student": given.student}
    if (given.teacher is None) != (given.student is None):
        parser.error("--teacher and --student go together")
    if given.teacher is None:
        made = quickstart(given.work / "quickstart").run.artifacts
        pair = {"teacher": made["teacher"].path("model"), "student": made["task"].path("model")}
    shapes = {name: config.to_dict() for name, config in SHAPES.items()}
    systems = {
        "shapes": shape_systems(given.work / f"shapes.{key([learned, shapes])[:8]}", learned),
        "small": small_systems(given.work, pair, texts),
    }
    told = {name: with_shares(race(some, texts)) for name, some in systems.items()}
    found = {
        "ratios": ratios(told["shapes"]),
        "ratios_of": {name: ratios(told["shapes"], name) for name in STUDENTS},
        "small_ratios": ratios(told["small"]),
        **told,
    }
    if given.json:
        print(json.dumps(found))
        return
    console = Console(width=190)
    for name in ("shapes", "small"):
        console.print(speed_table(told[name]))
    print(json.dumps({name: found[name] for name in found if "ratios" in name}, indent=1))


if __name__ == "__main__":
    main()
