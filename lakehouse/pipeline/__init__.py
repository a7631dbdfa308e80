"""What is due, and how a cell is made: the steps behind every asset, command and sensor, which know nothing
of Dagster.
"""
