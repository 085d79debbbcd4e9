"""Bedrock's URLs: the regions' endpoints, custom ones as people paste them, and the paths of operations. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from trunkline.authoring.urls import endpoint_note, path_segment, split_url
from trunkline.errors import UnsupportedOperation

# The partitions of AWS whose hosts do not end in amazonaws.com, by prefix of the region's name. Source: botocore's
# partitions.json; a test compares them.
_SUFFIXES = (
    ("cn-", "amazonaws.com.cn"),
    ("eusc-", "amazonaws.eu"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("us-iso-", "c2s.ic.gov"),
)
_ENDPOINT = re.compile(r"/model/[^/]*(?:/[^/]*)?/(?:converse|converse-stream|invoke|count-tokens)$")
_RUNTIME = "bedrock-runtime"


def endpoint(service: str, region: str) -> str:
    """Return the public endpoint of `bedrock-runtime` or `bedrock` in a region."""
    suffix = next((suffix for prefix, suffix in _SUFFIXES if region.startswith(prefix)), "amazonaws.com")
    return f"https://{service}.{region}.{suffix}"


def base_url(pasted: str) -> tuple[str, tuple[str, ...]]:
    """Return the URL that paths are appended to, and notes on changes that a user should know about.

    The path of an operation is removed, with a note; a path before it stays. Raises `ValueError` if `pasted` is not
    the URL of an endpoint.
    """
    url, notes = split_url(pasted)
    if url.username is not None:
        raise ValueError("a URL without user information; the credentials have settings of their own")
    if url.query:
        raise ValueError("a URL without a query")
    operation = _ENDPOINT.search(url.path)
    if operation is not None:
        url = url._replace(path=url.path[: operation.start()])
        notes.append(endpoint_note(operation[0]))
    return urlunsplit(url), tuple(notes)


def runtime_base(region: str, api_url: str | None) -> str:
    """Return the root URL of the runtime's operations."""
    return base_url(api_url)[0] if api_url is not None else endpoint(_RUNTIME, region)


def control_base(region: str, api_url: str | None) -> str:
    """Return the root URL of the control plane, which lists models.

    A custom endpoint serves the control plane as well, except for AWS's own: for a public one, its sibling `bedrock.…`
    does. A VPC endpoint's name does not reveal its sibling; `UnsupportedOperation` is raised.
    """
    if api_url is None:
        return endpoint("bedrock", region)
    base = base_url(api_url)[0]
    url = urlsplit(base)
    host = url.hostname or ""
    if host.startswith("vpce-") and f".{_RUNTIME}" in host:
        raise UnsupportedOperation(
            f"Bedrock's control plane lists models, and {host} does not serve it; to list models, open a service "
            f"without api_url, or with the VPC endpoint of 'bedrock'"
        )
    for name in (f"{_RUNTIME}-fips.", f"{_RUNTIME}."):
        if host.startswith(name):
            return urlunsplit(url._replace(netloc=url.netloc.lower().replace(_RUNTIME, "bedrock", 1)))
    return base


def model_url(base: str, model: str, operation: str) -> str:
    """Return the URL of an operation on a model. Ids and ARNs are fully percent-encoded, as AWS's clients do."""
    return f"{base}/model/{path_segment(model)}/{operation}"
