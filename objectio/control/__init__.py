"""The control role: the port of the process with the metadata, and who is in the cluster."""
