"""Key management of the kernel's own: a ring of keys in a file."""
