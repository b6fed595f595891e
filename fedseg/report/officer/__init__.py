"""The officer's report: one page, and the files behind it, about a year, a quarter or a month of signed ledgers."""
