//! Keys and sealing: bytes to bytes, pure.
