"""Reed-Solomon by zfec."""
