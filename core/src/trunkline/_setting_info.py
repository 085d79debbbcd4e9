"""What describes a setting, and a choice between settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import attrs

from trunkline._json import JSONObject

BaseURL: TypeAlias = Callable[[str], tuple[str, Sequence[str]]]
"""The type of `base_url`: a function that takes a URL as the user pasted it.

It returns the base URL of all requests, and notes on what it changed, each a sentence for the log. It raises
`ValueError` with a noun phrase that says what is accepted.
"""


@attrs.frozen(kw_only=True)
class SettingInfo:
    """The description of one setting.

    `environment` holds the provider's own environment variables (such as `OPENAI_API_KEY`), highest precedence first.
    Settings with the same `source_group` all come from the same source: a key from the environment is never combined
    with a key id from a file. `convert` converts a configured value to the setting's type; it raises `ValueError` with
    a noun phrase that says what is accepted. `minimum` and `maximum` are the limits of a number. `base_url` is set for
    URLs: see `BaseURL`. `path` is set for paths of files. `in_header` is whether a secret is sent in an HTTP header,
    and so may contain only printable ASCII without spaces. `from_function` is set for a secret that may be given as a
    function that returns it; the provider must then use `trunkline.authoring.auth.key_auth`.

    The rest is for forms. `group` is the heading that the setting belongs under, one of `GROUPS` or the plugin's own.
    `advanced` is whether most users never need the setting, so that a form may hide it. `examples` are values to show.
    `choices` maps the accepted values, as text, to what each means. `requires` names settings that must also be set if
    this one is. `form_required` is whether a form requires the setting although the machine may supply it, such as a
    region from the AWS profile.
    """

    name: str
    label: str
    description: str
    required: bool
    secret: bool
    default: object
    type: object
    environment: tuple[str, ...]
    source_group: str | None
    convert: Callable[[object], object] | None
    schema: JSONObject | None
    minimum: float | None
    maximum: float | None
    base_url: BaseURL | None
    path: bool
    in_header: bool
    from_function: bool
    group: str
    advanced: bool
    examples: tuple[object, ...]
    choices: Mapping[str, str] | None
    requires: tuple[str, ...]
    form_required: bool


@attrs.frozen(kw_only=True)
class Alternative:
    """One of several ways to set up a service, such as a kind of credentials.

    `title` and `description` are for users. `settings` names the settings that belong to it, and `required` those of
    them that must be set. An alternative that requires none is the default.
    """

    title: str
    description: str
    settings: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
