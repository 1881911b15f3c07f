//! The tools a developer tests with: a caller, an agent, and the measure of what was heard.
//! The server does not use them.

pub mod caller;
pub mod measure;
pub mod test_agent;
pub mod wav;
