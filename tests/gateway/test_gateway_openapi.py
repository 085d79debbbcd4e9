"""The gateway against its own OpenAPI document, with generated requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import schemathesis
from gateway_process import gateway_process
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import DataObject, data
from streaming_server import service, streaming_server
from trunkline_gateway.api.openapi import document

OPERATIONS = {
    operation.label: operation
    for result in schemathesis.openapi.from_dict(document("0")).get_all_operations()
    for operation in [result.ok()]
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with (
        streaming_server() as url,
        gateway_process(Path(tmp_path_factory.mktemp("gateway")), services=service(url)) as gateway,
    ):
        key = gateway.create_key()
        with httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {key}"}, timeout=30) as client:
            yield client


@pytest.mark.parametrize("label", OPERATIONS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=data())
def test_no_generated_request_makes_the_gateway_fail(client: httpx.Client, label: str, data: DataObject) -> None:
    case = data.draw(OPERATIONS[label].as_strategy())
    body = case.body
    if isinstance(body, dict) and "model" in body:
        body = {**body, "model": "main"}
    answer = client.request(case.method, case.formatted_path, json=body if isinstance(body, (dict, list)) else None)
    assert answer.status_code < 500, answer.text
    if answer.headers["content-type"].startswith("application/json"):
        assert isinstance(answer.json(), dict)
        if answer.status_code >= 400:
            assert answer.json()["error"]["message"]
