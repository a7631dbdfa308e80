"""Tests of reading exchange archives."""
