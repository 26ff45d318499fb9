"""The history of the tables: one file for each change, known by its name. Alembic runs them."""
