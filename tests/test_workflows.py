"""What GitHub is told: workflows, forms and pins that hold together, as far as files show."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
GITHUB = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
FILES = [
    *sorted(GITHUB.rglob("*.yml")),
    ROOT / ".pre-commit-config.yaml",
    ROOT / "compose.yaml",
]


class _Unique(yaml.SafeLoader):
    """YAML whose mappings say nothing twice: GitHub takes the last, and silently."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key stands twice: {node.start_mark}"
        return super().construct_mapping(node, deep)


def read(path: Path) -> Any:
    return yaml.load(path.read_text("utf-8"), _Unique)


WORKFLOWS = {path.stem: read(path) for path in sorted((GITHUB / "workflows").iterdir())}
JOBS = [
    pytest.param(workflow, name, id=f"{file}-{name}")
    for file, workflow in WORKFLOWS.items()
    for name in workflow["jobs"]
]


def steps() -> Iterator[dict[str, Any]]:
    for workflow in WORKFLOWS.values():
        for job in workflow["jobs"].values():
            yield from job["steps"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_are_yaml_of_no_machine(path: Path) -> None:
    assert isinstance(read(path), dict)
    text = path.read_text("utf-8")
    assert not re.search(r"/(work|home|root|opt)/|pypi\.org|pythonhosted|download\.pytorch", text)


@pytest.mark.parametrize(("workflow", "name"), JOBS)
def test_a_job_is_bounded(workflow: dict[Any, Any], name: str) -> None:
    """It may do what it must, for as long as it needs; the workflow as such may only read."""
    assert workflow["permissions"] == {"contents": "read"}
    assert "group" in workflow["concurrency"]
    job = workflow["jobs"][name]
    assert 0 < job["timeout-minutes"] <= 60
    granted = {right for right, how in job["permissions"].items() if how == "write"}
    allowed = {"publish": {"id-token"}, "deploy": {"pages", "id-token"}}
    assert granted == allowed.get(name, set())
    needs = job.get("needs", [])
    assert {needs} if isinstance(needs, str) else set(needs) <= set(workflow["jobs"])
    # "latest" changes under our feet.
    systems = job.get("strategy", {}).get("matrix", {}).get("os", [job["runs-on"]])
    assert all(re.search(r"-\d+", system) for system in systems)


def test_actions_are_pinned_to_commits_with_their_versions() -> None:
    seen: dict[str, str] = {}
    for path in (GITHUB / "workflows").iterdir():
        for line in path.read_text("utf-8").splitlines():
            if "uses:" not in line:
                continue
            found = re.search(r"uses: ([\w-]+/[\w-]+)@([0-9a-f]{40})  # v\d+\.\d+\.\d+$", line)
            assert found, line
            action, commit = found.groups()
            assert seen.setdefault(action, commit) == commit, f"two versions of {action}"


def test_who_checks_out_keeps_no_credentials() -> None:
    for step in steps():
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


def test_what_scripts_name_is_there() -> None:
    """Files and extras that a `run:` or a cache speaks of; what a shell would read of an event."""
    made = {"dist/*.whl", "dist/*"}
    named = set()
    for step in steps():
        script = step.get("run", "")
        assert "${{" not in script, "what others write is no code: hand it over in env"
        words = [word for line in script.splitlines() for word in shlex.split(line)]
        words += step.get("with", {}).get("cache-dependency-path", "").split()
        for word in words:
            if extras := re.fullmatch(r"\.\[([\w,]+)\]", word):
                named |= set(extras[1].split(","))
            elif word not in made and "$" not in word and re.search(r"/|\.(toml|txt|py|sh)$", word):
                assert (ROOT / word).exists(), word
    assert named <= set(PROJECT["optional-dependencies"])


def test_pythons_are_those_that_the_package_names() -> None:
    said = [
        found[1]
        for line in PROJECT["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line))
    ]
    assert WORKFLOWS["tests"]["jobs"]["tests"]["strategy"]["matrix"]["python"] == said
    assert PROJECT["requires-python"] == f">={said[0]}"
    asked = [step.get("with", {}).get("python-version") for step in steps()]
    used = {version for version in asked if version is not None}
    assert used - {"${{ matrix.python }}"} <= set(said)


def test_the_oldest_dependencies_are_the_lower_bounds() -> None:
    extras = PROJECT["optional-dependencies"]
    job = WORKFLOWS["tests"]["jobs"]["oldest"]
    install = next(step["run"] for step in job["steps"] if "--constraint" in step.get("run", ""))
    asked = re.search(r"\.\[([\w,]+)\]", install)
    assert asked
    waiting, bounds = [*PROJECT["dependencies"]], {}
    names = asked[1].split(",")
    for name in names:  # grows: an extra may be made of others
        waiting += extras[name]
        names += [e for line in extras[name] for e in Requirement(line).extras
                  if Requirement(line).name == "masqclip"]  # fmt: skip
    for requirement in map(Requirement, waiting):
        if requirement.name != "masqclip":
            (bound,) = requirement.specifier
            assert bound.operator == ">="
            bounds[requirement.name] = Version(bound.version)
    lines = (GITHUB / "oldest.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {name: Version(pin) for name, pin in pins.items()} == bounds


@pytest.mark.parametrize("path", sorted((GITHUB / "ISSUE_TEMPLATE").glob("[!c]*.yml")),
                         ids=lambda path: path.stem)  # fmt: skip
def test_forms_ask_what_can_be_answered(path: Path) -> None:
    form = read(path)
    assert {"name", "description", "labels", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    ids = [field["id"] for field in fields]
    assert len(ids) == len(set(ids))
    assert any(field.get("validations", {}).get("required") for field in fields)
    for field in fields:
        assert field["type"] in ("textarea", "input", "dropdown", "checkboxes")
        assert field["attributes"]["label"]
        assert (field["type"] == "dropdown") == ("options" in field["attributes"])
        # GitHub refuses options that YAML takes for true and false.
        assert all(isinstance(option, str) for option in field["attributes"].get("options", []))


def test_hooks_run_what_check_runs() -> None:
    checked = (ROOT / "check").read_text("utf-8")
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"  # nothing is fetched, and no version differs
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert re.search(rf"^run {re.escape(hook['name'])}\b", checked, re.MULTILINE), hook["name"]


@pytest.mark.parametrize("name", ["CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_pages_for_people_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    links = re.findall(r"\]\(([^)#\s]+)", text)
    assert all((ROOT / link).exists() for link in links if "://" not in link)
    assert links


def test_security_names_the_private_way_and_no_made_up_address() -> None:
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    assert "*Report a vulnerability*" in text
    assert not re.search(r"[\w.]+@[\w.]+\.\w+|https?://", text)
    switched_on = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert "private vulnerability reporting" in switched_on, (
        "which is off until somebody turns it on"
    )
