"""Runs llama.cpp's own HTTP server, from the package xllamacpp, on a free port of 127.0.0.1.

    python llama_server.py MODEL.gguf --key KEY --alias NAME [--context 2048] [--embeddings | --rerank]

It prints `ready URL` when it listens. It stops on SIGTERM, and when its standard input is closed, so that it never
outlives the tests. It has one slot, so concurrent calls wait for one another.
"""

import argparse
import signal
import sys
import threading

import xllamacpp


def parameters(arguments: argparse.Namespace) -> xllamacpp.CommonParams:
    """Return llama.cpp's parameters."""
    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    params.model_alias = {arguments.alias}
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.api_keys = [arguments.key]
    params.n_ctx, params.n_parallel = arguments.context, 1
    # Threads wait in busy loops, which is very slow if other processes use the same cores.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.use_jinja = True
    # Usage includes the tokens that were in the prompt cache. Without a cache, equal calls report equal usage.
    params.cache_prompt = False
    params.endpoint_slots = params.endpoint_metrics = True
    if arguments.embeddings:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    if arguments.rerank:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    return params


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--key", required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--embeddings", action="store_true")
    parser.add_argument("--rerank", action="store_true")
    arguments = parser.parse_args()

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server = xllamacpp.Server(parameters(arguments))
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    print("ready", server.listening_address, flush=True)
    stop.wait()


if __name__ == "__main__":
    main()
