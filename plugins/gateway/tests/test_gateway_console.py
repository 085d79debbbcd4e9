"""The console: signing in, its protection, and its pages."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from hashlib import sha256
from urllib.parse import quote

import httpx
import pytest
from console_support import Stub
from starlette.applications import Starlette
from starlette.routing import Mount
from trunkline_gateway.console.admin_key import ensure_admin_key
from trunkline_gateway.console.app import STATIC
from trunkline_gateway.console.providers import installed_providers
from trunkline_gateway.console.routes import console_routes
from trunkline_gateway.keys import digest
from trunkline_gateway.settings import GatewaySettings

pytestmark = pytest.mark.anyio

HOSTILE = "\"'><script>alert(1)</script>{{7*7}}"


def csrf_of(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None
    return found[1]


@pytest.fixture
def gateway() -> Stub:
    return Stub()


@pytest.fixture
async def visitor(gateway: Stub) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=[Mount("/console", routes=console_routes(gateway))])  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as client:
        yield client


async def sign_in(client: httpx.AsyncClient, key: str) -> httpx.Response:
    page = await client.get("/console/sign-in")
    return await client.post("/console/sign-in", data={"csrf": csrf_of(page.text), "key": key})


@pytest.fixture
async def admin(gateway: Stub, visitor: httpx.AsyncClient) -> httpx.AsyncClient:
    key = await ensure_admin_key(gateway.sessions, gateway.settings)  # type: ignore[arg-type]
    assert key is not None
    response = await sign_in(visitor, key)
    assert response.status_code == 303
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


async def test_each_page_is_closed_without_a_session(visitor: httpx.AsyncClient) -> None:
    for path in ("/", "/services", "/services/new", "/services/new/openai", "/service/edit/main"):
        response = await visitor.get(f"/console{path}")
        assert response.status_code == 303, path
        assert response.headers["location"].startswith("/console/sign-in"), path
    response = await visitor.post("/console/services/new/openai", data={"name": "main"})
    assert response.headers["location"] == "/console/sign-in"


async def test_without_an_admin_key_nobody_can_sign_in(visitor: httpx.AsyncClient) -> None:
    for key in ("", "None", "admin"):
        assert (await sign_in(visitor, key)).status_code == 401


async def test_a_wrong_key_is_refused_and_attempts_are_limited(gateway: Stub, visitor: httpx.AsyncClient) -> None:
    key = await ensure_admin_key(gateway.sessions, gateway.settings)  # type: ignore[arg-type]
    assert key is not None
    wrong = [key[:-1], key + "x", key.upper(), "ключ", "\ud800".encode("utf-8", "replace").decode(), "\0" * 100]
    codes = [(await sign_in(visitor, each)).status_code for each in wrong]
    assert codes == [401] * len(wrong)
    assert (await visitor.get("/console/services")).status_code == 303
    codes = [(await sign_in(visitor, "wrong")).status_code for _ in range(6)]
    assert codes == [401, 401, 401, 401, 429, 429]
    assert (await sign_in(visitor, key)).status_code == 429


async def test_the_admin_key_is_made_once(gateway: Stub) -> None:
    first = await ensure_admin_key(gateway.sessions, gateway.settings)  # type: ignore[arg-type]
    assert first is not None
    assert await ensure_admin_key(gateway.sessions, gateway.settings) is None  # type: ignore[arg-type]
    assert first not in gateway.sessions.values.values()


async def test_the_session_cookie_is_protected(gateway: Stub, visitor: httpx.AsyncClient) -> None:
    key = await ensure_admin_key(gateway.sessions, gateway.settings)  # type: ignore[arg-type]
    response = await sign_in(visitor, str(key))
    cookie = next(item for item in response.headers.get_list("set-cookie") if item.startswith("trunkline_session="))
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Max-Age=43200" in cookie
    assert "Secure" not in cookie


async def test_over_https_the_cookies_are_secure_and_bound_to_the_host() -> None:
    gateway = Stub(settings=GatewaySettings(public_url="https://llm.test/prefix"))
    app = Starlette(routes=[Mount("/console", routes=console_routes(gateway))])  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://llm.test") as client:
        key = await ensure_admin_key(gateway.sessions, gateway.settings)  # type: ignore[arg-type]
        page = await client.get("/console/sign-in")
        assert 'action="/prefix/console/sign-in"' in page.text
        response = await sign_in(client, str(key))
        assert response.headers["location"] == "/prefix/console/"
        cookies = response.headers.get_list("set-cookie")
        assert all(item.startswith("__Host-") and "Secure" in item and "Path=/;" in item for item in cookies)


async def test_signing_in_again_ends_the_session_before(gateway: Stub, admin: httpx.AsyncClient) -> None:
    before = dict(gateway.sessions.sessions)
    fixed = next(iter(before))
    await admin.post("/console/sign-out", data={"csrf": before[fixed].csrf})
    assert gateway.sessions.sessions == {}
    await gateway.sessions.set_value("admin_key", digest("known"))
    page = await admin.get("/console/sign-in")
    admin.cookies.set("trunkline_session", fixed, domain="gateway.test", path="/")
    data = {"csrf": csrf_of(page.text), "key": "known"}
    response = await admin.post("/console/sign-in", data=data)
    assert response.status_code == 303
    assert fixed not in gateway.sessions.sessions
    assert len(gateway.sessions.sessions) == 1


async def test_after_signing_in_only_pages_of_the_console_follow(gateway: Stub, visitor: httpx.AsyncClient) -> None:
    await gateway.sessions.set_value("admin_key", digest("known"))
    for given, wanted in {
        "/services/new?x=1": "/console/services/new?x=1",
        "//evil.test": "/console/",
        "https://evil.test": "/console/",
        "/\\evil.test": "/console/",
        "javascript:alert(1)": "/console/",
    }.items():
        page = await visitor.get("/console/sign-in", params={"next": given})
        csrf = csrf_of(page.text)
        data = {"csrf": csrf, "key": "known", "next": given}
        response = await visitor.post("/console/sign-in", data=data)
        assert response.headers["location"] == wanted
        visitor.cookies.clear()


async def test_a_form_without_its_token_or_from_elsewhere_is_refused(gateway: Stub, admin: httpx.AsyncClient) -> None:
    page = await admin.get("/console/services")
    token = csrf_of(page.text)
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
    for path in ("/services", "/services/new", "/services/new/bedrock", "/nothing", "/static/console.css", "/sign-in"):
        response = await admin.get(f"/console{path}")
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "same-origin"
        if "/static/" not in path:
            assert response.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son[a-z]+=|javascript:", response.text), path


async def test_names_are_escaped_on_each_page(gateway: Stub, admin: httpx.AsyncClient) -> None:
    gateway.services.tables[HOSTILE] = ({"provider": "openai", "default_model": HOSTILE}, {"api_key": HOSTILE})
    gateway.services.aliases[HOSTILE] = HOSTILE
    for path in ("/services", f"/service/edit/{quote(HOSTILE)}", f"/service/delete/{quote(HOSTILE)}"):
        response = await admin.get(f"/console{path}")
        assert response.status_code == 200
        assert "<script>alert" not in response.text
        assert "&lt;script&gt;" in response.text or "script" not in response.text
    response = await submit(admin, "/services/new/openai", **{"name": f"{HOSTILE}/", "s.api_url": HOSTILE})
    assert response.status_code == 422
    assert "<script>alert" not in response.text


async def test_a_service_is_added_changed_and_deleted(gateway: Stub, admin: httpx.AsyncClient) -> None:
    fields = {"name": "main", "s.api_key": "sk-secret-1234", "s.default_model": "gpt-x", "s.max_retries": "3"}
    response = await submit(admin, "/services/new/openai", **fields)
    assert response.status_code == 303, response.text
    table, secrets = gateway.services.tables["main"]
    assert table == {"provider": "openai", "default_model": "gpt-x", "max_retries": 3}
    assert secrets == {"api_key": "sk-secret-1234"}

    page = await admin.get("/console/service/edit/main")
    assert "sk-secret" not in page.text
    assert "ending in <code>1234</code>" in page.text
    response = await submit(admin, "/service/edit/main", **{"s.default_model": "gpt-y", "s.api_key": ""})
    assert response.status_code == 303
    assert gateway.services.tables["main"][1] == {"api_key": "sk-secret-1234"}
    assert gateway.services.tables["main"][0]["default_model"] == "gpt-y"

    response = await submit(admin, "/service/edit/main", **{"s.api_key": "", "remove.s.api_key": "1"})
    assert response.status_code == 422
    response = await submit(admin, "/service/delete/main")
    assert response.status_code == 303
    assert gateway.services.tables == {}


async def test_mistakes_are_shown_at_their_fields_and_what_was_typed_is_kept(admin: httpx.AsyncClient) -> None:
    fields = {"name": "main", "s.api_key": "sk-typed-key", "s.default_model": "kept", "s.max_retries": "many"}
    response = await submit(admin, "/services/new/openai", **fields)
    assert response.status_code == 422
    assert 'id="error-field-s-max_retries"' in response.text
    assert 'value="kept"' in response.text
    assert "sk-typed-key" not in response.text


async def test_only_the_chosen_way_counts(gateway: Stub, admin: httpx.AsyncClient) -> None:
    fields = {"name": "aws", "s.aws_region": "us-east-1", "s.default_model": "m"}
    ways = {"w0.aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "w1.api_key": "bedrock-key-9876"}
    response = await submit(admin, "/services/new/bedrock", **fields, **ways, way="1")
    assert response.status_code == 303, response.text
    table, secrets = gateway.services.tables["aws"]
    assert "aws_access_key_id" not in table
    assert secrets == {"api_key": "bedrock-key-9876"}
    response = await submit(admin, "/services/new/bedrock", **{**fields, "name": "other"}, **ways, way="0")
    assert response.status_code == 422
    assert 'id="error-field-w0-aws_secret_access_key"' in response.text


async def test_a_composed_service_has_its_members_in_order(gateway: Stub, admin: httpx.AsyncClient) -> None:
    for name in ("one", "two"):
        await submit(admin, "/services/new/openai", **{"name": name, "s.api_key": "k", "s.default_model": "m"})
    fields = {"name": "both", "m.one": "2", "m.two": "1", "l.concurrency": "5"}
    response = await submit(admin, "/services/new/fallback", **fields)
    assert response.status_code == 303, response.text
    assert gateway.services.tables["both"][0] == {"fallback": ["two", "one"], "limits": {"concurrency": 5}}
    page = await admin.get("/console/service/edit/both")
    assert 'name="m.two" value="1"' in page.text
    response = await submit(admin, "/services/new/balance", name="empty")
    assert response.status_code == 422


async def test_a_check_says_what_is_wrong_and_what_to_do(admin: httpx.AsyncClient) -> None:
    response = await submit(admin, "/services/check", provider="openai")
    assert "API Key: Required" in response.text
    fields = {"provider": "openai", "s.api_key": "k", "s.default_model": "wrong"}
    response = await submit(admin, "/services/check", **fields)
    assert "No such model" in response.text
    assert "set default_model to another" in response.text


async def test_services_of_a_file_are_read_only(gateway: Stub, admin: httpx.AsyncClient) -> None:
    await submit(admin, "/services/new/openai", **{"name": "main", "s.api_key": "k"})
    gateway.services.read_only = True
    page = await admin.get("/console/service/edit/main")
    assert "Save service" not in page.text
    for path in ("/service/edit/main", "/service/delete/main", "/services/new/openai", "/aliases"):
        page = await admin.get("/console/services/new")
        assert page.status_code == 403
        csrf = next(iter(gateway.sessions.sessions.values())).csrf
        response = await admin.post(f"/console{path}", data={"csrf": csrf, "name": "x", "target": "y"})
        assert response.status_code == 403


def test_the_copies_of_other_peoples_files_are_as_noted() -> None:
    noted = (STATIC / "README.md").read_text(encoding="utf-8")
    digest_of_copy = sha256((STATIC / "htmx.min.js").read_bytes()).hexdigest()
    assert digest_of_copy in noted
