"""One room for each stage of training, and one loop for all of them."""
