"""The command line: every command, what it plans, builds and prints.

Belongs here: arguments and their texts, tables and pages for a terminal, Dagster's home of a user.
Does not: what is due and how a cell is made (`pipeline`), what a finding is (`ops`), reading rows (`query`).
"""
