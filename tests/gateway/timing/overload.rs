//! Five times what the gateway can take: it sheds, and recovers.
