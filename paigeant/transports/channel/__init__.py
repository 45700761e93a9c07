"""Our own kombu channels: exchanges, bindings and envelopes on top of SQL and Redis queues."""
