"""Decompression in bounded steps: each encoding, cut anywhere, with several members, and what follows the last."""

from __future__ import annotations

import gzip
import random
import sys
import zlib
from collections.abc import Callable

import pytest
from compressors import brotli, zstd
from trunkline._http import decompression
from trunkline._http.decompression import PIECE, DecodingError, decompressor, supported

random.seed(1)
TEXT = random.randbytes(70_000) + bytes(1_000_000) + b"the end"


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "raw deflate": raw_deflate,
    "br": brotli.compress,
    "zstd": zstd.compress,
}
EACH = pytest.mark.parametrize("name", list(PACK))


def unpacked(encoding: str, data: bytes, cut: int = PIECE) -> bytes:
    """Decompress data that arrives in pieces of `cut` bytes, and check that each step is bounded."""
    found, steps = decompressor(encoding), []
    for at in range(0, len(data), cut):
        steps.append(found.feed(data[at : at + cut]))
        while found.more:
            steps.append(found.feed(b""))
    assert max(map(len, steps), default=0) <= 2 * PIECE
    return b"".join(steps)


@EACH
@pytest.mark.parametrize("cut", [1, 2, 1000, PIECE])
def test_data_is_decompressed_wherever_it_is_cut(name: str, cut: int) -> None:
    text = TEXT if cut > 2 else TEXT[69_000:80_000]
    assert unpacked(name.removeprefix("raw "), PACK[name](text), cut) == text


@pytest.mark.parametrize("name", ["gzip", "zstd"])
@pytest.mark.parametrize("cut", [1, 1000, PIECE])
def test_all_members_are_decompressed(name: str, cut: int) -> None:
    pack = PACK[name]
    assert unpacked(name, b"".join(map(pack, [b"a", b"", b"b" * 3000, b"c"])), cut) == b"a" + b"b" * 3000 + b"c"


def test_frame_of_zstd_without_content_is_skipped() -> None:
    pack = PACK["zstd"]
    assert unpacked("zstd", pack(b"a") + b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + pack(b"b")) == b"ab"


@pytest.mark.parametrize("name", ["gzip", "deflate", "raw deflate"])
@pytest.mark.parametrize("rest", [bytes(20), b"no member"])
@pytest.mark.parametrize("cut", [1, PIECE])
def test_what_follows_the_last_member_is_ignored(name: str, rest: bytes, cut: int) -> None:
    assert unpacked(name.removeprefix("raw "), PACK[name](b"text") + rest, cut) == b"text"


@EACH
def test_data_that_is_cut_off_gives_what_there_is(name: str) -> None:
    packed = PACK[name](TEXT)
    assert TEXT.startswith(unpacked(name.removeprefix("raw "), packed[:-20]))


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_data_in_another_encoding_is_an_error(name: str) -> None:
    with pytest.raises(DecodingError):
        unpacked(name, b"\xff\xfe this is text")


def test_window_of_zstd_beyond_the_limit_of_http_is_an_error() -> None:
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    packer = zstd.ZstdCompressor(options=options)
    with pytest.raises(DecodingError):
        unpacked("zstd", packer.compress(b"text") + packer.flush())


@pytest.mark.parametrize("cut", [1, 1000, PIECE])
def test_layers_are_undone_in_reverse_order(cut: int) -> None:
    text = TEXT[69_000:90_000]
    assert unpacked("deflate, gzip, gzip", gzip.compress(gzip.compress(zlib.compress(text))), cut) == text


def test_too_many_layers_are_an_error() -> None:
    with pytest.raises(DecodingError, match="more than 3 times"):
        decompressor("gzip, gzip, gzip, gzip")


def test_either_package_for_brotli_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    decompression._factories.cache_clear()
    monkeypatch.setitem(sys.modules, "brotli", None)
    monkeypatch.setitem(sys.modules, "brotlicffi", brotli)
    assert "br" in supported()
    assert unpacked("br", brotli.compress(TEXT)) == TEXT
    monkeypatch.undo()
    decompression._factories.cache_clear()


def test_without_their_packages_brotli_and_zstd_are_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    decompression._factories.cache_clear()
    for name in ("brotli", "brotlicffi", "compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    assert set(supported()) == {"gzip", "deflate"}
    monkeypatch.undo()
    decompression._factories.cache_clear()
