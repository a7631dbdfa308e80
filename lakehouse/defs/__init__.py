"""The Dagster shell: contexts are resolved into plain values here, and nothing is computed."""
