"""Paperwork of a unit, filled in from facts: record of processing, impact assessment, notice. Reads nobody's row."""
