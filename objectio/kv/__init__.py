"""Key-value stores: the portable type and the memory driver."""
