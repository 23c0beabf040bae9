"""A deterministic twin of the network: one thread, virtual time, simulated links, disks, clocks and keys.

One seed is one run. The replicas under test are the shipped ones; every door they have to the world is replaced.
Nothing that is shipped imports this package. `cluster` is the way in.
"""
