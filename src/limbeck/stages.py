"""What each stage reads and makes: the literal table `STAGES` and the bodies in its order.

A body imports its torch modules when it runs, so that planning needs none of them.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from limbeck import blocks, corpus, vocabulary
from limbeck.artifact import Artifact, file_hash, write_json
from limbeck.benchmarks import Examples, check_labels, divide, find_benchmark, load
from limbeck.errors import DataError, RecipeError
from limbeck.evaluate import Scores, compare, loyalty, majority, score
from limbeck.hub import content_hashes, depth, model_folder, read_config, width
from limbeck.recipe import Recipe
from limbeck.tasks import TASKS
from limbeck.tasks.tagging import TaggedSentence, special_pieces
from limbeck.tokenizer import PieceMap, load_tokenizer, trim_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Job:
    """What a stage's body is given: the recipe, its folder, and its finished inputs."""

    recipe: Recipe
    folder: Path
    inputs: Mapping[str, Artifact]

    @property
    def work(self) -> Path:
        """Folder of whatever a killed run resumes from."""
        return self.folder / "work"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage tells about its work: counts of things, measured numbers."""

    counts: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stage:
    """One step from recipe to scores.

    Args:
        name: Its name, and the start of its artifacts' folders.
        version: Raised when the body's result changes for the same inputs.
        inputs: Names of earlier stages whose artifacts it reads.
        section: The recipe's fields that decide its result.
        outside: Label to hash of every file from outside that decides its result.
        run: The body.
    """

    name: str
    version: int
    inputs: tuple[str, ...]
    section: Callable[[Recipe], dict[str, Any]]
    outside: Callable[[Recipe], dict[str, str]]
    run: Callable[[Job], Outcome]


def layer_plan_of(recipe: Recipe) -> tuple[int, ...]:
    """Give the recipe's layer plan, resolved against its teacher's depth.

    Raises:
        RecipeError: More layers than the teacher has, or a plan out of order.
    """
    from limbeck.plan import layer_plan

    layers = depth(read_config(model_folder(recipe.teacher.model)))
    wanted = recipe.student
    if not isinstance(wanted.plan, str):
        return layer_plan(layers, plan=wanted.plan)
    share = {"base": 2, "small": 4, "tiny": 8}[wanted.size]
    return layer_plan(layers, wanted.layers or max(1, layers // share), plan=wanted.plan)


# corpus


def _corpus_section(recipe: Recipe) -> dict[str, Any]:
    texts = {
        one: recipe.corpus.texts[one].model_dump(exclude={"path"}) for one in _languages(recipe)
    }
    return {"texts": texts, "filter": recipe.corpus.filter.model_dump()}


def _languages(recipe: Recipe) -> list[str]:
    return list(dict.fromkeys([recipe.languages.source, *recipe.languages.targets]))


def _corpus_files(recipe: Recipe) -> dict[str, str]:
    found = {}
    for language in _languages(recipe):
        path = recipe.corpus.texts[language].path
        if path is None:
            continue
        files = sorted(glob(path, recursive=True))
        if not files:
            raise DataError("no such file", where=f"corpus.{language}", found=path)
        for number, file in enumerate(files):
            found[f"{language}/{number}"] = file_hash(Path(file))
    return found


def _run_corpus(job: Job) -> Outcome:
    filters = job.recipe.corpus.filter
    texts = job.recipe.corpus.texts
    counts = corpus.prepare(
        {
            one: corpus.CorpusSource(**texts[one].model_dump(exclude_none=True))
            for one in _languages(job.recipe)
        },
        job.folder,
        held_out_fraction=filters.held_out,
        min_characters=filters.min_characters,
        scripts=filters.scripts,
    )
    return Outcome(counts={one: asdict(counted) for one, counted in counts.items()})


# vocabulary


def _vocabulary_files(recipe: Recipe) -> dict[str, str]:
    hashes = content_hashes(model_folder(recipe.teacher.model))
    found = {"tokenizer.json": hashes.get("tokenizer.json", "")}
    if recipe.vocabulary.keep:
        found["keep"] = file_hash(Path(recipe.vocabulary.keep))
    return found


def _run_vocabulary(job: Job) -> Outcome:
    recipe, texts = job.recipe, job.inputs["corpus"]
    folder = model_folder(recipe.teacher.model)
    tokenizer = load_tokenizer(folder)
    counts = {
        one: vocabulary.count(tokenizer, corpus.read_texts(texts.path(f"{one}.train.txt")))
        for one in _languages(recipe)
    }
    keep = recipe.vocabulary.keep
    kept = vocabulary.choose(
        counts,
        tokenizer,
        min_probability=recipe.vocabulary.min_probability,
        max_pieces=recipe.vocabulary.max_pieces,
        keep=Path(keep).read_text(encoding="utf-8").split() if keep else (),
    )
    piece_map = trim_tokenizer(folder, kept, job.folder / "tokenizer")
    piece_map.save(job.folder / "pieces.npz")
    trimmed = load_tokenizer(job.folder / "tokenizer")
    begin, end = _ends(trimmed)
    packed = {}
    for one in _languages(recipe):
        for part in ("train", "heldout"):
            target = job.folder / "blocks" / f"{one}.{part}"
            target.parent.mkdir(exist_ok=True)
            lines = corpus.read_texts(texts.path(f"{one}.{part}.txt"))
            told = blocks.pack(lines, trimmed, target, begin=begin, end=end)
            packed[f"{one}.{part}"] = told.pieces
    report = vocabulary.report(
        tokenizer,
        trimmed,
        piece_map=piece_map,
        texts={
            one: corpus.read_texts(texts.path(f"{one}.heldout.txt")) for one in _languages(recipe)
        },
        width=width(read_config(folder)),
    )
    sizes = {"pieces_before": piece_map.old_size, "pieces_kept": len(piece_map)}
    return Outcome(
        counts={**sizes, "packed_pieces": packed}, metrics={"report": report.as_dict()}
    )


def _ends(tokenizer: Tokenizer) -> tuple[int, int]:
    """Give the pieces that the tokenizer puts before and after a text."""
    special = special_pieces(tokenizer)
    if not special.begin or not special.end:
        raise DataError("the tokenizer adds no begin and end pieces", found=str(special))
    return special.begin[0], special.end[-1]


# teacher


def _teacher_section(recipe: Recipe) -> dict[str, Any]:
    return {
        "tuning": recipe.teacher.model_dump(exclude={"model", "allow_remote_code"}),
        **_labels_section(recipe),
        "seed": recipe.seed,
    }


def _labels_section(recipe: Recipe) -> dict[str, Any]:
    task = recipe.task
    return {
        "kind": task.kind,
        "benchmark": task.benchmark.model_dump(exclude={"root"}),
        "language": recipe.train_language,
        "max_pieces": task.max_pieces,
        "evaluations": task.evaluations,
    }


def _teacher_files(recipe: Recipe) -> dict[str, str]:
    benchmark = recipe.task.benchmark
    splits = [benchmark.train_split, benchmark.dev_split]
    return content_hashes(model_folder(recipe.teacher.model)) | _benchmark_files(
        recipe, {recipe.train_language: [one for one in splits if one]}
    )


def _benchmark_files(recipe: Recipe, wanted: Mapping[str, list[str]]) -> dict[str, str]:
    root = Path(recipe.task.benchmark.root)
    return {
        f"{language}/{path.name}": file_hash(path)
        for language, splits in wanted.items()
        for path in sorted((root / language).glob("*"))
        if path.is_file() and path.name.partition(".")[0] in splits
    }


def _read(recipe: Recipe, language: str, split: str) -> Examples:
    chosen = recipe.task.benchmark
    return load(
        find_benchmark(chosen.name),
        root=chosen.root,
        language=language,
        split=split,
        labels=chosen.labels,
        task=recipe.task.kind,
    )


@dataclass(frozen=True, slots=True)
class _Labelled:
    train: tuple[TaggedSentence, ...]
    dev: tuple[TaggedSentence, ...]
    labels: tuple[str, ...]
    notes: dict[str, Any]


def _read_labelled(recipe: Recipe) -> _Labelled:
    """Read the source's labels to train on and to select by."""
    chosen, language = recipe.task.benchmark, recipe.train_language
    read = _read(recipe, language, chosen.train_split)
    check_labels(recipe.task.kind, read)
    train, dev = read.examples, ()
    if chosen.dev_split:
        held_out = _read(recipe, language, chosen.dev_split)
        check_labels(recipe.task.kind, held_out)
        dev = held_out.examples
    else:
        train, dev = divide(train, fraction=0.1)
    return _Labelled(train, dev, read.labels, _told(read))


def _run_teacher(job: Job) -> Outcome:
    from limbeck.encoder import load_encoder
    from limbeck.finetune import tune

    recipe, folder = job.recipe, model_folder(job.recipe.teacher.model)
    data = _read_labelled(recipe)
    model = load_encoder(
        folder,
        head="tagging",
        attention="sdpa",
        labels=data.labels,
        allow_remote_code=recipe.teacher.allow_remote_code,
        seed=recipe.seed,
    )
    history = tune(
        model,
        load_tokenizer(folder),
        task=TASKS[recipe.task.kind],
        train=data.train,
        dev=data.dev,
        labels=data.labels,
        epochs=recipe.teacher.epochs,
        batch_sentences=recipe.teacher.batch_sentences,
        learning_rate=recipe.teacher.learning_rate,
        max_pieces=recipe.task.max_pieces,
        evaluations=recipe.task.evaluations,
        seed=recipe.seed,
        work=job.work,
        machine=recipe.machine,
        name="teacher",
    )
    _save_model(model, job.folder / "model", tokenizer_from=folder)
    counts = {
        "train": len(data.train),
        "dev": len(data.dev),
        "notes": data.notes,
    }
    return Outcome(counts=counts, metrics=_keep_history(job, history))


def _told(data: Examples) -> dict[str, Any]:
    return {reason: asdict(note) for reason, note in data.notes.items()}


def _save_model(model: "PreTrainedModel", folder: Path, *, tokenizer_from: Path) -> None:
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (tokenizer_from / name).exists():
            shutil.copyfile(tokenizer_from / name, folder / name)


def _keep_history(job: Job, history: list[dict[str, float]]) -> dict[str, Any]:
    lines = "".join(json.dumps(row) + "\n" for row in history)
    (job.folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    judged = [row["judged"] for row in history if "judged" in row]
    return {"dev": max(judged)} if judged else {}


# student


def _student_section(recipe: Recipe) -> dict[str, Any]:
    random = recipe.student.init == "random"
    return {
        "plan": list(layer_plan_of(recipe)),
        "init": recipe.student.init,
        **({"seed": recipe.seed} if random else {}),
    }


def _model_files(recipe: Recipe) -> dict[str, str]:
    return content_hashes(model_folder(recipe.teacher.model))


def _trimmed_teacher(job: Job, *, attention: str) -> "PreTrainedModel":
    from limbeck.encoder import load_encoder
    from limbeck.student import trim_model

    kept = PieceMap.load(job.inputs["vocabulary"].path("pieces.npz")).kept
    model = load_encoder(
        model_folder(job.recipe.teacher.model),
        head="mlm",
        attention=attention,
        allow_remote_code=job.recipe.teacher.allow_remote_code,
    )
    return trim_model(model, kept)


def _run_student(job: Job) -> Outcome:
    from limbeck.encoder import count_parameters
    from limbeck.student import build_student

    recipe = job.recipe
    teacher = _trimmed_teacher(job, attention="sdpa")
    plan = layer_plan_of(recipe)
    student = build_student(teacher, plan, init=recipe.student.init, seed=recipe.seed)
    tokenizer = job.inputs["vocabulary"].path("tokenizer")
    _save_model(student.model, job.folder / "model", tokenizer_from=tokenizer)
    write_json(job.folder / "origin.json", student.origin)
    return Outcome(
        counts={
            "plan": list(plan),
            "trimmed_teacher": count_parameters(teacher),
            "student": count_parameters(student.model),
        }
    )


# general


def _general_section(recipe: Recipe) -> dict[str, Any]:
    if recipe.general.steps == 0:
        return {"steps": 0}
    return {**recipe.general.model_dump(), "seed": recipe.seed}


def _run_general(job: Job) -> Outcome:
    from limbeck.distil import GeneralText, distil_general
    from limbeck.encoder import load_encoder

    recipe, folder = job.recipe, job.inputs["student"].path("model")
    if recipe.general.steps == 0:
        shutil.copytree(folder, job.folder / "model", dirs_exist_ok=True)
        return Outcome()
    attention = "eager" if recipe.general.objective.attention else "sdpa"
    tokenizer = load_tokenizer(folder)
    begin, _ = _ends(tokenizer)
    packed = job.inputs["vocabulary"].path("blocks")

    def part(name: str) -> dict[str, blocks.Blocks]:
        return {
            one: blocks.Blocks(
                packed / f"{one}.{name}", length=recipe.general.block_pieces, begin=begin
            )
            for one in _languages(recipe)
        }

    student = load_encoder(folder, head="mlm", attention=attention)
    special = sorted(tokenizer.get_added_tokens_decoder())
    history = distil_general(
        student,
        _trimmed_teacher(job, attention=attention),
        plan=layer_plan_of(recipe),
        text=GeneralText(
            train=part("train"),
            held_out=part("heldout"),
            mask_id=_mask_id(folder, tokenizer),
            special=np.array(special),
            vocabulary_size=tokenizer.get_vocab_size(),
        ),
        general=recipe.general,
        seed=recipe.seed,
        work=job.work,
        machine=recipe.machine,
    )
    _save_model(student, job.folder / "model", tokenizer_from=folder)
    kept = _keep_history(job, history)
    return Outcome(metrics={"held_out_loss": -kept["dev"]})


def _mask_id(folder: Path, tokenizer: Tokenizer) -> int:
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    mask = config.get("mask_token")
    name = mask.get("content") if isinstance(mask, dict) else mask
    found = tokenizer.token_to_id(name) if name else None
    return -1 if found is None else found


# task


def _task_section(recipe: Recipe) -> dict[str, Any]:
    return {**_labels_section(recipe), **recipe.task.model_dump(exclude={"benchmark"})} | {
        "plan": list(layer_plan_of(recipe)),
        "seed": recipe.seed,
    }


def _task_files(recipe: Recipe) -> dict[str, str]:
    splits = [recipe.task.benchmark.train_split, recipe.task.benchmark.dev_split]
    return _benchmark_files(recipe, {recipe.train_language: [one for one in splits if one]})


def _run_task(job: Job) -> Outcome:
    from limbeck.distil import TASK_OBJECTIVES
    from limbeck.encoder import load_encoder
    from limbeck.finetune import label_terms, tune
    from limbeck.student import copy_head
    from limbeck.training import choose_device

    recipe, objective = job.recipe, job.recipe.task.objective
    data = _read_labelled(recipe)
    maps = objective.kind == "bistil" and objective.attention > 0
    attention = "eager" if maps else "sdpa"
    student = load_encoder(
        job.inputs["general"].path("model"),
        head="tagging",
        attention=attention,
        labels=data.labels,
        seed=recipe.seed,
    )
    tokenizer = load_tokenizer(job.inputs["vocabulary"].path("tokenizer"))
    teacher = _trimmed_tuned_teacher(job, attention=attention)
    terms = label_terms
    if objective.kind != "labels":
        teacher.to(choose_device(recipe.machine.device))
        terms = TASK_OBJECTIVES[objective.kind](objective, teacher, layer_plan_of(recipe))
        if recipe.task.head == "teacher":
            copy_head(teacher, student)
    history = tune(
        student,
        tokenizer,
        task=TASKS[recipe.task.kind],
        train=data.train,
        dev=data.dev,
        labels=data.labels,
        epochs=recipe.task.epochs,
        batch_sentences=recipe.task.batch_sentences,
        learning_rate=recipe.task.learning_rate,
        max_pieces=recipe.task.max_pieces,
        evaluations=recipe.task.evaluations,
        seed=recipe.seed,
        work=job.work,
        machine=recipe.machine,
        terms=terms,
        mix=_text_mix(job, tokenizer, student.config.pad_token_id or 0),
        text_share=objective.text,
        name="task",
    )
    _save_model(
        student, job.folder / "model", tokenizer_from=job.inputs["vocabulary"].path("tokenizer")
    )
    return Outcome(metrics=_keep_history(job, history))


def _trimmed_tuned_teacher(job: Job, *, attention: str) -> "PreTrainedModel":
    from limbeck.encoder import load_encoder
    from limbeck.student import trim_model

    kept = PieceMap.load(job.inputs["vocabulary"].path("pieces.npz")).kept
    model = load_encoder(
        job.inputs["teacher"].path("model"), head="tagging", attention=attention
    )
    return trim_model(model, kept)


def _text_mix(job: Job, tokenizer: Tokenizer, pad_id: int) -> Callable[..., Any] | None:
    """Give the weaver of the targets' unlabelled text, or nothing where none is asked for."""
    from limbeck.distil import weave_text
    from limbeck.finetune import window_batches

    task, seed = job.recipe.task, job.recipe.seed
    if not task.objective.text:
        return None
    if task.objective.kind == "labels":
        raise RecipeError(
            "unlabelled text needs a teacher",
            where="task.objective.text",
            do="set task.objective.kind to bistil or kd, or text to 0",
        )
    sentences = []
    for language in job.recipe.languages.targets:
        path = job.inputs["corpus"].path(f"{language}.train.txt")
        for text in _sample(corpus.read_texts(path), count=20_000, seed=seed):
            words = tuple(corpus.words_of(text))
            sentences.append(TaggedSentence(words=words, labels=(), where=str(path)))
    windows = TASKS[task.kind].encode(sentences, tokenizer, None, max_pieces=task.max_pieces)
    text = window_batches(windows, batch=task.batch_sentences, seed=seed, pad_id=pad_id)
    return lambda labelled: weave_text(labelled, text, task.objective.text)


def _sample(texts: Iterator[str], *, count: int, seed: int) -> list[str]:
    """Give at most `count` texts, each as likely as any other (reservoir sampling)."""
    draw = np.random.default_rng(seed)
    chosen: list[str] = []
    for seen, text in enumerate(texts):
        if seen < count:
            chosen.append(text)
        elif (place := int(draw.integers(seen + 1))) < count:
            chosen[place] = text
    return chosen


# evaluate


def _evaluate_section(recipe: Recipe) -> dict[str, Any]:
    return {
        **recipe.evaluate.model_dump(),
        **_labels_section(recipe),
        "targets": recipe.languages.targets,
    }


def _evaluate_files(recipe: Recipe) -> dict[str, str]:
    languages = dict.fromkeys([recipe.train_language, *recipe.languages.targets])
    return _benchmark_files(recipe, {one: recipe.evaluate.splits for one in languages})


def _run_evaluate(job: Job) -> Outcome:
    from limbeck.encoder import count_parameters, load_encoder, model_bytes

    recipe = job.recipe
    trimmed = load_tokenizer(job.inputs["vocabulary"].path("tokenizer"))
    full = load_tokenizer(job.inputs["teacher"].path("model"))
    teacher = load_encoder(job.inputs["teacher"].path("model"), head="tagging", attention="sdpa")
    student = load_encoder(job.inputs["task"].path("model"), head="tagging", attention="sdpa")
    systems = {
        "teacher": (teacher, full),
        "trimmed teacher": (_trimmed_tuned_teacher(job, attention="sdpa"), trimmed),
        "student": (student, trimmed),
    }
    train = _read_labelled(recipe).train
    scores: dict[str, dict[str, Any]] = {name: {} for name in (*systems, "majority label")}
    against: dict[str, Any] = {}
    notes: dict[str, Any] = {}
    for place, data in _test_sets(recipe):
        found = _predictions(recipe, systems, data)
        found["majority label"] = majority(train, data.examples)
        task = TASKS[recipe.task.kind]
        for name, predictions in found.items():
            told = score(
                task,
                data.examples,
                predictions,
                language=place,
                resamples=recipe.evaluate.resamples,
            )
            scores[name][place] = told.to_dict()
        _write_predictions(job.folder / f"predictions.{place}.jsonl", data, found)
        difference = compare(
            task, data.examples, found["student"], found["teacher"],
            resamples=recipe.evaluate.resamples,
        )
        against[place] = {
            **difference.to_dict(),
            "retention": _retention(scores, place),
            "loyalty": loyalty(task, found["student"], found["teacher"]),
        }
        notes[place] = _told(data)
    size = {
        name: {**count_parameters(model), "bytes": model_bytes(model)}
        for name, (model, _) in systems.items()
    }
    return Outcome(
        counts={"notes": notes},
        metrics={"scores": scores, "student_against_teacher": against, "size": size},
    )


def _test_sets(recipe: Recipe) -> Iterator[tuple[str, Examples]]:
    for language in dict.fromkeys([recipe.train_language, *recipe.languages.targets]):
        for split in recipe.evaluate.splits:
            place = language if len(recipe.evaluate.splits) == 1 else f"{language}.{split}"
            yield place, _read(recipe, language, split)


def _predictions(recipe: Recipe, systems: Mapping[str, Any], data: Examples) -> dict[str, Any]:
    from limbeck.finetune import predict
    from limbeck.training import choose_device

    return {
        name: predict(
            model,
            tokenizer,
            task=TASKS[recipe.task.kind],
            sentences=data.examples,
            labels=[model.config.id2label[i] for i in range(model.config.num_labels)],
            max_pieces=recipe.task.max_pieces,
            device=choose_device(recipe.machine.device),
        )
        for name, (model, tokenizer) in systems.items()
    }


def _retention(scores: Mapping[str, Mapping[str, Any]], place: str) -> float | None:
    student, teacher = (Scores.from_dict(scores[one][place]) for one in ("student", "teacher"))
    base = teacher.metrics[teacher.primary]
    return student.metrics[student.primary] / base if base else None


def _write_predictions(path: Path, data: Examples, found: Mapping[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for i, example in enumerate(data.examples):
            row = {"where": example.where, "words": example.words, "gold": example.labels}
            row |= {name: predictions[i] for name, predictions in found.items()}
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


STAGES: tuple[Stage, ...] = (
    Stage("corpus", 1, (), _corpus_section, _corpus_files, _run_corpus),
    Stage(
        "vocabulary",
        1,
        ("corpus",),
        lambda recipe: recipe.vocabulary.model_dump(exclude={"keep"}),
        _vocabulary_files,
        _run_vocabulary,
    ),
    Stage("teacher", 1, (), _teacher_section, _teacher_files, _run_teacher),
    Stage("student", 1, ("vocabulary",), _student_section, _model_files, _run_student),
    Stage("general", 1, ("vocabulary", "student"), _general_section, _model_files, _run_general),
    Stage(
        "task",
        1,
        ("corpus", "vocabulary", "teacher", "general"),
        _task_section,
        _task_files,
        _run_task,
    ),
    Stage(
        "evaluate",
        1,
        ("vocabulary", "teacher", "task"),
        _evaluate_section,
        _evaluate_files,
        _run_evaluate,
    ),
)
"""The stages in their order; later ones (export, bench, report) stand after `evaluate`."""


@lru_cache(maxsize=1)
def stage_names() -> tuple[str, ...]:
    """Names of the stages, in their order."""
    return tuple(stage.name for stage in STAGES)
