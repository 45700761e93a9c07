"""RabbitMQ over py-amqp: a connection that publishes, one that consumes, and declarations on channels of their own."""
