"""Lists of models, as OpenAI and Anthropic write them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from trunkline import ModelInfo
from trunkline.authoring.json import JSONObject, JSONValue

from trunkline_gateway.problems import invalid


def write_openai_model(model: ModelInfo) -> JSONObject:
    """Write one model in OpenAI's form, for `/v1/models/{id}`. Its owner is the service in its name."""
    service = model.id.split("/", 1)[0]
    return {"id": model.id, "object": "model", "created": _time(model), "owned_by": service}


def write_openai_list(models: Sequence[ModelInfo]) -> JSONObject:
    """Write all models in OpenAI's form, which has no pages."""
    return {"object": "list", "data": [write_openai_model(model) for model in models]}


def write_anthropic_model(model: ModelInfo) -> JSONObject:
    """Write one model in Anthropic's form, for `/v1/models/{id}` with the header `anthropic-version`."""
    created = datetime.datetime.fromtimestamp(_time(model), datetime.UTC)
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.name or model.id,
        "created_at": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "max_input_tokens": model.context_window,
        "max_tokens": model.output_token_limit,
    }


def write_anthropic_list(
    models: Sequence[ModelInfo],
    *,
    limit: str | None = None,
    after_id: str | None = None,
    before_id: str | None = None,
) -> JSONObject:
    """Write a page of models in Anthropic's form. `limit`, `after_id` and `before_id` are those of the query.

    Without a limit, the page has all of them.
    Raises `GatewayError` for a limit that is not a number from 1 to 1000, and for an id that is not in the list.
    """
    size = max(1, len(models))
    if limit is not None:
        size = int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 5 else 0
        if not 1 <= size <= 1000:
            raise invalid("'limit' must be an integer from 1 to 1000.", param="limit")
    ids = [model.id for model in models]
    if before_id is not None:
        end = _position(ids, before_id, "before_id")
        start = max(0, end - size)
        more = start > 0
    else:
        start = 0 if after_id is None else _position(ids, after_id, "after_id") + 1
        end = start + size
        more = end < len(ids)
    page = models[start:end]
    data: list[JSONValue] = [write_anthropic_model(model) for model in page]
    return {
        "data": data,
        "has_more": more,
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
    }


def _position(ids: Sequence[str], model_id: str, name: str) -> int:
    try:
        return ids.index(model_id)
    except ValueError:
        raise invalid(f"'{name}' is not the id of a model in the list.", param=name) from None


def _time(model: ModelInfo) -> int:
    created = model.created
    return created if created is not None and 0 <= created < _YEAR_10000 else 0


_YEAR_10000 = 253_402_300_800
