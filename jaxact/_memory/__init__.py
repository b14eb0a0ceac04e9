"""What a backward pass keeps, and what the compilers of TPUs and GPUs make of it."""
