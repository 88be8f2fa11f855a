"""Ways for SQL to reach the functions. A door knows transport and transactions, and no model."""
