"""What the code may not contain, whoever writes it, and what is installed."""

import ast
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "lakehouse").rglob("*.py"))
BARE_READS = {
    "query/lake.py": {"files.read()"},  # it lists the cells that were opened
    "cli/commands/reading.py": {"sys.stdin.read()"},  # who types a statement is who runs it
}


def calls(*names: str) -> Callable[[ast.AST], bool]:
    return lambda node: isinstance(node, ast.Call) and ast.unparse(node.func) in names


def imports(*names: str) -> Callable[[ast.AST], bool]:
    def finds(node: ast.AST) -> bool:
        if isinstance(node, ast.Import):
            return any(alias.name.split(".")[0] in names for alias in node.names)
        return isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in names

    return finds


def passes(name: str, value: object) -> Callable[[ast.AST], bool]:
    return lambda node: (
        isinstance(node, ast.keyword)
        and node.arg == name
        and isinstance(node.value, ast.Constant)
        and node.value.value is value
    )


def reads_without_bound(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "read"
        and not node.args
        and not node.keywords
    )


def is_insecure_address(node: ast.AST) -> bool:
    """An address that is asked without TLS; the name that S3 gives its XML is none."""
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.match(r"http://(?!127\.0\.0\.1|localhost|\{|$|s3\.amazonaws\.com/doc/)", node.value)
        is not None
    )


RULES: dict[str, tuple[Callable[[ast.AST], bool], str]] = {
    "a shell": (passes("shell", True), "subprocess.run(line, shell=True)"),
    "a shell by another name": (calls("os.system", "os.popen", "subprocess.getoutput"), "os.system(line)"),
    "objects that run code when they are read": (
        imports("pickle", "marshal", "dill", "cloudpickle", "shelve", "joblib"),
        "import pickle",
    ),
    "text that is run": (calls("eval", "exec", "compile", "__import__"), "eval(text)"),
    "YAML that makes objects": (calls("yaml.load", "yaml.full_load", "yaml.unsafe_load"), "yaml.load(text)"),
    "a read without a bound": (reads_without_bound, "answer.read()"),
    "certificates that nobody looks at": (passes("verify", False), "requests.get(url, verify=False)"),
    "an address without TLS": (is_insecure_address, "URL = 'http://data.example.com'"),
    "a name for a temporary file that another may take first": (
        calls("tempfile.mktemp"),
        "tempfile.mktemp()",
    ),
    "XML with entities": (imports("lxml"), "from lxml import etree"),
}


@cache
def nodes(text: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(text)))


def found(rule: Callable[[ast.AST], bool], text: str) -> list[str]:
    return [ast.unparse(node) for node in nodes(text) if rule(node)]


@pytest.mark.parametrize("name", RULES)
def test_no_source_contains(name: str) -> None:
    rule, example = RULES[name]
    assert found(rule, example), "the rule sees what it is for"
    allowed = BARE_READS if name == "a read without a bound" else {}
    # which reads its own
    where = {
        path.relative_to(ROOT / "lakehouse").as_posix(): path.read_text("utf-8")
        for path in SOURCES
        if path.parts[-2] != "simulator"
    }
    assert len(where) > 90
    assert {
        path: left
        for path, text in where.items()
        if (left := [one for one in found(rule, text) if one not in allowed.get(path, set())])
    } == {}


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("requirements.txt", 70),
        ("requirements-aws.txt", 70),
        ("requirements-dev.txt", 70),
        ("requirements-infra.txt", 70),
        ("requirements-swift.txt", 10),
        ("requirements-trino.txt", 1),
        ("requirements-readers.txt", 5),
        ("requirements-backtesters.txt", 70),
    ],
)
def test_every_package_is_pinned_with_the_hashes_of_its_files_and_names_no_host(
    name: str, least: int
) -> None:
    text = (ROOT / name).read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) >= least
    for entry in entries:
        assert re.fullmatch(
            r"[A-Za-z0-9._-]+(\[[a-z]+\])?==\S+( ;[^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+", entry
        ), entry.split("\n")[0]
    assert "--require-hashes" in (ROOT / "Makefile").read_text()


def test_an_image_has_the_versions_that_are_tested() -> None:
    pinned = {
        name: set(re.findall(r"^(\S+==\S+)", (ROOT / name).read_text(), re.M))
        for name in ("requirements.txt", "requirements-aws.txt", "requirements-dev.txt")
    }
    assert pinned["requirements.txt"] < pinned["requirements-aws.txt"] < pinned["requirements-dev.txt"]


def test_known_holes_are_asked_for_every_week() -> None:
    workflow = (ROOT / ".github/workflows/weekly.yml").read_text()
    assert "schedule" in workflow
    assert "make advisories" in workflow
    assert "continue-on-error" not in workflow
    target = (ROOT / "Makefile").read_text().split("\nadvisories:")[1].split("\n\n")[0]
    assert "for file in requirements*.txt" in target
    assert "pip-audit --strict" in target, "a package that cannot be asked about is a failure"
    assert "exit 1" in target
    assert target.count("||") == target.count('|| holed="$$holed $$file"') == 1, "which is told at the end"
    assert "\n\t-" not in target


def test_every_test_that_the_page_names_exists_and_every_promise_names_one() -> None:
    page = (ROOT / "docs/security.md").read_text()
    tables = re.findall(r"^\| promise \| test \|\n\|---\|---\|\n((?:\|.*\n)+)", page, re.M)
    rows = [line for table in tables for line in table.splitlines()]
    assert page.count("| promise |") == len(tables) > 5
    assert len(rows) > 30
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", row)
        assert named, row
        for path, name in named:
            text = (ROOT / "lakehouse_tests" / path).read_text()
            assert not name or re.search(rf"def {name}\(", text), f"{path}::{name}"
