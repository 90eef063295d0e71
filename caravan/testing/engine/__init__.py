"""A fake engine: started by SGLang's command line, it says what SGLang 0.5.21 says.

``python -m caravan.testing.engine serve --model-path FOLDER --served-model-name NAME --port P …``

It starts in a quarter of a second and knows no model: an answer repeats the prompt, so that tests
know it beforehand (:func:`~caravan.testing.engine.answers.spoken`) and see whether all of it came
(:func:`~caravan.testing.engine.answers.is_whole`). Delays and faults are planned in
:class:`~caravan.testing.engine.plan.Plan`. One suite, tests/conformance/test_engine.py, holds it
against the real one. Left out, and refused by nobody: log probabilities, tools, JSON schemas,
several prompts in one completion, images.
"""
