"""Tests of the gold tables."""
