"""The platform class. Written against SGLang 0.5.21; it served chat, LoRA and embeddings."""
# ruff: noqa: ANN401 - torch and SGLang are not installed where types are checked

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from sglang.srt.platforms.cpu import CpuSRTPlatform
from sglang.srt.platforms.device_mixin import PlatformEnum


class PlainCpu(CpuSRTPlatform):  # type: ignore[misc]  # SGLang is typed as Any here
    """A CPU that SGLang does not ask for ``sgl_kernel``, of which there is no CPU build on PyPI."""

    # SGLang's own CPU platform imports compiled kernels wherever it sees PlatformEnum.CPU.
    _enum = PlatformEnum.OOT

    def init_backend(self) -> None:
        """Make torch ignore requests for pinned memory, in each process of the engine.

        Pinned memory needs a driver; LoRA asks for it without asking the platform.
        """
        for name in ("tensor", "empty", "zeros", "ones", "full"):
            setattr(torch, name, _without_pinning(getattr(torch, name)))
        torch.Tensor.pin_memory = lambda self, *_args, **_kwargs: self

    def get_default_attention_backend(self) -> str:
        """Attention in plain torch operations."""
        return "torch_native"

    def get_mha_kv_pool_cls(self) -> type:
        """The KV pool of every GPU; it is plain torch."""
        from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool  # noqa: PLC0415 - circular

        return MHATokenToKVPool  # type: ignore[no-any-return]

    def get_paged_allocator_cls(self) -> Callable[..., Any]:
        """An allocator of single tokens: the paged one needs compiled kernels."""
        from sglang.srt.mem_cache.allocator import TokenToKVPoolAllocator  # noqa: PLC0415 - circular

        def allocator(size: int, *, page_size: int, **others: Any) -> Any:
            del page_size  # always 1
            return TokenToKVPoolAllocator(size, **others)

        return allocator


def _without_pinning(make: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(make)
    def made(*args: Any, pin_memory: bool = False, **kwargs: Any) -> Any:
        del pin_memory
        return make(*args, **kwargs)

    return made
