"""Where a unit's customers are: one adapter a file, and the view that makes one row a customer out of events."""
