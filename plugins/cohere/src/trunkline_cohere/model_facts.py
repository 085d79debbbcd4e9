"""A table of the features that each of Cohere's models supports. The setting `model_facts` overrides it."""

from __future__ import annotations

import attrs
from trunkline.authoring.model_facts import ModelRow


@attrs.frozen(kw_only=True)
class CohereFacts:
    """The features that a model supports.

    - `reasoning`: whether the model can reason and accepts `thinking`.
    - `tools`: whether the model can call tools.
    - `tool_choice`: whether a request can force or forbid tool calls.
    - `images`: whether the model can read images.
    """

    reasoning: bool = True
    tools: bool = True
    tool_choice: bool = True
    images: bool = True


UNKNOWN = CohereFacts()
"""Facts for a model that is not in the table: every option is sent."""

_SDK = "docstring of `tool_choice` in cohere 7.3.1: only Command R7B and newer"
_PAGES = "docs.cohere.com/docs/models and /docs/reasoning, November 2026"
_VISION = "docs.cohere.com/docs/command-a-vision and /docs/aya-vision, November 2026"

ROWS = (
    ModelRow(pattern="command-a-plus*", facts=CohereFacts(), source=_PAGES),
    ModelRow(pattern="command-a-reasoning*", facts=CohereFacts(images=False), source=_PAGES),
    ModelRow(pattern="command-a-vision*", facts=CohereFacts(reasoning=False, tools=False), source=_VISION),
    ModelRow(pattern="command-a-*", facts=CohereFacts(reasoning=False, images=False), source=_PAGES),
    ModelRow(pattern="command-r7b*", facts=CohereFacts(reasoning=False, images=False), source=_PAGES),
    ModelRow(pattern="command-r*", facts=CohereFacts(reasoning=False, images=False, tool_choice=False), source=_SDK),
    ModelRow(pattern="c4ai-aya-vision*", facts=CohereFacts(reasoning=False, tools=False), source=_VISION),
    ModelRow(pattern="c4ai-*", facts=CohereFacts(reasoning=False, tools=False, images=False), source=_PAGES),
)
"""The facts of each model. The first row whose pattern matches the model's name wins."""
