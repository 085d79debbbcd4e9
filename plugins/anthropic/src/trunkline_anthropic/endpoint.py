"""Where a place serves the Messages API, and how its requests differ from those of Anthropic's own API. Pure.

The same models are served by Anthropic, Amazon Bedrock, Azure's Foundry and Google Cloud. A `MessagesEndpoint` holds
the differences as values, so that one translator serves all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias, TypeVar

import attrs
from trunkline.authoring.urls import endpoint_url
from trunkline.authoring.user_id import SendUserId
from trunkline.secrets import Secret
from trunkline.settings import Settings

from trunkline_anthropic.model_facts import AnthropicFacts, facts_of

S = TypeVar("S", bound=Settings)

MessagesUrl: TypeAlias = Callable[[str, str, bool], str]
"""Returns the URL for a path of Anthropic's own API, the request's model, and whether the answer is streamed.

The path is `/v1/messages`, `/v1/messages/count_tokens`, `/v1/models` or `/v1/models/{model}`, percent-encoded. The
model is empty for a request without one. Put a model or the text of a setting into a URL with `path_segment` of
`trunkline.authoring.urls`, which encodes it.
"""

FactsOf: TypeAlias = Callable[[str], AnthropicFacts]
"""Returns what a model accepts, for its name."""

VersionOf: TypeAlias = Callable[[str], str]
"""Returns the version of the API for a model's name, which is empty for a request without a model."""

NEWER = "2026-10-21"
"""The version of the API that the anthropic SDK sends to every place since 2.0, also in bodies (seen in 2.14)."""

SAMPLING_VERSIONS = frozenset({"2023-06-01", "vertex-2023-10-16", "bedrock-2023-05-31"})
"""The versions of the API that accept sampling parameters, and documents in assistant messages.

The last two are the names of the older version in bodies, at Google Cloud and at Bedrock.
"""


@attrs.frozen(kw_only=True)
class MessagesEndpoint:
    """One place that serves the Messages API, for the settings of one service.

    - `url`: returns the URL for a path of Anthropic's own API. See `at_root` for a place that has the same paths.
    - `version`: the version of the API, or a function that returns it for a model. `version_in` is where it is sent:
      in the header `anthropic-version`, or in the field `anthropic_version` of the body. `version_setting` names the
      user's setting for it, if there is one.
    - `betas`: the beta features that every request enables. `betas_in` is where they are sent: in the header
      `anthropic-beta`, or in the field `anthropic_beta` of the body.
    - `model_in_body`: whether a chat request has the field `model`; otherwise only the URL names it. A request to count
      tokens always has the field.
    - `stream_in_body`: whether a streamed request has the field `stream`; otherwise only the URL says it.
    - `headers`: further headers of each request that are no credentials, such as the name of a workspace.
    - `facts`: returns what a model accepts, for example `facts_of` with the user's setting `model_facts`.
    - `send_user_id`, `user_id_key`: how a request's user id is sent, and the key of its hash.
    - `automatic_caching`: whether the place finds the end of the conversation itself (`cache_control` in the body).
    - `drops_foreign_thinking`: whether the place has the beta that leaves out thinking of a changed conversation.
    - `counts_tokens`, `has_models`, `has_batches`: which further operations the place has.
    """

    url: MessagesUrl
    version: str | VersionOf = NEWER
    version_in: Literal["header", "body"] = "header"
    version_setting: str | None = None
    betas: tuple[str, ...] = ()
    betas_in: Literal["header", "body"] = "header"
    model_in_body: bool = True
    stream_in_body: bool = True
    headers: Mapping[str, str] = attrs.field(factory=dict)
    facts: FactsOf = facts_of
    send_user_id: SendUserId = False
    user_id_key: Secret | None = None
    automatic_caching: bool = False
    drops_foreign_thinking: bool = True
    counts_tokens: bool = True
    has_models: bool = True
    has_batches: bool = False

    def version_of(self, model: str) -> str:
        """Return the version of the API for a model."""
        return self.version if isinstance(self.version, str) else self.version(model)

    def address(self, path: str, *, model: str = "", stream: bool = False, query: str = "") -> str:
        """Return the URL for a path of Anthropic's own API, with a query string."""
        url = self.url(path, model, stream)
        return endpoint_url(url, "", query) if query else url

    def request_headers(
        self, *, model: str = "", accept: str = "application/json", betas: tuple[str, ...] = ()
    ) -> dict[str, str]:
        """Return the headers of a request. The core adds those of the settings and the credentials.

        `betas` are those that the request needs besides the endpoint's own.
        """
        headers = {"content-type": "application/json", "accept": accept}
        if self.version_in == "header":
            headers["anthropic-version"] = self.version_of(model)
        enabled = self.enabled(betas)
        if enabled and self.betas_in == "header":
            headers["anthropic-beta"] = ",".join(enabled)
        return {**headers, **self.headers}

    def body_fields(self, *, model: str, betas: tuple[str, ...] = ()) -> dict[str, object]:
        """Return the fields that this place wants in the body in place of headers."""
        fields: dict[str, object] = {}
        if self.version_in == "body":
            fields["anthropic_version"] = self.version_of(model)
        enabled = self.enabled(betas)
        if enabled and self.betas_in == "body":
            fields["anthropic_beta"] = list(enabled)
        return fields

    def enabled(self, betas: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the beta features of the endpoint and of a request, each once."""
        return tuple(dict.fromkeys((*self.betas, *betas)))


EndpointFor: TypeAlias = Callable[[S], MessagesEndpoint]
"""Returns the endpoint of a service, for its settings."""


def at_root(root: str) -> MessagesUrl:
    """Return the URLs of a place that has the paths of Anthropic's own API below a root URL."""
    return lambda path, model, stream: endpoint_url(root, path)
