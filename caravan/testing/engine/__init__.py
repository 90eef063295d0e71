"""A fake engine: started by SGLang's command line, it says what SGLang 0.5.21 says.

``python -m caravan.testing.engine serve --model-path FOLDER --served-model-name NAME --port P …``

It starts in a third of a second and knows no model: an answer repeats the prompt, so that tests
know it beforehand (:func:`~caravan.testing.engine.answers.spoken`) and see whether all of it came
(:func:`~caravan.testing.engine.answers.is_whole`). Delays and faults are planned in
:class:`~caravan.testing.engine.plan.Plan`. One suite, tests/conformance/engine, holds it against
the real one.

What differs: a word is a token; ``/health`` answers at once instead of after a second; a client
that left is noticed at once instead of after seconds; SIGTERM is heard at once instead of within
five seconds; a request takes one slot, however many choices it asks for. Left out, and refused by
nobody: log probabilities, tools, JSON schemas, images.
"""
