"""Whole federations on one machine: scenarios, data recipes, and the yardstick that deployment cannot have."""
