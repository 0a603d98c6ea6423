//! Small programs that use Envmill as a library; none yet.
