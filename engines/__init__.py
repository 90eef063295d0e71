"""Environments in which SGLang runs, apart from ours: it pins torch and dozens more."""
