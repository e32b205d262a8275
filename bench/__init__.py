"""Measurements, each run by one target of the Makefile."""
