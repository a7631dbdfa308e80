"""What deploys lakehouse on AWS: what it costs, and the steps of a deployment.

Not part of the package: an installed lakehouse needs none of it.
"""
