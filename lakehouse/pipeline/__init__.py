"""What is expected, what is due and why, and how a cell is made: behind every asset, command and sensor.

Belongs here: a recipe for each kind of table, what a step reads once, refresh and verification.
Does not: anything of Dagster (`defs`), asking exchanges (`sources`), what rows mean (`datasets`).
"""
