"""The life cycle as plain functions, and the only room that wires concrete parts together."""
