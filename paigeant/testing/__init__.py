"""What helps to test paigeant's transports and stores, and programs that use them."""
