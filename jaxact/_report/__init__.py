"""What a probe has seen: sums over samples, and the tables, pictures and advice made of them."""
