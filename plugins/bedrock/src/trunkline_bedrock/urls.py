"""Bedrock's URLs: the regions' endpoints, custom ones as people paste them, and the paths of operations. Pure."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit, urlunsplit

import attrs
from trunkline.authoring.urls import endpoint_note, path_segment, split_url

# The partitions of AWS whose hosts do not end in amazonaws.com, by prefix of the region's name, with the suffix of
# their hosts and that of their dual-stack hosts. Source: botocore's partitions.json; a test compares them.
_SUFFIXES = (
    ("cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    ("eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
    ("us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
    ("us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    ("us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
)
NO_DUAL_STACK = ("us-isof-", "eu-isoe-")
"""The prefixes of regions for which botocore refuses dual-stack endpoints."""

_DEFAULT_SUFFIXES = ("", "amazonaws.com", "api.aws")
_HOST_SUFFIXES = tuple(suffix for row in (_DEFAULT_SUFFIXES, *_SUFFIXES) for suffix in row[1:])
_ENDPOINT = re.compile(
    r"/model/[^/]*(?:/[^/]*)?/(?:converse|converse-stream|invoke|invoke-with-response-stream|count-tokens)$|"
    r"(?<=/v1)/(?:chat/completions|responses(?:/.*)?|models|messages(?:/count_tokens)?)$"
)
_OPENAI = re.compile(r"/openai(?:/v1)?$|/v1$")
_ANTHROPIC = re.compile(r"/anthropic(?:/v1)?$")
_CONSOLE = re.compile(
    r"^[^/]*//(?:[a-z0-9-]+\.)?console\.(?:aws\.amazon\.com|amazonaws\.cn|amazonaws-us-gov\.com)(?:/|$)"
)
_RUNTIME = "bedrock-runtime"
MANTLE = "bedrock-mantle"
"""The label of the hosts that serve OpenAI's and Anthropic's APIs, and their service in signatures."""

Endpoint: TypeAlias = Literal["mantle", "runtime"]
"""The hosts that serve a request: `bedrock-mantle`, or `bedrock-runtime`."""

_ENDPOINTS: dict[str, Endpoint] = {MANTLE: "mantle", _RUNTIME: "runtime", f"{_RUNTIME}-fips": "runtime"}

_SIBLINGS = {
    "bedrock": "Bedrock's control plane",
    "bedrock-agent": "Bedrock's agents",
    "bedrock-agent-runtime": "Bedrock's agents",
}
"""Services at AWS's own hosts `SERVICE.REGION.…` that people take for the runtime, and what they are."""

_SERVICE = re.compile(r"(?P<service>[a-z-]+?)(?P<fips>-fips)?\.(?P<rest>[a-z0-9-]+\..+)")


# The characters of a key are those that batches of Bedrock accept: botocore's shape `S3Uri`.
S3_URI = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/((?:[A-Za-z0-9!_*'().-]+/)*[A-Za-z0-9!_*'().-]*))?")
"""The form of a URI of S3: the bucket and the key."""


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Return the bucket and the key of a URI `s3://bucket/key`. Raises `ValueError` for another text."""
    found = S3_URI.fullmatch(uri)
    if found is None:
        raise ValueError(
            "an S3 URI such as s3://bucket/folder, whose folders are letters, digits and the characters - _ . ! * ' ( )"
        )
    return found[1], found[2] or ""


def without_fips(region: str) -> tuple[str, bool]:
    """Return the name of a region, and whether AWS's old form of it, such as `fips-us-east-1`, asks for FIPS."""
    plain = region.replace("fips-", "").replace("-fips", "")
    return plain, plain != region


def public_endpoint(service: str, region: str, *, fips: bool = False, dual_stack: bool = False) -> str:
    """Return the public endpoint of `bedrock-runtime` or `bedrock` in a region."""
    row = next((row for row in _SUFFIXES if region.startswith(row[0])), _DEFAULT_SUFFIXES)
    return f"https://{service}{'-fips' if fips else ''}.{region}.{row[2 if dual_stack else 1]}"


def base_url(pasted: str) -> tuple[str, tuple[str, ...]]:
    """Return the URL that paths are appended to, and notes on changes that a user should know about.

    The path of an operation is removed, with a note; a path before it stays, such as `/openai/v1`. The public endpoint
    of a sibling, such as the control plane, becomes that of the runtime, with a note. Raises `ValueError` if `pasted`
    is not the URL of an endpoint.
    """
    if _CONSOLE.search(pasted):  # its URLs have a query too
        raise ValueError("the URL of an endpoint, not of the AWS console: set aws_region, and no URL")
    url, notes = _split(pasted)
    operation = _ENDPOINT.search(url.path)
    if operation is not None:
        url = url._replace(path=url.path[: operation.start()])
        notes.append(endpoint_note(operation[0]))
    host = (url.hostname or "").rstrip(".")
    service = _SERVICE.fullmatch(host.partition(".")[2] if host.startswith("vpce-") else host)
    if service is None or not _is_aws(host) or service["service"] not in _SIBLINGS:
        return urlunsplit(url), tuple(notes)
    what = _SIBLINGS[service["service"]]
    if host.startswith("vpce-"):
        raise ValueError(f"a VPC endpoint of {_RUNTIME}; {host} serves {what}")
    runtime = f"{_RUNTIME}{service['fips'] or ''}.{service['rest']}"
    notes.append(f"{host} serves {what}; requests are sent to {runtime}")
    return urlunsplit(url._replace(netloc=url.netloc.lower().replace(host, runtime, 1))), tuple(notes)


@attrs.frozen(kw_only=True)
class Place:
    """What a URL from `base_url` says about the place that it leads to.

    - `root`: the URL without the path of an API, to which `/model/…`, `/openai/v1` and `/anthropic` are appended.
    - `openai`: the path of OpenAI's API, such as `/v1`, if the URL ends with one.
    - `messages`: the URL to which `/v1/messages` is appended.
    - `endpoint`, `region`: those of the host, if it is AWS's.
    """

    root: str
    openai: str | None = None
    messages: str
    endpoint: Endpoint | None = None
    region: str | None = None


def place_of(url: str) -> Place:
    """Return the place that a URL from `base_url` leads to."""
    split = urlsplit(url)
    endpoint, region = endpoint_of_host(split.hostname or "")
    found = _ANTHROPIC.search(split.path) or _OPENAI.search(split.path)
    ending = found[0] if found is not None else ""
    openai = ending if ending.startswith("/openai") or ending == "/v1" else None
    if endpoint == "runtime" and ending == "/v1":
        openai = None  # AWS's runtime has nothing at `/v1`
    path = split.path.removesuffix(ending)
    root = urlunsplit(split._replace(path=path))
    if endpoint is None and ending == "/v1":
        # Elsewhere, `/v1` may be the path of all APIs.
        return Place(root=url, openai=openai, messages=root)
    return Place(
        root=root,
        openai="/openai/v1" if openai == "/openai" else openai,
        messages=f"{root}/anthropic",
        endpoint=endpoint,
        region=region,
    )


def is_public(url: str, region: str) -> bool:
    """Return whether a URL is the public endpoint of `bedrock-runtime` in a region, without FIPS and a path."""
    return url.lower() in (public_endpoint(_RUNTIME, region, dual_stack=dual_stack) for dual_stack in (False, True))


def endpoint_of_host(host: str) -> tuple[Endpoint, str] | tuple[None, None]:
    """Return the endpoint and the region of one of AWS's hosts, public or of a VPC endpoint."""
    host = host.rstrip(".").lower()
    labels = host.split(".")
    first = 1 if host.startswith("vpce-") else 0
    if len(labels) > first + 2 and labels[first] in _ENDPOINTS and _is_aws(host):
        return _ENDPOINTS[labels[first]], labels[first + 1]
    return None, None


def mantle_endpoint(region: str) -> str:
    """Return the public endpoint of `bedrock-mantle` in a region, the same in all partitions.

    Source: openai 3.57 (`providers/bedrock.py`) and anthropic 2.14 (`lib/bedrock/_mantle.py`). AWS publishes no FIPS
    endpoint of it, and botocore has no data about it.
    """
    return f"https://{MANTLE}.{region}.api.aws"


def control_url(pasted: str) -> tuple[str, tuple[str, ...]]:
    """Return the URL of a control plane that paths are appended to, and notes. Raises `ValueError` as `base_url`."""
    url, notes = _split(pasted)
    return urlunsplit(url), tuple(notes)


def _split(pasted: str) -> tuple[SplitResult, list[str]]:
    url, notes = split_url(pasted)
    if url.username is not None:
        raise ValueError("a URL without user information; the credentials have settings of their own")
    if url.query:
        raise ValueError("a URL without a query")
    return url, notes


def _is_aws(host: str) -> bool:
    return host.endswith(tuple(f".{suffix}" for suffix in _HOST_SUFFIXES))


def control_sibling(base: str) -> str | None:
    """Return the root URL of the control plane that belongs to a custom URL of the runtime.

    A custom endpoint serves the control plane as well, except for AWS's own: for a public one, its sibling `bedrock.…`
    does. A VPC endpoint's name does not reveal its sibling, so the result is `None`.
    """
    url = urlsplit(base)
    host = url.hostname or ""
    if host.startswith("vpce-") and (f".{_RUNTIME}" in host or f".{MANTLE}" in host):
        return None
    for name in (f"{_RUNTIME}-fips.", f"{_RUNTIME}."):
        if host.startswith(name):
            return urlunsplit(url._replace(netloc=url.netloc.lower().replace(_RUNTIME, "bedrock", 1)))
    return base


def model_url(base: str, model: str, operation: str) -> str:
    """Return the URL of an operation on a model. Ids and ARNs are fully percent-encoded, as AWS's clients do."""
    return f"{base}/model/{path_segment(model)}/{operation}"
