"""Archives: listing and fetching files, verifying and parsing them, and the bronze cells made from them."""
