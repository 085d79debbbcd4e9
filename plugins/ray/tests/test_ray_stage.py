"""The stage without Ray: an actor's class, called as Ray calls it. The provider is a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pytest
import trunkline
import trunkline_ray
from ray import cloudpickle
from ray_run import PROVIDER, provider_module
from trunkline.batch import MapStopped
from trunkline.errors import ConfigurationError, InvalidRequest
from trunkline_ray import recorded
from trunkline_ray.actor import TrunklineActor
from trunkline_ray.batch_stage import BatchStage
from trunkline_ray.recorded import RecordedRows
from trunkline_ray.stage import Stage, StageOptions

KEY = "sk-" + "k9" * 20


class Provider:
    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, value: object = None) -> Any:
        request = urllib.request.Request(self.url + path, None if value is None else json.dumps(value).encode())
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    @property
    def accepted(self) -> int:
        return int(self.ask("/stats")["accepted"])


@pytest.fixture(scope="module")
def process() -> Iterator[Provider]:
    with subprocess.Popen([sys.executable, str(PROVIDER)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Provider(process.stdout.readline().split()[1])
        process.terminate()


@pytest.fixture
def provider(process: Provider, monkeypatch: pytest.MonkeyPatch) -> Provider:
    monkeypatch.setenv("BATCH_KEY", KEY)
    settings = attrs_of(provider_module().Settings)
    process.ask("/control", settings)
    process.ask("/reset", {})
    return process


def attrs_of(settings: Callable[[], Any]) -> dict[str, object]:
    return dict(vars(settings()))


def configuration(provider: Provider) -> dict[str, object]:
    main = {"provider": "openai-compatible", "api_url": provider.url, "api_key": {"env": "BATCH_KEY"}}
    return {"services": {"main": {**main, "default_model": "batch", "max_retries": 0}}}


@pytest.fixture
def options(provider: Provider, tmp_path: Path) -> StageOptions:
    return StageOptions(
        run="run1",
        config=configuration(provider),
        service="main",
        journal=str(tmp_path / "journal"),
        operation="chat",
        request="[row {id}] {text}",
        system=None,
        params={},
        id_column="id",
        answer_type=None,
        answer_retries=0,
        concurrency=4,
        rows_per_request=1,
        retry_failed=False,
        patience=900.0,
        prefix="",
    )


@contextmanager
def opened(options: StageOptions) -> Iterator[Stage]:
    stage = Stage(options)
    try:
        yield stage
    finally:
        stage.close()


def table(ids: range, text: str = "hello") -> pa.Table:
    return pa.table({"id": list(ids), "text": [text] * len(ids)})


def rows(stage: Stage, block: pa.Table) -> list[dict[str, Any]]:
    return [row for piece in stage(block) for row in piece.to_pylist()]


def run(options: StageOptions, block: pa.Table) -> list[dict[str, Any]]:
    with opened(options) as stage:
        return rows(stage, block)


def right(row: dict[str, Any]) -> bool:
    return bool(row["response_text"] == provider_module().answer_to(f"[row {row['id']}] {row['text']}"))


def test_each_row_keeps_its_columns_and_order_and_gets_its_answer(provider: Provider, options: StageOptions) -> None:
    found = run(options, table(range(1200)))
    assert [row["id"] for row in found] == list(range(1200))
    assert all(map(right, found))
    assert {row["error_type"] for row in found} == {None}
    assert provider.ask("/stats")["most_in_flight"] <= 4


def test_blocks_that_run_at_once_share_the_bound_of_requests(provider: Provider, options: StageOptions) -> None:
    provider.ask("/control", {"latency": 0.01})
    with opened(options) as stage, ThreadPoolExecutor(4) as threads:
        blocks = [table(range(start, start + 20)) for start in range(0, 80, 20)]
        found = [row for block in threads.map(lambda block: rows(stage, block), blocks) for row in block]
    assert all(map(right, found))
    assert provider.ask("/stats")["most_in_flight"] == 4


def test_recorded_rows_are_answered_from_the_journals_of_all_processes(
    provider: Provider, options: StageOptions
) -> None:
    first = run(options, table(range(5)))
    run(options, table(range(5, 10)))
    found = run(attrs.evolve(options, run="run2"), table(range(10)))
    assert found[:5] == first
    assert all(map(right, found))
    assert provider.accepted == 10


def test_a_block_that_runs_again_in_the_same_process_sends_nothing(provider: Provider, options: StageOptions) -> None:
    with opened(options) as stage:
        assert rows(stage, table(range(5))) == rows(stage, table(range(5)))
    assert provider.accepted == 5


def test_the_journal_of_a_process_that_died_later_is_read_before_the_next_block(
    provider: Provider, options: StageOptions
) -> None:
    with opened(options) as stage:
        other = Stage(options)
        rows(other, table(range(5)))
        other.close()
        rows(stage, table(range(5)))
    assert provider.accepted == 5


def test_a_torn_last_line_is_asked_for_again(provider: Provider, options: StageOptions) -> None:
    run(options, table(range(5)))
    [journal] = Path(options.journal).iterdir()
    os.truncate(journal, journal.stat().st_size - 10)
    assert all(map(right, run(options, table(range(5)))))
    assert provider.accepted == 6


def test_a_refused_row_is_an_error_row_and_is_recorded(provider: Provider, options: StageOptions) -> None:
    provider.ask("/control", {"bad": 1.0})
    [row] = run(options, table(range(1)))
    assert (row["error_type"], row["error_status"], row["error_retryable"]) == ("BadRequest", 400, False)
    assert row["response_text"] is None
    provider.ask("/control", {"bad": 0.0})
    assert run(attrs.evolve(options, run="run2"), table(range(1))) == [row]
    assert provider.accepted == 0
    [again] = run(attrs.evolve(options, run="run3", retry_failed=True), table(range(1)))
    assert right(again)


def test_a_row_without_the_column_of_the_template_is_an_error_row(options: StageOptions) -> None:
    [row] = run(options, pa.table({"id": [1]}))
    assert row["error_type"] == "InvalidRequest"
    assert "no column 'text'" in row["error_message"]


def test_two_rows_with_one_id_are_not_given_one_answer(provider: Provider, options: StageOptions) -> None:
    block = pa.table({"id": [1, 1], "text": ["one", "other"]})
    first, second = run(options, block)
    assert right(first)
    assert second["error_type"] == "InvalidRequest"
    assert "ids must be unique" in second["error_message"]
    assert provider.accepted == 1


def test_a_folder_with_answers_to_other_requests_is_refused(provider: Provider, options: StageOptions) -> None:
    run(options, table(range(1)))
    with pytest.raises(InvalidRequest, match="answers to other requests"):
        Stage(attrs.evolve(options, request="Other: {text}"))


def test_rows_whose_request_has_no_lasting_repr_are_found_again(provider: Provider, options: StageOptions) -> None:
    def conversation(row: Mapping[str, object]) -> Iterator[trunkline.Message]:
        yield trunkline.user(f"[row {row['id']}] {row['text']}")

    generated = attrs.evolve(options, request=conversation)
    run(generated, table(range(1)))
    [row] = run(generated, table(range(1)))
    assert right(row)
    assert provider.accepted == 1


def test_two_rows_with_one_id_and_other_pictures_are_not_given_one_answer(
    provider: Provider, options: StageOptions
) -> None:
    block = pa.table({"id": [1, 1], "picture": [b"\x89PNG one", b"\x89PNG other"]})
    drawn = attrs.evolve(
        options,
        request=lambda row: trunkline.user("[row 1]", trunkline.Image(data=row["picture"], media_type="image/png")),
    )
    first, second = run(drawn, block)
    assert first["error_type"] is None
    assert "ids must be unique" in second["error_message"]


def test_a_folder_that_another_run_writes_to_is_refused(options: StageOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "LONGEST_WAIT", 0.0)
    with opened(options), pytest.raises(InvalidRequest, match="another run is writing"):
        Stage(attrs.evolve(options, run="run2"))


def test_a_wrong_key_ends_the_job_and_records_nothing(provider: Provider, options: StageOptions) -> None:
    provider.ask("/control", {"key": "another"})
    with pytest.raises(MapStopped) as raised:
        run(options, table(range(20)))
    assert KEY not in str(raised.value)
    assert cloudpickle.loads(cloudpickle.dumps(raised.value)).args == raised.value.args
    provider.ask("/control", {"key": ""})
    assert all(map(right, run(options, table(range(20)))))


def test_embeddings_of_several_rows_go_in_one_request(provider: Provider, options: StageOptions) -> None:
    embed = attrs.evolve(options, operation="embed", request="[row {id}] {text}", rows_per_request=5)
    found = run(embed, table(range(20)))
    expected = [provider_module().vector_of(f"[row {number}] hello") for number in range(20)]
    assert [row["response_embedding"] for row in found] == expected
    assert provider.ask("/stats")["requests"] == 4


def test_a_block_without_ids_is_refused(options: StageOptions) -> None:
    with pytest.raises(InvalidRequest, match="no column 'id'"):
        run(options, pa.table({"text": ["a"]}))
    with pytest.raises(InvalidRequest, match="a row has no id"):
        run(options, pa.table({"id": [None], "text": ["a"]}))


def test_columns_that_are_there_already_are_refused_unless_there_is_a_prefix(
    provider: Provider, options: StageOptions
) -> None:
    block = table(range(1)).append_column("response_text", [["x"]])
    with pytest.raises(InvalidRequest, match="prefix"):
        run(options, block)
    assert provider.accepted == 0
    [row] = run(attrs.evolve(options, prefix="second_"), block)
    assert row["response_text"] == "x"
    assert row["second_response_text"].startswith("[row 0]")


@pytest.mark.parametrize("open_stage", [Stage, BatchStage])
@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"service": "other"}, InvalidRequest),
        ({"journal": "/dev/null/journal"}, InvalidRequest),
        ({"config": "/nowhere.toml"}, ConfigurationError),
    ],
)
def test_an_actor_that_cannot_work_raises_its_error_for_the_first_block(
    options: StageOptions, open_stage: Any, changed: dict[str, Any], error: type[Exception]
) -> None:
    actor = TrunklineActor(open_stage, attrs.evolve(options, **changed))
    with pytest.raises(error) as raised:
        list(actor(table(range(1))))
    again = cloudpickle.loads(cloudpickle.dumps(raised.value))
    assert (type(again), str(again)) == (error, str(raised.value))


class FakeDataset:
    """Takes what Ray would pickle."""

    def map_batches(self, stage: type, **given: Any) -> Any:
        self.given = {"stage": stage, **given}
        return self

    @property
    def options(self) -> StageOptions:
        options: StageOptions = self.given["fn_constructor_kwargs"]["options"]
        return options


def mapped(config: Any, **given: Any) -> FakeDataset:
    dataset: Any = FakeDataset()
    trunkline_ray.map(dataset, "{text}", service="main", journal="journal", config=config, **given)
    return dataset


def test_relative_paths_of_a_configuration_are_those_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = {
        "provider": "openai",
        "api_key": {"file": "key.txt"},
        "headers": {"X-Team": {"file": Path("team.txt")}, "X-Other": {"env": "file"}},
        "ca_bundle": "ca.pem",
        "client_key": "~/client.pem",
        "default_model": "file",
    }
    config = mapped({"defaults": {"ca_bundle": Path("other.pem")}, "services": {"main": table}}).options.config
    assert config == {
        "defaults": {"ca_bundle": str(tmp_path / "other.pem")},
        "services": {
            "main": {
                **table,
                "api_key": {"file": str(tmp_path / "key.txt")},
                "headers": {"X-Team": {"file": str(tmp_path / "team.txt")}, "X-Other": {"env": "file"}},
                "ca_bundle": str(tmp_path / "ca.pem"),
            }
        },
    }


def test_the_folder_of_shared_limits_is_that_of_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    limits = trunkline_ray.ClusterLimits(name="main", concurrency=1, folder="limits")
    monkeypatch.chdir("/")
    assert limits.log == tmp_path / "limits" / "main"


def test_what_ray_pickles_has_a_reference_and_not_the_secret(provider: Provider) -> None:
    pickled = cloudpickle.dumps(mapped(configuration(provider)).given)
    assert b"BATCH_KEY" in pickled
    assert KEY.encode() not in pickled


def test_an_actor_takes_no_cpu_unless_asked(provider: Provider) -> None:
    assert mapped(configuration(provider)).given["num_cpus"] == 0
    assert mapped(configuration(provider), ray_options={"num_cpus": 1}).given["num_cpus"] == 1


@pytest.mark.parametrize(
    ("table", "place"),
    [
        ({"api_key": KEY}, "services.main.api_key"),
        ({"headers": {"Authorization": f"Bearer {KEY}"}}, "services.main.headers.Authorization"),
        ({"proxy": "http://user:pass-word@proxy.example"}, "services.main.proxy"),
        ({"api_url": f"https://{KEY}@api.example/v1"}, "services.main.api_url"),
        ({"api_url": f"https://api.example/v1?api-key={KEY}"}, "services.main.api_url"),
        ({"api_key": KEY.encode()}, "services.main.api_key"),
        ({"api_key": {"value": KEY}}, "services.main.api_key"),
        ({"headers": {"Authorization": {"value": KEY}}}, "services.main.headers.Authorization"),
        ({"secret_access_key": KEY}, "services.main.secret_access_key"),
        ({"provider": "unknown", "api_key": KEY}, "services.main.api_key"),
    ],
)
def test_a_configuration_with_a_secret_is_refused(table: dict[str, object], place: str) -> None:
    with pytest.raises(ConfigurationError, match=place) as raised:
        mapped({"services": {"main": {"provider": "openai", **table}}})
    assert KEY not in str(raised.value)
    assert "pass-word" not in str(raised.value)


def test_a_configuration_of_composed_services_without_secrets_is_accepted() -> None:
    openai = {"provider": "openai", "api_key": {"env": "KEY"}, "headers": {"X-App": "app", "X-Key": {"env": "KEY"}}}
    fallback = {"fallback": ["openai"], "total_timeout": 60, "tokens_per_minute": 5, "requests_per_minute": "none"}
    balance = {"balance": {"openai": 1}, "tokens_per_minute": "none"}
    config = {"services": {"openai": openai, "fallback": fallback, "balance": balance}}
    assert mapped(config).options.config == config


@pytest.mark.parametrize("given", [{"concurrency": 0}, {"rows_per_request": 2}, {"operation": "sing"}])
def test_wrong_arguments_are_refused_before_the_job_starts(provider: Provider, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        mapped(configuration(provider), **given)


def test_rows_are_found_by_ids_that_are_no_valid_unicode(tmp_path: Path) -> None:
    rows = RecordedRows(tmp_path, "run", {}, retry_failed=False)
    rows.append("\ud800", {"id": "\ud800", "row": 1})
    assert rows.find("\ud800") == {"id": "\ud800", "row": 1}
    rows.close()
