"""Tests of the pure frame functions."""
