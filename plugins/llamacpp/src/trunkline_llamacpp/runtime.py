"""llama.cpp, by way of `xllamacpp`. Everything here blocks, and runs in worker threads.

A server of xllamacpp always listens, in answer to nobody here: its handlers are called directly. It therefore gets a
socket in a private folder that is removed as soon as it listens, so that no one can reach it, and a random key besides.
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
"""Tokens of a prompt that are read at once. The reading can be stopped between batches; smaller ones are not slower by
more than a tenth on a processor."""

EMBEDDING_BATCH = 2048
"""The longest text to embed, in tokens. It is computed at once, so memory grows with its square."""


class Server(Protocol):
    """What is used of `xllamacpp.Server`. The callback gets JSON texts; when it returns true, computing stops."""

    def handle_chat_completions(self, body: str, callback: Callable[[str], bool], /) -> None: ...

    def handle_embeddings(self, body: str, /) -> str: ...


@attrs.frozen(kw_only=True)
class Model:
    """What is loaded, and how."""

    service: str
    path: Path
    context_length: int
    threads: int

    def load(self, purpose: Literal["chat", "embeddings"]) -> Server:
        """Load the model. Raises `ConfigurationError` where llama.cpp cannot.

        The interpreter stands still meanwhile (xllamacpp does not release its lock here), so what only takes time is
        left out: the trial run, and fitting to a GPU where there is none.
        """
        try:
            import xllamacpp as untyped  # type: ignore[import-untyped]
        except ImportError as error:
            raise ConfigurationError(
                f"service {self.service!r}: xllamacpp, which brings llama.cpp, cannot be imported here: {error}",
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
        # Its copies of old conversations may otherwise take 8 GB. The last conversation is kept all the same.
        params.cache_ram_mib = 0
        params.warmup = False
        cpu = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
        params.fit_params = any(device["type"] != cpu for device in xllamacpp.get_device_info())
        params.verbosity = -1
        params.ui = False
        params.api_keys = [secrets.token_urlsafe(32)]
        folder = tempfile.mkdtemp(prefix="trunkline-")
        try:
            # Path lengths of sockets are limited, to 104 bytes on macOS.
            if hasattr(socket, "AF_UNIX") and len(folder) < 90:
                params.hostnames = [f"{folder}/llama.sock"]
            server: Server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise setting_error(
                "model_path",
                f"names {str(self.path)!r}, which llama.cpp cannot load: it may be cut short, of an architecture that "
                f"this llama.cpp does not know, or too large for the memory ({error})",
                service=self.service,
            ) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return server
