"""Toys that are declared in one file each, outside the house: what the house promises about a dataset, an
exchange and a feature is held by running them, each end to end.

A toy that today's house cannot carry is marked `xfail(strict=True)` with what is missing; whoever adds that
removes the mark.
"""

import pytest

pytest.register_assert_rewrite("lakehouse_tests.extensibility.toys")
