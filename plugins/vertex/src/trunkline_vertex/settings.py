"""The settings of `vertex`, and those that every provider on Google Cloud has: credentials, project and location."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import ClassVar, Literal

from trunkline.authoring.json import JSONObject, loads
from trunkline.authoring.model_facts import FactOverrides, ModelFactsSetting, model_facts_setting
from trunkline.authoring.urls import plain_http_note
from trunkline.secrets import Secret
from trunkline.settings import (
    Alternative,
    Converted,
    KeySource,
    Settings,
    is_set,
    path_setting,
    setting,
    settings,
    url_setting,
)
from trunkline_anthropic.endpoint import NEWER
from trunkline_anthropic.model_facts import AnthropicFacts
from trunkline_anthropic.settings import (
    NO_BETA_HEADER,
    BetasSetting,
    beta_header_problems,
    beta_problems,
    betas_setting,
)
from trunkline_gemini.model_facts import GeminiFacts
from trunkline_openai.model_facts import ModelFacts

from trunkline_vertex.urls import CLAUDE, OPENAI, UNKNOWN_PROJECT, Format, base_url, format_of, host_url

PROJECT_VARIABLE = "GOOGLE_CLOUD_PROJECT"
LOCATION_VARIABLE = "GOOGLE_CLOUD_LOCATION"

_PROJECT = "[A-Za-z0-9_-][A-Za-z0-9_.:-]*"
_LOCATION = "[a-z0-9-]+"
_INNER_SECRETS = ("private_key", "refresh_token", "client_secret")
"""The secret fields of a file of credentials."""

AUTHENTICATING = ("authorization", "x-goog-api-key")
"""Headers that authenticate. If the setting `headers` has one of them, nothing else does."""

CREDENTIAL_SETTINGS = ("credentials_file", "credentials_json", "access_token")

CREDENTIAL_TYPES = (
    "service_account",
    "external_account",
    "external_account_authorized_user",
    "authorized_user",
    "impersonated_service_account",
)
"""The `type`s of files of credentials that can be used."""


def _convert_json(value: object) -> Secret:
    secret = value if isinstance(value, Secret) else Secret(value) if isinstance(value, str) else None
    if secret is None:
        raise ValueError(f"the JSON of a file of credentials, not {type(value).__name__}")
    text = secret.reveal()
    # Nobody sees a byte-order mark or a zero-width space around the object.
    secret = Secret(text[text.find("{") : text.rfind("}") + 1])
    credentials_info(secret.reveal())
    return secret


def credentials_info(text: str | bytes) -> JSONObject:
    """Return the JSON object in a file of credentials. Raises `ValueError` with a noun phrase: what is accepted."""
    try:
        info = loads(text)
    except (ValueError, RecursionError):
        info = None
    kind = info.get("type") if isinstance(info, dict) else None
    if not isinstance(info, dict) or kind not in CREDENTIAL_TYPES:
        raise ValueError(
            f"the JSON of a file of credentials of Google Cloud, whose type is {' or '.join(CREDENTIAL_TYPES)}"
        )
    return info


def secrets_in(info: Mapping[str, object]) -> Iterator[str]:
    """Yield the secrets in a file of credentials, also in the credentials that it impersonates with."""
    for name, value in info.items():
        if name in _INNER_SECRETS and isinstance(value, str):
            yield value
            yield from (line for line in value.split("\n") if len(line) > 20 and "-----" not in line)
        elif isinstance(value, dict):
            yield from secrets_in(value)


def one_of(*names: str) -> Iterator[JSONObject]:
    """Yield the schemas of the tables in which at most one of these settings is set."""
    for first, second in combinations(names, 2):
        yield {"not": is_set(first, second)}


def _matches(pattern: str, noun: str) -> Callable[[object], str]:
    def convert(value: object) -> str:
        text = value.strip() if isinstance(value, str) else ""
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{noun}, not {value!r}")
        return text

    return convert


def project_setting(variables: str) -> str | None:
    """Return the setting `project`. `variables` says which environment variables it is read from by default."""
    made: str | None = setting(
        "Project",
        f"The id of the Google Cloud project to call. The default is the environment variable {variables}, or the "
        "project that the credentials name.",
        default=None,
        convert=_matches(_PROJECT, "the id of a Google Cloud project, such as my-project-123"),
        schema={"type": "string", "pattern": rf"^\s*{_PROJECT}\s*$"},
        group="Connection",
        examples=("my-project-123",),
    )
    return made


def location_setting(variable: str) -> str | None:
    """Return the setting `location`. `variable` is the environment variable that it is read from by default."""
    made: str | None = setting(
        "Location",
        "Where the request is processed: `global`, the multi-region `us` or `eu`, or a region such as `us-east5`. The "
        f"default is the environment variable {variable}, or `global`.",
        default=None,
        convert=_matches(_LOCATION, "a location of Google Cloud, such as global or us-east5"),
        schema={"type": "string", "pattern": rf"^\s*{_LOCATION}\s*$"},
        group="Connection",
        examples=("global", "us", "eu", "us-east5", "europe-west4"),
    )
    return made


@settings
class GoogleCloudSettings(Settings):
    """The settings of every provider on Google Cloud. `trunkline_vertex.auth.google_auth` uses them."""

    project: str | None = project_setting(f"`{PROJECT_VARIABLE}`")
    location: str | None = location_setting(f"`{LOCATION_VARIABLE}`")
    credentials_file: Converted[str | None, str] = path_setting(
        "Credentials File",
        "A JSON file of credentials: a service account's key, or a configuration of workload identity federation "
        "(`external_account`).",
        default=None,
        source_group="credential",
        group="Authentication",
    )
    credentials_json: Converted[Secret | None, str] = setting(
        "Credentials JSON",
        "What such a file contains, for example from a secret store.",
        default=None,
        source_group="credential",
        convert=_convert_json,
        schema={"type": "string", "pattern": r"^\s*\{"},
        in_header=False,
        group="Authentication",
    )
    access_token: Converted[Secret | None, KeySource] = setting(
        "Access Token",
        "An access token with the scope of Google Cloud, such as that of `gcloud auth print-access-token`. In code, a "
        "function that returns one, which is called again when Google refuses the token.",
        default=None,
        source_group="credential",
        from_function=True,
        group="Authentication",
        advanced=True,
    )
    quota_project: str | None = setting(
        "Quota Project",
        "The project whose quota the requests use (`x-goog-user-project`). The default is the one that the credentials "
        "name.",
        default=None,
        environment=("GOOGLE_CLOUD_QUOTA_PROJECT",),
        convert=_matches(_PROJECT, "the id of a Google Cloud project, such as my-project-123"),
        schema={"type": "string", "pattern": rf"^\s*{_PROJECT}\s*$"},
        group="Authentication",
        advanced=True,
    )

    @classmethod
    def machine_values(
        cls, given: Mapping[str, object], environ: Mapping[str, str]
    ) -> Mapping[str, tuple[object, str]]:
        """Return the project and the location of Google's variables, unless there is an API key.

        A key in express mode belongs to a project, so google-genai ignores the variables if a key is given.
        """
        if given.get("api_key") is not None:
            return {}
        variables = {"project": PROJECT_VARIABLE, "location": LOCATION_VARIABLE}
        return {
            name: (environ[variable], f"the environment variable {variable}")
            for name, variable in variables.items()
            if environ.get(variable, "").strip()
        }

    @property
    def place(self) -> str:
        """The location: that of the setting, or `global`."""
        return self.location or "global"

    @property
    def parent(self) -> str:
        """The resource name of the project's location, `projects/P/locations/L`.

        The project is `UNKNOWN_PROJECT` if only the credentials name it. `Auth.sign` then replaces it.
        """
        return f"projects/{self.project or UNKNOWN_PROJECT}/locations/{self.place}"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report credentials that contradict each other, and a project that nothing names."""
        yield from self.separate_problems(self._credential_problems, self._project_problems)

    def _credentials(self) -> list[str]:
        return [name for name in (*CREDENTIAL_SETTINGS, "api_key") if getattr(self, name, None) is not None]

    def _credential_problems(self) -> Iterator[tuple[str, str]]:
        given = self._credentials()
        if len(given) > 1:
            yield given[1], f"and {given[0]!r} are both set; set only one, because only one of the two can be sent"

    def _project_problems(self) -> Iterator[tuple[str, str]]:
        given = self._credentials()
        authenticates = any(name.lower() in AUTHENTICATING for name in self.headers)
        if self.project is None and "api_key" not in given and (authenticates or "access_token" in given):
            how = "the setting 'headers' authenticates" if authenticates else "an access token names none"
            yield "project", f"is required, because {how}; it can be set as {PROJECT_VARIABLE}"

    def secrets(self) -> tuple[str, ...]:
        """Return the secret values, including those inside `credentials_json`."""
        own = super().secrets()
        if self.credentials_json is None:
            return own
        return tuple(dict.fromkeys((*own, *secrets_in(credentials_info(self.credentials_json.reveal())))))


CREDENTIALS = (
    Alternative(
        title="Credentials file",
        description="The JSON file of a service account or of workload identity federation.",
        settings=("credentials_file",),
        required=("credentials_file",),
    ),
    Alternative(
        title="Credentials as JSON",
        description="What such a file contains.",
        settings=("credentials_json",),
        required=("credentials_json",),
    ),
    Alternative(
        title="Access token",
        description="An access token of your own.",
        settings=("access_token",),
        required=("access_token",),
    ),
)
"""The ways to authenticate on Google Cloud, besides those of the machine."""

DEFAULT_CREDENTIALS = Alternative(
    title="Default credentials",
    description="Application Default Credentials: those of `gcloud auth application-default login`, of the file in "
    "`GOOGLE_APPLICATION_CREDENTIALS`, or of the machine on Google Cloud.",
)


@settings
class VertexSettings(GoogleCloudSettings):
    """Settings of the provider `vertex`."""

    provider: ClassVar[str] = "vertex"
    display_name: ClassVar[str] = "Google Vertex AI"
    model_examples: ClassVar[tuple[str, ...]] = ("gemini-2.5-flash",)
    ambient_credentials: ClassVar[str] = "access tokens of Google's Application Default Credentials"
    alternatives: ClassVar[tuple[Alternative, ...]] = (
        *CREDENTIALS,
        Alternative(
            title="API key",
            description="An API key of Vertex AI (express mode), which needs no project.",
            settings=("api_key",),
            required=("api_key",),
        ),
        DEFAULT_CREDENTIALS,
    )
    schema_rules: ClassVar[tuple[JSONObject, ...]] = (
        NO_BETA_HEADER,
        *one_of(*CREDENTIAL_SETTINGS, "api_key"),
        {"anyOf": [{"not": is_set("api_key", "location")}, is_set("project")]},
        {"anyOf": [{"not": is_set("access_token")}, is_set("project")]},
    )

    api_key: Converted[Secret | None, KeySource] = setting(
        "API Key",
        "An API key of Vertex AI, for express mode. The key belongs to a project, so `project` and `location` are not "
        "needed.",
        default=None,
        source_group="credential",
        from_function=True,
        group="Authentication",
    )
    api_url: str | None = url_setting(
        "API URL",
        "Root URL of the API without its version, for example of a Private Service Connect endpoint or a proxy. The "
        "default is the host of the location.",
        default=None,
        base_url=base_url,
        advanced=True,
        examples=("https://us-east5-aiplatform.googleapis.com",),
    )
    anthropic_version: Literal["2026-10-21", "vertex-2023-10-16"] = setting(
        "Anthropic Version",
        "The version of the Messages API for Claude's models. The newer version refuses `temperature`, `top_p` and "
        "`top_k`.",
        default=NEWER,
        group="Requests",
        advanced=True,
        choices={
            NEWER: "The newer version, which refuses `temperature`, `top_p` and `top_k`.",
            "vertex-2023-10-16": "The older version.",
        },
    )
    betas: BetasSetting = betas_setting()
    model_facts: ModelFactsSetting = model_facts_setting(
        GeminiFacts, others={CLAUDE: ("Claude's models", AnthropicFacts), OPENAI: ("OpenAI's models", ModelFacts)}
    )

    @property
    def root(self) -> str:
        """The root URL of the API, without its version."""
        return host_url(self.place) if self.api_url is None else base_url(self.api_url)[0]

    @property
    def parent(self) -> str:
        """The resource name of the project's location, or `""` for an API key that needs none."""
        return "" if self.api_key is not None and self.project is None else super().parent

    def facts_for(self, kind: Format) -> FactOverrides:
        """The setting `model_facts` for the models of one format."""
        return {pattern: facts for pattern, facts in self.model_facts.items() if format_of(pattern) == kind}

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report what the base class does, a location without a project, and betas that cannot be sent."""
        yield from super().problems()
        yield from self.separate_problems(
            self._express_problems,
            lambda: beta_problems(self.betas),
            lambda: beta_header_problems(self.headers),
        )

    def _express_problems(self) -> Iterator[tuple[str, str]]:
        if self.api_key is not None and self.location is not None and self.project is None:
            yield "project", "is required beside 'location'; an API key alone (express mode) needs neither"

    def notes(self) -> Iterator[tuple[str, str]]:
        """Report what the base class does, and plain HTTP for an access token."""
        yield from super().notes()
        if self.api_url is not None and self._credentials() in ([], ["credentials_file"]):
            note = plain_http_note(base_url(self.api_url)[0])
            if note is not None:
                yield "api_url", note
