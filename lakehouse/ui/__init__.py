"""Dagster's UI behind a guard: who may ask it what."""
