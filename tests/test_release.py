"""What a release is made of: packages, versions, workflows. ``make dist`` builds one and tries it."""

import json
import re
import tomllib

import pytest
import yaml
from conftest import ROOT

import xcorr

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_every_package_is_named():
    found = set()
    for top, name in (("xcorr", "xcorr"), ("core", "xcorr.core"), ("mappings", "xcorr.mappings"), ("pes", "xcorr.pes")):
        for init in (ROOT / top).rglob("__init__.py"):
            folder = init.parent.relative_to(ROOT / top)
            found.add(".".join([name, *folder.parts]))
    named = set(PROJECT["tool"]["setuptools"]["packages"])
    assert named == found | {"xcorr.configs", "xcorr.sample"}


def test_versions_agree():
    version = PROJECT["project"]["version"]
    assert xcorr.__version__ == version
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert re.search(rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(), re.M)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_targets_that_exist(path):
    """GitHub cannot run here: that they parse, have what a workflow needs, and name targets of the Makefile."""
    plain = yaml.safe_load(path.read_text())
    assert {"name", "permissions", "jobs"} <= plain.keys()
    assert True in plain, "YAML reads the key `on` as true"
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for job in plain["jobs"].values():
        assert "runs-on" in job
        needed = job.get("needs", [])
        assert {needed} if isinstance(needed, str) else set(needed) <= plain["jobs"].keys()
        steps = {step["id"] for step in job["steps"] if "id" in step}
        assert set(re.findall(r"steps\.(\w+)\.", json.dumps(job))) <= steps
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[\w./-]+", step.get("uses", "a/b@c"))
            assert set(re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))) <= targets


def test_publishing_needs_no_password():
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]["publish"]
    assert job["permissions"] == {"id-token": "write"}
    assert "password" not in json.dumps(job)
    assert "secrets." not in json.dumps(job)


def test_forms_of_issues_are_forms():
    forms = list((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 2
    for path in forms:
        form = yaml.safe_load(path.read_text())
        assert {"name", "description", "body"} <= form.keys()
        assert all(part["attributes"]["label"] for part in form["body"])
