"""What people use: published segments and their names."""
