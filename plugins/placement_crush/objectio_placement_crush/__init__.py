"""Placement by weighted rendezvous hashing over racks, hosts and disks."""
