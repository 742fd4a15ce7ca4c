import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from limbeck.errors import ModelError
from limbeck.tasks.windows import cut, owners, special_pieces
from test_tagging import TOKENIZERS


@pytest.mark.parametrize("make", TOKENIZERS.values(), ids=TOKENIZERS)
def test_special_pieces_are_those_of_the_post_processor(make):
    tokenizer = make()
    specials = special_pieces(tokenizer)
    inner = tokenizer.encode("ab", add_special_tokens=False).ids
    assert tokenizer.encode("ab").ids == [*specials.begin, *inner, *specials.end]
    assert len(specials.begin) + len(specials.end) == tokenizer.num_special_tokens_to_add(False)


@given(length=st.integers(1, 60), room=st.integers(1, 20), stride=st.integers(0, 19))
def test_each_position_is_owned_by_the_run_with_most_context(length, room, stride):
    stride = min(stride, room - 1)
    runs = cut(length, room=room, stride=stride)
    owner = owners(np.arange(length), runs, length=length)

    def context(position, run):
        left = length if run.start == 0 else position - run.start
        right = length if run.stop == length else run.stop - 1 - position
        return min(left, right) if position in run else -1

    for position in range(length):
        best = max(context(position, run) for run in runs)
        assert context(position, runs[owner[position]]) == best >= 0


def test_neighbouring_runs_share_the_stride():
    runs = cut(25, room=10, stride=4)
    assert runs == [range(0, 10), range(6, 16), range(12, 22), range(15, 25)]


def test_a_tokenizer_that_knows_no_letter_is_refused():
    tokenizer = Tokenizer(models.BPE())
    with pytest.raises(ModelError, match="no piece in any Latin letter"):
        special_pieces(tokenizer)
