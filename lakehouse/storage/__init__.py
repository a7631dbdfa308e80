"""Bytes and tables: where objects lie, how cells are written and read, what a lake holds and what is due."""
