"""What the operations do, by what they are about."""
