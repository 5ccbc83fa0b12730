"""The operators' API of ObjectIO."""
