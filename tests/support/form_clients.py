"""The official clients as oracles of the operations other than chat: rerank, audio, images and moderation.

Each function gives a client the fields of a request. `check_json` and `check_form` compare what it sends with ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from email import message_from_bytes
from typing import Any
from urllib.parse import urlsplit

import attrs
from official_clients import ROOT, Sent, _catch
from trunkline.authoring.wire import WireRequest

Call = Callable[[Any, Mapping[str, Any]], object]


@attrs.frozen
class FormFile:
    """A file of a form, without its name, which the application chooses."""

    data: bytes
    media_type: str


def form(content_type: str, body: bytes) -> dict[str, list[str | FormFile]]:
    """Decode a form with the standard library, by the names of its fields."""
    message = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    assert message.is_multipart()
    fields: dict[str, list[str | FormFile]] = {}
    for part in message.get_payload():  # type: ignore[union-attr]
        data = part.get_payload(decode=True)  # type: ignore[union-attr]
        name = str(part.get_param("name", header="content-disposition"))  # type: ignore[union-attr]
        if part.get_filename() is None:  # type: ignore[union-attr]
            fields.setdefault(name, []).append(data.decode())  # type: ignore[union-attr]
        else:
            fields.setdefault(name, []).append(FormFile(data, part.get_content_type()))  # type: ignore
    return fields


def sent_by(client: Any, call: Callable[[Any], object], sent: list[Sent]) -> Sent:
    """Return the one request that a call of a client sends. The client fails, since its transport refuses it."""
    try:
        call(client)
    except Exception:
        if not sent:
            raise
    [found] = sent
    return found


def check(request: WireRequest, found: Sent) -> None:
    """Fail unless two requests have the same method, path and body, which may be JSON or a form."""
    assert (request.method, urlsplit(request.url).path) == (found.method, urlsplit(found.url).path)
    ours, theirs = request.headers["content-type"], found.headers["content-type"]
    assert ours.partition(";")[0] == theirs.partition(";")[0]
    if ours.startswith("multipart/"):
        assert _plain(form(ours, request.body)) == _plain(form(theirs, found.body))
    else:
        assert _plain(json.loads(request.body)) == _plain(json.loads(found.body))


def _plain(value: Any) -> Any:
    """Remove what means nothing: defaults of Mistral's client, and Google's spellings of names and base64."""
    if isinstance(value, dict):
        return {
            re.sub("_([a-z])", lambda found: found[1].upper(), name): _plain(inner)
            for name, inner in value.items()
            if not (name in ("stream", "diarize") and inner in (False, ["false"])) and (name, inner) != ("role", "user")
        }
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value.replace("-", "+").replace("_", "/") if isinstance(value, str) and len(value) > 200 else value


def openai(sent: list[Sent], root: str = "/v1") -> Any:
    """OpenAI's client, whose transport notes requests in `sent`."""
    import httpx2
    from openai import OpenAI

    client = httpx2.Client(transport=_catch(httpx2, sent))
    return OpenAI(base_url=ROOT + root, api_key="k", max_retries=0, http_client=client)


def azure(sent: list[Sent]) -> Any:
    """OpenAI's client for Azure."""
    import httpx2
    from openai import AzureOpenAI

    client = httpx2.Client(transport=_catch(httpx2, sent))
    return AzureOpenAI(azure_endpoint=ROOT, api_version="2024-10-21", api_key="k", max_retries=0, http_client=client)


def cohere(sent: list[Sent]) -> Any:
    """Cohere's client."""
    import httpx
    from cohere import ClientV2

    return ClientV2(api_key="k", base_url=ROOT, max_retries=0, httpx_client=httpx.Client(transport=_catch(httpx, sent)))


def mistral(sent: list[Sent]) -> Any:
    """Mistral's client."""
    import httpx2
    from mistralai.client import Mistral

    return Mistral(api_key="k", server_url=ROOT, client=httpx2.Client(transport=_catch(httpx2, sent)))


def gemini(sent: list[Sent]) -> Any:
    """Google's client."""
    import httpx2
    from google.genai import Client, types

    options = types.HttpOptions(
        base_url=ROOT, api_version="v1beta", httpx_client=httpx2.Client(transport=_catch(httpx2, sent))
    )
    return Client(api_key="k", http_options=options)
