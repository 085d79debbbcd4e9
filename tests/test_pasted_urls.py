"""URLs as people paste them, for each setting of each provider that is a URL."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from trunkline._plugins.registry import installed, load_provider
from trunkline.settings import setting_infos

URLS = [
    (item.name, info.name, info.base_url)
    for item in installed("trunkline.providers")
    for info in setting_infos(load_provider(item.name).settings)
    if info.base_url is not None
]
UNDERSTOOD = (
    *(
        "'https://api.example.com'",
        "<https://api.example.com>",
        "[docs](https://api.example.com/)",
        "\ufeffhttps://api.example.com",
    ),
    *("https:/api.example.com", "https:api.example.com", "https:\\\\api.example.com", "HTTPS://api.example.com"),
    *(
        "https://api.example.com,",
        "https://api.example.com/v1.",
        "https://api\u200b.example.com",
        "https://api.example.com:",
    ),
)
REFUSED = (
    *("https//api.example.com", "https/api.example.com", "https;//api.example.com", "htps://api.example.com"),
    *("https.//api.example.com", "https,//api.example.com", "https://https.//api.example.com"),
    # Characters that look like slashes or letters, which the HTTP libraries read as part of another host.
    *("https:\u2044\u2044api.example.com", "https:\u2215\u2215api.example.com", "https://api.example.com\u2044v1"),
    *("https\u29f8\u29f8api.example.com", "https://api.example.com\u2571v1", "https://\uff41pi.example.com"),
    *(
        "https://https://api.example.com",
        "https://http//api.example.com",
        "https:///api.example.com",
        "wss://api.example.com",
    ),
    *(
        "https://api.example .com",
        "URL=https://api.example.com",
        "https://api.example.com\\v1",
        "https：//api.example.com",
    ),
)


def test_every_provider_is_tested() -> None:
    assert len({provider for provider, _, _ in URLS}) >= 9


@pytest.mark.parametrize(("provider", "name", "base_url"), URLS)
@pytest.mark.parametrize("pasted", UNDERSTOOD)
def test_pasted_url_is_understood(provider: str, name: str, base_url: object, pasted: str) -> None:
    assert callable(base_url)
    url, notes = base_url(pasted)
    assert urlsplit(url).hostname == "api.example.com"
    assert urlsplit(url).scheme == "https"
    changed = (pasted.startswith("https:") and not pasted.startswith("https://")) or pasted.endswith("v1.")
    assert bool(notes) is changed


@pytest.mark.parametrize(("provider", "name", "base_url"), URLS)
@pytest.mark.parametrize("pasted", REFUSED)
def test_mistyped_url_is_refused_with_the_probable_one(provider: str, name: str, base_url: object, pasted: str) -> None:
    assert callable(base_url)
    with pytest.raises(ValueError, match=r"did you mean https?://api\.example\.com"):
        base_url(pasted)
