//! Checks what an OpenEnv environment promises.
