"""The served OpenAPI is what the server does: schemathesis asks what the description allows, and what it forbids."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_web_api import kept  # noqa: F401  # the fixture
from web_server import TOKEN, serving

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "negative_data_rejection"
)


@pytest.mark.parametrize(
    ("phases", "examples"),
    [("fuzzing", 4), pytest.param("examples,coverage,fuzzing", 100, marks=pytest.mark.slow)],
)
def test_every_answer_is_as_declared(demo, kept, tmp_path, phases, examples):  # noqa: F811
    program = Path(sys.executable).with_name("schemathesis")
    assert program.exists() or shutil.which("schemathesis")
    how = [
        "--checks",
        CHECKS,
        "--max-examples",
        str(examples),
        "--phases",
        "examples,coverage,fuzzing",
        "--workers",
        "2",
    ]
    with serving(demo, kept) as server:
        done = subprocess.run(
            [
                *(program, "run", f"{server.base}/api/v1/openapi.json", *how, "--no-color", "--seed", "1"),
                *("--header", f"Authorization: Bearer {TOKEN}", "--exclude-path-regex", "/events$"),
            ],
            capture_output=True, text=True, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:]
