"""Two runs compared on what they answered: the scores are those of their own tables."""

import json

from benchmarks.pairs import compared
from benchmarks.zero_shot import VARIANTS, run_name

from conftest import Finished
from limbeck.artifact import Store


def test_a_run_is_as_good_as_itself_and_as_its_own_table_says(finished: Finished):
    (evaluated,) = Store(finished.store).artifacts("evaluate")
    told = json.loads((evaluated.folder / "manifest.json").read_text())["metrics"]
    found = {place: both for place, *both in compared(finished.store, ["tiny", "tiny"])}
    assert set(found) == {"aaa", "bbb"}
    for place, (gold, teacher) in found.items():
        assert gold.a == gold.b == told["scores"]["student"][place]["metrics"]["accuracy"]
        assert gold.difference == teacher.difference == 0
        assert teacher.a == told["student_against_teacher"][place]["loyalty"]


def test_every_variant_has_a_run_of_its_own():
    names = {run_name("one", variant, 0) for variant in VARIANTS}
    assert len(names) == len(VARIANTS)
