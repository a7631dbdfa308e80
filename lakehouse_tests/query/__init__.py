"""Tests of the SDK and SQL."""
