"""`scripts/simulate`: campaigns of seeded simulations, what they found, and everything to see a finding again."""
