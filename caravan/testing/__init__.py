"""Fakes that pass the same suites as the real thing; never imported by a service."""
