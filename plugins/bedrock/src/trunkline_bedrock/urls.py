"""Where Bedrock is: the regions' endpoints, custom ones as people paste them, and the paths under them. Pure."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit, urlunsplit

from trunkline.authoring.urls import endpoint_note, split_url
from trunkline.errors import UnsupportedOperation

# The partitions of AWS whose hosts do not end in amazonaws.com, by the beginning of a region's name; botocore's
# partitions.json, which the tests compare with.
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
    """The public endpoint of `bedrock-runtime` or `bedrock` in a region."""
    suffix = next((suffix for prefix, suffix in _SUFFIXES if region.startswith(prefix)), "amazonaws.com")
    return f"https://{service}.{region}.{suffix}"


def base_url(pasted: str) -> tuple[str, tuple[str, ...]]:
    """The URL that paths are joined to, and notes on what was changed that a user should know.

    The whole path of an operation is taken off, with a note; a path before it stays. Raises `ValueError` for what is no
    URL of an endpoint.
    """
    url, notes = split_url(pasted)
    if url.username is not None:
        raise ValueError("a URL without user information; the credentials have settings of their own")
    if url.query:
        raise ValueError("a URL without a query")
    found = _ENDPOINT.search(url.path)
    if found is not None:
        url = url._replace(path=url.path[: found.start()])
        notes.append(endpoint_note(found[0]))
    return urlunsplit(url), tuple(notes)


def runtime_base(region: str, api_url: str | None) -> str:
    """The root of the runtime's operations."""
    return base_url(api_url)[0] if api_url is not None else endpoint(_RUNTIME, region)


def control_base(region: str, api_url: str | None) -> str:
    """The root of the control plane, where models are listed.

    A custom endpoint serves both, but for those of AWS itself: a public one is answered by its sibling `bedrock.…`, and
    the one of a VPC has no sibling that its name tells, so that `UnsupportedOperation` is raised.
    """
    if api_url is None:
        return endpoint("bedrock", region)
    base = base_url(api_url)[0]
    url = urlsplit(base)
    host = url.hostname or ""
    if host.startswith("vpce-") and f".{_RUNTIME}" in host:
        raise UnsupportedOperation(
            f"models are listed by Bedrock's control plane, which {host} does not serve; open a service without "
            f"api_url, or with the VPC endpoint of 'bedrock', to list them"
        )
    for name in (f"{_RUNTIME}-fips.", f"{_RUNTIME}."):
        if host.startswith(name):
            return urlunsplit(url._replace(netloc=url.netloc.lower().replace(_RUNTIME, "bedrock", 1)))
    return base


def model_url(base: str, model: str, operation: str) -> str:
    """The URL of an operation on a model. Ids and ARNs are percent-encoded whole, as AWS's clients do it."""
    return f"{base}/model/{quote(model, safe='~')}/{operation}"
