"""Dagster's UI behind a guard: who may ask it what.

Belongs here: the door, the guard around the webserver, the processes behind `lakehouse ui`.
Does not: what the UI shows of a table (`defs`), the command that starts it (`cli`).
"""
