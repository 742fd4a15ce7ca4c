"""What limbeck knows about encoder architectures: one table, and what a config names by it.

Everything limbeck must know about an architecture stands in `ARCHITECTURES`; no other code asks
which model it has.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from transformers import PreTrainedConfig

from limbeck.errors import ModelError


@dataclass(frozen=True, slots=True)
class FirstLayer:
    """A norm that every layer but the first has, and the linear map that reads its output.

    Attributes:
        norm: The module that is missing in layer 0, named inside a layer.
        reader: The `nn.Linear` that reads it, named inside a layer.
    """

    norm: str
    reader: str


@dataclass(frozen=True, slots=True)
class FeedForward:
    """A layer's feed-forward block; modules are named inside a layer.

    Attributes:
        into: The `nn.Linear`s whose outputs are neurons, `neurons` of them or a multiple: one
            with a gate has the gates below the values.
        out: The `nn.Linear` that reads the neurons.
        neurons: Config keys of their number; a key that a config does not have is passed over.
    """

    into: tuple[str, ...]
    out: str
    neurons: tuple[str, ...] = ("intermediate_size",)


@dataclass(frozen=True, slots=True)
class Architecture:
    """What limbeck must know about one `config.model_type`.

    Module and tensor names are relative to the base encoder, except `vocabulary_outputs` and
    `mlm_head`, which are names in the masked language model. A name that a model does not have is
    passed over.

    Attributes:
        layers: The `nn.ModuleList` of layers.
        embeddings: The module that makes the embedding output.
        pieces: The tensor of piece embeddings [V, D].
        vocabulary_outputs: The tensors of the head with a vocabulary axis first, tied copies too.
        mlm_head: The modules of the masked language head in the order that the states pass them,
            named in the masked language model.
        depth: Config key of the number of layers.
        width: Config key of D.
        heads: Config key of H.
        dropouts: Config keys of every dropout.
        feed_forward: The block of each layer that has the most parameters.
        layer_lists: Config keys of lists with one entry per layer.
        positions: The position table when its rows start after the padding id, else "".
        final_norm: The norm after the last layer, else "".
        first_layer: What layer 0 lacks, if anything.
        shared: Prefixes of tensors that all layers use together.
        attention: The attention implementations there are; probabilities need "eager".
        has_pooler: Whether the bare encoder comes with a pooler that can be left out.
        takes_types: Whether it reads `token_type_ids`.
        needs_float32: Whether half precision is known to give NaN.
        rotary: Whether positions are rotations, which any length has, and not rows of a table.
    """

    layers: str
    embeddings: str
    pieces: str
    vocabulary_outputs: tuple[str, ...]
    mlm_head: tuple[str, ...]
    dropouts: tuple[str, ...]
    feed_forward: FeedForward
    depth: str = "num_hidden_layers"
    width: str = "hidden_size"
    heads: str = "num_attention_heads"
    layer_lists: tuple[str, ...] = ()
    positions: str = ""
    final_norm: str = ""
    first_layer: FirstLayer | None = None
    shared: tuple[str, ...] = ()
    attention: tuple[str, ...] = ("eager", "sdpa")
    has_pooler: bool = False
    takes_types: bool = True
    needs_float32: bool = False
    rotary: bool = False


_BERT_BLOCK = FeedForward(("intermediate.dense",), "output.dense")
_GATED_BLOCK = FeedForward(("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj")
_BERT_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
_BERT_OUTPUTS = (
    "cls.predictions.decoder.weight",
    "cls.predictions.decoder.bias",
    "cls.predictions.bias",
)
_ROBERTA = Architecture(
    layers="encoder.layer",
    embeddings="embeddings",
    pieces="embeddings.word_embeddings.weight",
    vocabulary_outputs=("lm_head.decoder.weight", "lm_head.decoder.bias", "lm_head.bias"),
    mlm_head=("lm_head",),
    dropouts=_BERT_DROPOUTS,
    feed_forward=_BERT_BLOCK,
    positions="embeddings.position_embeddings.weight",
    has_pooler=True,
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "bert": Architecture(
        layers="encoder.layer",
        embeddings="embeddings",
        pieces="embeddings.word_embeddings.weight",
        vocabulary_outputs=_BERT_OUTPUTS,
        mlm_head=("cls",),
        dropouts=_BERT_DROPOUTS,
        feed_forward=_BERT_BLOCK,
        has_pooler=True,
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "distilbert": Architecture(
        layers="transformer.layer",
        embeddings="embeddings",
        pieces="embeddings.word_embeddings.weight",
        vocabulary_outputs=("vocab_projector.weight", "vocab_projector.bias"),
        mlm_head=("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),
        dropouts=("dropout", "attention_dropout", "qa_dropout", "seq_classif_dropout"),
        feed_forward=FeedForward(("ffn.lin1",), "ffn.lin2", ("hidden_dim",)),
        depth="n_layers",
        width="dim",
        heads="n_heads",
        takes_types=False,
    ),
    "deberta-v2": Architecture(
        layers="encoder.layer",
        embeddings="embeddings",
        pieces="embeddings.word_embeddings.weight",
        vocabulary_outputs=(*_BERT_OUTPUTS, "lm_predictions.lm_head.bias"),
        mlm_head=("cls",),
        dropouts=(
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
            "pooler_dropout",
            "cls_dropout",
        ),
        feed_forward=_BERT_BLOCK,
        shared=("encoder.rel_embeddings.", "encoder.LayerNorm.", "encoder.conv."),
        attention=("eager",),
        needs_float32=True,
    ),
    "modernbert": Architecture(
        layers="layers",
        embeddings="embeddings",
        pieces="embeddings.tok_embeddings.weight",
        vocabulary_outputs=("decoder.weight", "decoder.bias"),
        mlm_head=("head", "decoder"),
        dropouts=("attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout"),
        feed_forward=FeedForward(("mlp.Wi",), "mlp.Wo"),
        layer_lists=("layer_types",),
        final_norm="final_norm",
        first_layer=FirstLayer(norm="attn_norm", reader="attn.Wqkv"),
        takes_types=False,
        rotary=True,
    ),
    "eurobert": Architecture(
        layers="layers",
        embeddings="embed_tokens",
        pieces="embed_tokens.weight",
        vocabulary_outputs=("lm_head.weight", "lm_head.bias"),
        mlm_head=("lm_head",),
        dropouts=("attention_dropout",),
        feed_forward=_GATED_BLOCK,
        final_norm="norm",
        takes_types=False,
        rotary=True,
    ),
    "gte": Architecture(
        layers="layers",
        embeddings="embeddings",
        pieces="embeddings.word_embeddings.weight",
        vocabulary_outputs=("lm_head.decoder.weight", "lm_head.decoder.bias"),
        mlm_head=("lm_head",),
        dropouts=_BERT_DROPOUTS,
        feed_forward=_GATED_BLOCK,
        rotary=True,
    ),
    "electra": Architecture(
        layers="encoder.layer",
        embeddings="embeddings",
        pieces="embeddings.word_embeddings.weight",
        vocabulary_outputs=("generator_lm_head.weight", "generator_lm_head.bias"),
        mlm_head=("generator_predictions", "generator_lm_head"),
        dropouts=(*_BERT_DROPOUTS, "summary_last_dropout"),
        feed_forward=_BERT_BLOCK,
    ),
    "nomic_bert": Architecture(
        layers="layers",
        embeddings="embeddings",
        pieces="embeddings.word_embeddings.weight",
        vocabulary_outputs=_BERT_OUTPUTS,
        mlm_head=("cls",),
        dropouts=_BERT_DROPOUTS,
        feed_forward=replace(_GATED_BLOCK, neurons=("intermediate_size", "n_inner")),
        rotary=True,
    ),
}


def architecture_of(config: PreTrainedConfig) -> Architecture:
    """Look up what is known about a config's architecture.

    Raises:
        ModelError: If `config.model_type` is not in `ARCHITECTURES`.
    """
    return known_architecture(
        str(config.model_type), where=str(getattr(config, "_name_or_path", ""))
    )


def known_architecture(model_type: str, where: str) -> Architecture:
    """Look up a `model_type`.

    Args:
        model_type: As in config.json.
        where: The model's name, for the message.

    Raises:
        ModelError: If it is not in `ARCHITECTURES`.
    """
    if model_type not in ARCHITECTURES:
        raise ModelError(
            "limbeck does not know this architecture",
            where=where,
            found=f"model_type {model_type!r}",
            expected=f"one of {', '.join(sorted(ARCHITECTURES))}",
        )
    return ARCHITECTURES[model_type]


def special_ids(config: PreTrainedConfig) -> tuple[int, ...]:
    """Give the ids of the pieces that a config names (pad, bos, …), ascending, each once.

    A trimmed vocabulary must keep them. Ids outside the vocabulary name no piece and are left
    out.
    """
    found: set[int] = set()
    for value in special_entries(config).values():
        found.update(value if isinstance(value, list) else [value])
    return tuple(sorted(piece for piece in found if 0 <= piece < config.vocab_size))


def special_entries(config: PreTrainedConfig) -> dict[str, int | list[int]]:
    """Give the `*_token_id` entries of a config that are set."""
    entries = config.to_dict().items()
    return {key: value for key, value in entries if key.endswith("_token_id") and value is not None}


def most_pieces(config: PreTrainedConfig) -> int | None:
    """Give the longest text that a model has positions for, in pieces; None where any will do."""
    architecture = architecture_of(config)
    rows = getattr(config, "max_position_embeddings", None)
    if architecture.rotary or not rows:
        return None
    taken = int(config.pad_token_id or 0) + 1 if architecture.positions else 0
    return int(rows) - taken
