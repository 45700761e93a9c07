"""The thread that owns a broker's connection, and the queue of requests in front of it."""
