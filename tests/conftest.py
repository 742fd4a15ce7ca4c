"""A tiny teacher, tiny languages and a tiny recipe: all made here, the same on every run."""

import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

# Before anything imports torch: sums in one order, whatever the machine has and does.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

LANGUAGES = ("aaa", "bbb", "ccc")
LAYERS, WIDTH, PIECES = 4, 16, 300
TAGS = ("NOUN", "VERB", "ADJ", "DET", "PUNCT")

RECIPE = """\
name = "tiny"

[languages]
source = "aaa"
targets = ["bbb"]

[teacher]
model = "{teacher}"
epochs = 1
batch_sentences = 16
learning_rate = 3e-3

[corpus]
aaa = "{data}/corpora/aaa.txt"
bbb = "{data}/corpora/bbb.txt"
filter = {{ held_out = 0.1 }}

[general]
steps = 20
batch_pieces = 128
block_pieces = 32

[task]
kind = "{task}"
benchmark = {{ name = "conll", root = "{data}/{task}" }}
epochs = 1
batch_sentences = 16
max_pieces = 48
evaluations = 2

[evaluate]
resamples = 20

[machine]
device = "cpu"
precision = "fp32"
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What a command gave: its exit code, and the lines of both streams."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder: `corpora/<lang>.txt`, and `pos` and `ner` as `<lang>/<split>.txt`."""
    root = tmp_path_factory.mktemp("data")
    for number, language in enumerate(LANGUAGES):
        words = _lexicon(random.Random(number))
        draw = random.Random(100 + number)
        _write(root / "corpora" / f"{language}.txt", (_text(words, draw) for _ in range(300)))
        for split, count in (("train", 64), ("dev", 24), ("test", 24)):
            sentences = [_sentence(words, draw) for _ in range(count)]
            for task, column in (("pos", 1), ("ner", 2)):
                blocks = (
                    "".join(f"{row[0]} {row[column]}\n" for row in sentence)
                    for sentence in sentences
                )
                _write(root / task / language / f"{split}.txt", blocks)
    return root


def _lexicon(draw: random.Random) -> dict[str, list[str]]:
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    chosen = draw.sample(syllables, 18)
    counts = {"NOUN": 30, "VERB": 20, "ADJ": 12, "DET": 3}
    return {
        tag: ["".join(draw.choices(chosen, k=draw.randint(1, 3))) for _ in range(count)]
        for tag, count in counts.items()
    }


def _sentence(words: dict[str, list[str]], draw: random.Random) -> list[tuple[str, str, str]]:
    rows = []
    for tag in draw.choice((("DET", "NOUN", "VERB"), ("DET", "ADJ", "NOUN", "VERB", "NOUN"))):
        word, entity = draw.choice(words[tag]), "O"
        if tag == "NOUN" and draw.random() < 0.5:
            word, entity = word.capitalize(), draw.choice(("B-PER", "B-LOC"))
        rows.append((word, tag, entity))
    return [*rows, (".", "PUNCT", "O")]


def _text(words: dict[str, list[str]], draw: random.Random) -> str:
    rows = [row for _ in range(draw.randint(2, 4)) for row in _sentence(words, draw)]
    return " ".join(row[0] for row in rows)


def _write(path: Path, lines: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")  # type: ignore[call-overload]


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """Give the folder of a random ModernBERT with a masked language head and a fast tokenizer."""
    import torch
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    from limbeck.encoder import quiet

    folder = tmp_path_factory.mktemp("teacher")
    pieces = _write_tokenizer(folder, tiny_data)
    config = ModernBertConfig(
        vocab_size=pieces,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        max_position_embeddings=128,
        global_attn_every_n_layers=2,
        local_attention=16,
        pad_token_id=1,
        bos_token_id=0,
        cls_token_id=0,
        eos_token_id=2,
        sep_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ModernBertForMaskedLM(config)
    with quiet():
        model.save_pretrained(folder)
    return folder


def _write_tokenizer(folder: Path, data: Path) -> int:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=PIECES, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    lines = [
        line
        for language in LANGUAGES
        for line in (data / "corpora" / f"{language}.txt").read_text().splitlines()[:60]
    ]
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    roles = {"cls": "<s>", "bos": "<s>", "sep": "</s>", "eos": "</s>", "pad": "<pad>"}
    roles |= {"unk": "<unk>", "mask": "<mask>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast"}
    config |= {f"{role}_token": token for role, token in roles.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return int(tokenizer.get_vocab_size())


@pytest.fixture(scope="session")
def recipe_text(tiny_teacher: Path, tiny_data: Path) -> Callable[..., str]:
    """Give a function from the task to the text of a recipe that runs in a few seconds."""

    def text(task: str = "pos") -> str:
        return RECIPE.format(teacher=tiny_teacher, data=tiny_data, task=task)

    return text


@pytest.fixture
def tiny_recipe(tmp_path: Path, recipe_text: Callable[..., str]) -> Path:
    """Give the path of a recipe of part-of-speech tagging that runs in a few seconds."""
    path = tmp_path / "tiny.toml"
    path.write_text(recipe_text(), encoding="utf-8")
    return path


@dataclass(frozen=True, slots=True)
class Finished:
    """A recipe that was run to its end in this process, and its store."""

    recipe: Path
    store: Path
    made: int


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, recipe_text: Callable[..., str]) -> Finished:
    """Give a finished run; a test that changes its store works on `kept_store`."""
    from limbeck import pipeline
    from limbeck.artifact import Store
    from limbeck.recipe import read_recipe

    folder = tmp_path_factory.mktemp("finished")
    recipe = folder / "tiny.toml"
    recipe.write_text(recipe_text(), encoding="utf-8")
    run = pipeline.run(read_recipe(recipe), Store(folder / "store"))
    return Finished(recipe, folder / "store", run.made)


@pytest.fixture
def kept_store(finished: Finished, tmp_path: Path) -> Path:
    """Give a copy of the finished run's store."""
    return Path(shutil.copytree(finished.store, tmp_path / "store"))


@pytest.fixture
def limbeck(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Told]:
    """Give a function that runs the command line in this process, errors told as a user sees."""
    from limbeck import cli

    def call(*args: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["limbeck", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        streams = capsys.readouterr()
        return Told(int(ended.value.code or 0), streams.out, streams.err)

    return call


@dataclass(frozen=True, slots=True)
class Started:
    """A command in a process of its own."""

    process: BaseProcess
    out: Path
    err: Path

    def wait(self) -> Told:
        """Wait until it ends."""
        self.process.join(timeout=180)
        assert self.process.exitcode is not None, "it does not end"
        return Told(self.process.exitcode, self.out.read_text(), self.err.read_text())


def start(folder: Path, *args: object, **environment: str) -> Started:
    """Start the command line in a process of its own, whose streams go to files in a folder.

    The processes are forked from one that has imported torch: to do so takes longer than to run.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["limbeck.cli", "limbeck.pipeline", "limbeck.distil"])
    streams = [Path(tempfile.mkstemp(dir=folder, suffix=name)[1]) for name in (".out", ".err")]
    given = (list(map(str, args)), *streams, environment)
    process = context.Process(target=_command, args=given)
    process.start()
    return Started(process, *streams)


def _command(arguments: list[str], out: Path, err: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        os.dup2(os.open(path, os.O_WRONLY), stream.fileno())
    from limbeck import cli

    sys.argv = ["limbeck", *arguments]
    cli.main()
