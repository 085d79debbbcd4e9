"""URLs as people paste them: each is understood, or refused with the URL that was probably meant."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import idna
import pytest
from hypothesis import example, given, settings, strategies as st
from trunkline._urls import PROXY_SCHEMES, ascii_host, clean_url, is_loopback, proxy_url, redact_url, same_origin
from trunkline.authoring.urls import split_url

API = "https://api.example.com/v1"


@pytest.mark.parametrize(
    "pasted",
    [
        *(
            f"{left}{API}{right}"
            for left, right in ("''", '""', "``", "<>", "()", "“”", "„“", "‘’", "«»", ("  ", "\n"))
        ),
        *(f"{API}{end}" for end in (",", ";", '",', "\u200b", "\ufeff", ")", "/", "//", "#")),
        *(f"{start}{API}" for start in ("\ufeff", "\u200b\u200e", "- "[:0])),
        f"[the API]({API})",
        f"[{API}]({API})",
        f"![]( <{API}> )",
        "https://api\u200b.example\u00ad.com/v1",
        "api.example.com/v1",
        "//api.example.com/v1",
        "HTTPS://api.example.com//v1",
        "https://api.example.com:/v1",
    ],
)
def test_what_surrounds_a_url_is_removed(pasted: str) -> None:
    url, notes = split_url(pasted)
    assert url.geturl() == API
    assert notes in ([], ["the fragment after '#' was removed"])


@pytest.mark.parametrize("start", ["https:", "https:/", "https:\\", "https:\\\\", "https:\\/", "HTTPS:/"])
def test_other_slashes_after_a_scheme_are_read_as_browsers_do(start: str) -> None:
    url, notes = split_url(f"{start}api.example.com/v1")
    assert url.geturl().lower() == API
    assert "two slashes" in notes[0]


@pytest.mark.parametrize("host", ["gpu-server", "gpu-server:8000", "gpu.example", "localhost", "127.0.0.1:9"])
def test_hosts_with_and_without_a_dot_or_a_port_are_mended_alike(host: str) -> None:
    for start in ("https:", "https:/"):
        url, notes = split_url(f"{start}{host}/v1")
        assert url.geturl() == f"https://{host}/v1"
        assert "two slashes" in notes[0]
    for pasted in (f"https//{host}/v1", f"htps://{host}/v1", f"https/{host}/v1"):
        with pytest.raises(ValueError, match=f"did you mean https://{host}/v1"):
            split_url(pasted)
    with pytest.raises(ValueError, match=f"did you mean http://{host}"):
        proxy_url(f"http:/{host}")


@pytest.mark.parametrize("start", ["https:/", "https//", "htps://", "https:"])
def test_key_in_the_place_of_a_host_is_not_shown(start: str) -> None:
    for parse in (split_url, proxy_url):
        with pytest.raises(ValueError, match="URL") as caught:
            parse(f"{start}sk-proj-hiddenword12345678")
        assert "hidden" not in str(caught.value)


def test_note_about_slashes_shows_no_login() -> None:
    url, notes = split_url("https:/user:hidden-word@api.example.com")
    assert url.password == "hidden-word"
    assert "hidden-word" not in notes[0]


@pytest.mark.parametrize("end", [".", "!", "...", ".!"])
def test_punctuation_at_the_end_of_a_path_is_removed_with_a_note(end: str) -> None:
    url, notes = split_url(API + end)
    assert url.geturl() == API
    assert "punctuation" in notes[0]
    assert split_url("https://h.example.")[0].netloc == "h.example."
    assert split_url("https://h.example/v1?sig=a.")[0].query == "sig=a."


PROBABLE = [
    ("http//api.example.com", "http://api.example.com"),
    ("https//api.example.com/v1", API),
    ("HTTPS//api.example.com/v1", API),
    ("https/api.example.com/v1", API),
    ("https.//api.example.com/v1", API),
    ("https;//api.example.com/v1", API),
    ("https::api.example.com/v1", None),
    ("htps://api.example.com/v1", API),
    ("htttps://api.example.com/v1", API),
    ("ttps://api.example.com/v1", API),
    ("htps//api.example.com/v1", API),
    ("wss://api.example.com/v1", API),
    ("https:///api.example.com/v1", API),
    ("https://https://api.example.com/v1", API),
    ("https://https//api.example.com/v1", API),
    ("https://https:/api.example.com/v1", API),
    ("http://https://api.example.com/v1", API),
    ("https://http://localhost:8080", "http://localhost:8080"),
    ("https://www.https://api.example.com/v1", None),
    ("https://api.example.com://v1", None),
    ("https://https.//api.example.com/v1", API),
    ("https:\u2044\u2044api.example.com/v1", API),
    ("https://api.example.com\u2044v1", API),
    ("api.example.com\u2215v1", "https://api.example.com/v1"),
    ("https://\u2603.example", None),
    ("https://a_\u00fc.example", None),
    ("https://\u3164.example", None),
    ("https ://api.example.com/v1", API),
    ("https: //api.example.com/v1", API),
    ("https://api.exam ple.com/v1", API),
    ("https://api.example.com/\n  v1", API),
    ("API URL: https://api.example.com/v1", API),
    ("export OPENAI_BASE_URL=https://api.example.com/v1", API),
    ("url='https://api.example.com/v1'", API),
    ("https：//api.example.com/v1", API),
    ("https://api.example.com／v1", API),
    ("https://api.example.com\\v1", API),
    (r"https:\/\/api.example.com\/v1", API),
    ("http//vllm:8000/v1", "http://vllm:8000/v1"),
    ("http///v1", None),
    ("http:///v1", None),
    ("https:/v1", None),
    ("https:443", None),
    ("https", None),
    ("http://https", None),
    ("unix:/run/server.sock", None),
    ("ftp:/h.example", None),
    ("https://[::1]8080", None),
    ("https://a.example https://b.example", None),
    ("[https://a.example](https://b.example)", None),
    ("https://\u202eapi.example.com", None),
]


@pytest.mark.parametrize(("pasted", "probable"), PROBABLE)
def test_url_that_could_mean_another_host_is_refused_with_the_probable_one(pasted: str, probable: str | None) -> None:
    with pytest.raises(ValueError, match=r"^a URL") as caught:
        split_url(pasted)
    assert str(caught.value).endswith(f"; did you mean {probable}?") is (probable is not None)
    assert ("did you mean" in str(caught.value)) is (probable is not None)
    if probable is not None:
        assert split_url(probable)[0].geturl() == probable


@pytest.mark.parametrize("pasted", ["http://::1:8080", "::1:8080", "2001:db8::1:443/v1", "https://2001:db8::1"])
def test_ipv6_address_that_needs_brackets_is_refused(pasted: str) -> None:
    with pytest.raises(ValueError, match="in brackets"):
        split_url(pasted)


@pytest.mark.parametrize(
    ("pasted", "url"),
    [
        ("::1", "http://[::1]"),
        ("2001:db8::1", "https://[2001:db8::1]"),
        ("[::1]:8080/v1", "http://[::1]:8080/v1"),
        ("vllm:8000", "http://vllm:8000"),
        ("http://http:8000", "http://http:8000"),
        ("httpd:8000/v1", "http://httpd:8000/v1"),
    ],
)
def test_hosts_without_a_scheme_are_understood(pasted: str, url: str) -> None:
    assert split_url(pasted)[0].geturl() == url


@pytest.mark.parametrize("pasted", ["us-east-1", "US-EAST-1/", "true", "none", "5m", "2024-10-21", "v1beta", "host/v1"])
def test_word_that_may_be_another_setting_is_no_url(pasted: str) -> None:
    with pytest.raises(ValueError, match="without https://, a host needs a dot or a port") as caught:
        split_url(pasted)
    assert "did you mean" not in str(caught.value)
    assert split_url(pasted, "http")[0].scheme == "http"  # the provider knows that such hosts are usual


@pytest.mark.parametrize("stop", ["\u3002", "\uff0e", "\uff61"])
def test_full_stop_of_another_script_is_refused(stop: str) -> None:
    with pytest.raises(ValueError, match=r"did you mean https://r\.openai\.azure\.com\?"):
        split_url(f"https://r.openai{stop}azure.com")
    with pytest.raises(ValueError, match=r"did you mean http://127\.0\.0\.1:80\?"):
        proxy_url(f"http://127{stop}0.0.1:80")


@pytest.mark.parametrize(
    ("host", "encoded"),
    [
        ("stra\u00dfe.example", "xn--strae-oqa.example"),
        ("STRA\u1e9eE.example", "xn--strae-oqa.example"),  # the capital, as the standard of browsers maps it
        ("strasse.example", "strasse.example"),
        ("\u03c2.example", "xn--3xa.example"),
        ("b\u00fccher.example.", "xn--bcher-kva.example."),
        ("\uff48.example", ""),
    ],
)
def test_host_has_the_ascii_form_of_idna_2008(host: str, encoded: str) -> None:
    assert ascii_host(host) == encoded
    assert same_origin(f"https://{host}/a", f"https://{encoded}/b") is bool(encoded)


def test_label_of_a_host_has_at_most_63_characters() -> None:
    for parse in (split_url, proxy_url):
        parse(f"https://{'a' * 63}.example")
        with pytest.raises(ValueError, match="URL"):
            parse(f"https://{'a' * 64}.example")


@pytest.mark.parametrize("pasted", ["https://{resource}.x.com", "https://<resource>.x.com/v1", "${URL}", "$API_URL"])
def test_placeholder_is_named(pasted: str) -> None:
    with pytest.raises(ValueError, match=r"without placeholders; replace [<{$]"):
        split_url(pasted)


@pytest.mark.parametrize(
    "pasted", ["sk-proj-hiddenword12345678", "Bearer sk-hidden1234word5678", "sk-hidden1234 word56"]
)
def test_key_in_the_place_of_a_url_is_refused_and_not_shown(pasted: str) -> None:
    with pytest.raises(ValueError, match=r"^a URL such as https://host") as caught:
        split_url(pasted)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("host", ["11434", "127.1", "0x7f000001", "2130706433", "1.2.3.4.5", "1.2.3", "h.example.8080"])
def test_number_that_is_no_whole_address_is_refused(host: str) -> None:
    for pasted in (host, f"http://{host}:8080/v1"):
        with pytest.raises(ValueError, match=r"a URL (with a host|such as https://host)"):
            split_url(pasted)
    with pytest.raises(ValueError, match="the URL of a proxy"):
        proxy_url(f"{host}:3128")


LOGINS = [
    "htps://u:hidden@h.example",
    "https//u:hidden@h.example",
    "https://u:hid den@h.example",
    "http://u:$hidden/@h",
]


@pytest.mark.parametrize("pasted", LOGINS)
def test_refused_url_shows_no_login(pasted: str) -> None:
    for parse in (split_url, proxy_url):
        with pytest.raises(ValueError, match="URL") as caught:
            parse(pasted)
        assert "hid" not in str(caught.value)


@pytest.mark.parametrize("start", ["https:/", "https:", "https//", "http;//", "'https://", "https:\\\\"])
def test_login_of_a_pasted_url_is_not_shown(start: str) -> None:
    assert "hidden" not in redact_url(f"{start}user:hidden@h.example/v1")


@pytest.mark.parametrize(
    ("pasted", "url"),
    [
        ("proxy:3128", "http://proxy:3128"),
        ("//proxy:3128", "http://proxy:3128"),
        ("'http://proxy:3128/'", "http://proxy:3128"),
        ("\ufeffhttp://proxy:3128", "http://proxy:3128"),
        ("::1", "http://[::1]"),
        ("HTTP://proxy:3128", "http://proxy:3128"),
    ],
)
def test_proxy_is_understood(pasted: str, url: str) -> None:
    assert proxy_url(pasted).lower() == url


@pytest.mark.parametrize(
    ("pasted", "probable"),
    [
        ("http:/proxy.example:3128", "http://proxy.example:3128"),
        ("http:proxy.example:3128", "http://proxy.example:3128"),
        ("http//proxy:3128", "http://proxy:3128"),
        ("http;//proxy:3128", "http://proxy:3128"),
        ("htp://proxy:3128", "http://proxy:3128"),
        ("socks5//proxy:1080", "socks5://proxy:1080"),
        ("http://http://proxy:3128", "http://proxy:3128"),
        ("http:///proxy:3128", "http://proxy:3128"),
        ("http://proxy .example:3128", "http://proxy.example:3128"),
        ("http://www.http://proxy:3128", None),
        ("http://proxy.example:3128\u2044", "http://proxy.example:3128"),
        ("http://\u2603:3128", None),
        ("http:3128", None),
        ("ftp://proxy:3128", None),
        ("socks4://proxy:1080", None),
        ("socks4a://127.0.0.1:33855", None),
    ],
)
def test_proxy_that_could_mean_another_host_is_refused(pasted: str, probable: str | None) -> None:
    with pytest.raises(ValueError, match=r"^the URL of a proxy") as caught:
        proxy_url(pasted)
    assert str(caught.value).partition("; did you mean ")[2] == ("" if probable is None else f"{probable}?")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]
)
def test_names_and_addresses_of_this_machine(host: str) -> None:
    assert is_loopback(host)


HOSTS = st.from_regex(
    r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?(\.[a-z][a-z0-9]{1,8}){1,3}(:[1-9][0-9]{1,3})?", fullmatch=True
)
URLS = st.builds(
    lambda scheme, host, path: f"{scheme}://{host}{path}",
    st.sampled_from(["http", "https"]),
    HOSTS,
    st.sampled_from(["", "/", "/v1", "/v1/chat/completions", "/openai/deployments/x?api-version=2024-10-21"]),
)
MISTAKES = st.sampled_from(
    [
        lambda url: url,
        lambda url: url.replace("://", ":/"),
        lambda url: url.replace("://", ":"),
        lambda url: url.replace("://", "//"),
        lambda url: url.replace("://", ";//"),
        lambda url: url.replace("://", ":///"),
        lambda url: url.replace("://", "/"),
        lambda url: url.replace("://", ":\\\\"),
        lambda url: url.replace("://", ": //"),
        lambda url: url.replace("/", "\\"),
        lambda url: url.replace("/", "\\/"),
        lambda url: url.replace(":", "："),
        lambda url: url.replace(".", "。"),
        lambda url: re.sub("^http(?=s?:)", "htp", url),
        lambda url: re.sub("^http(?=s?:)", "htttp", url),
        lambda url: re.sub("^http(?=s?:)", "ttp", url),
        lambda url: url.upper(),
        lambda url: url.partition("://")[2],
        lambda url: "//" + url.partition("://")[2],
        lambda url: f"https://{url}",
        lambda url: f"http:{url}",
        lambda url: f"<{url}>",
        lambda url: f"[x]({url})",
        lambda url: f"URL: {url}",
        lambda url: f"X={url}",
        lambda url: f'"{url}",',
        lambda url: f"{url}.",
        lambda url: f"{url}\u200b\n",
        lambda url: f"{url} {url}",
    ]
)


@settings(max_examples=500, deadline=None)
@given(URLS, st.lists(MISTAKES, min_size=1, max_size=2))
@example("https://a.example", [lambda url: url])
def test_mistyped_url_never_leads_to_another_host(url: str, mistakes: list[object]) -> None:
    wanted = urlsplit(url)
    pasted = url
    for mistake in mistakes:
        pasted = mistake(pasted)  # type: ignore[operator]
    for parse in (lambda text: split_url(text)[0].geturl(), proxy_url):
        try:
            found = parse(pasted)
        except ValueError as error:
            found = (re.findall(r"did you mean (\S+)\?$", str(error)) or [url])[0]
        host = (urlsplit(found).hostname or "").rstrip(".")
        host = idna.encode(host).decode()
        assert host == wanted.hostname, (pasted, found)


@given(st.text(max_size=40), st.sampled_from(["", "http:", "https://", "http//", "https://h.example"]))
def test_any_text_gives_a_url_or_a_value_error(text: str, start: str) -> None:
    for parse, schemes in (
        (lambda text: split_url(text)[0].geturl(), ("http", "https", "http+unix")),
        (proxy_url, PROXY_SCHEMES),
    ):
        try:
            url = parse(start + text)
        except ValueError:
            continue
        assert urlsplit(url).scheme in schemes
        assert parse(url) == url or "%2f" in url.lower()
        assert clean_url(url)
