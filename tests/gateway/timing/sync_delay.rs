//! Answers while each synchronisation takes 1, 5 and 10 ms.
