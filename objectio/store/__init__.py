"""The object store: stripes, quorums, degraded reads, repair, garbage collection."""
