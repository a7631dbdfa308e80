"""Tests of lakehouse; the folders mirror its packages."""
