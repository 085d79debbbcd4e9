"""llama.cpp, through the package `xllamacpp`. Everything here blocks, and is called in worker threads.

A server of xllamacpp always listens on a socket, although its handlers are called directly here. To make it
unreachable, the socket is in a private directory that is removed as soon as the server listens, and the server gets a
random key.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

import attrs
from trunkline.errors import ConfigurationError
from trunkline.settings import setting_error

BATCH = 64
"""Tokens of a prompt that are processed at once. Processing can be stopped between batches. On a CPU, this size is at
most a tenth slower than larger ones."""

EMBEDDING_BATCH = 2048
"""The longest text to embed, in tokens. It is processed at once, so memory grows with its square."""


class Server(Protocol):
    """The methods of `xllamacpp.Server` in use. The callback receives JSON; if it returns true, computing stops."""

    def handle_chat_completions(self, body: str, callback: Callable[[str], bool], /) -> None: ...

    def handle_embeddings(self, body: str, /) -> str: ...


@attrs.frozen(kw_only=True)
class Model:
    """A model file, and the options for loading it."""

    service: str
    path: Path
    context_length: int
    threads: int

    def load(self, purpose: Literal["chat", "embeddings"]) -> Server:
        """Load the model. Raises `ConfigurationError` if llama.cpp cannot load it.

        xllamacpp holds the interpreter's lock here, so all other threads wait. To be quick, the warm-up run is skipped,
        and fitting to the GPU if there is none.
        """
        try:
            import xllamacpp as untyped  # type: ignore[import-untyped]
        except ImportError as error:
            raise ConfigurationError(
                f"service {self.service!r}: xllamacpp, which contains llama.cpp, cannot be imported: {error}",
                service=self.service,
            ) from error
        xllamacpp: Any = untyped
        params = xllamacpp.CommonParams()
        params.model.path = str(self.path)
        params.model_alias = {self.path.stem}
        params.n_ctx = self.context_length
        params.n_parallel = 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self.threads
        params.n_threads_http = 1
        params.n_batch = params.n_ubatch = BATCH
        if purpose == "embeddings":
            params.embedding = True
            params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
            params.n_batch = params.n_ubatch = min(self.context_length, EMBEDDING_BATCH)
        params.use_jinja = True
        # The cache of old conversations would take up to 8 GB. The last conversation is kept without it.
        params.cache_ram_mib = 0
        params.warmup = False
        cpu = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
        params.fit_params = any(device["type"] != cpu for device in xllamacpp.get_device_info())
        params.verbosity = -1
        params.ui = False
        params.api_keys = [secrets.token_urlsafe(32)]
        folder = tempfile.mkdtemp(prefix="trunkline-")
        try:
            # The path of a socket is limited, on macOS to 104 bytes.
            if hasattr(socket, "AF_UNIX") and len(folder) < 90:
                params.hostnames = [f"{folder}/llama.sock"]
            server: Server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise setting_error(
                "model_path",
                f"is {str(self.path)!r}, which llama.cpp cannot load: the file may be truncated, its architecture "
                f"unknown to this version, or the model too large for the memory ({error})",
                service=self.service,
            ) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return server
