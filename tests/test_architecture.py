"""The import arrows of docs/architecture.md hold."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "tfzoo"

# Which packages of tfzoo a package may import.
ALLOWED = {
    "random": set(),
    "losses": set(),
    "optimizers": set(),
    "environments": {"random"},
    "layers": {"random"},
    "datasets": {"random"},
    "metrics": {"random", "losses", "layers", "datasets"},
    "training": {
        "random",
        "losses",
        "optimizers",
        "layers",
        "environments",
        "datasets",
    },
}
ALLOWED["agents"] = {*ALLOWED["training"], "training"}
ALLOWED["models"] = {*ALLOWED["training"], "training", "metrics"}


def imported_packages(path):
    """The packages of tfzoo that a file imports."""
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "tfzoo" and len(parts) > 1:
                yield parts[1]


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_point_downwards(path):
    package = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if package == "__init__":
        allowed = set()
    else:
        allowed = ALLOWED[package] | {package, "__version__"}
    assert set(imported_packages(path)) <= allowed


def test_no_folder_has_a_name_that_says_nothing():
    names = {p.name.removesuffix(".py") for p in PACKAGE.rglob("*")}
    assert not names & {"utils", "common", "helpers", "core", "base", "misc"}
