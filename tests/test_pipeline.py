"""A run makes what is missing, once, whoever runs it, and ends the same however often killed."""

import json
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Finished, start
from limbeck import pipeline
from limbeck.artifact import Store, file_hash, let_read
from limbeck.errors import DataError, RecipeError
from limbeck.recipe import read_recipe
from limbeck.stages import general

ALL = ("corpus", "vocabulary", "teacher", "student", "general", "task", "evaluate")
PHASES = ("general", "task", "evaluate")
LABELS = ("teacher", "task", "evaluate")
NOT_TEACHER = tuple(stage for stage in ALL if stage != "teacher")


def waiting(recipe: Path, store: Path, *overrides: str) -> tuple[str, ...]:
    """Give the stages that a recipe would make."""
    planned = pipeline.plan(read_recipe(recipe, overrides), Store(store))
    return tuple(one.stage.name for one in planned if not one.is_done)


def contents(store: Path) -> dict[str, str]:
    """Give every artifact's files with their hashes; none that tells a time."""
    return {
        str(path.relative_to(store)): file_hash(path)
        for path in sorted(store.rglob("*"))
        if path.is_file()
        and path.suffix in (".txt", ".safetensors", ".npz", ".bin", ".jsonl")
        # it tells the speed
        and path.name != "metrics.jsonl"
    }


def test_a_run_tells_where_everything_is(finished: Finished):
    told = json.loads((finished.store / "runs" / "tiny.json").read_text())
    assert tuple(told["artifacts"]) == tuple(told["keys"]) == ALL
    assert told["format"] == 1 and finished.made == 7 and told["recipe"]["general"]["steps"] == 20
    for stage, folder in told["artifacts"].items():
        assert Path(folder).name == f"{stage}-{told['keys'][stage][:12]}"
        assert not (Path(folder) / "work").exists()


def test_a_second_run_makes_nothing_and_touches_no_artifact(finished: Finished):
    before = {path: path.stat().st_mtime_ns for path in finished.store.glob("*-*/**/*")}
    again = pipeline.run(read_recipe(finished.recipe), Store(finished.store))
    assert again.made == 0 and tuple(again.artifacts) == ALL
    assert {path: path.stat().st_mtime_ns for path in finished.store.glob("*-*/**/*")} == before


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("name=other", ()),
        ("machine.device=auto", ()),
        ("machine.precision=bf16", ()),
        ("machine.compile=yes", ()),
        ("machine.checkpoint_seconds=1", ()),
        ("student.plan=[2, 4]", ()),
        ("student.layers=2", ()),
        ("student.size=base", ()),
        ("evaluate.resamples=30", ("evaluate",)),
        ('evaluate.splits=["dev", "test"]', ("evaluate",)),
        ("task.epochs=2", ("task", "evaluate")),
        ("task.head=random", ("task", "evaluate")),
        ("task.objective.kind=kd", ("task", "evaluate")),
        ("task.max_pieces=64", LABELS),
        ("teacher.epochs=2", LABELS),
        ("general.steps=21", PHASES),
        ("general.objective.hidden=0.5", PHASES),
        ("student.layers=1", ("student", *PHASES)),
        ("student.feed_forward=1.0", ()),
        ("student.feed_forward=0.5", ("student", *PHASES)),
        ("student.size=small", ("student", *PHASES)),
        ("student.plan=top", ("student", *PHASES)),
        ("student.init=random", ("student", *PHASES)),
        ("seed=1", ("teacher", *PHASES)),
        ("vocabulary.max_pieces=150", ("vocabulary", "student", *PHASES)),
        ("corpus.filter.min_characters=20", NOT_TEACHER),
        ('languages.targets=["aaa"]', NOT_TEACHER),
    ],
)
def test_a_field_remakes_the_stages_that_depend_on_it(
    finished: Finished, override: str, expected: tuple[str, ...]
):
    assert waiting(finished.recipe, finished.store, override) == expected


def test_another_task_remakes_nothing_before_it(finished: Finished, tiny_data: Path):
    overrides = ("task.kind=ner", f"task.benchmark.root={tiny_data / 'ner'}")
    assert waiting(finished.recipe, finished.store, *overrides) == LABELS


def test_a_plan_names_the_field_that_differs(finished: Finished):
    recipe = read_recipe(finished.recipe, ["general.steps=21"])
    planned = {one.stage.name: one for one in pipeline.plan(recipe, Store(finished.store))}
    assert planned["general"].differs == ("section.steps",)
    assert planned["task"].differs == ("inputs.general",)
    assert planned["teacher"].differs == ()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("corpora/bbb.txt", NOT_TEACHER),
        ("corpora/ccc.txt", ()),
        ("pos/aaa/train.txt", LABELS),
        ("pos/aaa/dev.txt", LABELS),
        ("pos/aaa/test.txt", ("evaluate",)),
        ("pos/bbb/test.txt", ("evaluate",)),
        ("pos/bbb/train.txt", ()),
        ("ner/aaa/train.txt", ()),
    ],
)
def test_a_changed_file_remakes_the_stages_that_read_it_and_a_moved_one_none(
    finished: Finished, tiny_data: Path, tmp_path: Path, name: str, expected: tuple[str, ...]
):
    moved = shutil.copytree(tiny_data, tmp_path / "data")
    recipe = tmp_path / "r.toml"
    recipe.write_text(finished.recipe.read_text().replace(str(tiny_data), str(moved)))
    assert waiting(recipe, finished.store) == ()
    first, _, rest = (moved / name).read_text().partition("\n")
    (moved / name).write_text(f"{first.upper()}\n{rest}" if "corpora" in name else f"{rest}\n")
    assert waiting(recipe, finished.store) == expected


def test_changed_labels_are_seen_under_every_name_that_is_read(
    finished: Finished, tiny_data: Path, tmp_path: Path
):
    root = Path(shutil.copytree(tiny_data, tmp_path / "data")) / "pos"
    renamed = root / "aaa" / "aa_made-ud-dev.iob2"
    (root / "aaa" / "dev.txt").rename(renamed)
    setting = f"task.benchmark.root={root}"
    before = pipeline.plan(read_recipe(finished.recipe, [setting]), Store(finished.store))
    renamed.write_text(renamed.read_text().partition("\n")[2])
    after = pipeline.plan(read_recipe(finished.recipe, [setting]), Store(finished.store))
    pairs = zip(before, after, strict=True)
    changed = [one.stage.name for one, two in pairs if one.manifest.key != two.manifest.key]
    assert changed == list(LABELS)


def test_changed_weights_remake_what_reads_them_and_moved_ones_nothing(
    finished: Finished, tiny_teacher: Path, tmp_path: Path
):
    moved = Path(shutil.copytree(tiny_teacher, tmp_path / "teacher"))
    assert waiting(finished.recipe, finished.store, f"teacher.model={moved}") == ()
    tensors = (moved / "model.safetensors").read_bytes()
    (moved / "model.safetensors").write_bytes(tensors[:-1] + bytes([tensors[-1] ^ 1]))
    remade = ("teacher", "student", *PHASES)
    assert waiting(finished.recipe, finished.store, f"teacher.model={moved}") == remade


def test_two_tasks_share_phase_one(kept_store: Path, tmp_path: Path, recipe_text):
    recipe = tmp_path / "ner.toml"
    recipe.write_text(recipe_text("ner"))
    both = pipeline.run(read_recipe(recipe), Store(kept_store), name="ner")
    assert both.made == 3
    first = json.loads((kept_store / "runs" / "tiny.json").read_text())
    second = json.loads((kept_store / "runs" / "ner.json").read_text())
    shared = [stage for stage in ALL if first["keys"][stage] == second["keys"][stage]]
    assert shared == ["corpus", "vocabulary", "student", "general"]
    assert second["scores"]["student"]["bbb"]["primary"] == "f1"


def test_whoever_may_read_a_new_file_may_read_an_artifact(finished: Finished, tmp_path: Path):
    fresh = tmp_path / "fresh"
    fresh.touch()
    files = [path for path in finished.store.glob("*-*/**/*") if path.is_file()]
    assert {path.stat().st_mode for path in files} == {fresh.stat().st_mode}
    fresh.chmod(0o600)
    kept = tmp_path / "kept"
    kept.touch(0o640)
    kept.chmod(0o640)
    let_read([fresh, kept, tmp_path])
    assert fresh.stat().st_mode == files[0].stat().st_mode
    assert kept.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("init", ["teacher", "random"])
def test_a_narrower_student_is_made_by_its_recipe(finished: Finished, kept_store: Path, init: str):
    # The teacher has few positions, so its neurons are asked by blocks no longer than phase 1's.
    recipe = read_recipe(finished.recipe, ["student.feed_forward=0.5", f"student.init={init}"])
    made = pipeline.run(recipe, Store(kept_store), until="student").artifacts["student"]
    count = json.loads((made.path("model") / "config.json").read_text())["intermediate_size"]
    origins = json.loads(made.path("origin.json").read_text()).values()
    assert any(one.endswith(f"{count} of {2 * count} neurons") for one in origins)


@pytest.mark.parametrize(
    ("size", "layers", "share"), [("base", 2, 1.0), ("small", 2, 0.25), ("tiny", 1, 0.25)]
)
def test_a_size_is_a_depth_and_a_share_of_the_neurons(
    finished: Finished, size: str, layers: int, share: float
):
    def key(*fields: str) -> str:
        recipe = read_recipe(finished.recipe, [f"student.{field}" for field in fields])
        planned = pipeline.plan(recipe, Store(finished.store))
        return next(one.manifest.key for one in planned if one.stage.name == "student")

    both = (f"layers={layers}", f"feed_forward={share}")
    assert key(f"size={size}") == key(*both)
    # Either may be said nevertheless.
    assert key(f"size={size}", "layers=3") == key("layers=3", both[1])
    assert key(f"size={size}", "feed_forward=0.5") == key(both[0], "feed_forward=0.5")


def test_phase_one_by_mlm_loads_no_teacher_and_reads_none_of_its_fields(
    kept_store: Path, finished: Finished, monkeypatch
):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the teacher is not needed")

    monkeypatch.setattr(general, "speaking_teacher", never)
    alone = ["general.objective.kind=mlm", "student.init=random"]
    run = pipeline.run(read_recipe(finished.recipe, alone), Store(kept_store))
    assert run.made == 4
    rows = run.artifacts["general"].path("metrics.jsonl").read_text().splitlines()
    assert "mlm" in json.loads(rows[0])
    assert waiting(finished.recipe, kept_store, *alone, "general.objective.hidden=0.5") == ()
    assert waiting(finished.recipe, kept_store, *alone, "general.objective.masking=0.3") == PHASES


def test_what_a_killed_run_left_beside_its_work_is_cleared(kept_store: Path, finished: Finished):
    (folder,) = kept_store.glob("student-*")
    before = contents(folder)
    (folder / "manifest.json").unlink()
    (folder / "torn.bin").write_text("torn")
    (folder / "torn").mkdir()
    again = pipeline.run(read_recipe(finished.recipe), Store(kept_store))
    assert again.made == 1 and contents(folder) == before


def test_a_damaged_artifact_of_another_run_is_no_hindrance(kept_store: Path, finished: Finished):
    damaged = kept_store / "evaluate-0123456789ab"
    damaged.mkdir()
    (damaged / "manifest.json").write_text("{")
    assert pipeline.run(read_recipe(finished.recipe), Store(kept_store)).made == 0
    assert waiting(finished.recipe, kept_store, "evaluate.resamples=30") == ("evaluate",)


def test_a_mistake_in_a_late_stage_is_told_before_the_first(tmp_path: Path, tiny_data: Path):
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    (data / "pos" / "bbb" / "test.txt").unlink()
    recipe = read_recipe(_recipe_on(data, tmp_path))
    with pytest.raises(DataError, match="no test split for bbb"):
        pipeline.run(recipe, Store(tmp_path / "store"))
    assert not list((tmp_path / "store").glob("*-*"))


def _recipe_on(data: Path, folder: Path) -> Path:
    from conftest import RECIPE

    path = folder / "r.toml"
    teacher = data.parent / "teacher"
    teacher.mkdir()
    (teacher / "config.json").write_text('{"num_hidden_layers": 4, "model_type": "bert"}')
    (teacher / "model.safetensors").touch()
    (teacher / "tokenizer.json").write_text(_TOKENIZER)
    path.write_text(RECIPE.format(teacher=teacher, data=data, task="pos"))
    return path


_TOKENIZER = '{"version": "1.0", "model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0]]}}'


def test_the_student_is_compared_with_its_teacher_where_there_are_no_labels(
    kept_store: Path, finished: Finished, tiny_data: Path, tmp_path: Path
):
    data = tmp_path / "without-labels"
    shutil.copytree(tiny_data, data)
    shutil.rmtree(data / "pos" / "bbb")
    settings = [f'task.benchmark.root="{data / "pos"}"', 'evaluate.languages=["aaa"]']
    run = pipeline.run(read_recipe(finished.recipe, settings), Store(kept_store))
    told = run.to_dict()
    assert run.made == 1 and list(told["scores"]["student"]) == ["aaa"]
    assert list(told["fidelity"]) == ["aaa", "bbb"]
    for one in told["fidelity"].values():
        low, high = one["interval"]["accuracy"]
        assert one["n"] > 0 and 0 <= low <= one["metrics"]["accuracy"] <= high <= 1


def test_phase_2_may_read_the_targets_unlabelled_text(kept_store: Path, finished: Finished):
    steps = []
    for share in (0.5, 0.0):
        recipe = read_recipe(finished.recipe, [f"task.objective.text={share}"])
        run = pipeline.run(recipe, Store(kept_store))
        assert run.made == 2, "the task and its scores"
        curve = (run.artifacts["task"].folder / "metrics.jsonl").read_text().splitlines()
        steps.append(max(json.loads(row)["step"] for row in curve))
    assert steps[0] == 2 * steps[1], "as many steps on text as on labels"
    with pytest.raises(RecipeError, match=r"unlabelled text needs a teacher"):
        read_recipe(finished.recipe, ["task.objective.text=0.5", "task.objective.kind=labels"])
    plain = read_recipe(finished.recipe, ["task.objective.kind=labels"])
    assert plain.task.objective.text_share == 0, "labels alone need none, and ask for none"


def test_a_corpus_that_no_language_names_is_told_and_not_used(kept_store, finished, caplog):
    caplog.set_level("INFO")
    overrides = ["corpus.ccc=nowhere.txt", "evaluate.resamples=5"]
    assert pipeline.run(read_recipe(finished.recipe, overrides), Store(kept_store)).made == 1
    assert "corpus.ccc is not used: [languages] does not name it" in caplog.text


@pytest.mark.parametrize("name", ["../escape", "a b", ".hidden", "a/b"])
def test_a_runs_name_cannot_leave_the_store(finished: Finished, name: str):
    with pytest.raises(RecipeError, match="--name: no name for a run; found"):
        pipeline.run(read_recipe(finished.recipe), Store(finished.store), name=name)


def _kill_in(stage: str, recipe: Path, store: Path) -> Path:
    """Run in a process of its own, kill it once the stage has a checkpoint, give its folder."""
    often = ("--set", "machine.checkpoint_seconds=0.05")
    started = start(recipe.parent, "run", recipe, "--store", store, *often)
    deadline = time.monotonic() + 180
    while not list(store.glob(f"{stage}-*/work/checkpoint-*/complete")):
        assert started.process.is_alive(), started.wait()
        assert time.monotonic() < deadline, "no checkpoint in three minutes"
        time.sleep(0.005)
    started.process.kill()
    assert started.wait().code == -signal.SIGKILL
    (folder,) = store.glob(f"{stage}-*")
    assert not (folder / "manifest.json").exists(), "it was quicker than the kill"
    return folder


def test_a_run_killed_in_both_phases_ends_with_the_same_bytes(
    tmp_path: Path, recipe_text: Callable[..., str], finished: Finished, caplog
):
    recipe = tmp_path / "r.toml"
    text = recipe_text().replace("steps = 20", "steps = 60")
    recipe.write_text(
        text.replace('kind = "pos"', 'kind = "pos"\nepochs = 15').replace(
            "epochs = 1\nbatch_sentences = 16\nmax_pieces", "batch_sentences = 16\nmax_pieces"
        )
    )
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    for one in (straight, killed):
        shutil.copytree(finished.store, one)
        for stage in PHASES:
            for folder in one.glob(f"{stage}-*"):
                shutil.rmtree(folder)
    _kill_in("general", recipe, killed)
    history = _kill_in("task", recipe, killed) / "work" / "metrics.jsonl"
    first = history.read_text().splitlines()[0]
    caplog.set_level("INFO")
    last = pipeline.run(read_recipe(recipe), Store(killed))
    assert "task: resumes" in caplog.text and last.made == 2
    expected = pipeline.run(read_recipe(recipe), Store(straight))
    assert expected.made == 3
    for stage in ("general", "task"):
        names = [one.artifacts[stage].path("model/model.safetensors") for one in (last, expected)]
        assert names[0].read_bytes() == names[1].read_bytes(), stage
    told = [one.to_dict() for one in (last, expected)]
    assert told[0]["scores"] == told[1]["scores"]
    assert contents(killed) == contents(straight)
    # The row tells the killed process's speed: nothing was done twice.
    assert last.artifacts["task"].path("metrics.jsonl").read_text().splitlines()[0] == first


@pytest.mark.parametrize("stage", ALL)
def test_a_stage_killed_before_its_manifest_is_made_again_to_the_same_bytes(
    kept_store: Path, finished: Finished, stage: str
):
    (folder,) = kept_store.glob(f"{stage}-*")
    (folder / "manifest.json").unlink()
    torn = next(path for path in sorted(folder.rglob("*")) if path.is_file())
    torn.write_bytes(torn.read_bytes()[:10])
    again = pipeline.run(read_recipe(finished.recipe), Store(kept_store))
    assert again.made == 1 and contents(kept_store) == contents(finished.store)
    whole = json.loads((finished.store / "runs" / "tiny.json").read_text())
    assert again.to_dict()["scores"] == whole["scores"]


def test_two_runs_on_one_store_at_once_both_end_well(tmp_path: Path, finished: Finished):
    store = tmp_path / "store"
    both = [
        start(tmp_path, "run", finished.recipe, "--store", store, "--name", name, "--json")
        for name in ("one", "two")
    ]
    ended = [one.wait() for one in both]
    assert [one.code for one in ended] == [0, 0], ended
    assert [one.out.count("\n") for one in ended] == [1, 1], "one JSON object and nothing else"
    lines = [line for one in ended for line in one.err.splitlines()]
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines), "only timed lines"
    assert any("starts" in line for line in lines)
    told = [json.loads(one.out) for one in ended]
    assert told[0]["made"] + told[1]["made"] == 7
    for same in ("artifacts", "scores", "size", "student_against_teacher"):
        assert told[0][same] == told[1][same]
    assert sorted(path.name for path in (store / "runs").iterdir()) == ["one.json", "two.json"]
    assert contents(store) == contents(finished.store), "and the same as in this process"
