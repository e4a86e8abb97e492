//! More clients than descriptors: the gateway goes on serving and recovers.
