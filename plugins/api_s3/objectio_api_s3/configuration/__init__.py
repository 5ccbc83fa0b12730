"""The sub-resources of a bucket: one module for each, with its document, how it is read from XML and
shown again, and the operations on it."""
