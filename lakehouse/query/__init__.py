"""Reading a lake: the SDK and SQL."""
