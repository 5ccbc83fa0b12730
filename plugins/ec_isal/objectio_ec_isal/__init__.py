"""Reed-Solomon by ISA-L, through the library that pyeclib ships."""
