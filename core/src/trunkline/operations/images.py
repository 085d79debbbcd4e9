"""Image generation: new images, and edited ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict, cast

import attrs

from trunkline._base_errors import InvalidRequest
from trunkline._field_types import COUNT_OR_NONE, OPTIONS, TEXT, TEXT_OR_NONE, FieldTypes, Kind
from trunkline._json import JSONValue, ProviderOptions
from trunkline.inputs import as_tuple
from trunkline.messages import Image
from trunkline.response import CallWarning, RateLimits, Usage

_IMAGES = "a trunkline.Image or an iterable of them"


def _images(value: Image | Iterable[Image]) -> tuple[Image, ...]:
    if isinstance(value, Image):
        return (value,)
    images: tuple[object, ...] = as_tuple(value, "images", _IMAGES)
    for position, image in enumerate(images):
        if not isinstance(image, Image):
            raise InvalidRequest(f"images[{position}] must be a trunkline.Image, not {type(image).__name__}")
    return cast("tuple[Image, ...]", images)


@attrs.frozen(kw_only=True)
class ImageRequest:
    """A description of images to generate.

    `images` are images to edit or to use as models; `mask` marks the area of the first one to edit, in the form that
    the provider asks for. `count` is the number of images, by default 1 for most providers. `size` is the width and
    height in pixels, such as `1024x1024`; Gemini has names for it, such as `2K`. `aspect_ratio` is for providers that
    choose the size themselves, such as `16:9`. `quality` is a level that the provider defines. `format` is the encoding
    of the images: `png`, `jpeg` or `webp`. `seed` makes models that support it repeat an image.
    """

    prompt: str
    model: str | None = None
    images: tuple[Image, ...] = attrs.field(converter=_images, default=())
    mask: Image | None = None
    count: int | None = None
    size: str | None = None
    aspect_ratio: str | None = None
    quality: str | None = None
    format: str | None = None
    seed: int | None = None
    user_id: str | None = attrs.field(default=None, repr=False)
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        _TYPES.check(self)
        if self.mask is not None and not self.images:
            raise InvalidRequest("the mask of an image request needs an image that it belongs to")
        if self.count is not None and self.count < 1:
            raise InvalidRequest(f"ImageRequest.count must be at least 1, not {self.count}")


_TYPES = FieldTypes(
    {
        "prompt": TEXT,
        "model": TEXT_OR_NONE,
        "mask": Kind((Image,), "a trunkline.Image").optional(),
        "count": COUNT_OR_NONE,
        "size": TEXT_OR_NONE,
        "aspect_ratio": TEXT_OR_NONE,
        "quality": TEXT_OR_NONE,
        "format": TEXT_OR_NONE,
        "seed": COUNT_OR_NONE,
        "user_id": TEXT_OR_NONE,
        "provider_options": OPTIONS,
    }
)


class ImageParams(TypedDict, total=False):
    """The keywords of `Service.generate_images`: the fields of an `ImageRequest` but for `prompt`."""

    model: str | None
    images: Image | Iterable[Image]
    mask: Image | None
    count: int | None
    size: str | None
    aspect_ratio: str | None
    quality: str | None
    format: str | None
    seed: int | None
    user_id: str | None
    provider_options: ProviderOptions


@attrs.frozen(kw_only=True)
class ImageResponse:
    """The response to an `ImageRequest`. It has at least one image.

    An image has `data`, or the `url` from which some providers let you fetch it for a limited time. Its
    `provider_metadata` has what the provider says about it, such as the prompt that it was made from. `raw` is what the
    provider sent, without the data of the images.
    """

    images: tuple[Image, ...]
    model: str | None = None
    provider: str | None = None
    service: str | None = attrs.field(default=None, eq=False)
    usage: Usage | None = None
    warnings: tuple[CallWarning, ...] = ()
    rate_limits: RateLimits | None = attrs.field(default=None, repr=False, eq=False)
    raw: JSONValue = attrs.field(default=None, repr=False, eq=False)
