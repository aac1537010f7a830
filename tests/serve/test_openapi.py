"""The OpenAPI document, and requests made up from it: never a failure of the service."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from running import Server

from masqclip import Segmenter
from masqclip.serve.app import create_app

CHECKED = {
    "not_a_server_error",
    "content_type_conformance",
    "response_schema_conformance",
    "status_code_conformance",
}


@pytest.mark.parametrize("kind", ["positive", "negative"])
def test_made_up_requests(server: Server, kind: str) -> None:
    """As the document describes them, and as it forbids them."""
    import schemathesis  # here: it takes long, and one process needs it
    from schemathesis.checks import CHECKS

    mode = schemathesis.GenerationMode(kind)
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    checks = [check for check in CHECKS.get_all() if check.__name__ in CHECKED]
    assert len(checks) == len(CHECKED)
    asked = 0

    def validate(case: schemathesis.Case) -> None:
        nonlocal asked
        asked += 1
        case.call_and_validate(checks=checks)

    for result in schema.get_all_operations():
        operation = result.ok()
        if mode.is_negative and not operation.body:
            continue  # any path and any Accept header is a well-formed one
        made_up = given(case=operation.as_strategy(generation_mode=mode))
        bounds = settings(
            max_examples=6, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        bounds(made_up(validate))()
    assert asked >= 30


def test_the_document_has_examples_and_problems(segmenter: Segmenter) -> None:
    document = create_app(segmenter).openapi()
    assert document["info"]["title"] == "masqclip"
    assert document["components"]["schemas"]["SegmentRequest"]["examples"]
    once = document["paths"]["/v1/segment"]["post"]
    form = once["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["required"]) == {"image", "vocabulary"}
    assert {"application/json", "image/png"} <= set(once["responses"]["200"]["content"])
    for status in ("400", "401", "413", "415", "422", "429", "504"):
        assert list(once["responses"][status]["content"]) == ["application/problem+json"]
