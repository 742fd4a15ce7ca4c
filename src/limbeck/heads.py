"""Output layers: one label a word, one a text, a span of a text, a head and relation a word.

A head turns what a model gives into *scores*, one table a window; *answers*, rows of scores among
which one is right, are what losses compare with the gold labels or with a teacher's answers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from limbeck.architectures import architecture_of

NEVER = -1e4
"""Score of what cannot be an answer; finite, for 0 times infinity is no number."""

POOLING = "mean"
"""What stands for a word of several pieces in a parser; a model's config keeps its own. The mean is
better than the first piece by 1.2 to 1.7 LAS on English dev (results/README.md)."""

Batch = Mapping[str, Tensor]
Answers = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Head:
    """A kind of output layer.

    Args:
        model: A config to the class of models with this head.
        ending: How the class's name ends, in `architectures` of config.json.
        scores: Model, its logits and a batch to scores.
        answers: Scores, a batch and a guide's scores (or None) to named rows [N, C]. Where one
            answer hangs on another (a relation on a head), the gold one decides, else the guide's.
        gold: A batch to the right column of each of these rows, int64 [N], negative if not known.
    """

    model: Callable[[PreTrainedConfig], type]
    ending: str
    scores: Callable[[PreTrainedModel, Tensor, Batch], Tensor]
    answers: Callable[[Tensor, Batch, Tensor | None], Answers]
    gold: Callable[[Batch], Answers]


def head_logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Run a model and give its logits: [B, T, C], [B, C], or start and end [B, T, 2]."""
    return logits_in(model(**model_inputs(model, batch), return_dict=True))


def model_inputs(model: PreTrainedModel, batch: Batch) -> dict[str, Tensor]:
    """Give what of a batch the model reads: token types only where it has a table of them."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    if "token_type_ids" in batch and reads_types(model.config):
        inputs["token_type_ids"] = batch["token_type_ids"]
    return inputs


def reads_types(config: PreTrainedConfig) -> bool:
    """Tell whether a model tells texts of a pair apart by token types."""
    types = getattr(config, "type_vocab_size", 0) or 0
    return types > 1 and architecture_of(config).takes_types


def logits_in(outputs: Any) -> Tensor:
    """Give the logits of a model's outputs; start and end scores of a span side by side."""
    if "logits" in outputs:
        return outputs["logits"]  # type: ignore[no-any-return]
    return torch.stack([outputs["start_logits"], outputs["end_logits"]], dim=-1)


def _as_they_are(model: PreTrainedModel, logits: Tensor, batch: Batch) -> Tensor:
    return logits


def _word_answers(scores: Tensor, batch: Batch, guide: Tensor | None) -> Answers:
    return {"labels": scores[batch["words"] >= 0]}


def _word_gold(batch: Batch) -> Answers:
    return {"labels": batch["labels"][batch["words"] >= 0]}


def _text_answers(scores: Tensor, batch: Batch, guide: Tensor | None) -> Answers:
    return {"labels": scores}


def _text_gold(batch: Batch) -> Answers:
    return {"labels": batch["labels"][:, 0]}


def _span_answers(scores: Tensor, batch: Batch, guide: Tensor | None) -> Answers:
    allowed = batch["begin"] >= 0
    allowed[:, 0] = True
    masked = scores.float().masked_fill(~allowed[..., None], NEVER)
    return {"start": masked[..., 0], "end": masked[..., 1]}


def _span_gold(batch: Batch) -> Answers:
    return {"start": batch["start"][:, 0], "end": batch["end"][:, 0]}


def _tree_scores(model: PreTrainedModel, logits: Tensor, batch: Batch) -> Tensor:
    head: Any = model.classifier
    return head.pairs(logits, batch["firsts"], batch["lasts"])  # type: ignore[no-any-return]


def _tree_answers(scores: Tensor, batch: Batch, guide: Tensor | None) -> Answers:
    owned = batch["owned"] == 1
    arcs = _arcs(scores, batch)
    chosen = (arcs if guide is None else _arcs(guide, batch)).argmax(-1)
    at = torch.where(batch["heads"] >= 0, batch["heads"], chosen)[owned]
    relations = scores[..., 1:][owned]
    rows = torch.arange(len(at), device=at.device)
    return {"heads": arcs[owned], "relations": relations[rows, at]}


def _arcs(scores: Tensor, batch: Batch) -> Tensor:
    """Give arc scores [B, W, W + 1]; no word takes itself, and none takes padding."""
    words = batch["firsts"] >= 0
    can_be_head = torch.cat([torch.ones_like(words[:, :1]), words], dim=1)[:, None, :]
    count = words.shape[1]
    itself = torch.eye(count, count + 1, dtype=torch.bool, device=words.device).roll(1, dims=1)
    return scores[..., 0].float().masked_fill(~can_be_head | itself, NEVER)


def _tree_gold(batch: Batch) -> Answers:
    owned = batch["owned"] == 1
    return {"heads": batch["heads"][owned], "relations": batch["relations"][owned]}


class Biaffine(nn.Module):
    """Scores of every pair of words: how likely one is the other's head, and by which relation.

    Its forward pass projects the states of pieces, so that it stands where a token classifier
    stands; `pairs` scores pairs of words, the begin piece being the root.

    Args:
        width: D.
        relations: R.
        pooling: A word is its "first" piece, or the "mean" of its pieces.

    Source: Dozat and Manning 2017, section 3 (arXiv 1611.01734), with one layer, no dropout, and
    the begin piece as the root.
    """

    def __init__(self, width: int, relations: int, *, pooling: str):
        super().__init__()
        self.pooling, self.relations = pooling, relations
        self.sizes = (min(width, 256), min(width, 256), min(width, 96), min(width, 96))
        self.project = nn.Linear(width, sum(self.sizes))
        self.arc = nn.Linear(self.sizes[0], self.sizes[1])
        self.relation = nn.Linear(self.sizes[2], relations * self.sizes[3])
        self.of_dependent = nn.Linear(self.sizes[2], relations)
        self.of_head = nn.Linear(self.sizes[3], relations, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """Give projections [B, T, P] of states [B, T, D]."""
        return nn.functional.gelu(self.project(states))

    def pairs(self, projections: Tensor, firsts: Tensor, lasts: Tensor) -> Tensor:
        """Give scores [B, W, W + 1, 1 + R]: of the arc, then of each relation.

        Args:
            projections: [B, T, P].
            firsts: Place of the first piece of each word, int64 [B, W]; negative at padding.
            lasts: Place of its last piece.
        """
        words = self._words(projections, firsts.clamp(min=0), lasts.clamp(min=0))
        heads = torch.cat([projections[:, :1], words], dim=1)
        dependent, _, relation_dependent, _ = words.split(self.sizes, dim=-1)
        _, head, _, relation_head = heads.split(self.sizes, dim=-1)
        arcs = self.arc(dependent) @ head.transpose(1, 2)
        batch, count, _ = words.shape
        mixed = self.relation(relation_dependent).view(batch, count, self.relations, self.sizes[3])
        relations = torch.einsum("bwrq,bhq->bwhr", mixed, relation_head)
        relations = relations + self.of_dependent(relation_dependent)[:, :, None]
        relations = relations + self.of_head(relation_head)[:, None]
        return torch.cat([arcs[..., None], relations], dim=-1)

    def _words(self, projections: Tensor, firsts: Tensor, lasts: Tensor) -> Tensor:
        if self.pooling == "first":
            return _at(projections, firsts)
        sums = nn.functional.pad(projections.float().cumsum(1), (0, 0, 1, 0))
        count = (lasts - firsts + 1)[..., None]
        return ((_at(sums, lasts + 1) - _at(sums, firsts)) / count).to(projections.dtype)


def _at(states: Tensor, places: Tensor) -> Tensor:
    """Give the states [B, W, P] at places [B, W] of [B, T, P]."""
    return states.gather(1, places[..., None].expand(-1, -1, states.shape[-1]))


def _of(auto: Any) -> Callable[[PreTrainedConfig], type]:
    return lambda config: auto._model_mapping[type(config)]


def _span_model(config: PreTrainedConfig) -> type:
    """Give the architecture's model for questions, or its token classifier with two classes."""
    try:
        return _of(transformers.AutoModelForQuestionAnswering)(config)
    except KeyError:
        tagger = _of(transformers.AutoModelForTokenClassification)(config)
        name = tagger.__name__.replace("TokenClassification", "QuestionAnswering")
        return type(name, (tagger,), {"__module__": __name__})


def _parser(config: PreTrainedConfig) -> type:
    """Give the architecture's token classifier with `Biaffine` for its classifier."""
    tagger: Any = _of(transformers.AutoModelForTokenClassification)(config)

    def build(self: Any, config: PreTrainedConfig, **options: Any) -> None:
        tagger.__init__(self, config, **options)
        width = int(getattr(config, architecture_of(config).width))
        pooling = getattr(config, "word_pooling", POOLING)
        config.word_pooling = pooling
        self.classifier = Biaffine(width, int(config.num_labels or 0), pooling=pooling)
        self.post_init()

    name = tagger.__name__.replace("TokenClassification", "DependencyParsing")
    return type(name, (tagger,), {"__init__": build, "__module__": __name__})


HEADS: dict[str, Head] = {
    "tagging": Head(
        _of(transformers.AutoModelForTokenClassification),
        "ForTokenClassification",
        _as_they_are,
        _word_answers,
        _word_gold,
    ),
    "text": Head(
        _of(transformers.AutoModelForSequenceClassification),
        "ForSequenceClassification",
        _as_they_are,
        _text_answers,
        _text_gold,
    ),
    "span": Head(
        _span_model,
        "ForQuestionAnswering",
        _as_they_are,
        _span_answers,
        _span_gold,
    ),
    "tree": Head(_parser, "ForDependencyParsing", _tree_scores, _tree_answers, _tree_gold),
}
"""Every head by its name, which a `Task` names."""
