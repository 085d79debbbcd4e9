"""Errors of models by other publishers, which are in the form of their own API or in Google's. Pure."""

from __future__ import annotations

from trunkline.authoring.http_errors import ErrorReader
from trunkline.authoring.json import JSONValue, as_object
from trunkline.errors import RemoteError
from trunkline.secrets import Headers, HeaderValues
from trunkline_gemini.errors import error_from_body as google_error


def reader(publisher_error: ErrorReader) -> ErrorReader:
    """Return a function that reads an error in Google's form, or else with `publisher_error`."""

    def read(
        body: JSONValue, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
    ) -> RemoteError:
        first = body[0] if isinstance(body, list) and body else body
        fields = as_object(as_object(first).get("error"))
        # Google names the kind of an error in `status`; `code` is the HTTP status.
        is_google = isinstance(fields.get("status"), str) and isinstance(fields.get("code"), int)
        return (google_error if is_google else publisher_error)(body, provider=provider, status=status, headers=headers)

    return read
