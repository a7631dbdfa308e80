"""What operators use: findings over a table's ledger, status, the docs generator. No Dagster."""
