"""What the settings of llamacpp take, and where the model's file is looked for."""

from pathlib import Path

import pytest
from trunkline.errors import ConfigurationError
from trunkline_llamacpp import model_file as model_file_module
from trunkline_llamacpp.model_file import find_model, packaged_model
from trunkline_llamacpp.settings import LlamaCppSettings


def test_nothing_is_required_and_a_model_is_always_named() -> None:
    settings = LlamaCppSettings()
    assert (settings.model_path, settings.context_length, settings.threads) == (None, 4096, 1)
    assert settings.default_model == "local"


def test_text_from_the_environment_is_taken_for_numbers() -> None:
    settings = LlamaCppSettings(context_length="2048", threads="2")  # type: ignore[arg-type]
    assert (settings.context_length, settings.threads) == (2048, 2)


@pytest.mark.parametrize(("name", "value"), [("context_length", 255), ("threads", 0)])
def test_a_bad_value_names_its_setting(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"setting '{name}'"):
        LlamaCppSettings(**{name: value})  # type: ignore[arg-type]


def test_making_settings_looks_for_no_file() -> None:
    assert LlamaCppSettings(model_path="/nowhere/model.gguf").model_path == "/nowhere/model.gguf"


def test_without_a_path_and_a_package_the_error_says_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_file_module, "MODEL_PACKAGES", ("trunkline_no_such_package",))
    with pytest.raises(ConfigurationError) as caught:
        find_model(None, service="mine")
    assert (caught.value.service, caught.value.setting) == ("mine", "model_path")
    for words in ("'mine'", "set model_path to a GGUF file", 'pip install "trunkline-llamacpp[model]"'):
        assert words in str(caught.value)


def test_the_package_is_found_without_being_imported(model_file: Path) -> None:
    import sys

    assert packaged_model() == model_file
    assert not set(model_file_module.MODEL_PACKAGES) & set(sys.modules)
    assert find_model(None, service="mine") == model_file


def test_the_first_package_that_has_a_model_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("without_a_model_1", "with_a_model_2", "with_a_model_3")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    for name in names[1:]:
        (tmp_path / name / "small.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(model_file_module, "MODEL_PACKAGES", ("not_installed", *names))
    assert packaged_model() == tmp_path / "with_a_model_2" / "small.gguf"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "which does not exist"),
        (b"", "is not a GGUF file"),
        (b"GGU", "is not a GGUF file"),
        (b"PK\x03\x04", "is not a GGUF file"),
    ],
)
def test_a_file_that_is_missing_or_something_else_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        find_model(str(path), service="mine")
    assert str(path) in str(caught.value)
    assert (caught.value.service, caught.value.setting) == ("mine", "model_path")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="which is a directory"):
        find_model(str(tmp_path), service="mine")


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert find_model("~/model.gguf", service="mine") == tmp_path / "model.gguf"
