"""The served OpenAPI is what the server does: schemathesis asks what the description allows, and what it forbids."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from web_server import TOKEN, serving

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "negative_data_rejection"
)


@pytest.mark.slow
def test_every_answer_is_as_declared(demo, kept, tmp_path):
    program = Path(sys.executable).with_name("schemathesis")
    assert program.exists() or shutil.which("schemathesis")
    how = [
        "--checks",
        CHECKS,
        "--max-examples",
        "100",
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


def test_every_format_of_every_question_is_declared(demo, kept):
    """Without schemathesis, in seconds: each operation in each of its formats, with values that exist."""
    with serving(demo, kept) as server:
        schema = server.ask("/api/v1/openapi.json").json()
        key = server.api("/kept", "kept").json()["items"][0]["key"]
        item = server.api("/items", "kept", limit=1).json()["items"][0]["id"]
        values = {"c": "kept", "a": "XX.D00", "b": "XX.D05", "n": 1, "item": item, "key": key}
        asked = 0
        for path, operations in schema["paths"].items():
            operation, address = operations["get"], path
            for name, value in values.items():
                address = address.replace(f"{{{name}}}", str(value))
            parameters = {p["name"]: p["schema"] for p in operation.get("parameters", ()) if p["in"] == "query"}
            extra = "pair=XX.D00-XX.D05" if path.endswith("/lineage") else "once=1" if path.endswith("/events") else ""
            for kind in parameters.get("format", {}).get("enum", [""]):
                answer = server.ask(f"{address}?{extra}&format={kind}" if kind else f"{address}?{extra}")
                assert answer.status == 200, (address, kind, answer.text)
                declared = operation["responses"]["200"]["content"]
                assert answer.headers["content-type"].partition(";")[0] in declared, (address, kind)
                asked += 1
            assert server.ask(f"{address}?nonsense=1").status == 400, address
        assert asked > 60
