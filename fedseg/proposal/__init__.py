"""A first draft of a plan from the names and types of a table's columns. Never reads a value."""
