"""A provider that has the schema of AWS's and asks nobody: what it plans and applies is made up, and the
same each time.
"""
