"""A day of real households: who sells to whom in each quarter-hour, and what the meters then say.

`market` is the pure part (profiles in, deals and readings out); `day` drives running nodes through it.
"""
