//! Three nodes: a leader is killed, a quorum is lost, the network is cut.
