"""The demo model, SmolLM2-135M-Instruct: see MODEL_CARD.md."""
