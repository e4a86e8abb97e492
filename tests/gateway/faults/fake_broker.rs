//! A scripted broker that does what RabbitMQ will not do on demand.
