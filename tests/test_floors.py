"""Imports only go down, and nothing below the training floor brings torch in."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import limbeck

ROOT = Path(limbeck.__file__).parent

# A package stands here once, for all of its modules.
FLOORS: dict[int, tuple[str, ...]] = {
    # ground
    0: (
        "__init__",
        "errors",
        "processes",
        "sections",
        "task_section",
        "recipe",
        "pretrain_recipe",
        "adapt_recipe",
        "artifact",
        "plan",
        "budget",
    ),
    # text: numpy, tokenizers, datasets
    1: (
        "hub",
        "reading",
        "corpus",
        "overlap",
        "anatomy",
        "piece_map",
        "tokenizer",
        "tokenizer_training",
        "vocabulary",
        "audit",
        "blocks",
        "mixture",
        "companions",
        "tasks",
        "benchmarks",
        "world",
    ),
    # use
    2: (
        "asking",
        "answering",
        "backends",
        "candidates",
        "bundle",
        "runtime",
        "evaluate",
        "bench",
        "report",
    ),
    # parts: torch
    3: (
        "architectures",
        "heads",
        "last_rows",
        "tracing",
        "rounding",
        "smoothing",
        "parameters",
        "encoder",
        "checkpoint",
        "student",
        "narrowing",
        "losses",
        "sparse",
        "delta_file",
        "delta",
        "delta_arithmetic",
        "language_switch",
        "survey",
        "pair",
        "checks",
    ),
    # training
    4: (
        "together",
        "watch",
        "training",
        "pretrain",
        "sparse_tuning",
        "adapt",
        "finetune",
        "distil",
        "gates",
        "export",
        "costs",
        "certify",
    ),
    # conductor: these import torch only inside functions
    5: (
        "stages",
        "pipeline",
        "judge",
        "shipping",
        "roofline",
        "race",
        "bench_process",
        "deltas",
        "quickstart",
        "offer",
        "tables",
        "speed_table",
        "doctor",
        "options",
        "delta_commands",
        "bundle_commands",
        "plan_commands",
        "cli",
        "__main__",
    ),
}
FLOOR_OF = {module: floor for floor, modules in FLOORS.items() for module in modules}
TORCH = {"torch", "transformers", "accelerate", "safetensors"}
HEAVY = TORCH | {"datasets", "pyarrow", "huggingface_hub"}


def path_of(module: str) -> Path:
    base = ROOT / module.replace(".", "/")
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def floor_of(module: str) -> int:
    return FLOOR_OF[module.partition(".")[0]]


MODULES = sorted(map(module_of, ROOT.rglob("*.py")))
WITHOUT_TORCH = [one for one in MODULES if FLOOR_OF.get(one.partition(".")[0]) in (0, 1, 2, 5)]


def imports_of(module: str) -> tuple[set[str], set[str]]:
    """Give what a module imports when it is loaded, and what it imports inside functions."""
    tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
    at_once: set[str] = set()
    later: set[str] = set()

    def visit(node: ast.AST, found: set[str]) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(_targets(module, node))
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            visit(child, later if inside else found)

    visit(tree, at_once)
    return at_once, later


def _targets(module: str, node: ast.ImportFrom) -> set[str]:
    base = node.module or ""
    if node.level:
        package = ["limbeck", *module.split(".")]
        if path_of(module).name != "__init__.py":
            package.pop()
        base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
    inner = base.removeprefix("limbeck").lstrip(".")
    is_ours = base.partition(".")[0] == "limbeck"
    names = {f"{inner}.{alias.name}".lstrip(".") for alias in node.names} & set(MODULES)
    if not is_ours:
        return {base}
    # `from limbeck.stages import corpus` loads the module; the package itself comes along.
    return {f"limbeck.{name}" for name in names} or {f"limbeck.{inner}".rstrip(".")}


def ours(imports: set[str]) -> set[str]:
    found = {name.removeprefix("limbeck.") for name in imports if name.startswith("limbeck.")}
    return found | ({"__init__"} if "limbeck" in imports else set())


def test_every_module_has_a_floor_and_every_entry_a_module():
    assert {module.partition(".")[0] for module in MODULES} == set(FLOOR_OF)
    assert len(FLOOR_OF) == sum(map(len, FLOORS.values())), "a module stands on two floors"


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_go_down(module: str):
    at_once, later = imports_of(module)
    up = {name for name in ours(at_once) if floor_of(name) > floor_of(module)}
    assert not up, f"{module} imports from above when it is loaded"
    up = {name for name in ours(later) if floor_of(name) > floor_of(module)}
    assert not up, f"{module} imports from above inside a function"


def test_modules_of_one_floor_do_not_import_each_other_in_a_circle():
    below = {module: ours(imports_of(module)[0]) - {module} for module in MODULES}
    # A package's __init__ lists its members, whose imports of each other are judged by themselves.
    done: set[str] = set()
    while True:
        ready = {module for module in MODULES if module not in done and below[module] <= done}
        if not ready:
            break
        done |= ready
    assert done == set(MODULES), "these wait for each other"


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_floors_without_torch_name_it_only_inside_functions(module: str):
    at_once, _ = imports_of(module)
    assert not {name.partition(".")[0] for name in at_once} & HEAVY


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports(module: str):
    name = "limbeck" if module == "__init__" else f"limbeck.{module}"
    assert importlib.import_module(name).__doc__


def fresh(code: str) -> str:
    """Run code in a process of its own and give what it prints."""
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return told.stdout


def test_importing_what_needs_no_torch_leaves_it_out():
    names = ["limbeck" if one == "__init__" else f"limbeck.{one}" for one in WITHOUT_TORCH]
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
    code += f"print(sorted({HEAVY!r} & set(sys.modules)))"
    assert fresh(code).strip() == "[]"


def test_help_leaves_torch_and_the_whole_pipeline_out():
    code = "import sys; from limbeck import cli; sys.argv = ['limbeck', '--help']\n"
    code += "try: cli.main()\nexcept SystemExit: pass\n"
    code += "print([m for m in ('torch', 'transformers', 'numpy', 'pydantic') if m in sys.modules])"
    told = fresh(code)
    assert "Usage: limbeck" in told and told.strip().endswith("[]")
