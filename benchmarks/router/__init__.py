"""Caravan's router beside the field's, on one machine: ``make bench-router``."""
