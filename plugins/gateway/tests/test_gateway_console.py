"""The console: signing in, its protection, and its pages."""

from __future__ import annotations

import csv
import datetime
import json
import logging
import re
import shlex
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import attrs
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from streaming_server import streaming_server
from trunkline import ModelInfo
from trunkline_gateway import Gateway, GatewaySettings
from trunkline_gateway.console.admin_key import ensure_admin_key, is_admin_key, replace_admin_key
from trunkline_gateway.console.app import LIFETIME, STATIC
from trunkline_gateway.console.providers import installed_providers
from trunkline_gateway.console.sign_in_attempts import SignInAttempts
from trunkline_gateway.database.connecting import DatabaseError
from trunkline_gateway.database.engine import Database
from trunkline_gateway.database.services import ServiceStore, StoredService
from trunkline_gateway.database.sessions import SessionStore
from trunkline_gateway.encryption import Encryption
from trunkline_gateway.keys import Budget, KeyDraft, digest
from trunkline_gateway.models import OfferedModel
from trunkline_gateway.running import RunningCall
from trunkline_gateway.usage import CallRecord

pytestmark = pytest.mark.anyio

HOSTILE = "\"'><script>alert(1)</script>{{7*7}}"


def csrf_of(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None
    return found[1]


KEY = "an-admin-key-of-the-tests"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with Gateway(GatewaySettings(data_dir=tmp_path, admin_key=KEY)) as gateway:
        for state in gateway.services.states():  # the embedded model of the first start
            await gateway.services.delete(state.name)
        yield gateway


@pytest.fixture
async def visitor(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(gateway.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as client:
        yield client


async def sign_in(client: httpx.AsyncClient, key: str) -> httpx.Response:
    page = await client.get("/console/sign-in")
    return await client.post("/console/sign-in", data={"csrf": csrf_of(page.text), "key": key})


@pytest.fixture
async def admin(gateway: Gateway, visitor: httpx.AsyncClient) -> httpx.AsyncClient:
    assert (await sign_in(visitor, KEY)).status_code == 303
    return visitor


async def submit(client: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    page = await client.get("/console/services")
    return await client.post(f"/console{path}", data={"csrf": csrf_of(page.text), **fields})


async def test_every_providers_form_is_drawn_and_submitted_with_blanks(admin: httpx.AsyncClient) -> None:
    providers, broken = installed_providers()
    assert not broken
    assert len(providers) >= 14
    for name in providers:
        page = await admin.get(f"/console/services/new/{name}")
        assert page.status_code == 200, name
        blanks = dict.fromkeys(re.findall(r'name="((?:s|w0|l)\.[^"]+)"', page.text), "")
        response = await submit(admin, f"/services/new/{name}", **blanks, name=f"my-{name}")
        assert response.status_code in (303, 422), name
        if response.status_code == 422:
            assert "Required" in response.text, name


PAGES = (
    "/",
    "/services",
    "/services/new",
    "/services/new/bedrock",
    "/playground",
    "/keys",
    "/keys/new",
    "/usage",
    "/usage.csv",
    "/calls",
    "/log",
    "/about",
)


async def test_each_page_is_closed_without_a_session(visitor: httpx.AsyncClient) -> None:
    for path in (*PAGES, "/service/edit/main", "/key/edit/1", "/playground/models"):
        response = await visitor.get(f"/console{path}")
        assert response.status_code == 303, path
        assert response.headers["location"].startswith("/console/sign-in"), path
    response = await visitor.post("/console/services/new/openai", data={"name": "main"})
    assert response.headers["location"] == "/console/sign-in"


async def test_without_an_admin_key_nobody_can_sign_in(tmp_path: Path) -> None:
    async with await Database.open(f"sqlite:///{tmp_path / 'gateway.sqlite3'}") as database:
        sessions = SessionStore(database)
        for key in ("", "None", "admin"):
            assert not await is_admin_key(sessions, key)


async def test_a_wrong_key_is_refused_and_attempts_are_limited(visitor: httpx.AsyncClient) -> None:
    wrong = [KEY[:-1], KEY + "x", KEY.upper(), "ключ", "\ufffd", "\0" * 100]
    assert [(await sign_in(visitor, each)).status_code for each in wrong] == [401] * len(wrong)
    assert (await visitor.get("/console/services")).status_code == 303
    codes = [(await sign_in(visitor, "wrong")).status_code for _ in range(6)]
    assert codes == [401, 401, 401, 401, 429, 429]
    assert (await sign_in(visitor, KEY)).status_code == 429


def test_attempts_are_limited_for_each_address_and_for_all() -> None:
    now = 0.0
    attempts = SignInAttempts(per_address=2, of_all=3, clock=lambda: now)
    assert [attempts.begin("a") for _ in range(3)] == [True, True, False]
    attempts.succeeded("a")
    assert [attempts.begin("a"), attempts.begin("b"), attempts.begin("c")] == [True, True, False]
    now = 60.0
    assert attempts.begin("a")


async def test_the_admin_key_is_made_once_and_stored_as_its_digest(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path)
    async with await Database.open(settings.database_url) as database:
        sessions = SessionStore(database)
        first = await ensure_admin_key(sessions, settings)
        assert first is not None
        assert await ensure_admin_key(sessions, settings) is None
        assert await sessions.get_value("admin_key") == digest(first)
        assert await is_admin_key(sessions, first)
        cookie, _ = await sessions.create("admin", LIFETIME)
        second = await replace_admin_key(sessions)
        assert not await is_admin_key(sessions, first)
        assert await is_admin_key(sessions, second)
        assert await sessions.find(cookie) is None


@pytest.mark.parametrize("blank", ["", " ", "\n"])
async def test_a_blank_admin_key_in_the_settings_is_none_and_nobody_signs_in_with_it(
    tmp_path: Path, blank: str
) -> None:
    async with Gateway(GatewaySettings(data_dir=tmp_path, admin_key=blank)) as gateway:
        assert gateway.new_admin_key is not None
        assert await is_admin_key(gateway.sessions, gateway.new_admin_key)
        for given in ("", " ", blank):
            assert not await is_admin_key(gateway.sessions, given)
        await gateway.sessions.set_value("admin_key", digest(""))
        assert not await is_admin_key(gateway.sessions, "")


async def test_another_admin_key_in_the_settings_ends_all_sessions(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path, admin_key="first")
    async with await Database.open(settings.database_url) as database:
        sessions = SessionStore(database)
        assert await ensure_admin_key(sessions, settings) is None
        cookie, _ = await sessions.create("admin", LIFETIME)
        await ensure_admin_key(sessions, settings)
        assert await sessions.find(cookie) is not None
        await ensure_admin_key(sessions, attrs.evolve(settings, admin_key="second"))
        assert await sessions.find(cookie) is None
        assert await is_admin_key(sessions, "second")


async def test_the_session_cookie_is_protected(visitor: httpx.AsyncClient) -> None:
    response = await sign_in(visitor, KEY)
    cookie = next(item for item in response.headers.get_list("set-cookie") if item.startswith("trunkline_session="))
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Max-Age=43200" in cookie
    assert "Secure" not in cookie


async def test_over_https_the_cookies_are_secure_and_bound_to_the_host(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path, admin_key=KEY, public_url="https://llm.test/prefix")
    async with (
        Gateway(settings) as gateway,
        httpx.AsyncClient(transport=httpx.ASGITransport(gateway.app), base_url="https://llm.test") as client,
    ):
        page = await client.get("/console/sign-in")
        assert 'action="/prefix/console/sign-in"' in page.text
        response = await sign_in(client, KEY)
        assert response.headers["location"] == "/prefix/console/"
        cookies = response.headers.get_list("set-cookie")
        assert all(item.startswith("__Host-") and "Secure" in item and "Path=/;" in item for item in cookies)


async def test_the_console_works_in_an_application_that_is_mounted(gateway: Gateway) -> None:
    parent = Starlette(routes=[Mount("/llm", app=gateway.app)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(parent), base_url="http://gateway.test") as client:
        assert (await client.get("/llm/")).headers["location"] == "/llm/console/"
        page = await client.get("/llm/console/sign-in")
        data = {"csrf": csrf_of(page.text), "key": KEY}
        response = await client.post("/llm/console/sign-in", data=data)
        assert response.headers["location"] == "/llm/console/"
        page = await client.get("/llm/console/about")
        assert "http://gateway.test/llm/v1" in page.text
        links = re.findall(r'(?:href|action|src)="(/[^"]*)"', page.text)
        assert links
        assert all(link.startswith("/llm/console/") for link in links)


async def test_signing_in_again_makes_another_session(gateway: Gateway, admin: httpx.AsyncClient) -> None:
    first = admin.cookies["trunkline_session"]
    await submit(admin, "/sign-out")
    assert await gateway.sessions.find(first) is None
    assert "trunkline_session" not in admin.cookies
    page = await admin.get("/console/sign-in")
    fixed, _ = await gateway.sessions.create("somebody", LIFETIME)
    admin.cookies.set("trunkline_session", fixed, domain="gateway.test", path="/")
    response = await admin.post("/console/sign-in", data={"csrf": csrf_of(page.text), "key": KEY})
    assert response.status_code == 303
    assert await gateway.sessions.find(fixed) is None


async def test_with_openid_connect_sessions_of_the_admin_key_end(gateway: Gateway, admin: httpx.AsyncClient) -> None:
    settings = attrs.evolve(
        gateway.settings, oidc_issuer="https://id.test", oidc_client_id="gateway", oidc_admins=("ada@example.com",)
    )
    gateway.settings = settings
    assert (await admin.get("/console/services")).status_code == 303
    page = await admin.get("/console/sign-in")
    assert "Admin key" not in page.text
    assert (await admin.post("/console/sign-in", data={"key": KEY})).status_code == 403
    for subject, status in (("ada@example.com", 200), ("eve@example.com", 303)):
        cookie, _ = await gateway.sessions.create(subject, LIFETIME)
        headers = {"cookie": f"trunkline_session={cookie}"}
        admin.cookies.clear()
        assert (await admin.get("/console/services", headers=headers)).status_code == status


@pytest.mark.parametrize("given", ["/services\r\nx: y", "/sérvices", "/\u2028", "/%zz", "/☃"])
async def test_a_malformed_page_to_go_to_is_quoted_in_the_headers_of_both_kinds(
    visitor: httpx.AsyncClient, given: str
) -> None:
    for headers, name in (({}, "location"), ({"hx-request": "true"}, "hx-redirect")):
        visitor.cookies.clear()
        page = await visitor.get("/console/sign-in")
        fields = {"csrf": csrf_of(page.text), "key": KEY, "next": given}
        response = await visitor.post("/console/sign-in", data=fields, headers=headers)
        assert response.status_code in (200, 303)
        assert response.headers[name].startswith("/console/")
        assert response.headers[name].isascii()
        assert "x" not in response.headers


async def test_after_signing_in_only_pages_of_the_console_follow(visitor: httpx.AsyncClient) -> None:
    for given, wanted in {
        "/services/new?x=1": "/console/services/new?x=1",
        "//evil.test": "/console/",
        "https://evil.test": "/console/",
        "/\\evil.test": "/console/",
        "javascript:alert(1)": "/console/",
    }.items():
        page = await visitor.get("/console/sign-in", params={"next": given})
        csrf = csrf_of(page.text)
        data = {"csrf": csrf, "key": KEY, "next": given}
        response = await visitor.post("/console/sign-in", data=data)
        assert response.headers["location"] == wanted
        visitor.cookies.clear()


async def test_a_form_without_its_token_or_from_elsewhere_is_refused(
    gateway: Gateway, admin: httpx.AsyncClient
) -> None:
    page = await admin.get("/console/services")
    token = csrf_of(page.text)
    await submit(admin, "/services/new/openai", **{"name": "main", "s.api_key": "sk-1234567890abcdef"})
    data = {"name": "fast", "target": "main/model"}
    for fields, headers in (
        ({}, {}),
        ({"csrf": "x"}, {}),
        ({"csrf": token[:-1]}, {}),
        ({"csrf": token}, {"origin": "https://evil.test"}),
        ({"csrf": token}, {"origin": "null"}),
        ({"csrf": token}, {"origin": "http://gateway.test:81"}),
        ({"csrf": token}, {"sec-fetch-site": "cross-site"}),
    ):
        response = await admin.post("/console/aliases", data={**data, **fields}, headers=headers)
        assert response.status_code == 403, (fields, headers)
    assert gateway.services.aliases == {}
    response = await admin.post(
        "/console/aliases", data={**data, "csrf": token}, headers={"origin": "http://gateway.test"}
    )
    assert response.status_code == 303
    assert gateway.services.aliases == {"fast": "main/model"}


async def test_each_response_has_a_strict_policy(admin: httpx.AsyncClient) -> None:
    for path in (*PAGES, "/nothing", "/static/console.css", "/sign-in"):
        response = await admin.get(f"/console{path}")
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "same-origin"
        if "/static/" not in path:
            assert response.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son[a-z]+=|javascript:", response.text), path


async def test_a_failure_is_a_page_with_the_policy(
    gateway: Gateway, admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("trunkline_gateway"), "propagate", True)
    for error, status, text in (
        (DatabaseError("the database postgresql://db.internal/x: gone"), 503, "The database does not answer"),
        (RuntimeError("sk-secret"), 500, "The log of the gateway says more"),
    ):

        async def fail(error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(gateway.keys, "list", fail)
        page = await admin.get("/console/keys")
        assert page.status_code == status
        assert text in page.text
        assert str(error) not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert str(error) in caplog.text

    async def find(cookie: str) -> None:
        raise DatabaseError("gone")

    monkeypatch.setattr(gateway.sessions, "find", find)
    page = await admin.get("/console/services")
    assert page.status_code == 503
    assert "The database does not answer" in page.text


@pytest.mark.parametrize("path", ["/sign-in", "/keys/new"])
async def test_a_form_with_surrogates_is_refused(admin: httpx.AsyncClient, path: str) -> None:
    fields = b'--x\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n+2AA-\r\n--x--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x; charset=utf-7"}
    response = await admin.post(f"/console{path}", content=fields, headers=headers)
    assert response.status_code == 400
    assert "characters that are not valid" in response.text


async def test_names_are_escaped_on_each_page(gateway: Gateway, admin: httpx.AsyncClient) -> None:
    name = "main"
    await gateway.services.save(name, {"provider": "openai", "default_model": HOSTILE}, {"api_key": "sk-1234567890"})
    await gateway.services.set_alias("fast", f"{name}/{HOSTILE}")
    key, _ = await gateway.keys.create(KeyDraft(name=HOSTILE, scopes=(HOSTILE,)))
    now = datetime.datetime.now(datetime.UTC)
    texts = {"key_name": HOSTILE, "service": name, "model": HOSTILE, "error": HOSTILE, "request": HOSTILE}
    gateway.record(
        CallRecord(id="1", key_id=key.id, api="/v1", started_at=now, outcome="error", status=500, seconds=1.0, **texts)
    )
    running = RunningCall(id="2", key_name=HOSTILE, key_id=1, service=name, model=HOSTILE, api="/v1")
    gateway.running.start(running)
    paths = ["/services", f"/service/edit/{name}", "/keys"]
    paths += [f"/key/edit/{key.id}", f"/key/revoke/{key.id}", "/usage", "/log", "/calls", "/playground"]
    paths += ["/playground/models", f"/playground?model={quote(HOSTILE)}", f"/services?done={quote(HOSTILE)}"]
    for path in paths:
        response = await admin.get(f"/console{path}")
        assert response.status_code == 200, path
        assert "<script>" not in response.text, path
        assert "script&gt;" in response.text, path
        assert "{{7*7}}" in response.text, path
    gateway.running.end(running)
    response = await submit(admin, "/services/new/openai", **{"name": f"{HOSTILE}/", "s.api_url": HOSTILE})
    assert response.status_code == 422
    assert "<script>alert" not in response.text
    table = (await admin.get("/console/usage.csv")).text
    assert "script" in table


async def test_a_service_is_added_changed_and_deleted(gateway: Gateway, admin: httpx.AsyncClient) -> None:
    secret = "sk-secret-of-a-test-1234"
    fields = {"name": "main", "s.api_key": secret, "s.default_model": "gpt-x", "s.max_retries": "3"}
    response = await submit(admin, "/services/new/openai", **fields)
    assert response.status_code == 303, response.text
    [state] = gateway.services.states()
    assert state.table == {"provider": "openai", "default_model": "gpt-x", "max_retries": 3}
    assert state.secrets == (("api_key", "1234"),)

    page = await admin.get("/console/service/edit/main")
    assert "sk-secret" not in page.text
    assert "ending in <code>1234</code>" in page.text
    response = await submit(admin, "/service/edit/main", **{"s.default_model": "gpt-y", "s.api_key": ""})
    assert response.status_code == 303
    [state] = gateway.services.states()
    assert state.secrets == (("api_key", "1234"),)
    assert state.default_model == "gpt-y"

    response = await submit(admin, "/service/edit/main", **{"s.api_key": "", "remove.s.api_key": "1"})
    assert response.status_code == 422
    response = await submit(admin, "/service/delete/main")
    assert response.status_code == 303
    assert gateway.services.states() == []


async def test_a_service_of_a_provider_that_is_gone_can_be_deleted(
    gateway: Gateway, admin: httpx.AsyncClient, tmp_path: Path
) -> None:
    store = ServiceStore(gateway.database, Encryption.from_file(tmp_path / "encryption.key"))
    await store.save(StoredService(name="main", table={"provider": "gone"}))
    await gateway.reload()
    assert (await admin.get("/console/service/edit/main")).status_code == 404
    page = await admin.get("/console/services")
    assert 'href="/console/service/delete/main"' in page.text
    page = await admin.get("/console/service/delete/main")
    assert 'href="/console/services">Cancel' in page.text
    assert (await submit(admin, "/service/delete/main")).status_code == 303
    assert gateway.services.states() == []


async def test_mistakes_are_shown_at_their_fields_and_what_was_typed_is_kept(admin: httpx.AsyncClient) -> None:
    fields = {"name": "main", "s.api_key": "sk-typed-key", "s.default_model": "kept", "s.max_retries": "many"}
    response = await submit(admin, "/services/new/openai", **fields)
    assert response.status_code == 422
    assert 'id="error-field-s-max_retries"' in response.text
    assert 'value="kept"' in response.text
    assert "sk-typed-key" not in response.text


async def test_a_mistake_in_another_setting_does_not_ask_for_the_secrets_again(admin: httpx.AsyncClient) -> None:
    fields = {"s.default_model": "m"}
    assert (await submit(admin, "/services/new/openai", name="main", **{"s.api_key": "sk-1"}, **fields)).is_redirect
    response = await submit(admin, "/service/edit/main", **fields, **{"s.max_retries": "many"})
    assert response.status_code == 422
    assert 'id="error-field-s-max_retries"' in response.text
    assert "entered again" not in response.text


async def test_only_the_chosen_way_counts(gateway: Gateway, admin: httpx.AsyncClient) -> None:
    fields = {"name": "aws", "s.aws_region": "us-east-1", "s.default_model": "m"}
    ways = {"w0.aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "w1.api_key": "bedrock-api-key-9876"}
    response = await submit(admin, "/services/new/bedrock", **fields, **ways, way="1")
    assert response.status_code == 303, response.text
    [state] = gateway.services.states()
    assert "aws_access_key_id" not in state.table
    assert state.secrets == (("api_key", "9876"),)
    response = await submit(admin, "/services/new/bedrock", **{**fields, "name": "other"}, **ways, way="0")
    assert response.status_code == 422
    assert 'id="error-field-w0-aws_secret_access_key"' in response.text


async def test_numbers_are_shown_as_they_were_entered_and_must_be_finite(admin: httpx.AsyncClient) -> None:
    fields = {"name": "a", "s.api_url": "http://127.0.0.1:9/v1"}
    for infinite in ("inf", "1e400", "nan", "9" * 400):  # which JSON, or a float, does not have
        refused = await submit(admin, "/services/new/openai-compatible", **fields, **{"s.total_timeout": infinite})
        assert refused.status_code == 422
    saved = await submit(admin, "/services/new/openai-compatible", **fields, **{"s.total_timeout": "1234567.5"})
    assert saved.is_redirect
    assert (await submit(admin, "/services/new/balance", name="b", **{"m.a": "0.12345678"})).is_redirect
    assert 'value="1234567.5"' in (await admin.get("/console/service/edit/a")).text
    assert 'value="0.12345678"' in (await admin.get("/console/service/edit/b")).text


async def test_a_composed_service_has_its_members_in_order(gateway: Gateway, admin: httpx.AsyncClient) -> None:
    for name in ("one", "two"):
        await submit(admin, "/services/new/openai", **{"name": name, "s.api_key": "sk-1", "s.default_model": "m"})
    fields = {"name": "both", "m.one": "2", "m.two": "1", "l.concurrency": "5"}
    response = await submit(admin, "/services/new/fallback", **fields)
    assert response.status_code == 303, response.text
    state = next(state for state in gateway.services.states() if state.name == "both")
    assert state.table == {"fallback": ["two", "one"], "limits": {"concurrency": 5}}
    page = await admin.get("/console/service/edit/both")
    assert 'name="m.two" value="1"' in page.text
    assert (await submit(admin, "/services/new/balance", name="empty")).status_code == 422
    response = await submit(admin, "/services/new/balance", **{"name": "evenly", "m.one": "2", "m.two": "0.5"})
    assert response.status_code in (303, 422)
    response = await submit(admin, "/service/delete/one")
    assert response.status_code == 422
    assert "both" in response.text


async def test_a_check_says_what_is_wrong_and_what_to_do(admin: httpx.AsyncClient) -> None:
    response = await submit(admin, "/services/check", provider="openai")
    assert "API Key: Required" in response.text
    with streaming_server() as url:
        fields = {"provider": "openai-compatible", "s.api_url": url, "s.default_model": "m"}
        response = await submit(admin, "/services/check", **fields)
        assert "The service works" in response.text
    response = await submit(admin, "/services/check", **fields)
    assert "The service does not work" in response.text
    assert "What to do:" in response.text


async def test_services_of_a_file_are_read_only(tmp_path: Path) -> None:
    file = tmp_path / "trunkline.toml"
    file.write_text('[services.main]\nprovider = "openai"\napi_key = "sk-1234567890abcd"\n', encoding="utf-8")
    settings = GatewaySettings(data_dir=tmp_path, admin_key=KEY, services=file)
    async with (
        Gateway(settings) as gateway,
        httpx.AsyncClient(transport=httpx.ASGITransport(gateway.app), base_url="http://gateway.test") as client,
    ):
        await sign_in(client, KEY)
        page = await client.get("/console/service/edit/main")
        assert page.status_code == 200
        assert "Save service" not in page.text
        assert "sk-1234" not in page.text
        assert (await client.get("/console/services/new")).status_code == 403
        for path in ("/service/edit/main", "/service/delete/main", "/services/new/openai", "/aliases"):
            response = await client.post(
                f"/console{path}", data={"csrf": csrf_of(page.text), "name": "x", "target": "y"}
            )
            assert response.status_code == 403


async def test_a_key_is_made_shown_once_changed_and_revoked(gateway: Gateway, admin: httpx.AsyncClient) -> None:
    fields = {"name": "app", "scopes": "main/*\nfast", "expires": "2999-12-31", "requests_per_minute": "1,000"}
    budget = {"budget_cost": "$2.50", "period": "day"}
    response = await submit(admin, "/keys/new", **fields, **budget)
    assert response.status_code == 200
    found = re.search(r"data-secret>(tlk_[^<]+)<", response.text)
    assert found is not None
    key = await gateway.keys.find(found[1])
    assert key is not None
    assert key.draft == KeyDraft(
        name="app",
        scopes=("main/*", "fast"),
        expires_at=datetime.datetime(3000, 1, 1, tzinfo=datetime.UTC),
        requests_per_minute=1000,
        budget=Budget(period="day", cost=2_500_000_000),
    )
    page = await admin.get("/console/keys")
    assert found[1] not in page.text
    assert key.prefix in page.text
    assert "$0.00 of $2.50 a day" in page.text
    page = await admin.get(f"/console/key/edit/{key.id}")
    assert 'value="2999-12-31"' in page.text
    assert 'value="2.5"' in page.text
    response = await submit(admin, f"/key/edit/{key.id}", name="renamed")
    assert response.status_code == 303
    assert (await gateway.keys.list())[0].draft == KeyDraft(name="renamed")
    response = await submit(admin, f"/key/revoke/{key.id}")
    assert response.status_code == 303
    assert (await gateway.keys.list())[0].revoked_at is not None
    assert (await admin.get("/console/key/edit/999")).status_code == 404


async def test_mistakes_in_a_key_are_shown_at_their_fields(admin: httpx.AsyncClient) -> None:
    fields = {
        "name": "",
        "scopes": "x" * 201,
        "expires": "9999-12-31",
        "requests_per_minute": "-1",
        "tokens_per_minute": "1e3",
        "budget_cost": "NaN",
        "budget_tokens": "9" * 40,
    }
    response = await submit(admin, "/keys/new", **fields)
    assert response.status_code == 422
    assert response.text.count('class="error"') == len(fields)
    for cost in ("1e400", "Infinity", "-1", "0", "0x10", "1e-12"):
        response = await submit(admin, "/keys/new", name="x", budget_cost=cost)
        assert response.status_code == 422, cost


async def test_usage_is_added_up_and_downloaded(gateway: Gateway, admin: httpx.AsyncClient) -> None:
    now = datetime.datetime.now(datetime.UTC)
    for number in range(3):
        gateway.record(
            CallRecord(
                id=str(number),
                key_id=None,
                key_name="=cmd()",
                service="main",
                model="m",
                api="/v1/chat/completions",
                started_at=now,
                outcome="ok" if number else "error",
                status=200,
                seconds=0.5,
                input_tokens=1000,
                output_tokens=10,
                cost=1_500_000_000,
            )
        )
    for group in ("day", "key", "service", "model", "nonsense"):
        page = await admin.get("/console/usage", params={"by": group})
        assert "$4.50" in page.text
        assert page.text.count('<svg class="chart"') == 3
    response = await admin.get("/console/usage.csv")
    assert response.headers["content-type"].startswith("text/csv")
    [row] = list(csv.DictReader(response.text.splitlines()))
    assert row["requests"] == "3"
    assert row["cost_usd"] == "4.500000000"
    assert row["key"] == "'=cmd()"
    empty = await admin.get("/console/usage", params={"since": "2001-01-01", "until": "2001-01-05"})
    assert "No calls in these days" in empty.text
    for since, until in (("x", "y"), ("9999-12-31", "0001-01-01"), ("0001-01-01", "8999-12-31")):
        assert (await admin.get("/console/usage", params={"since": since, "until": until})).status_code == 200


async def test_the_log_has_pages_and_filters(gateway: Gateway, admin: httpx.AsyncClient) -> None:
    now = datetime.datetime.now(datetime.UTC)
    for number in range(120):
        gateway.record(
            CallRecord(
                id=f"call-{number:03}",
                key_id=None,
                key_name="console",
                service="odd" if number % 2 else "even",
                model="m",
                api="playground",
                started_at=now + datetime.timedelta(milliseconds=number),
                outcome="ok",
                status=200,
                seconds=0.5,
            )
        )
    shown: list[str] = []
    path: str | None = "/console/log?model=odd"
    while path is not None:
        page = await admin.get(path)
        shown += re.findall(r"Request <code>(call-\d+)", page.text)
        older = re.search(r'href="([^"]+)">Older', page.text)
        path = None if older is None else older[1].replace("&amp;", "&")
    assert shown == [f"call-{number:03}" for number in range(119, 0, -2)]
    page = await admin.get("/console/log?outcome=error&key=1&before=nothing")
    assert "No call here matches" in page.text


async def test_calls_in_flight_are_shown_and_cancelled(gateway: Gateway, admin: httpx.AsyncClient) -> None:
    call = RunningCall(id="abc", key_name="app", key_id=1, service="main", model="m", api="/v1/responses")
    gateway.running.start(call)
    page = await admin.get("/console/calls")
    assert "main/m" in page.text
    part = await admin.get("/console/calls", headers={"hx-request": "true"})
    assert "<html" not in part.text
    assert "main/m" in part.text
    await submit(admin, "/calls/cancel", id="abc")
    assert call.is_cancelled
    gateway.running.end(call)
    response = await submit(admin, "/calls/cancel", id="abc")
    assert "had+already+ended" in response.headers["location"]


async def ask(client: httpx.AsyncClient, path: str, body: dict[str, object], **headers: str) -> httpx.Response:
    page = await client.get("/console/services")
    token = {"x-csrf-token": csrf_of(page.text), "accept": "text/event-stream"}
    return await client.post(f"/console/playground/{path}", content=json.dumps(body), headers={**token, **headers})


async def test_the_playground_streams_and_counts(gateway: Gateway, admin: httpx.AsyncClient) -> None:
    with streaming_server() as url:
        await gateway.services.save("main", {"provider": "openai-compatible", "api_url": url}, {})
        body = {"model": "main/m", "messages": [{"role": "user", "content": "Why?"}], "max_tokens": 100}
        response = await ask(admin, "stream", body)
    events = [json.loads(line[6:]) for line in response.text.split("\n\n") if line.startswith("data: ")]
    assert [event["type"] for event in events] == ["start", "text", "text", "text", "text", "end"]
    assert "".join(event.get("text", "") for event in events) == "Blue is the colour."
    assert events[-1]["input_tokens"] == 10
    assert events[-1]["first_token_seconds"] <= events[-1]["seconds"]
    page = await admin.get("/console/log")
    assert events[-1]["id"] in page.text
    assert not list(gateway.running)


async def test_a_models_name_with_half_of_a_surrogate_pair_is_shown(
    gateway: Gateway, admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def offered() -> list[OfferedModel]:
        return [OfferedModel(info=ModelInfo(id="main/a\ud800"), service="main", names=())]

    monkeypatch.setattr(gateway.models, "list", offered)
    page = await admin.get("/console/playground/models")
    assert page.status_code == 200
    assert "main/a?" in page.text


async def test_the_playground_says_why_a_call_failed(gateway: Gateway, admin: httpx.AsyncClient) -> None:
    await gateway.services.save("main", {"provider": "openai-compatible", "api_url": "http://127.0.0.1:9"}, {})
    messages = [{"role": "user", "content": "Why?"}]
    response = await ask(admin, "stream", {"model": "main/m", "messages": messages})
    assert '"type":"error"' in response.text.replace(" ", "")
    for body in (
        {"model": "nothing/m", "messages": messages},
        {"model": "main/m", "messages": []},
        {"model": "main/m", "messages": messages, "temperature": "hot"},
        {"model": "main/m", "messages": messages, "max_tokens": 1.5},
        {"model": "main/m", "messages": messages, "tools": {"name": 1}},
        {"messages": 3},
        {"model": "main/m", "messages": [{"role": "user", "content": "\ud800"}]},
    ):
        response = await ask(admin, "stream", body)
        assert response.status_code in (400, 404), body
    assert (await ask(admin, "code", body)).status_code == 400
    response = await ask(admin, "stream", {"model": "main/m", "messages": messages}, **{"x-csrf-token": "wrong"})
    assert response.status_code == 403


async def test_the_code_of_a_call_is_valid_whatever_it_says(admin: httpx.AsyncClient) -> None:
    text = 'It\'s "quoted", $HOME, `ls`, \\ and\nmore lines that are long enough for several of them'
    body = {
        "model": "main/m",
        "system": text,
        "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text}],
        "temperature": 0.5,
        "max_tokens": 100,
        "reasoning_effort": "low",
        "tools": [{"name": "f", "parameters": {"type": "object", "properties": {}}}],
    }
    found = (await ask(admin, "code", body)).json()
    for language in ("python", "openai"):
        compile(found[language], language, "exec")
    words = shlex.split(found["curl"].replace("\\\n", " "))
    sent = json.loads(words[-1])
    assert sent["messages"][0] == {"role": "system", "content": text}
    assert words[2] == "http://gateway.test/v1/chat/completions"


def test_the_copies_of_other_peoples_files_are_as_noted() -> None:
    noted = (STATIC / "README.md").read_text(encoding="utf-8")
    digest_of_copy = sha256((STATIC / "htmx.min.js").read_bytes()).hexdigest()
    assert digest_of_copy in noted
