//! Records of different sizes in a ring of bytes, which the consumer gives back in any order.

mod layout;
mod reader;
mod record;
mod releases;
mod view;
mod writer;

pub use layout::LogLayout;
pub use reader::{Lease, LogReader};
pub use record::LogStart;
pub use view::View;
pub use writer::{LogWriter, RecordMut};
