"""Envmill's channel into vLLM: requests and tokens over shared memory, not HTTP.

vLLM loads this package into its API server, as the plugin ``envmill``::

    VLLM_PLUGINS=envmill ENVMILL_VLLM_SOCKET=/run/user/1000/vllm.sock vllm serve MODEL

It opens a Unix socket where engines of the same user come (``VllmMemory`` in Rust), and tells over HTTP,
at ``GET /v1/envmill``, where that is. Nothing but the standard library is imported before vLLM asks for it. What the rows are is in
``docs/inference.md``, and what a ring is in ``docs/ring.md``.
"""

from envmill_vllm.plugin import Plugin

__all__ = ["Plugin"]
