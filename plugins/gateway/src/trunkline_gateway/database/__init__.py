"""What the gateway stores: keys, budgets, usage, services, sessions. SQLite or PostgreSQL, by SQLAlchemy."""
