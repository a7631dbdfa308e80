"""What `infra/` declares, tried as far as that goes without an account."""
