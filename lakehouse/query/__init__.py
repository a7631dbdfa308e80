"""Reading a lake: the SDK and SQL.

Belongs here: which objects hold what is asked for, views, what a statement may do, history, what is behind.
Does not: judging rows (`ops`), asking exchanges (`sources`), how an object is read or written (`storage`).
"""
