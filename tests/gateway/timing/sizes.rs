//! Bodies, heads and bombs at their limits: how much memory each costs.
