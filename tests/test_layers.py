"""The layers of src/lorasum: who may import whom, read from the imports themselves."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources import CLIENT, CONTAINER, ROOT

AWS = ("boto3", "botocore", "sagemaker", "s3transfer")
LAYERS = [
    ("api",),
    ("cli", "ui"),
    ("commands",),
    ("lifecycle",),
    ("context", "lock"),
    ("backends",),
    ("data", "ledger", "scoring", "results", "pages"),
    ("backends.records", "data.records", "data.settings", "ledger.resources", "ledger.file"),
    ("config", "data.personal", "reporting", "library"),
    ("shared", "system.files", "system.paths", "errors"),
]
"""Top to bottom. A module imports from its own layer and from those below it; one that is not named is `library`."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): tree for path, tree in CLIENT.items()}


def imports(module: str, at_runtime: bool = False) -> set[str]:
    """Names of what a module imports: of a name imported from a package, the module that it is, if it is one."""
    found = set()
    for node in _nodes(MODULES[module], at_runtime):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            source = f"lorasum.shared.{node.module}" if node.level else node.module
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                found.add(inner if inner in MODULES else source)
    return found


def _nodes(tree: ast.AST, at_runtime: bool) -> Iterator[ast.AST]:
    """All nodes; `at_runtime`: those that importing the module executes."""
    for node in ast.iter_child_nodes(tree):
        skipped = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        if at_runtime and skipped:
            continue
        yield node
        yield from _nodes(node, at_runtime)


def layer(module: str) -> int | None:
    """The number of a module's layer, by the longest name that it begins with; None for what is not lorasum's."""
    if not module.startswith("lorasum."):
        return None
    known = {f"lorasum.{name}": level for level, names in enumerate(LAYERS) for name in names}
    matching = [name for name in known if f"{module}.".startswith(f"{name}.")]
    return known[max(matching, key=len, default="lorasum.library")]


@pytest.mark.parametrize("module", sorted({*MODULES} - {"lorasum.__main__"}))
def test_imports_point_downwards(module: str) -> None:
    mine = layer(module)
    above = [used for used in imports(module) if (theirs := layer(used)) is not None and theirs < (mine or 0)]
    assert above == []


ORCHESTRATING = ("lorasum.commands.run", "lorasum.commands.sweep")
"""Verbs that are made of other verbs."""


def test_no_verb_imports_another_but_those_made_of_others() -> None:
    verbs = [name for name in MODULES if name.startswith("lorasum.commands.") and name not in ORCHESTRATING]
    assert {name: used for name in verbs for used in imports(name) if used.startswith("lorasum.commands")} == {}


def test_only_the_command_line_picks_a_backend() -> None:
    here, cloud = "lorasum.backends.local", "lorasum.backends.sagemaker"
    pairs = [(name, used) for name in MODULES for used in imports(name) if used.startswith((here, cloud))]
    assert {name for name, _ in pairs if not name.startswith((here, cloud))} == {"lorasum.cli.backends"}
    assert [pair for pair in pairs if pair[0].startswith(here) and pair[1].startswith(cloud)] == []
    assert [pair for pair in pairs if pair[0].startswith(cloud) and pair[1].startswith(here)] == []


def test_only_sagemaker_and_s3_import_aws_libraries() -> None:
    importers = {name for name in MODULES for used in imports(name) if used.split(".")[0] in AWS}
    allowed = ("lorasum.backends.sagemaker", "lorasum.aws", "lorasum.data.files.s3")
    assert [name for name in importers if not name.startswith(allowed)] == []


def test_no_imports_go_in_a_circle() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module in done or module not in MODULES:
            return
        for used in imports(module, at_runtime=True):
            visit(used, (*path, module))
        done.add(module)

    for module in MODULES:
        visit(module, ())


def test_a_held_run_comes_from_the_lock_alone() -> None:
    makers = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("HeldRun")
    }
    assert makers == {"lorasum.lock"}


EDGES = (
    "lorasum.backends.sagemaker",  # AWS's requests and answers
    "lorasum.config",  # YAML
    "lorasum.shared.events.UnknownEvent",
    "lorasum.shared.json_records",
    "lorasum.shared.base_config",  # the config.json of any model
    "lorasum.models.source.model_config",
    "lorasum.models.source.look_at_model",
    "lorasum.lifecycle.shape",
    "lorasum.data.chats",  # the JSON of chat apps
    "lorasum.data.files",  # rows of any columns
    "lorasum.data.rows",
    "lorasum.data.tally",  # rows of any columns
    "lorasum.data.validate",
    "lorasum.system.cache",  # JSON files
    "lorasum.backends.base.Backend.training_request",  # what is sent to AWS, for a look at it
    "lorasum.backends.local.jobs.Jobs.training_request",
    "lorasum.backends.base.Backend.endpoint_requests",
    "lorasum.backends.local.endpoints.Endpoints.endpoint_requests",
    "lorasum.backends.local.openai",  # OpenAI's requests and answers
    "lorasum.results.training.TrainPlan.request",
    "lorasum.results.serving.DeployPlan.requests",
    "lorasum.ui.pieces.as_json",
    "lorasum.backends.base.Backend.invoke",  # the JSON that is posted
    "lorasum.backends.local.endpoints.Endpoints.invoke",
    "lorasum.backends.base.Backend.stream",
    "lorasum.backends.local.endpoints.Endpoints.stream",
    "lorasum.backends.local.invoke",
    "lorasum.backends.completions",
)
"""Where JSON and YAML come in and go out: here a mapping of anything may be in a signature."""


def public_annotations(name: str, body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """What public functions take and return, and what fields of public classes hold."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_annotations(f"{name}.{node.name}", node.body)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            taken = [argument.annotation for argument in arguments if argument.annotation]
            for annotation in (*taken, *([node.returns] if node.returns else [])):
                yield f"{name}.{node.name}", ast.unparse(annotation)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield f"{name}.{node.target.id}", ast.unparse(node.annotation)


def test_no_mapping_of_anything_crosses_a_module() -> None:
    loose = [
        (place, annotation)
        for name, tree in MODULES.items()
        for place, annotation in public_annotations(name, tree.body)
        if "[str, Any]" in annotation and not place.startswith(EDGES)
    ]
    assert loose == []


def test_functions_have_40_lines_and_modules_300_at_the_most() -> None:
    trees = CLIENT | CONTAINER
    long = {path.stem for path in trees if len(path.read_text(encoding="utf-8").splitlines()) > 300}
    assert long == set()
    functions = [
        (path.name, node.name)
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= 40
    ]
    assert functions == []


def test_names_of_tests_are_short() -> None:
    """A name says the rule that the test holds. One of 70 characters or more has to be read twice."""
    paths = Path(__file__).parent.rglob("test_*.py")
    names = [name for path in paths for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))]
    assert names
    assert [name for name in names if len(name) >= 70] == []
