"""The laboratory: real OVN, OVS and BGP daemons in containers, wired together on one Linux machine.

A topology (`topology.py`) says once which nodes exist and how they are linked; the demo, the scenarios and the
benchmarks all start from it. Where to look:

    shell.py      run a command, wait for a condition, the one exception type
    engine.py     podman or docker: the few commands common to both
    images.py     root file systems from Debian's packages alone, cached by the hash of their recipe
    topology.py   nodes, links, segments: the description, and the stock topologies
    laboratory.py Lab and Node: bring a topology up, run things in it, always take it down again
    cable.py      a cable that damages what a leaf says, as it is told to; mangle.py is what runs in its middle
    capture.py    tcpdump in a node, tshark on its result
    ovsdb.py      one OVSDB transaction over a unix socket
    ovn.py        OVN's central part and an OVS/OVN hypervisor; virtual machines as namespaces
    neutron.py    writes the Northbound rows that Neutron's ML2/OVN driver writes
    peers.py      FRR, BIRD and the other speakers: start, and ask for their view
    daemon.py     ovn-bgpd itself
    watch.py      pings and connections with their loss, the time of every change of a kernel's routes
    cloud.py      all of it below one leaf: what the scenarios about objects start from
    screen.py     what a person reads
"""
