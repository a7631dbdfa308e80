"""Tests of the silver datasets."""
