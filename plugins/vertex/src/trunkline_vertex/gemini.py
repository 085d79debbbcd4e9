"""Gemini on Vertex AI: the translator of `trunkline_gemini` with Vertex AI's URLs, and the request's `labels`."""

from __future__ import annotations

from trunkline.authoring.provider import ServiceContext
from trunkline.settings import Settings
from trunkline_gemini.model_facts import GeminiFacts, facts_of
from trunkline_gemini.translate import GeminiTranslator

from trunkline_vertex.settings import VertexSettings
from trunkline_vertex.urls import resource_name, resource_url

VERSION = "v1beta1"
"""The version of the API, as google-genai 3.6.1 uses it."""


def gemini_url(settings: Settings, model: str, method: str) -> str:
    """Return the URL of a method of a model. A name without a publisher is one of Google's."""
    assert isinstance(settings, VertexSettings)
    return resource_url(settings.root, VERSION, settings.parent, resource_name(model, "google"), method)


def gemini_facts(settings: Settings, model: str | None) -> GeminiFacts:
    """Return the facts about a model of Gemini."""
    assert isinstance(settings, VertexSettings)
    return facts_of(model, settings.facts_for("gemini"))


def translator(context: ServiceContext[VertexSettings]) -> GeminiTranslator:
    """Return the translator of a service. The request's `metadata` are sent as `labels`."""
    return GeminiTranslator(context, url=gemini_url, facts=gemini_facts, labels=True)
