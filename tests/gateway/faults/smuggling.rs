//! Requests that two HTTP implementations could read differently, directly and behind proxies.
