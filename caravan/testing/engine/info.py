"""``/model_info`` and ``/server_info``, as far as somebody reads them."""

from typing import Any

import msgspec

from caravan.testing.engine.bodies import VERSION
from caravan.testing.engine.load import Load
from caravan.testing.engine.state import State


def model_info(state: State) -> dict[str, Any]:
    """Return the answer of ``/model_info``."""
    options = state.options
    return {
        "model_path": options.model_path,
        "served_model_name": options.served_model_name,
        "tokenizer_path": options.model_path,
        "is_generation": not options.is_embedding,
        "preferred_sampling_params": None,
        "weight_version": "default",
        "load_format": "auto",
        "reasoning_parser": None,
        "disaggregation_mode": "null",
        "has_image_understanding": False,
        "has_audio_understanding": False,
        "model_type": state.model.model_type,
        "architectures": state.model.architectures,
    }


def server_info(state: State) -> dict[str, Any]:
    """Return the answer of ``/server_info``; like SGLang's it shows the key."""
    options = state.options
    most = options.context_length or state.model.max_position_embeddings
    told = msgspec.structs.asdict(options)
    return told | {
        "max_total_num_tokens": options.max_total_tokens,
        "max_req_input_len": min(most, options.max_total_tokens) - 6,
        "internal_states": [_internal(state, state.load)],
        "version": VERSION,
        "frontend": "python",
    }


def _internal(state: State, load: Load) -> dict[str, Any]:
    return {
        "last_gen_throughput": load.throughput,
        "effective_max_running_requests_per_dp": state.options.max_running_requests,
    }
