"""What runs inside a business unit."""
