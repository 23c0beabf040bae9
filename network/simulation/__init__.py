"""A deterministic twin of the network: one thread, virtual time, simulated links, disks, clocks and keys.

One seed is one run. The replicas under test are the shipped ones; every door they have to the world is replaced.
Nothing that is shipped imports this package. Read it in this order:

    cluster      a scenario drawn from a seed, and its run: faults, then recovery
    node         one process: the replica, its inbox, its effects; with proposals, catching_up, pool and ledger
    agenda, clock, network, letters, disk, keys      the doors to time, links, storage and signatures
    doors        those to ledger and pool: stand_ins (ledger, pool, timetable, workload), or the engine in system
    faults       what happens to nodes, links, clocks and disks
    byzantine    members that lie, with real keys
    checkers     PROTOCOL 12, at every send and commit
    reachability  named events that campaigns must reach
    runner       many seeds; the command is scripts/simulate (scripts/simulating)
"""
