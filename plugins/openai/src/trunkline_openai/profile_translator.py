"""`ProfileTranslator`, what the translators of both of OpenAI's APIs share: a profile, and facts about each model."""

from __future__ import annotations

import copy
from typing import Any, Self

import attrs
from trunkline.authoring.model_facts import FactOverrides
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.warnings import Warnings

from trunkline_openai.model_facts import ModelFacts, facts_of
from trunkline_openai.profile import Profile
from trunkline_openai.urls import HeadersFor, UrlFor, default_url, no_headers

_KEPT_MODELS = 64
"""The number of models whose facts a translator caches."""


class ProfileTranslator:
    """Translates requests for one service.

    `context` is the service's, `profile` how the server differs from OpenAI, and `facts` what the requested model
    accepts. `url` and `headers` are those of `chat_completions` and `responses`.

    `for_model` returns a copy of the translator that has the `facts` and the `profile` of the requested model.
    """

    def __init__(
        self,
        context: ServiceContext[Any],
        *,
        profile: Profile,
        url: UrlFor[Any] = default_url,
        headers: HeadersFor[Any] = no_headers,
    ) -> None:
        self.context = context
        self.profile = profile
        self.facts = ModelFacts()
        self.url = url
        self.headers = headers
        self._by_model: dict[str, Self] = {}

    def facts_about(self, model: str) -> ModelFacts:
        """The facts about a model, including overrides from the setting `model_facts`."""
        return facts_of(model, self.profile.models, self._configured_facts)

    @property
    def _configured_facts(self) -> FactOverrides:
        configured: FactOverrides = getattr(self.context.settings, "model_facts", {})
        return configured

    def for_model(self, model: str) -> Self:
        """The translator for one model."""
        found = self._by_model.get(model)
        if found is None:
            found = copy.copy(self)
            found.facts = self.facts_about(model)
            found.profile = self.profile.for_model(found.facts)
            if facts_of(model, (), self._configured_facts).efforts and "reasoning_effort" not in found.facts.refuses:
                # The setting lists efforts for this model, so its server accepts them, whatever the profile says.
                found.profile = attrs.evolve(
                    found.profile,
                    takes=found.profile.takes | {"reasoning_effort"},
                    responses=found.profile.responses | {"reasoning_effort"},
                )
            if len(self._by_model) >= _KEPT_MODELS:
                self._by_model.clear()
            self._by_model[model] = found
        return found

    def family(self, model: str, facts: ModelFacts) -> str | None:
        """The family of a model. Models of one family accept each other's reasoning and signatures."""
        return facts.family

    @property
    def accepted(self) -> frozenset[str]:
        """The features that the server and the model support on this API."""
        return self.profile.takes

    def takes(self, feature: str, subject: str, warnings: Warnings, *, lossy: bool = True) -> bool:
        """Whether the server and the model support a feature. If not, warn that `subject` is ignored."""
        if feature in self.accepted:
            return True
        who = "this model" if feature in self.facts.refuses else f"servers with the profile {self.profile.name!r}"
        warnings.add("unsupported", subject, f"not supported by {who}; ignored", lossy=lossy)
        return False
