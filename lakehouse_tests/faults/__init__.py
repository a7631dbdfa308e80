"""Every fault, shown: what a reader finds after the product met it."""
