//! Nothing but tests, in `tests/main`: of what Envmill does with a real vLLM. They have a crate of their
//! own because they need one, which takes minutes to install and most of a minute to start.
