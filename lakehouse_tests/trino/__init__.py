"""Tests against a real Trino server."""
