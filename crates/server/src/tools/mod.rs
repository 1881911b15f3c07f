//! The tools a developer tests with: a caller, an agent, and the measure of what was heard.
//! The server uses the caller and the measure for the trunk doctor alone.

pub mod caller;
pub mod measure;
pub mod test_agent;
pub mod wav;
