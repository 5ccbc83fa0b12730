"""What `make bench` runs: one module for each subject, each runnable by itself."""
