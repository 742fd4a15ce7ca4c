"""The command line: what it prints, where, and how it ends."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from conftest import Finished, Told
from limbeck import __version__, cli
from limbeck.pretrain_recipe import PRETRAINING
from limbeck.recipe import shipped_recipes
from limbeck.tasks import TASKS

Call = Callable[..., Told]
COMMANDS: dict[str, Any] = dict(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
PARAMETERS = [(name, one) for name, command in COMMANDS.items() for one in command.params]


def test_help_lists_every_command_with_what_it_does(limbeck: Call):
    told = limbeck("--help")
    assert told.code == 0 and told.err == ""
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\S", told.out, re.M), name
    assert limbeck() == told


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(limbeck: Call, name: str):
    told = limbeck(name, "--help")
    assert told.code == 0 and f"Usage: limbeck {name}" in told.out
    for parameter in COMMANDS[name].params:
        assert parameter.opts[0].lower() in told.out.lower()


@pytest.mark.parametrize(
    ("command", "parameter"), PARAMETERS, ids=[f"{name} {one.opts[0]}" for name, one in PARAMETERS]
)
def test_every_argument_and_flag_is_documented(command: str, parameter: Any):
    assert parameter.help, f"limbeck {command} {parameter.opts[0]} has no help"


def test_the_version_is_the_packages(limbeck: Call):
    assert limbeck("--version") == Told(0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("distill",), "limbeck: No such command 'distill'"),
        (("run",), "limbeck: Missing argument 'recipe'; see `limbeck run --help`"),
        (("run", "r", "--colour"), "limbeck: No such option"),
        (("trim", "m", "-o", "d", "--max-pieces", "many"), "Invalid value for '--max-pieces'"),
    ],
)
def test_a_mistyped_command_is_one_line_and_exit_code_2(limbeck: Call, arguments, expected):
    told = limbeck(*arguments)
    assert (told.code, told.out) == (2, "")
    assert expected in told.err and told.err.count("\n") == 1 and told.err.startswith("limbeck: ")


def test_an_unexpected_error_is_not_hidden(monkeypatch):
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "app", lambda **_: broken())
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_a_missing_extra_says_the_line_to_type(limbeck: Call, monkeypatch):
    def missing(name: str) -> Callable[..., None]:
        def app(**_: object) -> None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        return app

    monkeypatch.setattr(cli, "app", missing("torch.nn"))
    told = limbeck("run")
    assert told.code == 2
    assert told.err == "limbeck: this needs torch; pip install 'limbeck[train]'\n"
    monkeypatch.setattr(cli, "app", missing("limbeck.nothing"))
    monkeypatch.setattr(sys, "argv", ["limbeck"])
    with pytest.raises(ModuleNotFoundError):
        cli.main()


def test_run_prints_one_json_object_of_the_stated_shape(limbeck: Call, finished: Finished):
    told = limbeck("run", finished.recipe, "--store", finished.store, "--json")
    assert told.code == 0 and told.out.count("\n") == 1
    found = json.loads(told.out)
    assert found.keys() >= {"run", "store", "artifacts", "scores", "size", "speed"}
    assert found["run"] == "tiny" and found["made"] == 0
    assert found["scores"].keys() >= {"teacher", "student"}
    for by_language in found["scores"].values():
        assert by_language.keys() == {"aaa", "bbb"}
        assert all(one["n"] == 24 and one["metrics"] for one in by_language.values())
    assert found["size"]["student"]["total"] < found["size"]["teacher"]["total"]


def test_run_says_for_people_what_was_scored_and_that_nothing_ran(limbeck: Call, finished):
    told = limbeck("run", finished.recipe, "--store", finished.store, "--name", "again")
    assert told.code == 0 and "Everything was done already; nothing ran." in told.out
    for word in ("teacher", "student", "majority label", "aaa (n=24)", "student keeps"):
        assert word in told.out
    assert (finished.store / "runs" / "again.json").exists()


def test_plan_tells_what_is_done_and_why_the_rest_is_not(limbeck: Call, finished: Finished):
    arguments = ("plan", finished.recipe, "--store", finished.store)
    changed = (*arguments, "--set", "general.steps=7")
    told = json.loads(limbeck(*changed, "--json").out)["stages"]
    state = {one["stage"]: one["done"] for one in told}
    assert [stage for stage, is_done in state.items() if not is_done] == [
        "general",
        "task",
        "evaluate",
    ]
    assert told[4]["differs"] == ["section.steps"] and told[4]["resumes"] is False
    lines = limbeck(*changed).out.splitlines()
    assert re.fullmatch(r"general +will run +\S+  differs: section\.steps", lines[4])
    assert all(" done " in line for line in limbeck(*arguments).out.splitlines())


def test_plan_tells_what_would_resume(limbeck: Call, finished: Finished, kept_store: Path):
    (folder,) = kept_store.glob("evaluate-*")
    (folder / "manifest.json").unlink()
    (folder / "work").mkdir()
    assert "resumes" in limbeck("plan", finished.recipe, "--store", kept_store).out


def test_status_lists_runs_and_artifacts_done_unfinished_and_damaged(
    limbeck: Call, kept_store: Path
):
    (folder,) = kept_store.glob("task-*")
    (folder / "manifest.json").unlink()
    (other,) = kept_store.glob("general-*")
    (other / "manifest.json").write_text("{")
    told = json.loads(limbeck("status", "--store", kept_store, "--json").out)
    assert "tiny" in told["runs"] and len(told["artifacts"]) == 7
    assert [one["stage"] for one in told["artifacts"] if not one["done"]] == ["general", "task"]
    lines = limbeck("status", "--store", kept_store).out
    assert re.search(r"^general-\w+ +damaged", lines, re.M)
    assert re.search(r"^task-\w+ +unfinished", lines, re.M)
    assert re.search(r"^corpus-\w+ +\d+ s +[\d.]+ MB$", lines, re.M)


def test_status_makes_no_store(limbeck: Call, tmp_path: Path):
    told = limbeck("status", "--store", tmp_path)
    assert told.code == 2 and "no such store; name one with --store" in told.err
    assert not list(tmp_path.iterdir())


def test_explain_tells_a_field_and_the_benchmarks(limbeck: Call):
    assert limbeck("explain", "general.steps").out.startswith("general.steps (int, default ")
    assert "masakhaner: Adelani et al. 2022" in limbeck("explain", "benchmarks").out
    assert limbeck("explain", "general.stesp").code == 2


def test_recipes_lists_the_shipped_ones(limbeck: Call):
    listed = limbeck("recipes").out.splitlines()
    pretraining = [f"{name}  (limbeck pretrain)" for name in shipped_recipes(PRETRAINING)]
    assert listed == [*shipped_recipes(), *pretraining]


def test_evaluate_prints_the_stated_object(limbeck: Call, finished: Finished, tiny_data: Path):
    (folder,) = finished.store.glob("task-*")
    arguments = ("evaluate", folder / "model", "--task", "pos")
    arguments += ("--file", tiny_data / "pos" / "bbb" / "test.txt", "--language", "bbb")
    told = limbeck(*arguments, "--json")
    assert told.code == 0 and told.out.count("\n") == 1
    found = json.loads(told.out)
    assert found.keys() >= {"task", "language", "n", "metrics", "interval", "primary"}
    assert (found["task"], found["language"], found["n"]) == ("pos", "bbb", 24)
    assert found["primary"] in found["metrics"]
    low, high = found["interval"][found["primary"]]
    assert low <= found["metrics"][found["primary"]] <= high
    (run,) = finished.store.glob("evaluate-*/manifest.json")
    student = json.loads(run.read_text())["metrics"]["scores"]["student"]["bbb"]
    assert found["metrics"] == student["metrics"], "as the run itself scored it"
    assert "n = 24" in limbeck(*arguments).out


def test_doctor_tells_the_machine(limbeck: Call):
    found = json.loads(limbeck("doctor", "--json").out)
    assert found["cores"] >= 1 and found["memory_bytes"] > 1e8 and found["disk_free_bytes"] > 0
    assert found["packages"]["torch"] and "cpu" in found["devices"]
    assert found["precision"].partition(":")[0] in ("fp32", "bf16")
    lines = limbeck("doctor").out
    for name in ("python", "platform", "cpu", "packages", "precision"):
        assert re.search(rf"^{name} +\S", lines, re.M)


def test_doctor_works_without_torch(monkeypatch):
    from limbeck import doctor

    monkeypatch.setattr(doctor.util, "find_spec", lambda _: None)
    monkeypatch.setattr(doctor, "Path", lambda *_: Path("/no/such/file"))
    found = doctor.facts(Path("/"))
    assert found["devices"] == [] and "pip install" in found["precision"]
    assert found["cpu"] and found["cpu_flags"] == []


def test_the_tasks_that_help_names_are_those_of_the_table():
    named = cli.TASK_NAMES.rstrip(".").replace(" or ", ", ").split(", ")
    assert named == list(TASKS)
