"""Tests of bytes, cells, ledgers and landing."""
