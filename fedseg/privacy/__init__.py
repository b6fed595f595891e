"""The privacy argument: budget, mechanism, noise, sensitive sums, the account, and the one door out."""
