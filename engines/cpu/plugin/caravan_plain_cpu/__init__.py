"""SGLang on plain CPU torch, by SGLang's own extension point for hardware platforms.

Found as entry point ``plain_cpu`` of the group ``sglang.srt.platforms``; it is the only platform in
the CPU environment, so SGLang takes it by itself (or by ``SGLANG_PLATFORM=plain_cpu``).
"""


def activate() -> str:
    """Return the name of the platform class; SGLang imports it when it needs it."""
    return "caravan_plain_cpu.platform.PlainCpu"
