"""A table of the options that each model of Mistral's API accepts. The setting `model_facts` overrides it."""

from __future__ import annotations

import attrs
from trunkline.authoring.model_facts import rows_for
from trunkline_openai.model_facts import ModelFacts, Rows

_ADJUSTABLE = (
    "docs.mistral.ai/capabilities/reasoning/adjustable; calls of the API in anomalyco/models.dev pull request 1986 "
    "(June 2026), architects-toolkit/SmartHopper issue 647 (July 2026), dimetron/pi-go pull request 245 (August 2026)"
)
_NO_REASONING = "calls of the API in dust-tt/dust pull request 27613 (June 2026); docs.mistral.ai/models, November 2026"
_HOSTED = "calls of the API in anomalyco/models.dev pull request 7334 (September 2026)"
# In July 2026, mistral-small-latest and ministral-3b-latest answered "Logprobs are not enabled for this model".
_RECORDED = f"recorded calls of July 2026; {_ADJUSTABLE}"

_SWITCHED = ModelFacts(family="mistral", efforts=("none", "high"))
_SMALL = attrs.evolve(_SWITCHED, refuses=frozenset({"logprobs"}))
_PLAIN = ModelFacts(family="mistral", efforts=())
_TEXT = attrs.evolve(_PLAIN, refuses=frozenset({"image_url", "image_data"}))
_GLM = ModelFacts(family="glm", efforts=("low", "high", "max"))
_GLM_TEXT = attrs.evolve(_GLM, refuses=frozenset({"image_url", "image_data"}))


MODELS: Rows = (
    *rows_for(_SMALL, _RECORDED, "mistral-small-latest", "mistral-small", "mistral-small-26*", "mistral-small-4*"),
    *rows_for(_SWITCHED, _ADJUSTABLE, "mistral-medium", "mistral-medium-latest", "mistral-medium-3"),
    # Mistral serves the newest Small and Medium under the names of retired models.
    *rows_for(_SWITCHED, _ADJUSTABLE, "mistral-medium-26*", "mistral-medium-3[-.]5*", "mistral-vibe-*", "magistral-*"),
    *rows_for(attrs.evolve(_GLM_TEXT, efforts=("none", "high", "max")), _HOSTED, "zai-glm-5-2*", "glm-5-2*"),
    *rows_for(_GLM_TEXT, _HOSTED, "zai-glm-5-3", "zai-glm-latest", "zai-glm-5"),
    *rows_for(_GLM, _HOSTED, "zai-glm-*", "glm-*"),
    *rows_for(ModelFacts(family="deepseek"), _HOSTED, "deepseek-*"),
    *rows_for(attrs.evolve(_PLAIN, refuses=frozenset({"logprobs"})), _RECORDED, "ministral-*"),
    *rows_for(_PLAIN, _NO_REASONING, "mistral-large-latest", "mistral-large-2*", "mistral-large-3*", "pixtral-*"),
    *rows_for(_PLAIN, _NO_REASONING, "mistral-medium-25*", "mistral-small-25*"),
    *rows_for(_TEXT, _NO_REASONING, "codestral-*", "voxtral-*", "open-mistral-*", "open-mixtral-*", "mistral-tiny*"),
    *rows_for(_TEXT, _NO_REASONING, "mistral-small-24*"),
    *rows_for(ModelFacts(family="mistral"), "every option is sent to a model that is not listed", "*"),
)
"""The facts of each model. The first row whose pattern matches the model's name wins.

`efforts` are the accepted values of `reasoning_effort`. Any other value returns status 400 with "Must be one of …". The
API also serves models of other vendors; each of these vendors has a separate family.
"""
