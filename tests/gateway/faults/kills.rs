//! Killed and terminated at random moments under load, again and again.
